//! Session: the observed state, the secret, the clients and the queue permit of one reconcile.

use std::sync::Arc;
use std::time::Duration;

use crate::controller::index::claim_key::ClaimKey;

use crate::api::{NamespacedName, SealedGraphCredential};
use crate::controller::context::Context;
use crate::controller::error::ReconcileError;
use crate::core::claims::Candidate;
use crate::core::failure::{Failure, FailureKind};
use crate::core::model::Observed;
use crate::core::request_priority::RequestPriority;
use crate::secret_text::SecretText;
use crate::woodpecker::{
    AccountQueue, ApiError, Listing, Permit, QueueEntry, RemoteAccount, RequestSlot, Requester, RequesterKind,
};

/// State of one reconcile: what was observed, and the secret and clients that planning must not see.
pub struct Session {
    pub observed: Observed,
    /// The client secret; dropped with the session.
    pub secret: Option<SecretText>,
    /// The account, if it is usable.
    pub account: Option<Arc<RemoteAccount>>,
    /// The record as it was read, if the target is the store.
    pub record: Option<SealedGraphCredential>,
    /// The account of the previous registration to delete next, if it is usable.
    pub previous_account: Option<Arc<RemoteAccount>>,
    /// The object's claim on its app at the account, which it takes before a create.
    pub candidate: Option<(ClaimKey, Candidate)>,
    /// Priority of the step's requests.
    pub priority: RequestPriority,
    /// Permit to send requests in one account queue.
    pub permit: Option<Permit>,
    /// The account queue in which the object waits for a permit.
    pub queued_in: Option<AccountQueue>,
    /// What this reconcile has created at the destination and not yet persisted.
    pub created: Option<Created>,
}

/// Something created at the destination, to be rolled back if the object was deleted meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// The object's record of the store.
    Record,
    /// The credential of that id at the account.
    Credential(i64),
}

// === impl Session ===

impl Session {
    /// Without accounts and permits.
    pub fn new(
        observed: Observed,
        secret: Option<SecretText>,
        record: Option<SealedGraphCredential>,
    ) -> Self {
        Self {
            observed,
            secret,
            account: None,
            record,
            previous_account: None,
            candidate: None,
            priority: RequestPriority::Resync,
            permit: None,
            queued_in: None,
            created: None,
        }
    }

    /// A slot to send one request to an account. Without one, the object is requeued when it gets a permit.
    pub async fn acquire_slot(&mut self, account: &RemoteAccount) -> Result<RequestSlot, ApiError> {
        self.request_permit(account)?;
        self.acquire_slot_unconditionally(account).await
    }

    /// A permit for the next requests to an account, while the previous one may still be in flight. A permit already
    /// held is returned if a more urgent requester waits.
    pub fn request_permit(&mut self, account: &RemoteAccount) -> Result<(), ApiError> {
        let queue = &account.queue;
        self.queued_in = Some(queue.clone());
        let permit = match self.permit.take() {
            Some(mut permit) if permit.is_of(queue) => {
                permit.set_priority(self.priority);
                if permit.should_yield() {
                    return Err(permit.yield_now().into());
                }
                permit
            }
            Some(_) | None => queue.request_permit(&self.entry())?,
        };
        self.permit = Some(permit);
        self.queued_in = None;
        Ok(())
    }

    /// A slot to finish what was begun. It does not yield to more urgent requesters.
    pub async fn acquire_slot_unconditionally(
        &mut self,
        account: &RemoteAccount,
    ) -> Result<RequestSlot, ApiError> {
        let queue = &account.queue;
        let held = self.permit.take().filter(|permit| permit.is_of(queue));
        self.queued_in = Some(queue.clone());
        let permit = held.map_or_else(|| queue.request_permit(&self.entry()), Ok)?;
        let slot = permit.slot().await?;
        self.permit = Some(permit);
        self.queued_in = None;
        Ok(slot)
    }

    /// Lists an account, from the cache if that is not older than `max_age`.
    pub async fn list(&mut self, account: &RemoteAccount, max_age: Duration) -> Result<Listing, ApiError> {
        if let Some(listing) = account.last_listing(max_age) {
            return Ok(listing);
        }
        let slot = self.acquire_slot(account).await?;
        account.list(&slot, max_age).await
    }

    /// Lists an account now, to finish what was begun.
    pub async fn list_unconditionally(&mut self, account: &RemoteAccount) -> Result<Listing, ApiError> {
        let slot = self.acquire_slot_unconditionally(account).await?;
        account.list(&slot, Duration::ZERO).await
    }

    /// After a 429 the object waits only for the pause of its queue, like the others that wait there: Woodpecker dropped
    /// the request, and nothing failed.
    pub fn wait_after_throttling(&mut self, error: ReconcileError) -> ReconcileError {
        let ReconcileError::Step(Failure { kind: FailureKind::Throttled, operation, id, .. }) = error else {
            return error;
        };
        let Some((queue, reason)) = self.permit.take().and_then(Permit::wait_for_pause) else { return error };
        self.queued_in = Some(queue);
        ReconcileError::Step(Failure { operation, kind: FailureKind::Queued(reason), retry_after: None, id })
    }

    /// Leaves all account queues, except the one in which the object waits.
    pub fn leave_queues(&mut self, context: &Context) {
        self.permit = None;
        let kind = self.observed.results.failure.as_ref().map(|failure| &failure.kind);
        let is_queued = matches!(kind, Some(FailureKind::Queued(_)));
        let queued_in = self.queued_in.clone().filter(|_| is_queued);
        context
            .accounts
            .leave_queues(&requester(&NamespacedName::of(&self.observed.object)), queued_in.as_ref());
    }

    fn entry(&self) -> QueueEntry {
        QueueEntry {
            requester: requester(&NamespacedName::of(&self.observed.object)),
            priority: self.priority,
            is_failing: self.observed.status.consecutive_failures.is_some(),
        }
    }
}

/// The requester of a credential's queue entries.
pub fn requester(own: &NamespacedName) -> Requester {
    Requester { kind: RequesterKind::Credential, namespace: own.namespace.clone(), name: own.name.clone() }
}
