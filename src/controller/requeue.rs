//! Requeues objects for reasons other than their own changes: a Secret, an account, a conflicting object.

use std::sync::Arc;
use std::time::Duration;

use crate::api::NamespacedName;

use crate::api::{AccountName, MicrosoftGraphCredential, TenantId};
use crate::controller::graph_slots::GraphSlots;
use crate::controller::index::{Due, Effects, Index, Objects, Referrer, ReleasedApp};
use crate::controller::kind::Kind;
use crate::controller::queue::{QueueSender, VerificationSlots};
use crate::k8s::relist::Relist;
use crate::woodpecker::{AccountQueues, RequesterKind};

/// Sends objects to the work queues of their kinds.
#[derive(Clone, Default)]
pub struct QueueSenders {
    pub(super) credentials: QueueSender,
    pub(super) accounts: QueueSender,
    pub(super) identities: QueueSender,
    pub(super) mailboxes: QueueSender,
}

/// Routes every trigger to the objects that it concerns.
#[derive(Clone)]
pub struct Requeuer {
    senders: QueueSenders,
    index: Arc<Index>,
    queues: AccountQueues,
    relist: Relist,
    /// How long an account may wait for further changes of its counts.
    count_pace: Duration,
}

// === impl QueueSenders ===

impl QueueSenders {
    pub fn of(&self, kind: RequesterKind) -> &QueueSender {
        match kind {
            RequesterKind::Credential => &self.credentials,
            RequesterKind::Account => &self.accounts,
            RequesterKind::Mailboxes => &self.mailboxes,
        }
    }

    /// Limits how many credentials may wait for Microsoft, given the number of concurrent reconciles.
    pub fn verification_slots(&self, most: u16) -> VerificationSlots {
        VerificationSlots::new(most.into(), self.credentials.clone())
    }

    /// Limits how many credentials may wait for Microsoft Graph, given the number of concurrent reconciles.
    pub fn graph_slots(&self, most: u16) -> GraphSlots {
        GraphSlots::new(most.into(), self.credentials.clone())
    }
}

// === impl Requeuer ===

impl Requeuer {
    pub fn new(
        senders: QueueSenders,
        index: Arc<Index>,
        queues: AccountQueues,
        relist: Relist,
        count_pace: Duration,
    ) -> Self {
        Self { senders, index, queues, relist, count_pace }
    }

    pub fn of<K: Kind>(&self) -> &QueueSender {
        K::sender(&self.senders)
    }

    pub fn credential(&self, own: &NamespacedName) {
        self.senders.credentials.enqueue(own.clone());
    }

    /// Reconciles a credential after that time.
    pub fn credential_after(&self, own: NamespacedName, after: Duration) {
        self.senders.credentials.enqueue_after(own, after);
    }

    pub fn account(&self, own: &NamespacedName) {
        self.senders.accounts.enqueue(own.clone());
    }

    /// Reconciles an account after that time. Further requests until then change nothing.
    pub fn account_after(&self, own: NamespacedName, after: Duration) {
        self.senders.accounts.enqueue_after(own, after);
    }

    /// Records whether a namespace is terminating. Its objects then come first.
    pub fn note_namespace(&self, namespace: &str, is_terminating: bool) {
        self.senders.credentials.set_terminating(namespace, is_terminating);
        self.senders.accounts.set_terminating(namespace, is_terminating);
    }

    /// Applies what the index derives from an event, and returns the objects that are due.
    ///
    /// Accounts are reconciled once for all changes within a while; at once if that may decide whether one needs its
    /// finalizer.
    pub fn apply<K: Kind>(&self, effects: Effects) -> Vec<Due> {
        let Effects { due, deleted, accounts, identities, released_apps, relist } = effects;
        for own in deleted {
            if let Some(requester) = K::requester(&own) {
                self.queues.withdraw(&requester, None);
            }
            K::on_deleted(self, &own);
            self.of::<K>().enqueue(own);
        }
        for change in accounts {
            self.index.change_account(&change.account, None, |account| account.record_counts(true));
            if change.is_urgent {
                self.account(&change.account);
            } else {
                self.account_after(change.account, self.count_pace);
            }
        }
        for name in &identities {
            self.users_of_identity(name, |_| true);
        }
        for released in &released_apps {
            self.requeue_next_owner(released);
        }
        if relist {
            self.relist.trigger(K::KIND);
        }
        due
    }

    /// Reconciles the next object that may register a released app.
    fn requeue_next_owner(&self, released: &ReleasedApp) {
        let is_allowed = |objects: &Objects, account: &AccountName, object: &MicrosoftGraphCredential| {
            objects.allows(account, object.namespace_name())
        };
        for next in self.index.next_candidates(released, is_allowed) {
            self.credential(&next);
        }
    }

    /// Reconciles an object that points to a Secret that changed.
    pub fn referrer(&self, referrer: &Referrer) {
        match referrer {
            Referrer::Credential(own) => self.credential(own),
            Referrer::Account(own) => {
                self.index.change_account(own, None, |account| account.secret_changes += 1);
                self.account(own);
            }
        }
    }

    /// Reconciles the credentials in these tenants that a change of their identity concerns.
    pub fn users_of_identity(&self, name: &str, is_concerned: impl Fn(&TenantId) -> bool) {
        for own in self.index.concerned_by_identity(name, is_concerned) {
            self.credential(&own);
        }
    }

    /// Reconciles the credentials that use an account.
    pub fn credentials_at(&self, account: &AccountName) {
        for credential in self.index.credentials_at(account) {
            self.credential(&NamespacedName::of(&*credential));
        }
    }

    /// Reconciles the accounts for which Woodpecker shows this account's credentials as well.
    pub fn accounts_sharing_credentials_with(&self, account: &AccountName) {
        for other in self.index.accounts_sharing_credentials_with(account) {
            self.account(&other);
        }
    }
}
