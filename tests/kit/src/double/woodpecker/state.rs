//! The state of the double of Woodpecker: API keys, accounts, client companies of agencies, and the
//! credentials of each.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;

use super::mailboxes::Mailboxes;
use crate::double::SecretText;

/// The first id, which is that of the documentation's sample.
const FIRST_ID: i64 = 22_334_455;

/// A credential as stored at Woodpecker. The secret is kept only for comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// Unique in the whole double; 0 requests a new one from [`crate::woodpecker::Woodpecker::put`].
    pub credential_id: i64,
    /// Microsoft Entra tenant id, as sent.
    pub tenant_id: String,
    /// Application client id, as sent.
    pub client_id: String,
    /// ISO 8601, as sent.
    pub secret_expires_at: String,
    /// Display name.
    pub name: String,
    /// The client secret.
    pub secret: SecretText,
    /// When it was stored.
    pub created_at: Timestamp,
}

/// Keys and credentials by account. A company of an agency is an account of its own, named `<agency>/<company
/// id>`.
#[derive(Default)]
pub(crate) struct State {
    keys: HashMap<String, Key>,
    accounts: BTreeMap<String, BTreeMap<i64, Credential>>,
    in_use: BTreeSet<i64>,
    pub(crate) mailboxes: Mailboxes,
    assigned_ids: i64,
}

struct Key {
    account: String,
    revoked: bool,
}

/// The owner of a key.
pub(crate) enum KeyOwner {
    Account(String),
    Revoked(String),
    Unknown,
}

/// The name of a company's account.
pub(crate) fn company_account(agency: &str, company: &str) -> String {
    format!("{agency}/{company}")
}

// === impl Credential ===

impl Credential {
    /// A credential with a new id, stored now: for entries that existed before the operator, or belong to a
    /// third party.
    pub fn new(tenant: &str, client: &str, secret: &str, expires_at: &str, name: &str) -> Self {
        Self {
            credential_id: 0,
            tenant_id: tenant.to_owned(),
            client_id: client.to_owned(),
            secret_expires_at: expires_at.to_owned(),
            name: name.to_owned(),
            secret: SecretText::new(secret),
            created_at: Timestamp::now(),
        }
    }
}

// === impl State ===

impl State {
    /// Skips this number of ids.
    pub(crate) fn skip_ids(&mut self, many: i64) {
        self.assigned_ids += many;
    }

    pub(crate) fn add_account(&mut self, account: &str, api_key: &str) {
        self.accounts.entry(account.to_owned()).or_default();
        let key = Key { account: account.to_owned(), revoked: false };
        self.keys.insert(api_key.to_owned(), key);
    }

    pub(crate) fn add_company(&mut self, agency: &str, company: &str) {
        let account = company_account(agency, company);
        self.accounts.entry(account).or_default();
    }

    pub(crate) fn revoke_key(&mut self, api_key: &str) {
        if let Some(key) = self.keys.get_mut(api_key) {
            key.revoked = true;
        }
    }

    pub(crate) fn key_owner(&self, api_key: &str) -> KeyOwner {
        match self.keys.get(api_key) {
            None => KeyOwner::Unknown,
            Some(key) if key.revoked => KeyOwner::Revoked(key.account.clone()),
            Some(key) => KeyOwner::Account(key.account.clone()),
        }
    }

    pub(crate) fn has_account(&self, account: &str) -> bool {
        self.accounts.contains_key(account)
    }

    pub(crate) fn has_several_accounts(&self) -> bool {
        self.accounts.len() > 1
    }

    /// In the order of their ids.
    pub(crate) fn credentials(&self, account: &str) -> Vec<Credential> {
        let found = self.accounts.get(account);
        found.map_or_else(Vec::new, |credentials| credentials.values().cloned().collect())
    }

    /// Every credential, with its account.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&str, &Credential)> {
        self.accounts.iter().flat_map(|(account, all)| all.values().map(|it| (account.as_str(), it)))
    }

    pub(crate) fn count(&self, account: &str) -> usize {
        self.accounts.get(account).map_or(0, BTreeMap::len)
    }

    pub(crate) fn credential(&mut self, account: &str, id: i64) -> Option<&mut Credential> {
        self.accounts.get_mut(account)?.get_mut(&id)
    }

    /// Stores a credential, and replaces the one with its id if it exists; returns its id.
    pub(crate) fn put(&mut self, account: &str, mut credential: Credential) -> i64 {
        if credential.credential_id == 0 {
            credential.credential_id = self.next_id();
        }
        let id = credential.credential_id;
        let account = self.accounts.entry(account.to_owned()).or_default();
        account.insert(id, credential);
        id
    }

    pub(crate) fn remove(&mut self, account: &str, id: i64) -> bool {
        let found = self.accounts.get_mut(account);
        found.is_some_and(|credentials| credentials.remove(&id).is_some())
    }

    pub(crate) fn mark_in_use(&mut self, id: i64) {
        self.in_use.insert(id);
    }

    pub(crate) fn clear_in_use(&mut self, id: i64) {
        self.in_use.remove(&id);
    }

    pub(crate) fn is_in_use(&self, id: i64) -> bool {
        self.in_use.contains(&id)
    }

    fn next_id(&mut self) -> i64 {
        loop {
            let id = FIRST_ID + self.assigned_ids;
            self.assigned_ids += 1;
            if !self.accounts.values().any(|credentials| credentials.contains_key(&id)) {
                return id;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_ids_start_at_the_sample_and_skip_existing_ones() {
        let mut state = State::default();
        let new = || Credential::new("t", "c", "s", "2030-01-01T00:00:00Z", "n");
        let mut taken = new();
        taken.credential_id = FIRST_ID + 1;
        state.put("b", taken);
        let ids = [state.put("a", new()), state.put("a", new())];
        assert_eq!(ids, [22_334_455, 22_334_457]);
    }

    #[test]
    fn a_credential_does_not_print_its_secret() {
        let credential = Credential::new("t", "c", "canary", "2030-01-01T00:00:00Z", "n");
        assert!(!format!("{credential:?}").contains("canary"));
    }
}
