//! What is kept of each account beside the object, from when it is known until it is gone.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::ledger::Ledger;
use crate::controller::observed::{ReadyTarget, Target};
use crate::resources::{AccountName, MicrosoftGraphCredential, Place, WoodpeckerAccountSpec};
use crate::woodpecker::{RemoteAccount, RemoteIdentity};

/// What is kept of an account. It ends with the object: another one of its name may be another remote account.
#[derive(Debug, Default)]
pub struct AccountState {
    /// Nothing before it was looked at.
    pub known: Option<Known>,
    /// What is known beside its listing.
    pub ledger: Ledger,
    /// How often its Secret has changed.
    pub secret_changes: u64,
    /// When its Secret was read last and found to hold a key, and how often it had changed by then.
    key_read: Option<(Instant, u64)>,
    /// Since when its counts are others than those in its status.
    counts_differ: Option<Instant>,
}

/// What the last look at an account has found.
#[derive(Debug)]
pub struct Known {
    /// Nothing where the object cannot be read.
    pub spec: Option<WoodpeckerAccountSpec>,
    /// The last client that could be made; kept while the account is refused, for its key may come back.
    pub remote: Option<Arc<RemoteAccount>>,
    /// How it stands.
    pub state: State,
    /// Looks in a row that came to nothing.
    pub failures: u32,
    /// The request for a pass, by annotation, that was handled last.
    pub requested: Option<String>,
}

/// How an account stands towards its credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
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

// === impl AccountState ===

impl AccountState {
    /// How a credential can be reached in that account, and the way where it can.
    pub fn look_up(
        &self,
        name: &AccountName,
        object: &MicrosoftGraphCredential,
        may_adopt: bool,
    ) -> (Target, Option<Arc<RemoteAccount>>) {
        let Some(known) = &self.known else { return (Target::NotSeenYet(name.clone()), None) };
        let allows = |spec: &WoodpeckerAccountSpec| spec.allows(&name.namespace, object.namespace_name());
        if !known.spec.as_ref().is_none_or(allows) {
            return (Target::NotAllowed(name.clone()), None);
        }
        let (remote, may_create) = match (known.state, &known.remote) {
            (State::Ready { may_create }, Some(remote)) => (remote, may_create),
            // To remove something, the last good key will do.
            (State::KeyGone, Some(remote)) if object.is_deleted() => (remote, false),
            (State::Unjudged, _) => return (Target::Unjudged(name.clone()), None),
            (State::Ready { .. } | State::KeyGone | State::NotReady, _) => {
                return (Target::NotReady(name.clone()), None);
            }
        };
        let client = &remote.client;
        let (base_url, company_id) = (client.base_url.as_str().to_owned(), client.company_id);
        let place = Place { account: name.clone(), base_url, company_id };
        (Target::Ready(ReadyTarget { place, may_create, may_adopt }), Some(remote.clone()))
    }

    /// The way to it, as far as is known.
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

    /// Keeps what a look has found. Says whether that is news to its credentials.
    pub fn keep(&mut self, known: Known) -> bool {
        let is_news = self.known.as_ref().is_none_or(|before| !before.says_the_same_as(&known));
        self.known = Some(known);
        is_news
    }

    /// Notes that its Secret was read, after so many changes, and holds a key or not.
    pub fn note_key(&mut self, is_there: bool, changes: u64) {
        self.key_read = is_there.then(|| (Instant::now(), changes));
    }

    /// Whether its Secret was read that lately, has not changed since and held a key that still counts.
    pub fn knows_key(&self, max_age: Duration) -> bool {
        let is_recent =
            |(at, changes): (Instant, u64)| changes == self.secret_changes && at.elapsed() < max_age;
        let is_good = |it: &Known| matches!(it.state, State::Ready { .. } | State::Unjudged);
        self.known.as_ref().is_some_and(is_good) && self.key_read.is_some_and(is_recent)
    }

    /// Notes whether its counts are others than those in its status, and says for how long they have been.
    pub fn note_counts(&mut self, differ: bool) -> Duration {
        let now = Instant::now();
        self.counts_differ = differ.then(|| self.counts_differ.unwrap_or(now));
        self.counts_differ.map(|since| now - since).unwrap_or_default()
    }
}

// === impl Known ===

impl Known {
    /// Of an account that cannot be used at all.
    pub fn not_ready(spec: Option<WoodpeckerAccountSpec>) -> Self {
        Self { spec, remote: None, state: State::NotReady, failures: 0, requested: None }
    }

