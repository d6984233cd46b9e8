//! In-memory state of each account, beside the object.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::api::{AccountLocation, AccountName, MicrosoftGraphCredential, WoodpeckerAccountSpec};
use crate::controller::account::consistency::ListingConsistency;
use crate::controller::account::mailboxes::MailboxListings;
use crate::controller::index::{Allowance, NamespaceLabels};
use crate::controller::mailboxes::SharedListing;
use crate::core::model::{ReadyTarget, Target};
use crate::woodpecker::{ApiError, RemoteAccount, RemoteIdentity};

/// In-memory state of an account. It ends with the object, because a re-created one may be another remote account.
#[derive(Debug, Default)]
pub struct AccountState {
    /// `None` before the first reconcile.
    pub known: Option<Known>,
    pub consistency: ListingConsistency,
    /// How often its Secret has changed.
    pub secret_changes: u64,
    /// When a key was last read from its Secret, and `secret_changes` at that time.
    key_read: Option<(Instant, u64)>,
    /// The responses that rejected its key, or seemed to.
    pub rejections: KeyRejections,
    /// Since when its counts differ from those in its status.
    counts_differ: Option<Instant>,
    /// The listings of its mailboxes.
    pub mailboxes: MailboxListings,
    /// The listing that `WoodpeckerMailboxes` share.
    pub shared_listing: SharedListing,
}

/// Who wants to use an account.
#[derive(Clone, Copy, Debug)]
pub struct AccountUser<'a> {
    pub namespace: &'a str,
    pub is_deleted: bool,
}

/// What the last reconcile of an account has found.
#[derive(Debug)]
pub struct Known {
    /// `None` if the object is invalid.
    pub spec: Option<WoodpeckerAccountSpec>,
    /// The last client. It is kept while the account is rejected, because the key may become valid again.
    pub remote: Option<Arc<RemoteAccount>>,
    pub state: State,
    /// Consecutive reconciles that failed.
    pub failures: u32,
    /// The last handled annotation that requests a reconcile.
    pub requested: Option<String>,
}

/// Consecutive responses to lists that rejected the API key, or seemed to.
#[derive(Debug, Default)]
pub struct KeyRejections {
    /// The account as which Woodpecker's API rejected the key.
    by_api: Option<RemoteIdentity>,
    /// Since when, and how often, responses were 401 or 403 without the API's JSON.
    by_others: Option<(Instant, u32)>,
}

/// What a failed list says about the API key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyValidity {
    Unknown,
    /// Woodpecker's API rejected it once.
    Unconfirmed,
    /// Woodpecker's API rejected it twice in a row.
    Rejected,
    /// Every list for a while was answered with 401 or 403, but not by Woodpecker's API.
    Unclear,
}

/// How credentials may use an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Ready {
        /// Whether its listing is complete enough to create credentials.
        may_create: bool,
    },
    /// It was never reached with its key, which is the only problem known.
    NotReached,
    /// Its key is missing; the last good one is used for deletions.
    KeyMissing,
    /// It cannot be used.
    NotReady,
}

// === impl AccountState ===

impl AccountState {
    /// How an object can use the account, with its client if it can.
    pub fn look_up(
        &self,
        name: &AccountName,
        user: AccountUser<'_>,
        may_adopt: bool,
        namespaces: &NamespaceLabels,
    ) -> (Target, Option<Arc<RemoteAccount>>) {
        let Some(known) = &self.known else { return (Target::NotReconciled(name.clone()), None) };
        let allowance =
            known.spec.as_ref().map(|spec| namespaces.allowance(spec, &name.namespace, user.namespace));
        match allowance {
            None | Some(Allowance::Allowed) => {}
            Some(Allowance::Denied) => return (Target::NotAllowed(name.clone()), None),
            Some(Allowance::Unknown) => return (Target::NotReconciled(name.clone()), None),
        }
        let (remote, may_create) = match (known.state, &known.remote) {
            (State::Ready { may_create }, Some(remote)) => (remote, may_create),
            // The last good key is enough for a deletion.
            (State::KeyMissing, Some(remote)) if user.is_deleted => (remote, false),
            (State::NotReached, _) => return (Target::NotReached(name.clone()), None),
            (State::Ready { .. } | State::KeyMissing | State::NotReady, _) => {
                return (Target::NotReady(name.clone()), None);
            }
        };
        let client = &remote.client;
        let (base_url, company_id) = (client.base_url.as_str().to_owned(), client.company_id);
        let location = AccountLocation { account: name.clone(), base_url, company_id };
        (Target::Ready(ReadyTarget { location, may_create, may_adopt }), Some(remote.clone()))
    }

