//! The Woodpecker accounts: what is known of each, for the credentials that use it.

mod agreement;
mod finalizer;
mod kinship;
mod ledger;
mod open;
mod pass;
pub mod queue;
mod report;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube::{Api, Client};

use self::kinship::Kinship;
use self::ledger::{Divergence, Ledger};
use super::calls::Calls;
use super::scope::Scope;
use crate::resources::{AccountName, WoodpeckerAccount, WoodpeckerAccountSpec};
use crate::settings::BaseUrl;
use crate::woodpecker::{Commons, Entry, Lane, Owner, RemoteAccount, RemoteIdentity};

/// What is known of all accounts.
#[derive(Debug)]
pub struct Accounts {
    http: reqwest::Client,
    commons: Commons,
    allowed_base_urls: Vec<BaseUrl>,
    served: Vec<Scope>,
    known: Mutex<HashMap<AccountName, Known>>,
    ledgers: Mutex<HashMap<AccountName, Ledger>>,
    /// The accounts that the watches show, with their uids.
    existing: Mutex<HashMap<AccountName, String>>,
}

/// What a credential finds where it looks for its account.
#[derive(Clone, Debug)]
pub enum Lookup {
    /// No such account.
    Missing,
    /// It exists and was not looked at yet.
    NotSeenYet,
    /// It does not let the namespace in.
    NotAllowed,
    /// It could not be reached since the operator started, or since it has its key.
    Unjudged,
    /// It cannot be used now.
    NotReady,
    /// It works.
    Ready {
        /// The way to it.
        remote: Arc<RemoteAccount>,
        /// Whether something may be created on the word of its listing.
        may_create: bool,
    },
}

/// Another account, as far as kinship depends on it.
struct Other {
    name: AccountName,
    is_usable: bool,
    natural: RemoteIdentity,
    entries: Vec<Entry>,
}

/// What a credential wants of its account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To be registered there.
    Register,
    /// To remove what it has there, for which the last good key will do.
    Remove,
}

#[derive(Debug)]
struct Known {
    /// Nothing where the object cannot be read.
    spec: Option<WoodpeckerAccountSpec>,
    /// The last client that could be made; kept while the account is refused, for its key may come back.
    remote: Option<Arc<RemoteAccount>>,
    state: State,
    failures: u32,
    /// The request for a pass, by annotation, that was handled last.
    requested: Option<String>,
}

/// How an account stands towards its credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It works.
    Ready {
        /// Whether something may be created on the word of its listing.
        may_create: bool,
    },
    /// Nothing speaks against it but that it was never reached with its key.
    Unjudged,
    /// Its key is not there any more; the last good one will do to remove things.
    KeyGone,
    /// It cannot be used.
    NotReady,
}

// === impl Accounts ===

impl Accounts {
    /// None known yet. `http` is made by [`crate::http::client`]; API keys go to `allowed_base_urls` alone.
    pub fn new(
        http: reqwest::Client,
        commons: Commons,
        allowed_base_urls: Vec<BaseUrl>,
        served: Vec<Scope>,
    ) -> Self {
        Self {
            http,
            commons,
            allowed_base_urls,
            served,
            known: Mutex::default(),
            ledgers: Mutex::default(),
            existing: Mutex::default(),
        }
    }

    /// Finds an account for a credential of `namespace`.
    pub async fn look_up(
        &self,
        client: &Client,
        name: &AccountName,
        namespace: &str,
        purpose: Purpose,
    ) -> Result<Lookup, kube::Error> {
        if let Some(known) = self.lock().get(name) {
            let is_allowed = |spec: &WoodpeckerAccountSpec| spec.allows(&name.namespace, namespace);
            if known.spec.as_ref().is_some_and(|spec| !is_allowed(spec)) {
                return Ok(Lookup::NotAllowed);
            }
            return Ok(match (known.state, &known.remote) {
                (State::Ready { may_create }, Some(remote)) => {
                    Lookup::Ready { remote: remote.clone(), may_create }
                }
                (State::KeyGone, Some(remote)) if purpose == Purpose::Remove => {
                    Lookup::Ready { remote: remote.clone(), may_create: false }
                }
                (State::Unjudged, _) => Lookup::Unjudged,
                (State::Ready { .. } | State::KeyGone | State::NotReady, _) => Lookup::NotReady,
            });
        }
        if !self.served.iter().any(|scope| scope.covers(&name.namespace)) {
            return Ok(Lookup::Missing);
        }
        let api: Api<WoodpeckerAccount> = Api::namespaced(client.clone(), &name.namespace);
        let exists = api.get_metadata_opt(&name.name).await?.is_some();
        Ok(if exists { Lookup::NotSeenYet } else { Lookup::Missing })
    }

    /// Takes an owner's tickets back in all lanes but the one in which it waits.
    pub fn leave_lanes(&self, owner: &Owner, waits_in: Option<&Lane>) {
        self.commons.lanes().withdraw(owner, waits_in);
    }

    /// Whether that account lets the namespace in, as far as is known.
    pub fn allows(&self, name: &AccountName, namespace: &str) -> bool {
        let known = self.lock();
        let spec = known.get(name).and_then(|known| known.spec.as_ref());
        spec.is_some_and(|spec| spec.allows(&name.namespace, namespace))
    }

    /// The way to it, as far as is known.
    pub fn remote(&self, name: &AccountName) -> Option<Arc<RemoteAccount>> {
        self.lock().get(name)?.remote.clone()
    }

    /// Which remote account it is, as far as is known.
    pub fn identity(&self, name: &AccountName) -> Option<RemoteIdentity> {
        Some(self.lock().get(name)?.remote.as_ref()?.identity().clone())
    }

