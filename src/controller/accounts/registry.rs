//! What is kept of each account from when the watch shows it until it is gone, found by its name, by the remote account
//! whose listing it has, and by its API key.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use super::ledger::Ledger;
use super::{Known, State};
use crate::resources::AccountName;
use crate::settings::BaseUrl;
use crate::woodpecker::{KeyDigest, RemoteIdentity};

/// All accounts.
#[derive(Debug, Default)]
pub(super) struct Registry {
    accounts: HashMap<AccountName, Account>,
    by_identity: Names<RemoteIdentity>,
    /// By address and API key.
    by_key: Names<(BaseUrl, KeyDigest)>,
    /// By the account that they are known to be one with.
    by_one_with: Names<AccountName>,
    /// By the account because of which they cannot be used.
    by_confused_with: Names<AccountName>,
}

/// An account that the watch shows.
#[derive(Debug)]
pub(super) struct Account {
    uid: String,
    /// Nothing before it was looked at.
    pub(super) known: Option<Known>,
    /// It ends with the object: another one of its name may be another remote account.
    pub(super) ledger: Ledger,
    /// How often its Secret has changed.
    secret_changes: u64,
    /// When its Secret was read last and found to hold a key, and how often it had changed by then.
    key_read: Option<(Instant, u64)>,
    /// Since when its counts are others than those in its status.
    counts_differ: Option<Instant>,
}

/// Accounts by something that several may have.
#[derive(Debug)]
struct Names<K>(BTreeMap<K, BTreeSet<AccountName>>);

// === impl Registry ===

impl Registry {
    /// Notes that the watch shows an account. One that was re-created begins with nothing.
    pub(super) fn note_existence(&mut self, name: &AccountName, uid: &str) {
        if self.accounts.get(name).is_none_or(|account| account.uid != uid) {
            self.forget(name);
            self.put(name, Account::new(uid));
        }
    }

    /// Forgets an account that is gone.
    pub(super) fn forget(&mut self, name: &AccountName) {
        self.take(name, None);
    }

    /// What is kept of an account.
    pub(super) fn get(&self, name: &AccountName) -> Option<&Account> {
        self.accounts.get(name)
    }

    /// What is known of an account that was looked at.
    pub(super) fn known(&self, name: &AccountName) -> Option<&Known> {
        self.accounts.get(name)?.known.as_ref()
    }

    pub(super) fn ledger(&self, name: &AccountName) -> Option<&Ledger> {
        Some(&self.accounts.get(name)?.ledger)
    }

    /// Keeps what is known of an account, unless it went meanwhile. Says whether that is news to its credentials.
    pub(super) fn keep(&mut self, name: &AccountName, uid: &str, known: Known) -> bool {
        self.change(name, Some(uid), |account| {
            let is_news = account.known.as_ref().is_none_or(|before| !before.says_the_same_as(&known));
            account.known = Some(known);
            is_news
        })
        .unwrap_or(false)
    }

    /// Changes what is kept of an account, or of nothing but that object of its name; nothing where it is gone.
    pub(super) fn change<T>(
        &mut self,
        name: &AccountName,
        uid: Option<&str>,
        change: impl FnOnce(&mut Account) -> T,
    ) -> Option<T> {
        let mut account = self.take(name, uid)?;
        let changed = change(&mut account);
        self.put(name, account);
        Some(changed)
    }

    /// Changes what is known beside the listing of the account with that uid; of nothing where it is gone.
    pub(super) fn change_ledger<T>(
        &mut self,
        name: &AccountName,
        uid: &str,
        change: impl FnOnce(&mut Ledger) -> T,
    ) -> T {
        let Some(mut account) = self.take(name, Some(uid)) else { return change(&mut Ledger::default()) };
        let changed = change(&mut account.ledger);
        self.put(name, account);
        changed
    }

    fn take(&mut self, name: &AccountName, uid: Option<&str>) -> Option<Account> {
        self.accounts.get(name).filter(|account| uid.is_none_or(|uid| account.uid == uid))?;
        let account = self.accounts.remove(name)?;
        self.remove_links(name, &account);
        Some(account)
    }

