//! The Woodpecker accounts: what is known of each, for the credentials that use it.

mod agreement;
mod finalizer;
mod kinship;
mod ledger;
mod open;
mod pass;
pub mod queue;
mod registry;
mod report;

use std::sync::Arc;
use std::time::Duration;

use kube::{Api, Client};
use parking_lot::{Mutex, MutexGuard};

use self::kinship::Kinship;
use self::ledger::{Divergence, Ledger};
use self::registry::Registry;
use super::calls::Calls;
use super::scope::Scope;
use crate::resources::{AccountName, WoodpeckerAccount, WoodpeckerAccountSpec};
use crate::settings::BaseUrl;
use crate::woodpecker::{Commons, Lane, Listing, Owner, RemoteAccount, RemoteIdentity};

/// What is known of all accounts.
#[derive(Debug)]
pub struct Accounts {
    http: reqwest::Client,
    commons: Commons,
    allowed_base_urls: Vec<BaseUrl>,
    served: Vec<Scope>,
    registry: Mutex<Registry>,
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

/// Another account that has something to do with one.
struct Related {
    name: AccountName,
    natural: RemoteIdentity,
    is_usable: bool,
    kinship: Kinship,
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
        Self { http, commons, allowed_base_urls, served, registry: Mutex::default() }
    }

    /// Finds an account for a credential of `namespace`.
    pub async fn look_up(
        &self,
        client: &Client,
        name: &AccountName,
        namespace: &str,
        purpose: Purpose,
    ) -> Result<Lookup, kube::Error> {
        if let Some(lookup) = self.look_up_known(name, namespace, purpose) {
            return Ok(lookup);
        }
        if !self.served.iter().any(|scope| scope.covers(&name.namespace)) {
            return Ok(Lookup::Missing);
        }
        let api: Api<WoodpeckerAccount> = Api::namespaced(client.clone(), &name.namespace);
        let exists = api.get_metadata_opt(&name.name).await?.is_some();
        Ok(if exists { Lookup::NotSeenYet } else { Lookup::Missing })
    }

    fn look_up_known(&self, name: &AccountName, namespace: &str, purpose: Purpose) -> Option<Lookup> {
        let registry = self.lock();
        let Some(known) = &registry.get(name)?.known else { return Some(Lookup::NotSeenYet) };
        if known.spec.as_ref().is_some_and(|spec| !spec.allows(&name.namespace, namespace)) {
            return Some(Lookup::NotAllowed);
        }
        Some(match (known.state, &known.remote) {
            (State::Ready { may_create }, Some(remote)) => {
                Lookup::Ready { remote: remote.clone(), may_create }
            }
            (State::KeyGone, Some(remote)) if purpose == Purpose::Remove => {
                Lookup::Ready { remote: remote.clone(), may_create: false }
            }
            (State::Unjudged, _) => Lookup::Unjudged,
            (State::Ready { .. } | State::KeyGone | State::NotReady, _) => Lookup::NotReady,
        })
    }

    /// Takes an owner's tickets back in all lanes but the one in which it waits.
    pub fn leave_lanes(&self, owner: &Owner, waits_in: Option<&Lane>) {
        self.commons.lanes().withdraw(owner, waits_in);
    }

    /// Whether that account lets the namespace in, as far as is known.
    pub fn allows(&self, name: &AccountName, namespace: &str) -> bool {
        let registry = self.lock();
        let spec = registry.known(name).and_then(|known| known.spec.as_ref());
        spec.is_some_and(|spec| spec.allows(&name.namespace, namespace))
    }

    /// The way to it, as far as is known.
    pub fn remote(&self, name: &AccountName) -> Option<Arc<RemoteAccount>> {
        self.lock().known(name)?.remote.clone()
    }

    /// Which remote account it is, as far as is known.
    pub fn identity(&self, name: &AccountName) -> Option<RemoteIdentity> {
        Some(self.remote(name)?.identity().clone())
    }

    /// Whether that account is that remote account.
    pub fn is_at(&self, name: &AccountName, remote: &RemoteIdentity) -> bool {
        let registry = self.lock();
        let known = registry.known(name).and_then(|known| known.remote.as_ref());
        known.is_some_and(|known| known.identity() == remote)
    }

    /// Notes that a credential is there although the account's listing lacks it.
    pub fn note_present(&self, account: &AccountName, id: i64, calls: &Calls) {
        self.lock().change(account, None, |account| account.ledger.note_present(id));
        calls.account(account);
    }