    /// By its own address, company and key, whatever it is known to be one with.
    fn natural_identity(&self, remote: &RemoteAccount) -> RemoteIdentity {
        self.commons.identity(remote.client())
    }

    /// Whether that account is that remote account.
    pub fn is_at(&self, name: &AccountName, remote: &RemoteIdentity) -> bool {
        let known = self.lock();
        known
            .get(name)
            .and_then(|known| known.remote.as_ref())
            .is_some_and(|known| known.identity() == remote)
    }

    /// Notes that a credential is there although the account's listing lacks it.
    pub fn note_present(&self, account: &AccountName, id: i64, calls: &Calls) {
        self.ledgers().entry(account.clone()).or_default().note_present(id);
        calls.account(&account.namespace, &account.name);
    }

    /// Whether that was noted.
    pub fn is_present(&self, account: &AccountName, id: i64, lasts: Duration) -> bool {
        self.ledgers().get(account).is_some_and(|ledger| ledger.is_present(id, lasts))
    }

    /// The accounts that share what this one has.
    fn one_with(&self, account: &AccountName) -> Vec<AccountName> {
        let ledgers = self.ledgers();
        let is_one = |ledger: &Ledger| ledger.one_with.as_ref().is_some_and(|one| one.other == *account);
        ledgers.iter().filter(|(_, ledger)| is_one(ledger)).map(|(name, _)| name.clone()).collect()
    }

    fn is_incomplete(&self, account: &AccountName) -> bool {
        self.ledgers().get(account).is_some_and(Ledger::is_incomplete)
    }

    /// Why the account that was listed so cannot be the one that it was, by the ids held there.
    pub fn has_diverged(&self, account: &AccountName, entries: &[Entry], held: &[i64]) -> Option<Divergence> {
        self.ledgers().get(account)?.divergence(entries, held)
    }

    /// The other accounts of which the way is known, with their last listings.
    fn others(&self, account: &AccountName, max_age: Duration) -> Vec<Other> {
        let known = self.lock();
        let others = known.iter().filter(|(name, _)| *name != account);
        others
            .filter_map(|(name, known)| {
                let remote = known.remote.as_ref()?;
                let entries = remote.last_listing(max_age)?;
                let is_usable = known.state != State::NotReady;
                Some(Other { name: name.clone(), is_usable, natural: self.natural_identity(remote), entries })
            })
            .collect()
    }

    /// Whether it is not known yet if the vendor tells this account apart from another company behind the
    /// same key. Its first write wants a listing of that very moment.
    pub fn may_be_confused(&self, account: &AccountName) -> bool {
        let honoured = self.ledgers().get(account).and_then(|ledger| ledger.company_honoured.clone());
        let known = self.lock();
        let identity = |known: &Known| known.remote.as_ref().map(|remote| self.natural_identity(remote));
        let Some(own) = known.get(account).and_then(identity) else { return false };
        let is_sibling = |other: &RemoteIdentity| {
            own.base_url == other.base_url && own.has_key_of(other) && own.company_id != other.company_id
        };
        honoured.as_ref() != Some(&own) && known.values().filter_map(identity).any(|other| is_sibling(&other))
    }

    /// The account of another company behind the same key that shows one of these entries as well.
    pub fn confused_with(
        &self,
        account: &AccountName,
        entries: &[Entry],
        max_age: Duration,
    ) -> Option<AccountName> {
        let own = self.lock().get(account)?.remote.clone().map(|remote| self.natural_identity(&remote))?;
        let others = self.others(account, max_age).into_iter();
        let is_confused = |other: &Other| {
            kinship::kinship(&own, entries, &other.natural, &other.entries) == Kinship::Confused
        };
        others.filter(is_confused).map(|other| other.name).min()
    }

    /// Whether an account exists that has not been looked at yet.
    pub fn is_awaited(&self, account: &AccountName) -> bool {
        self.existing().contains_key(account) && !self.is_known(account)
    }

    fn is_known(&self, account: &AccountName) -> bool {
        self.lock().contains_key(account)
    }

    /// Notes that the watch shows an account.
    fn note_existence(&self, account: &AccountName, uid: &str) {
        self.existing().insert(account.clone(), uid.to_owned());
    }

    /// Forgets an account that is gone.
    fn forget(&self, account: &AccountName) {
        self.existing().remove(account);
        self.lock().remove(account);
        self.ledgers().remove(account);
    }

    /// The accounts that could not be used because of that one.
    fn confused_by(&self, account: &AccountName) -> Vec<AccountName> {
        let ledgers = self.ledgers();
        let is_it = |ledger: &Ledger| ledger.confused_with.as_ref() == Some(account);
        ledgers.iter().filter(|(_, ledger)| is_it(ledger)).map(|(name, _)| name.clone()).collect()
    }

    /// Keeps what is known of an account, unless it went meanwhile. Says whether that is news to its
    /// credentials.
    fn keep(&self, account: &AccountName, uid: &str, known: Known) -> bool {
        let existing = self.existing();
        if existing.get(account).is_none_or(|existing| existing != uid) {
            return false;
        }
        let mut all = self.lock();
        let is_news = all.get(account).is_none_or(|before| !before.says_the_same_as(&known));
        all.insert(account.clone(), known);
        is_news
    }

    fn existing(&self) -> MutexGuard<'_, HashMap<AccountName, String>> {
        self.existing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AccountName, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ledgers(&self) -> MutexGuard<'_, HashMap<AccountName, Ledger>> {
        self.ledgers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Known ===

impl Known {
    /// Whether credentials would find the same.
    fn says_the_same_as(&self, other: &Self) -> bool {
        let is_same_remote = match (&self.remote, &other.remote) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        self.state == other.state && self.spec == other.spec && is_same_remote
    }
}
