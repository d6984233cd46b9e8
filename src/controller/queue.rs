//! The work queue of one kind, for the whole process. It bounds concurrent reconciles, runs each as a task, and is fair
//! between namespaces. Enqueueing an object that already waits is a no-op. An object that is enqueued during its
//! reconcile is reconciled again afterwards.

mod policy;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::policy::Policy;
use crate::api::NamespacedName;
use crate::core::error_chain::chain;
use crate::telemetry::metrics::QueueMetrics;

pub use self::policy::Priority;

#[derive(Clone, Debug, Default)]
pub struct QueueSender(Arc<SenderState>);

#[derive(Debug, Default)]
struct SenderState {
    pending: Mutex<PendingRequests>,
    /// Notified if something was requested, or a verification slot was released.
    changed: Notify,
}

/// What the queue has not processed yet.
#[derive(Debug, Default)]
struct PendingRequests {
    objects: HashMap<NamespacedName, QueuedRequest>,
    /// Whether namespaces are terminating.
    namespaces: HashMap<String, bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct QueuedRequest {
    at: Instant,
    /// Whether the reconcile is known to verify.
    verifies: bool,
}

/// Limits the reconciles that may wait for Microsoft at the same time. If Microsoft does not respond, deletions,
/// repairs of what is already verified, and everything else continue.
#[derive(Clone, Debug)]
pub struct VerificationSlots {
    permits: Arc<Semaphore>,
    /// Permits that were acquired before the reconcile began.
    reserved: Arc<Mutex<HashMap<NamespacedName, OwnedSemaphorePermit>>>,
    sender: QueueSender,
}

/// Held during requests to Microsoft.
#[derive(Debug)]
pub struct VerificationPermit {
    permit: Option<OwnedSemaphorePermit>,
    sender: QueueSender,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueResult {
    Requeue {
        after: Duration,
        /// Whether the reconcile failed.
        is_retry: bool,
    },
    Forget,
}

pub struct Queue<'a> {
    /// Its name in metrics.
    pub name: &'static str,
    pub sender: QueueSender,
    pub max_concurrent: usize,
    /// Limits the reconciles that verify.
    pub verification_slots: Option<VerificationSlots>,
    /// Stops the queue; running reconciles are finished.
    pub stop: &'a CancellationToken,
    pub metrics: &'a QueueMetrics,
}

// === impl QueueSender ===

impl QueueSender {
    /// Reconciles the object as soon as possible.
    pub fn enqueue(&self, object: NamespacedName) {
        self.request(object, QueuedRequest { at: Instant::now(), verifies: false });
    }

    /// Reconciles the object after `after`, or earlier if something else requests it.
    pub fn enqueue_after(&self, object: NamespacedName, after: Duration) {
        if let Some(at) = Instant::now().checked_add(after) {
            self.request(object, QueuedRequest { at, verifies: false });
        }
    }

    /// Reconciles the object as soon as a verification slot is free.
    fn enqueue_to_verify(&self, object: NamespacedName) {
        self.request(object, QueuedRequest { at: Instant::now(), verifies: true });
    }

    /// Records whether a namespace is terminating; its objects are then reconciled first.
    pub fn set_terminating(&self, namespace: &str, is_terminating: bool) {
        self.0.pending.lock().namespaces.insert(namespace.to_owned(), is_terminating);
        self.0.changed.notify_one();
    }

    fn request(&self, object: NamespacedName, request: QueuedRequest) {
        let mut pending = self.0.pending.lock();
        pending
            .objects
            .entry(object)
            .and_modify(|earlier| *earlier = earlier.merge(request))
            .or_insert(request);
        self.0.changed.notify_one();
    }
}

// === impl QueuedRequest ===

impl QueuedRequest {
    /// The earlier time wins.
    fn merge(self, other: Self) -> Self {
        Self { at: self.at.min(other.at), verifies: self.verifies || other.verifies }
    }
}

// === impl VerificationSlots ===

impl VerificationSlots {
    /// Three quarters of the concurrent reconciles, and at least one.
    pub fn new(max_concurrent: usize, sender: QueueSender) -> Self {
        let permits = (max_concurrent * 3 / 4).max(1);
        Self { permits: Arc::new(Semaphore::new(permits)), reserved: Arc::default(), sender }
    }

    /// A permit to send requests to Microsoft. If `None`, the reconcile should end; the object is enqueued again and
    /// gets a permit first.
    pub fn acquire(&self, object: &NamespacedName) -> Option<VerificationPermit> {
        let reserved = self.reserved.lock().remove(object);
        let Some(permit) = reserved.or_else(|| self.try_acquire()) else {
            self.sender.enqueue_to_verify(object.clone());
            return None;
        };
        Some(VerificationPermit { permit: Some(permit), sender: self.sender.clone() })
    }