    /// Notes that the operator has removed a credential from an account.
    pub fn note_removed(&self, account: &AccountName, id: i64) {
        self.lock().change(account, None, |account| account.ledger.note_removed(id));
    }

    /// Whether it was noted that a credential is there.
    pub fn is_present(&self, account: &AccountName, id: i64, lasts: Duration) -> bool {
        self.lock().ledger(account).is_some_and(|ledger| ledger.is_present(id, lasts))
    }

    /// Notes that the Secret of an account's API key may hold another one.
    pub fn note_secret_change(&self, account: &AccountName) {
        self.lock().change(account, None, registry::Account::note_secret_change);
    }

    /// Notes that the counts of an account are others than those in its status.
    pub fn note_counts(&self, account: &AccountName) {
        self.lock().change(account, None, |account| account.note_counts(true));
    }

    /// Changes what is known beside the listing of the account with that uid; of nothing where it is gone.
    fn with_ledger<T>(&self, account: &AccountName, uid: &str, change: impl FnOnce(&mut Ledger) -> T) -> T {
        self.lock().change_ledger(account, uid, change)
    }

    fn is_incomplete(&self, account: &AccountName) -> bool {
        self.lock().ledger(account).is_some_and(Ledger::is_incomplete)
    }

    /// Why the account that was listed so cannot be the one that it was, by the ids held there.
    pub fn has_diverged(&self, account: &AccountName, listing: &Listing, held: &[i64]) -> Option<Divergence> {
        self.lock().ledger(account)?.divergence(|id| listing.contains(id), held)
    }

    /// The other accounts that have something to do with one that was listed so: those whose listing, at most so old, shows
    /// one of its entries, and those of other companies behind the same key.
    fn related(
        &self,
        account: &AccountName,
        remote: &RemoteAccount,
        listing: &Listing,
        max_age: Duration,
    ) -> Vec<Related> {
        let (own, identity) = (remote.natural_identity(), remote.identity());
        let sharing = self.commons.sharing(identity, listing, max_age);
        let is_empty = listing.is_empty();
        let registry = self.lock();
        let related = |name: &AccountName, is_shared: bool| {
            let other = registry.get(name).filter(|_| name != account)?;
            let remote = other.known.as_ref()?.remote.as_ref()?;
            let theirs = remote.last_listing(max_age)?;
            let have_some = !is_empty && !theirs.is_empty();
            let natural = remote.natural_identity().clone();
            let kinship = kinship::kinship(own, &natural, is_shared && have_some, have_some);
            Some(Related { name: name.clone(), natural, is_usable: other.is_usable(), kinship })
        };
        let listed_alike = sharing.iter().flat_map(|identity| registry.with_identity(identity));
        let behind_one_key = registry.with_key_of(own).filter_map(|name| {
            let theirs = registry.known(name)?.remote.as_ref()?.identity();
            (!sharing.contains(theirs)).then_some((name, theirs == identity))
        });
        let all = listed_alike.map(|name| (name, true)).chain(behind_one_key);
        all.filter_map(|(name, is_shared)| related(name, is_shared)).collect()
    }

    /// Whether it is not known yet if the vendor tells this account apart from another company behind the
    /// same key. Its first write wants a listing of that very moment.
    pub fn may_be_confused(&self, account: &AccountName) -> bool {
        let registry = self.lock();
        let natural =
            |name: &AccountName| Some(registry.known(name)?.remote.as_ref()?.natural_identity().clone());
        let Some(own) = natural(account) else { return false };
        let honoured = registry.ledger(account).and_then(|ledger| ledger.company_honoured.as_ref());
        let is_sibling = |other: RemoteIdentity| own.company_id != other.company_id;
        honoured != Some(&own) && registry.with_key_of(&own).filter_map(natural).any(is_sibling)
    }

    /// The account of another company behind the same key that shows one of these entries as well.
    pub fn confused_with(
        &self,
        account: &AccountName,
        listing: &Listing,
        max_age: Duration,
    ) -> Option<AccountName> {
        let remote = self.remote(account)?;
        let related = self.related(account, &remote, listing, max_age).into_iter();
        related.filter(|other| other.kinship == Kinship::Confused).map(|other| other.name).min()
    }

    /// Whether an account exists that has not been looked at yet.
    pub fn is_awaited(&self, account: &AccountName) -> bool {
        self.lock().get(account).is_some_and(|account| account.known.is_none())
    }

    fn is_known(&self, account: &AccountName) -> bool {
        self.lock().known(account).is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock()
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