    /// Its remote account, if known.
    pub fn remote(&self) -> Option<&Arc<RemoteAccount>> {
        self.known.as_ref()?.remote.as_ref()
    }

    /// Whether it is that remote account.
    pub fn is_at(&self, remote: &RemoteIdentity) -> bool {
        self.remote().is_some_and(|known| known.identity == *remote)
    }

    /// Whether credentials may use it, or could before.
    pub fn is_usable(&self) -> bool {
        self.known.as_ref().is_some_and(|known| known.state != State::NotReady)
    }

    /// Stores the result of a reconcile. Returns whether it changed for credentials.
    pub fn set_known(&mut self, known: Known) -> bool {
        self.shared_listing.forget_old();
        let has_changed = self.known.as_ref().is_none_or(|before| !before.is_equivalent_to(&known));
        self.known = Some(known);
        has_changed
    }

    /// Records that its Secret was read after so many changes, and whether it holds a key.
    pub fn record_key_read(&mut self, is_there: bool, changes: u64) {
        self.key_read = is_there.then(|| (Instant::now(), changes));
    }

    /// Whether its Secret was read within `max_age`, has not changed since and held a key that was not rejected.
    pub fn knows_key(&self, max_age: Duration) -> bool {
        let is_recent =
            |(at, changes): (Instant, u64)| changes == self.secret_changes && at.elapsed() < max_age;
        let is_good = |it: &Known| matches!(it.state, State::Ready { .. } | State::NotReached);
        self.known.as_ref().is_some_and(is_good) && self.key_read.is_some_and(is_recent)
    }

    /// Records whether its counts differ from those in its status. Returns for how long they have differed.
    pub fn record_counts(&mut self, differ: bool) -> Duration {
        let now = Instant::now();
        self.counts_differ = differ.then(|| self.counts_differ.unwrap_or(now));
        self.counts_differ.map(|since| now - since).unwrap_or_default()
    }
}

// === impl AccountUser ===

impl<'a> From<&'a MicrosoftGraphCredential> for AccountUser<'a> {
    fn from(credential: &'a MicrosoftGraphCredential) -> Self {
        Self { namespace: credential.namespace_name(), is_deleted: credential.is_deleted() }
    }
}

// === impl KeyRejections ===

impl KeyRejections {
    /// Responses with 401 or 403 that do not come from Woodpecker's API, until the key may be the cause as well.
    const UNCLEAR: u32 = 3;

    /// Records the response to a list.
    pub fn record<T>(
        &mut self,
        response: &Result<T, ApiError>,
        identity: &RemoteIdentity,
        unclear_after: Duration,
    ) -> KeyValidity {
        match response {
            Err(ApiError::Unauthorized(_) | ApiError::NotInPlan { .. }) => {
                self.by_others = None;
                let is_repeated = self.by_api.as_ref() == Some(identity);
                self.by_api = Some(identity.clone());
                if is_repeated { KeyValidity::Rejected } else { KeyValidity::Unconfirmed }
            }
            Err(ApiError::Failed { status: 401 | 403, .. }) => {
                let (since, before) = self.by_others.unwrap_or((Instant::now(), 0));
                self.by_others = Some((since, before.saturating_add(1)));
                let is_unclear = before + 1 >= Self::UNCLEAR && since.elapsed() >= unclear_after;
                if is_unclear { KeyValidity::Unclear } else { KeyValidity::Unknown }
            }
            // Nothing was sent.
            Err(ApiError::Queue(_) | ApiError::NotLeading(_) | ApiError::Body(_)) => KeyValidity::Unknown,
            Ok(_) | Err(_) => {
                *self = Self::default();
                KeyValidity::Unknown
            }
        }
    }
}

// === impl Known ===

impl Known {
    /// Of an unusable account.
    pub fn not_ready(spec: Option<WoodpeckerAccountSpec>) -> Self {
        Self { spec, remote: None, state: State::NotReady, failures: 0, requested: None }
    }

    /// Whether it makes no difference to credentials.
    fn is_equivalent_to(&self, other: &Self) -> bool {
        self.state == other.state
            && self.spec == other.spec
            && self.remote.as_ref().map(Arc::as_ptr) == other.remote.as_ref().map(Arc::as_ptr)
    }
}

#[cfg(test)]
mod tests {
    use kube::core::DeserializeGuard;
    use kube::runtime::watcher::Event;
    use serde_json::json;