    fn try_acquire(&self) -> Option<OwnedSemaphorePermit> {
        self.permits.clone().try_acquire_owned().ok()
    }

    /// Keeps a permit for the reconcile of an object that is about to begin.
    fn reserve(&self, object: &NamespacedName, permit: OwnedSemaphorePermit) {
        self.reserved.lock().insert(object.clone(), permit);
    }

    fn release(&self, object: &NamespacedName) {
        self.reserved.lock().remove(object);
    }
}

// === impl VerificationPermit ===

impl Drop for VerificationPermit {
    fn drop(&mut self) {
        self.permit = None;
        self.sender.0.changed.notify_one();
    }
}

// === impl Queue ===

impl Queue<'_> {
    /// Reconciles requested objects until `stop`, and finishes running reconciles. `priority` is called when an object
    /// begins to wait and when it is requested again meanwhile. `reconcile` is called when an object's reconcile may
    /// begin.
    pub async fn run<R>(
        self,
        priority: impl Fn(&NamespacedName) -> Priority,
        reconcile: impl Fn(Arc<NamespacedName>) -> R,
    ) where
        R: Future<Output = QueueResult> + Send + 'static,
    {
        let mut policy = Policy::new(self.max_concurrent, priority);
        let mut running = JoinSet::new();
        let mut objects: HashMap<Id, Arc<NamespacedName>> = HashMap::new();
        while !self.stop.is_cancelled() {
            self.drain_requests(&mut policy);
            while let Some(object) = self.next(&mut policy) {
                let task = running.spawn(reconcile(object.clone()));
                objects.insert(task.id(), object);
            }
            self.metrics.set_depth(self.name, policy.waiting);
            let due = policy.next_due();
            tokio::select! {
                () = self.stop.cancelled() => {}
                () = self.sender.0.changed.notified() => {}
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
                Some(ended) = running.join_next_with_id() => {
                    self.on_end(&mut policy, &mut objects, ended);
                }
            }
        }
        while running.join_next().await.is_some() {}
    }

    /// Moves pending requests and due timers into the policy.
    fn drain_requests(&self, policy: &mut Policy<impl Fn(&NamespacedName) -> Priority>) {
        let PendingRequests { objects, namespaces } = std::mem::take(&mut *self.sender.0.pending.lock());
        let now = Instant::now();
        let mut added = 0;
        for (object, request) in objects {
            added += usize::from(policy.add(object, request, now));
        }
        for (namespace, is_terminating) in namespaces {
            policy.set_terminating(&namespace, is_terminating);
        }
        added += policy.promote_due(now);
        self.metrics.added(self.name, added);
    }

    fn next(&self, policy: &mut Policy<impl Fn(&NamespacedName) -> Priority>) -> Option<Arc<NamespacedName>> {
        let now = Instant::now();
        let permit = self.verification_slots.as_ref().and_then(VerificationSlots::try_acquire);
        let next = policy.next(self.verification_slots.is_none() || permit.is_some(), now)?;
        if let (Priority::Verification, Some(verification_slots), Some(permit)) =
            (next.priority, &self.verification_slots, permit)
        {
            verification_slots.reserve(&next.object, permit);
        }
        self.metrics.started(self.name, &next.object, next.waited);
        Some(next.object)
    }

    fn on_end(
        &self,
        policy: &mut Policy<impl Fn(&NamespacedName) -> Priority>,
        objects: &mut HashMap<Id, Arc<NamespacedName>>,
        ended: Result<(Id, QueueResult), JoinError>,
    ) {
        let (id, ended) = match ended {
            Ok(ended) => ended,
            // The reconcile itself catches panics.
            Err(error) => {
                tracing::error!(queue = self.name, error = chain(&error), "the end of a reconcile panicked");
                (error.id(), QueueResult::Requeue { after: Duration::from_mins(1), is_retry: true })
            }
        };
        let Some(object) = objects.remove(&id) else { return };
        if let Some(verification_slots) = &self.verification_slots {
            verification_slots.release(&object);
        }
        let is_retry = matches!(ended, QueueResult::Requeue { is_retry: true, .. });
        self.metrics.ended(self.name, &object, is_retry);
        let added = policy.finish(&object, ended, Instant::now());
        self.metrics.added(self.name, usize::from(added));
    }
}

#[cfg(test)]
mod tests;