    fn put(&mut self, name: &AccountName, account: Account) {
        self.add_links(name, &account);
        self.accounts.insert(name.clone(), account);
    }

    /// The accounts that have the listing of that remote account.
    pub(super) fn with_identity(&self, identity: &RemoteIdentity) -> impl Iterator<Item = &AccountName> {
        self.by_identity.get(identity)
    }

    /// The accounts that are reached with the key of that one, itself included.
    pub(super) fn with_key_of(&self, identity: &RemoteIdentity) -> impl Iterator<Item = &AccountName> {
        self.by_key.get(&key_of(identity))
    }

    /// The accounts that share what this one has.
    pub(super) fn one_with(&self, name: &AccountName) -> Vec<AccountName> {
        self.by_one_with.get(name).cloned().collect()
    }

    /// The accounts that cannot be used because of that one.
    pub(super) fn confused_by(&self, name: &AccountName) -> Vec<AccountName> {
        self.by_confused_with.get(name).cloned().collect()
    }

    fn add_links(&mut self, name: &AccountName, account: &Account) {
        if let Some(remote) = account.known.as_ref().and_then(|known| known.remote.as_ref()) {
            self.by_identity.add(remote.identity().clone(), name);
            self.by_key.add(key_of(remote.natural_identity()), name);
        }
        if let Some(one_with) = &account.ledger.one_with {
            self.by_one_with.add(one_with.other.clone(), name);
        }
        if let Some(other) = &account.ledger.confused_with {
            self.by_confused_with.add(other.clone(), name);
        }
    }

    fn remove_links(&mut self, name: &AccountName, account: &Account) {
        if let Some(remote) = account.known.as_ref().and_then(|known| known.remote.as_ref()) {
            self.by_identity.remove(remote.identity(), name);
            self.by_key.remove(&key_of(remote.natural_identity()), name);
        }
        if let Some(one_with) = &account.ledger.one_with {
            self.by_one_with.remove(&one_with.other, name);
        }
        if let Some(other) = &account.ledger.confused_with {
            self.by_confused_with.remove(other, name);
        }
    }
}

fn key_of(identity: &RemoteIdentity) -> (BaseUrl, KeyDigest) {
    (identity.base_url.clone(), identity.key)
}

// === impl Account ===

impl Account {
    fn new(uid: &str) -> Self {
        Self {
            uid: uid.to_owned(),
            known: None,
            ledger: Ledger::default(),
            secret_changes: 0,
            key_read: None,
            counts_differ: None,
        }
    }

    /// Whether credentials may use it, or could before.
    pub(super) fn is_usable(&self) -> bool {
        self.known.as_ref().is_some_and(|known| known.state != State::NotReady)
    }

    /// Notes that its Secret may hold another key.
    pub(super) fn note_secret_change(&mut self) {
        self.secret_changes = self.secret_changes.wrapping_add(1);
    }

    /// How often its Secret has changed.
    pub(super) fn secret_changes(&self) -> u64 {
        self.secret_changes
    }

    /// Notes that its Secret was read, after so many changes, and holds a key or not.
    pub(super) fn note_key(&mut self, is_there: bool, changes: u64) {
        self.key_read = is_there.then(|| (Instant::now(), changes));
    }

    /// Whether its Secret was read that lately, has not changed since and held a key that still counts.
    pub(super) fn knows_key(&self, max_age: Duration) -> bool {
        let is_recent =
            |(at, changes): (Instant, u64)| changes == self.secret_changes && at.elapsed() < max_age;
        let is_refused =
            self.known.as_ref().is_none_or(|it| matches!(it.state, State::NotReady | State::KeyGone));
        !is_refused && self.key_read.is_some_and(is_recent)
    }

    /// Notes whether its counts are others than those in its status, and says for how long they have been.
    pub(super) fn note_counts(&mut self, differ: bool) -> Duration {
        let now = Instant::now();
        let since = differ.then(|| self.counts_differ.unwrap_or(now));
        self.counts_differ = since;
        since.map(|since| now - since).unwrap_or_default()
    }
}

// === impl Names ===