    use super::*;
    use crate::api::{NamespacedName, WoodpeckerAccount};
    use crate::controller::account::consistency::Alias;
    use crate::controller::index::Index;
    use crate::k8s::scope::Scope;
    use crate::woodpecker::testing::identity;

    fn named(name: &str) -> NamespacedName {
        NamespacedName { namespace: "mail".into(), name: name.into() }
    }

    fn object(name: &str, uid: &str) -> DeserializeGuard<WoodpeckerAccount> {
        let account = json!({
            "metadata": {"name": name, "namespace": "mail", "uid": uid, "resourceVersion": uid},
            "spec": {"apiKeySecretRef": {"name": "key"}}
        });
        DeserializeGuard(Ok(serde_json::from_value(account).unwrap()))
    }

    /// An index with these accounts, each by name and uid.
    fn index(accounts: &[(&str, &str)]) -> Index {
        let index = Index::new(vec![Scope::All]);
        for (name, uid) in accounts {
            let _ = index.on_watch_event(&Scope::All, 0, Event::Apply(object(name, uid)));
        }
        index
    }

    #[test]
    fn state_ends_with_the_account() {
        let (index, a) = (index(&[]), named("a"));
        let show = |uid| index.on_watch_event(&Scope::All, 0, Event::Apply(object("a", uid)));
        let present =
            |uid| index.change_account(&a, Some(uid), |it| it.consistency.record_present(7)).is_some();
        let set_known = |uid| index.change_account(&a, Some(uid), |it| it.set_known(known(State::NotReady)));
        let state = || {
            let objects = index.objects();
            objects.account(&a).map(|it| (it.known.is_some(), it.consistency.is_incomplete()))
        };
        assert_eq!(set_known("1"), None, "it does not exist");
        let _ = show("1");
        assert!(present("1"));
        assert_eq!(set_known("1"), Some(true));
        let _ = show("1");
        assert_eq!(state(), Some((true, true)));
        let _ = show("2");
        assert_eq!(state(), Some((false, false)));
        assert_eq!(set_known("1"), None, "the result of the earlier object comes too late");
        assert!(!present("1"));
        let _ = index.on_watch_event(&Scope::All, 0, Event::Delete(object("a", "2")));
        assert!(!present("2") && state().is_none());
    }

    #[test]
    fn dependents_of_an_account_are_found() {
        let index = index(&[("a", "1"), ("b", "2"), ("c", "3")]);
        let one = Alias { own: identity(1, None), other: named("a"), others: identity(2, None) };
        index.change_account(&named("b"), None, |it| it.consistency.alias_of = Some(one));
        index.change_account(&named("c"), None, |it| {
            it.consistency.shares_credentials_with = Some(named("a"));
        });
        let dependents =
            || (index.account_aliases(&named("a")), index.accounts_sharing_credentials_with(&named("a")));
        assert_eq!(dependents(), (vec![named("b")], vec![named("c")]));
        index.change_account(&named("c"), None, |it| it.consistency.shares_credentials_with = None);
        let _ = index.on_watch_event(&Scope::All, 0, Event::Delete(object("b", "2")));
        assert_eq!(dependents(), (vec![], vec![]));
    }

    fn known(state: State) -> Known {
        Known { state, ..Known::not_ready(None) }
    }

    #[tokio::test(start_paused = true)]
    async fn the_key_is_read_again_if_the_secret_changed_or_after_a_while() {
        let (mut account, long) = (AccountState::default(), Duration::from_mins(10));
        account.known = Some(known(State::NotReached));
        assert!(!account.knows_key(long));
        account.record_key_read(true, account.secret_changes);
        assert!(account.knows_key(long));
        account.secret_changes += 1;
        assert!(!account.knows_key(long));
        let before = account.secret_changes;
        account.secret_changes += 1;
        account.record_key_read(true, before);
        assert!(!account.knows_key(long), "it changed while it was read");
        account.record_key_read(true, account.secret_changes);
        tokio::time::advance(long).await;
        assert!(!account.knows_key(long));
        account.record_key_read(true, account.secret_changes);
        account.known = Some(known(State::NotReady));
        assert!(!account.knows_key(long), "it was rejected");
    }

    #[tokio::test(start_paused = true)]
    async fn counts_differ_since_they_first_did() {
        let mut account = AccountState::default();
        assert_eq!(account.record_counts(true), Duration::ZERO);
        tokio::time::advance(Duration::from_secs(7)).await;
        assert_eq!(account.record_counts(true), Duration::from_secs(7));
        account.record_counts(false);
        assert_eq!(account.record_counts(true), Duration::ZERO);
    }
}
