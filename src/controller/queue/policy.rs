//! The order of a work queue. It has no clock and does not wait. A terminating namespace comes first, then the one with
//! the fewest running reconciles, then the one that was served longest ago. Within a namespace deletions come first,
//! and the rest is ordered by age. An object that is due only because of its timer, such as a retry, yields to changes
//! in the next seconds.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::api::NamespacedName;
use crate::controller::queue::{QueueResult, QueuedRequest};

/// What the reconcile of an object will do, as far as is known beforehand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    Deletion,
    /// It sends no request to Microsoft.
    Ordinary,
    /// It verifies the credential at Microsoft, which may take long.
    Verification,
}

/// How long an object that is due only because of its timer yields to changes.
const YIELD_TIME: Duration = Duration::from_secs(5);

pub struct Policy<P> {
    /// Called when an object begins to wait and when it is requested again meanwhile.
    priority: P,
    max_concurrent: usize,
    running: usize,
    pub waiting: usize,
    entries: HashMap<Arc<NamespacedName>, Entry>,
    /// Objects that are due later.
    timers: BTreeSet<(Instant, Arc<NamespacedName>)>,
    namespaces: HashMap<String, NamespaceQueue>,
    /// Namespaces with waiting objects that do not verify.
    ready: BTreeSet<Rank>,
    /// Namespaces with waiting objects that verify.
    verifying: BTreeSet<Rank>,
    /// Advances whenever an object is enqueued or served.
    clock: u64,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Next {
    pub object: Arc<NamespacedName>,
    pub priority: Priority,
    pub waited: Duration,
}

#[derive(Debug)]
enum Entry {
    Timed(Instant),
    Waiting {
        priority: Priority,
        age: Age,
        since: Instant,
    },
    Running {
        /// Set if it was requested again meanwhile.
        again: Option<QueuedRequest>,
    },
}

/// The waiting and running objects of a namespace.
#[derive(Debug, Default)]
struct NamespaceQueue {
    /// Objects in the queue, whether they wait, run or are due later.
    entries: usize,
    running: usize,
    /// When one of its objects was last served, by the policy's clock.
    last_served: u64,
    is_terminating: bool,
    waiting: BTreeMap<Priority, BTreeMap<Age, Arc<NamespacedName>>>,
}

/// The order among objects of one namespace and priority: a time, which is in the future if the object yields, and a
/// unique number.
type Age = (Instant, u64);

/// The order of namespaces: the lowest is served first.
type Rank = (bool, usize, u64, String);

// === impl Policy ===

impl<P: Fn(&NamespacedName) -> Priority> Policy<P> {
    pub fn new(max_concurrent: usize, priority: P) -> Self {
        Self {
            priority,
            max_concurrent,
            running: 0,
            waiting: 0,
            entries: HashMap::new(),
            timers: BTreeSet::new(),
            namespaces: HashMap::new(),
            ready: BTreeSet::new(),
            verifying: BTreeSet::new(),
            clock: 0,
        }
    }

    /// When the next timer is due.
    pub fn next_due(&self) -> Option<Instant> {
        self.timers.first().map(|(due, _)| *due)
    }

    /// Adds a request. Returns whether the object began to wait because of it.
    pub fn add(&mut self, object: NamespacedName, request: QueuedRequest, now: Instant) -> bool {
        // A request for later is not a change.
        let yields = if request.at <= now { Duration::ZERO } else { YIELD_TIME };
        let (object, request) = match self.entries.get_key_value(&object) {
            None => (Arc::new(object), request),
            Some((object, Entry::Timed(due))) => {
                (object.clone(), QueuedRequest { at: request.at.min(*due), ..request })
            }
            Some((object, Entry::Waiting { priority, age, .. })) => {
                let (object, before, age) = (object.clone(), *priority, *age);
                let is_deleted =
                    before == Priority::Deletion || (self.priority)(&object) == Priority::Deletion;
                let priority = if is_deleted { Priority::Deletion } else { before };
                // It has changed, and no longer yields.
                let changed = if request.at <= now { (age.0.min(now), age.1) } else { age };
                self.reposition(&object, priority, changed);
                return false;
            }
            Some((object, Entry::Running { again })) => {
                let again = Some(again.map_or(request, |earlier| earlier.merge(request)));
                let object = object.clone();
                self.entries.insert(object, Entry::Running { again });
                return false;
            }
        };
        self.enqueue(&object, request, yields, now)
    }

    /// Enqueues every object whose timer is due. Returns their number.
    pub fn promote_due(&mut self, now: Instant) -> usize {
        let mut added = 0;
        while let Some((due, _)) = self.timers.first()
            && *due <= now
            && let Some((at, object)) = self.timers.pop_first()
        {
            self.enqueue(&object, QueuedRequest { at, verifies: false }, YIELD_TIME, now);
            added += 1;
        }
        added
    }

    /// Takes the next object, which then counts as running. If `may_verify` is false, skips those that verify.
    pub fn next(&mut self, may_verify: bool, now: Instant) -> Option<Next> {
        if self.running >= self.max_concurrent {
            return None;
        }
        let ready = self.ready.first();
        let verifying = self.verifying.first().filter(|_| may_verify);
        let namespace = ready.into_iter().chain(verifying).min()?.3.clone();
        let object = self.namespaces.get(&namespace)?.first(may_verify)?.clone();
        let entry = self.entries.insert(object.clone(), Entry::Running { again: None })?;
        let Entry::Waiting { priority, age, since } = entry else { return None };
        self.running += 1;
        self.waiting -= 1;
        self.clock += 1;
        let last_served = self.clock;
        self.change(&namespace, |queue| {
            queue.remove(priority, age);
            queue.running += 1;
            queue.last_served = last_served;
        });
        Some(Next { object, priority, waited: now.saturating_duration_since(since) })
    }