    /// Whether credentials would find the same.
    fn says_the_same_as(&self, other: &Self) -> bool {
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
    use crate::controller::accounts::ledger::OneWith;
    use crate::controller::index::{Index, Named};
    use crate::controller::scope::Scope;
    use crate::resources::WoodpeckerAccount;
    use crate::woodpecker::testing::identity;

    fn named(name: &str) -> Named {
        Named { namespace: "mail".into(), name: name.into() }
    }

    fn object(name: &str, uid: &str) -> DeserializeGuard<WoodpeckerAccount> {
        let account = json!({
            "metadata": {"name": name, "namespace": "mail", "uid": uid, "resourceVersion": uid},
            "spec": {"apiKeySecretRef": {"name": "key"}}
        });
        DeserializeGuard(Ok(serde_json::from_value(account).unwrap()))
    }

    /// An index that the watch shows these accounts, each by name and uid.
    fn index(accounts: &[(&str, &str)]) -> Index {
        let index = Index::new(vec![Scope::All]);
        for (name, uid) in accounts {
            let _ = index.note(&Scope::All, 0, Event::Apply(object(name, uid)));
        }
        index
    }

    #[test]
    fn what_is_known_of_an_account_ends_with_it() {
        let (index, a) = (index(&[]), named("a"));
        let show = |uid| index.note(&Scope::All, 0, Event::Apply(object("a", uid)));
        let present = |uid| index.change_account(&a, Some(uid), |it| it.ledger.note_present(7)).is_some();
        let keep = |uid| index.change_account(&a, Some(uid), |it| it.keep(known(State::NotReady)));
        let stands = || {
            let objects = index.objects();
            objects.account(&a).map(|it| (it.known.is_some(), it.ledger.is_incomplete()))
        };
        assert_eq!(keep("1"), None, "it is not there");
        let _ = show("1");
        assert!(present("1"));
        assert_eq!(keep("1"), Some(true));
        let _ = show("1");
        assert_eq!(stands(), Some((true, true)));
        let _ = show("2");
        assert_eq!(stands(), Some((false, false)));
        assert_eq!(keep("1"), None, "what is said of the earlier one comes too late");
        assert!(!present("1"));
        let _ = index.note(&Scope::All, 0, Event::Delete(object("a", "2")));
        assert!(!present("2") && stands().is_none());
    }

    #[test]
    fn who_rests_on_an_account_is_found_by_it() {
        let index = index(&[("a", "1"), ("b", "2"), ("c", "3")]);
        let one = OneWith { own: identity(1, None), other: named("a"), others: identity(2, None) };
        index.change_account(&named("b"), None, |it| it.ledger.one_with = Some(one));
        index.change_account(&named("c"), None, |it| it.ledger.confused_with = Some(named("a")));
        let resting = || (index.accounts_one_with(&named("a")), index.accounts_confused_by(&named("a")));
        assert_eq!(resting(), (vec![named("b")], vec![named("c")]));
        index.change_account(&named("c"), None, |it| it.ledger.confused_with = None);
        let _ = index.note(&Scope::All, 0, Event::Delete(object("b", "2")));
        assert_eq!(resting(), (vec![], vec![]));
    }

    fn known(state: State) -> Known {
        Known { state, ..Known::not_ready(None) }
    }

    #[tokio::test(start_paused = true)]
    async fn the_key_is_read_again_where_the_secret_changed_or_after_a_while() {
        let (mut account, long) = (AccountState::default(), Duration::from_mins(10));
        account.known = Some(known(State::Unjudged));
        assert!(!account.knows_key(long));
        account.note_key(true, account.secret_changes);
        assert!(account.knows_key(long));
        account.secret_changes += 1;
        assert!(!account.knows_key(long));
        let before = account.secret_changes;
        account.secret_changes += 1;
        account.note_key(true, before);
        assert!(!account.knows_key(long), "it changed while it was read");
        account.note_key(true, account.secret_changes);
        tokio::time::advance(long).await;
        assert!(!account.knows_key(long));
        account.note_key(true, account.secret_changes);
        account.known = Some(known(State::NotReady));
        assert!(!account.knows_key(long), "it was refused");
    }

    #[tokio::test(start_paused = true)]
    async fn counts_differ_since_they_first_did() {
        let mut account = AccountState::default();
        assert_eq!(account.note_counts(true), Duration::ZERO);
        tokio::time::advance(Duration::from_secs(7)).await;
        assert_eq!(account.note_counts(true), Duration::from_secs(7));
        account.note_counts(false);
        assert_eq!(account.note_counts(true), Duration::ZERO);
    }
}
