//! Who is next. Pure: time comes from outside, and nothing waits here.
//!
//! A terminating namespace comes first; then the one with the fewest reconciles under way; then the one that has waited
//! longest for its turn. Within a namespace deletions come first; the rest goes by age. What was brought up by its time alone,
//! such as a retry, lets changes of the next seconds go first.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Ended, Wish};
use crate::controller::index::Named;

/// What the reconcile of an object is about, as far as can be told before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    Deletion,
    /// It will not wait for Microsoft.
    Ordinary,
    /// It has to be verified at Microsoft, which may take long.
    Verification,
}

/// How long what only its time has brought up lets changes go first.
const YIELDS_FOR: Duration = Duration::from_secs(5);

pub struct Policy<P> {
    /// Asked when an object begins to wait and when it is woken meanwhile.
    priority: P,
    /// Reconciles at the same time.
    most: usize,
    running: usize,
    pub waiting: usize,
    entries: HashMap<Arc<Named>, Entry>,
    /// What is due later.
    timers: BTreeSet<(Instant, Arc<Named>)>,
    shares: HashMap<String, Share>,
    /// Namespaces in which something waits that does not verify.
    ready: BTreeSet<Rank>,
    /// Namespaces in which something waits that does.
    verifying: BTreeSet<Rank>,
    /// Counts what began to wait and what was served.
    clock: u64,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Next {
    pub object: Arc<Named>,
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
        /// It was woken meanwhile.
        again: Option<Wish>,
    },
}

/// What a namespace has in the queue.
#[derive(Debug, Default)]
struct Share {
    /// Objects in the queue, waiting or not.
    entries: usize,
    running: usize,
    /// When it was served last.
    served: u64,
    is_terminating: bool,
    waiting: BTreeMap<Priority, BTreeMap<Age, Arc<Named>>>,
}

/// The place among others of one namespace and priority: a time to go by, which lies ahead for what lets others go first, and a
/// number of its own.
type Age = (Instant, u64);

/// The order between namespaces: the least is served first.
type Rank = (bool, usize, u64, String);

// === impl Policy ===

impl<P: Fn(&Named) -> Priority> Policy<P> {
    /// An empty queue with that bound on concurrent reconciles.
    pub fn new(most: usize, priority: P) -> Self {
        Self {
            priority,
            most,
            running: 0,
            waiting: 0,
            entries: HashMap::new(),
            timers: BTreeSet::new(),
            shares: HashMap::new(),
            ready: BTreeSet::new(),
            verifying: BTreeSet::new(),
            clock: 0,
        }
    }

    /// When the next object that is due later is due.
    pub fn next_due(&self) -> Option<Instant> {
        self.timers.first().map(|(due, _)| *due)
    }

    /// Takes in a wish. Says whether the object began to wait by it.
    pub fn wake(&mut self, object: Named, wish: Wish, now: Instant) -> bool {
        // A later time that is wished for is no change.
        let yields = if wish.at <= now { Duration::ZERO } else { YIELDS_FOR };
        let (object, wish) = match self.entries.get_key_value(&object) {
            None => (Arc::new(object), wish),
            Some((object, Entry::Timed(due))) => (object.clone(), Wish { at: wish.at.min(*due), ..wish }),
            Some((object, Entry::Waiting { priority, age, .. })) => {
                let (object, before, age) = (object.clone(), *priority, *age);
                let is_deleted =
                    before == Priority::Deletion || (self.priority)(&object) == Priority::Deletion;
                let priority = if is_deleted { Priority::Deletion } else { before };
                // It has changed, and lets nobody go first any longer.
                let changed = if wish.at <= now { (age.0.min(now), age.1) } else { age };
                self.move_up(&object, priority, changed);
                return false;
            }
            Some((object, Entry::Running { again })) => {
                let again = Some(again.map_or(wish, |earlier| earlier.and(wish)));
                let object = object.clone();
                self.entries.insert(object, Entry::Running { again });
                return false;
            }
        };
        self.place(&object, wish, yields, now)
    }

    /// Has everything wait that is due by now. Says how much that is.
    pub fn begin_due(&mut self, now: Instant) -> usize {
        let mut added = 0;
        while let Some((due, _)) = self.timers.first()
            && *due <= now
            && let Some((at, object)) = self.timers.pop_first()
        {
            self.place(&object, Wish { at, verifies: false }, YIELDS_FOR, now);
            added += 1;
        }
        added
    }

    /// Takes the next object out, which runs from now on. Where it may not verify, one that does not.
    pub fn next(&mut self, may_verify: bool, now: Instant) -> Option<Next> {
        if self.running >= self.most {
            return None;
        }
        let ready = self.ready.first();
        let verifying = self.verifying.first().filter(|_| may_verify);
        let namespace = ready.into_iter().chain(verifying).min()?.3.clone();
        let object = self.shares.get(&namespace)?.first(may_verify)?.clone();
        let entry = self.entries.insert(object.clone(), Entry::Running { again: None })?;
        let Entry::Waiting { priority, age, since } = entry else { return None };
        self.running += 1;
        self.waiting -= 1;
        self.clock += 1;
        let served = self.clock;
        self.change(&namespace, |share| {
            share.remove(priority, age);
            share.running += 1;
            share.served = served;
        });
        Some(Next { object, priority, waited: now.saturating_duration_since(since) })
    }

