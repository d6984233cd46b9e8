//! The work queue of one kind, for the whole process: one bound on concurrent reconciles, each on a task of its own, fair
//! between namespaces. Waking an object that waits already costs nothing; one that is woken during its reconcile has
//! another afterwards.

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
use super::index::Named;
use crate::telemetry::logs::chain;
use crate::telemetry::metrics::QueueMetrics;

pub use self::policy::Priority;

#[derive(Clone, Debug, Default)]
pub struct Wakes(Arc<Woken>);

#[derive(Debug, Default)]
struct Woken {
    wishes: Mutex<Wishes>,
    /// Something was wished, or a permit to verify is free.
    changed: Notify,
}

/// What the queue has not taken in yet.
#[derive(Debug, Default)]
struct Wishes {
    objects: HashMap<Named, Wish>,
    /// Whether namespaces are terminating.
    namespaces: HashMap<String, bool>,
}

/// When an object is to be reconciled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wish {
    at: Instant,
    /// Whether it is known that the reconcile verifies.
    verifies: bool,
}

/// The share of reconciles that may wait for Microsoft at the same time: where it does not answer, deletions, repairs of
/// what is verified already, and everything else goes on.
#[derive(Clone, Debug)]
pub struct Verifications {
    permits: Arc<Semaphore>,
    /// Permits of reconciles that were begun with one.
    reserved: Arc<Mutex<HashMap<Named, OwnedSemaphorePermit>>>,
    wakes: Wakes,
}

/// Held while Microsoft is waited for.
#[derive(Debug)]
pub struct VerificationPermit {
    permit: Option<OwnedSemaphorePermit>,
    wakes: Wakes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It wants another one after this time at the latest.
    Again {
        after: Duration,
        /// Whether that is because of a failure.
        is_retry: bool,
    },
    Gone,
}

/// The work queue of one kind.
pub struct Queue<'a> {
    /// Its name in metrics.
    pub name: &'static str,
    pub wakes: Wakes,
    /// Reconciles at the same time.
    pub most: usize,
    /// The share of those that may verify.
    pub verifications: Option<Verifications>,
    /// Ends the queue, once the reconciles under way have ended.
    pub stop: &'a CancellationToken,
    pub metrics: &'a QueueMetrics,
}

// === impl Wakes ===

impl Wakes {
    /// Has the object reconciled as soon as it is its turn.
    pub fn now(&self, object: Named) {
        self.wish(object, Wish { at: Instant::now(), verifies: false });
    }

    /// Has the object reconciled after that time at the latest.
    pub fn after(&self, object: Named, after: Duration) {
        if let Some(at) = Instant::now().checked_add(after) {
            self.wish(object, Wish { at, verifies: false });
        }
    }

    /// Has the object reconciled as soon as it may verify.
    fn to_verify(&self, object: Named) {
        self.wish(object, Wish { at: Instant::now(), verifies: true });
    }

    /// Notes whether a namespace is terminating: then its objects come before others'.
    pub fn note_namespace(&self, namespace: &str, is_terminating: bool) {
        self.0.wishes.lock().namespaces.insert(namespace.to_owned(), is_terminating);
        self.0.changed.notify_one();
    }

    fn wish(&self, object: Named, wish: Wish) {
        let mut wishes = self.0.wishes.lock();
        wishes.objects.entry(object).and_modify(|earlier| *earlier = earlier.and(wish)).or_insert(wish);
        self.0.changed.notify_one();
    }
}

// === impl Wish ===

impl Wish {
    /// Both wishes in one: the earlier time wins.
    fn and(self, other: Self) -> Self {
        Self { at: self.at.min(other.at), verifies: self.verifies || other.verifies }
    }
}

// === impl Verifications ===

impl Verifications {
    /// Three quarters of the reconciles that may run at the same time, and at least one.
    pub fn of(most: usize, wakes: Wakes) -> Self {
        let permits = (most * 3 / 4).max(1);
        Self { permits: Arc::new(Semaphore::new(permits)), reserved: Arc::default(), wakes }
    }

    /// The permit to wait for Microsoft in the reconcile of that object. Where there is none, the reconcile is to end: it
    /// is repeated with one.
    pub fn enter(&self, object: &Named) -> Option<VerificationPermit> {
        let reserved = self.reserved.lock().remove(object);
        let Some(permit) = reserved.or_else(|| self.free()) else {
            self.wakes.to_verify(object.clone());
            return None;
        };
        Some(VerificationPermit { permit: Some(permit), wakes: self.wakes.clone() })
    }