    /// Ends the reconcile of an object. Returns whether the object waits again at once.
    pub fn finish(&mut self, object: &Arc<NamespacedName>, ended: QueueResult, now: Instant) -> bool {
        let Some(Entry::Running { again }) = self.entries.get(object) else { return false };
        let again = *again;
        self.running -= 1;
        self.change(&object.namespace, |queue| queue.running -= 1);
        let after = match ended {
            QueueResult::Requeue { after, .. } => {
                now.checked_add(after).map(|at| QueuedRequest { at, verifies: false })
            }
            QueueResult::Forget => None,
        };
        let Some(request) = again.into_iter().chain(after).reduce(QueuedRequest::merge) else {
            self.entries.remove(object);
            self.change(&object.namespace, |queue| queue.entries -= 1);
            return false;
        };
        self.enqueue(object, request, Duration::ZERO, now)
    }

    pub fn set_terminating(&mut self, namespace: &str, is_terminating: bool) {
        self.change(namespace, |queue| queue.is_terminating = is_terminating);
    }

    /// Enqueues an object that neither waits nor runs, or sets its timer. Changes within `yields` precede it.
    fn enqueue(
        &mut self,
        object: &Arc<NamespacedName>,
        request: QueuedRequest,
        yields: Duration,
        now: Instant,
    ) -> bool {
        let is_due = request.at <= now;
        self.clock += 1;
        let nth = self.clock;
        let age = (now + yields, nth);
        let entry = if is_due {
            let priority = match (self.priority)(object) {
                Priority::Ordinary if request.verifies => Priority::Verification,
                priority => priority,
            };
            Entry::Waiting { priority, age, since: request.at }
        } else {
            self.timers.insert((request.at, object.clone()));
            Entry::Timed(request.at)
        };
        let waits = match &entry {
            Entry::Waiting { priority, .. } => Some(*priority),
            _ => None,
        };
        let before = self.entries.insert(object.clone(), entry);
        if let Some(Entry::Timed(due)) = before
            && (is_due || due != request.at)
        {
            self.timers.remove(&(due, object.clone()));
        }
        self.waiting += usize::from(is_due);
        if before.is_none() && !self.namespaces.contains_key(&object.namespace) {
            // Behind namespaces that already wait.
            self.namespaces.insert(
                object.namespace.clone(),
                NamespaceQueue { last_served: nth, ..NamespaceQueue::default() },
            );
        }
        self.change(&object.namespace, |queue| {
            queue.entries += usize::from(before.is_none());
            if let Some(priority) = waits {
                queue.insert(priority, age, object.clone());
            }
        });
        is_due
    }

    fn reposition(&mut self, object: &Arc<NamespacedName>, to: Priority, at: Age) {
        let Some(Entry::Waiting { priority, age, .. }) = self.entries.get_mut(object) else { return };
        let before = (std::mem::replace(priority, to), std::mem::replace(age, at));
        if before != (to, at) {
            self.change(&object.namespace, |queue| {
                queue.remove(before.0, before.1);
                queue.insert(to, at, object.clone());
            });
        }
    }

    /// Changes a namespace and updates its rank.
    fn change(&mut self, namespace: &str, change: impl FnOnce(&mut NamespaceQueue)) {
        let Some(queue) = self.namespaces.get_mut(namespace) else { return };
        let before = queue.rank(namespace);
        change(queue);
        let rank = queue.rank(namespace);
        for (waits, ranks) in [(queue.is_ready(), &mut self.ready), (queue.verifies(), &mut self.verifying)] {
            ranks.remove(&before);
            if waits {
                ranks.insert(rank.clone());
            }
        }
        if queue.entries == 0 {
            self.namespaces.remove(namespace);
        }
    }
}

// === impl NamespaceQueue ===

impl NamespaceQueue {
    fn rank(&self, namespace: &str) -> Rank {
        (!self.is_terminating, self.running, self.last_served, namespace.to_owned())
    }

    fn insert(&mut self, priority: Priority, age: Age, object: Arc<NamespacedName>) {
        self.waiting.entry(priority).or_default().insert(age, object);
    }

    fn remove(&mut self, priority: Priority, age: Age) {
        let Some(waiting) = self.waiting.get_mut(&priority) else { return };
        waiting.remove(&age);
        if waiting.is_empty() {
            self.waiting.remove(&priority);
        }
    }

    fn oldest(&self, priority: Priority) -> Option<(&Age, &Arc<NamespacedName>)> {
        self.waiting.get(&priority)?.first_key_value()
    }

    /// Whether an object waits that does not verify.
    fn is_ready(&self) -> bool {
        self.oldest(Priority::Deletion).or_else(|| self.oldest(Priority::Ordinary)).is_some()
    }

    /// Whether an object waits that verifies.
    fn verifies(&self) -> bool {
        self.oldest(Priority::Verification).is_some()
    }

    /// The next object: a deletion, or else the oldest.
    fn first(&self, may_verify: bool) -> Option<&Arc<NamespacedName>> {
        let verification = self.oldest(Priority::Verification).filter(|_| may_verify);
        let rest = self.oldest(Priority::Ordinary).into_iter().chain(verification).min();
        self.oldest(Priority::Deletion).or(rest).map(|(_, object)| object)
    }
}

#[cfg(test)]
mod tests;