impl<K: Ord> Names<K> {
    fn get(&self, key: &K) -> impl Iterator<Item = &AccountName> + use<'_, K> {
        self.0.get(key).into_iter().flatten()
    }

    fn add(&mut self, key: K, name: &AccountName) {
        self.0.entry(key).or_default().insert(name.clone());
    }

    fn remove(&mut self, key: &K, name: &AccountName) {
        if let Some(names) = self.0.get_mut(key) {
            names.remove(name);
            if names.is_empty() {
                self.0.remove(key);
            }
        }
    }
}

impl<K> Default for Names<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::accounts::ledger::OneWith;
    use crate::woodpecker::testing::identity;

    fn named(name: &str) -> AccountName {
        AccountName { namespace: "mail".into(), name: name.into() }
    }

    fn known(state: State) -> Known {
        Known { spec: None, remote: None, state, failures: 0, requested: None }
    }

    #[test]
    fn what_is_known_of_an_account_ends_with_it() {
        let (mut registry, a) = (Registry::default(), named("a"));
        assert!(!registry.keep(&a, "1", known(State::NotReady)), "it is not there");
        registry.note_existence(&a, "1");
        registry.change_ledger(&a, "1", |ledger| ledger.note_present(7));
        assert!(registry.keep(&a, "1", known(State::NotReady)));
        registry.note_existence(&a, "1");
        assert!(registry.known(&a).is_some() && registry.ledger(&a).unwrap().is_incomplete());
        registry.note_existence(&a, "2");
        assert!(registry.known(&a).is_none() && !registry.ledger(&a).unwrap().is_incomplete());
        assert!(
            !registry.keep(&a, "1", known(State::NotReady)),
            "what is said of the earlier one comes too late"
        );
        registry.change_ledger(&a, "1", |ledger| ledger.note_present(7));
        assert!(!registry.ledger(&a).unwrap().is_incomplete());
        registry.forget(&a);
        registry.change_ledger(&a, "2", |ledger| ledger.note_present(7));
        assert!(registry.get(&a).is_none());
    }

    #[test]
    fn who_rests_on_an_account_is_found_by_it() {
        let mut registry = Registry::default();
        for name in ["a", "b", "c"] {
            registry.note_existence(&named(name), name);
        }
        let one = OneWith { own: identity(1, None), other: named("a"), others: identity(2, None) };
        registry.change_ledger(&named("b"), "b", |ledger| ledger.one_with = Some(one));
        registry.change_ledger(&named("c"), "c", |ledger| ledger.confused_with = Some(named("a")));
        assert_eq!(
            (registry.one_with(&named("a")), registry.confused_by(&named("a"))),
            (vec![named("b")], vec![named("c")])
        );
        registry.change_ledger(&named("c"), "c", |ledger| ledger.confused_with = None);
        registry.forget(&named("b"));
        assert!(registry.one_with(&named("a")).is_empty() && registry.confused_by(&named("a")).is_empty());
        assert!(registry.by_one_with.0.is_empty() && registry.by_confused_with.0.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn the_key_is_read_again_where_the_secret_changed_or_after_a_while() {
        let (mut account, long) = (Account::new("1"), Duration::from_mins(10));
        account.known = Some(known(State::Unjudged));
        assert!(!account.knows_key(long));
        account.note_key(true, account.secret_changes());
        assert!(account.knows_key(long));
        account.note_secret_change();
        assert!(!account.knows_key(long));
        let before = account.secret_changes();
        account.note_secret_change();
        account.note_key(true, before);
        assert!(!account.knows_key(long), "it changed while it was read");
        account.note_key(true, account.secret_changes());
        tokio::time::advance(long).await;
        assert!(!account.knows_key(long));
        account.note_key(true, account.secret_changes());
        account.known = Some(known(State::NotReady));
        assert!(!account.knows_key(long), "it was refused");
    }

    #[tokio::test(start_paused = true)]
    async fn counts_differ_since_they_first_did() {
        let mut account = Account::new("1");
        assert_eq!(account.note_counts(true), Duration::ZERO);
        tokio::time::advance(Duration::from_secs(7)).await;
        assert_eq!(account.note_counts(true), Duration::from_secs(7));
        account.note_counts(false);
        assert_eq!(account.note_counts(true), Duration::ZERO);
    }
}