    fn free(&self) -> Option<OwnedSemaphorePermit> {
        self.permits.clone().try_acquire_owned().ok()
    }

    /// Keeps a permit for the reconcile of an object that is about to begin.
    fn reserve(&self, object: &Named, permit: OwnedSemaphorePermit) {
        self.reserved.lock().insert(object.clone(), permit);
    }

    fn give_back(&self, object: &Named) {
        self.reserved.lock().remove(object);
    }
}

// === impl VerificationPermit ===

impl Drop for VerificationPermit {
    fn drop(&mut self) {
        self.permit = None;
        self.wakes.0.changed.notify_one();
    }
}

// === impl Queue ===

impl Queue<'_> {
    /// Reconciles what is woken until the controller stops and the reconciles under way have ended. `priority` is asked
    /// when an object begins to wait and when it is woken meanwhile. A reconcile is made when it may begin.
    pub async fn run<R>(self, priority: impl Fn(&Named) -> Priority, reconcile: impl Fn(Arc<Named>) -> R)
    where
        R: Future<Output = Ended> + Send + 'static,
    {
        let mut policy = Policy::new(self.most, priority);
        let mut running = JoinSet::new();
        let mut objects: HashMap<Id, Arc<Named>> = HashMap::new();
        while !self.stop.is_cancelled() {
            self.take_in(&mut policy);
            while let Some(object) = self.next(&mut policy) {
                let task = running.spawn(reconcile(object.clone()));
                objects.insert(task.id(), object);
            }
            self.metrics.waiting(self.name, policy.waiting);
            let due = policy.next_due();
            tokio::select! {
                () = self.stop.cancelled() => {}
                () = self.wakes.0.changed.notified() => {}
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
                Some(ended) = running.join_next_with_id() => {
                    self.note_end(&mut policy, &mut objects, ended);
                }
            }
        }
        while running.join_next().await.is_some() {}
    }

    /// Takes in what was woken and what is due.
    fn take_in(&self, policy: &mut Policy<impl Fn(&Named) -> Priority>) {
        let Wishes { objects, namespaces } = std::mem::take(&mut *self.wakes.0.wishes.lock());
        let now = Instant::now();
        let mut added = 0;
        for (object, wish) in objects {
            added += usize::from(policy.wake(object, wish, now));
        }
        for (namespace, is_terminating) in namespaces {
            policy.note_namespace(&namespace, is_terminating);
        }
        added += policy.begin_due(now);
        self.metrics.added(self.name, added);
    }

    /// The next object that may be reconciled.
    fn next(&self, policy: &mut Policy<impl Fn(&Named) -> Priority>) -> Option<Arc<Named>> {
        let now = Instant::now();
        let permit = self.verifications.as_ref().and_then(Verifications::free);
        let next = policy.next(self.verifications.is_none() || permit.is_some(), now)?;
        if let (Priority::Verification, Some(verifications), Some(permit)) =
            (next.priority, &self.verifications, permit)
        {
            verifications.reserve(&next.object, permit);
        }
        self.metrics.started(self.name, &next.object, next.waited);
        Some(next.object)
    }

    fn note_end(
        &self,
        policy: &mut Policy<impl Fn(&Named) -> Priority>,
        objects: &mut HashMap<Id, Arc<Named>>,
        ended: Result<(Id, Ended), JoinError>,
    ) {
        let (id, ended) = match ended {
            Ok(ended) => ended,
            // Around the reconcile itself there is a net for panics.
            Err(error) => {
                tracing::error!(queue = self.name, error = chain(&error), "the end of a reconcile panicked");
                (error.id(), Ended::Again { after: Duration::from_mins(1), is_retry: true })
            }
        };
        let Some(object) = objects.remove(&id) else { return };
        if let Some(verifications) = &self.verifications {
            verifications.give_back(&object);
        }
        let is_retry = matches!(ended, Ended::Again { is_retry: true, .. });
        self.metrics.ended(self.name, &object, is_retry);
        let added = policy.ended(&object, ended, Instant::now());
        self.metrics.added(self.name, usize::from(added));
    }
}

#[cfg(test)]
mod tests;