    /// The reconcile of an object has ended. Says whether the object began to wait again at once.
    pub fn ended(&mut self, object: &Arc<Named>, ended: Ended, now: Instant) -> bool {
        let Some(Entry::Running { again }) = self.entries.get(object) else { return false };
        let again = *again;
        self.running -= 1;
        self.change(&object.namespace, |share| share.running -= 1);
        let after = match ended {
            Ended::Again { after, .. } => now.checked_add(after).map(|at| Wish { at, verifies: false }),
            Ended::Gone => None,
        };
        let Some(wish) = again.into_iter().chain(after).reduce(Wish::and) else {
            self.entries.remove(object);
            self.change(&object.namespace, |share| share.entries -= 1);
            return false;
        };
        self.place(object, wish, Duration::ZERO, now)
    }

    /// Notes whether a namespace is terminating.
    pub fn note_namespace(&mut self, namespace: &str, is_terminating: bool) {
        self.change(namespace, |share| share.is_terminating = is_terminating);
    }

    /// Has an object wait, now or later, that does neither wait nor run. What changes within `yields` goes before it.
    fn place(&mut self, object: &Arc<Named>, wish: Wish, yields: Duration, now: Instant) -> bool {
        let is_due = wish.at <= now;
        self.clock += 1;
        let nth = self.clock;
        let age = (now + yields, nth);
        let entry = if is_due {
            let priority = match (self.priority)(object) {
                Priority::Ordinary if wish.verifies => Priority::Verification,
                priority => priority,
            };
            Entry::Waiting { priority, age, since: wish.at }
        } else {
            self.timers.insert((wish.at, object.clone()));
            Entry::Timed(wish.at)
        };
        let waits = match &entry {
            Entry::Waiting { priority, .. } => Some(*priority),
            _ => None,
        };
        let before = self.entries.insert(object.clone(), entry);
        if let Some(Entry::Timed(due)) = before
            && (is_due || due != wish.at)
        {
            self.timers.remove(&(due, object.clone()));
        }
        self.waiting += usize::from(is_due);
        if before.is_none() && !self.shares.contains_key(&object.namespace) {
            // Behind those that wait already.
            self.shares.insert(object.namespace.clone(), Share { served: nth, ..Share::default() });
        }
        self.change(&object.namespace, |share| {
            share.entries += usize::from(before.is_none());
            if let Some(priority) = waits {
                share.insert(priority, age, object.clone());
            }
        });
        is_due
    }

    /// Moves a waiting object to another place.
    fn move_up(&mut self, object: &Arc<Named>, to: Priority, at: Age) {
        let Some(Entry::Waiting { priority, age, .. }) = self.entries.get_mut(object) else { return };
        let before = (std::mem::replace(priority, to), std::mem::replace(age, at));
        if before != (to, at) {
            self.change(&object.namespace, |share| {
                share.remove(before.0, before.1);
                share.insert(to, at, object.clone());
            });
        }
    }

    /// Changes the share of a namespace, and its place among the others with it.
    fn change(&mut self, namespace: &str, change: impl FnOnce(&mut Share)) {
        let Some(share) = self.shares.get_mut(namespace) else { return };
        let before = share.rank(namespace);
        change(share);
        let rank = share.rank(namespace);
        for (waits, ranks) in [(share.is_ready(), &mut self.ready), (share.verifies(), &mut self.verifying)] {
            ranks.remove(&before);
            if waits {
                ranks.insert(rank.clone());
            }
        }
        if share.entries == 0 {
            self.shares.remove(namespace);
        }
    }
}

// === impl Share ===

impl Share {
    fn rank(&self, namespace: &str) -> Rank {
        (!self.is_terminating, self.running, self.served, namespace.to_owned())
    }

    fn insert(&mut self, priority: Priority, age: Age, object: Arc<Named>) {
        self.waiting.entry(priority).or_default().insert(age, object);
    }

    fn remove(&mut self, priority: Priority, age: Age) {
        let Some(waiting) = self.waiting.get_mut(&priority) else { return };
        waiting.remove(&age);
        if waiting.is_empty() {
            self.waiting.remove(&priority);
        }
    }

    fn oldest(&self, priority: Priority) -> Option<(&Age, &Arc<Named>)> {
        self.waiting.get(&priority)?.first_key_value()
    }

    /// Whether anything waits that does not verify.
    fn is_ready(&self) -> bool {
        self.oldest(Priority::Deletion).or_else(|| self.oldest(Priority::Ordinary)).is_some()
    }

    /// Whether anything waits that does.
    fn verifies(&self) -> bool {
        self.oldest(Priority::Verification).is_some()
    }

    /// The object whose turn it is: a deletion, or else the oldest.
    fn first(&self, may_verify: bool) -> Option<&Arc<Named>> {
        let verification = self.oldest(Priority::Verification).filter(|_| may_verify);
        let rest = self.oldest(Priority::Ordinary).into_iter().chain(verification).min();
        self.oldest(Priority::Deletion).or(rest).map(|(_, object)| object)
    }
}

#[cfg(test)]
mod tests;
