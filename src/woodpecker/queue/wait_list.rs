//! The wait list of a queue: which entry is next.
//!
//! The most urgent priority goes first, and every ten minutes of waiting raise an entry by one priority. Within a
//! priority the namespaces alternate, and within a namespace the oldest entry goes first. Objects whose last request
//! failed get one permit of four while others wait.
//!
//! The cost of each operation grows with the number of namespaces that wait, not with the entries of each.

use crate::core::request_priority::RequestPriority;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use crate::telemetry::metrics::QueueSeries;

/// The object that a request is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Requester {
    pub kind: RequesterKind,
    pub namespace: String,
    pub name: String,
}

/// The kinds of objects that send requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RequesterKind {
    Credential,
    Account,
    Mailboxes,
}

/// A request for a permit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueEntry {
    pub requester: Requester,
    pub priority: RequestPriority,
    /// Whether its last request failed.
    pub is_failing: bool,
}

/// The entries of one queue that wait.
#[derive(Debug, Default)]
pub(super) struct WaitList {
    waiters: HashMap<Requester, Waiter>,
    /// The same ordered by age. Empty groups are removed.
    groups: BTreeMap<Group, BTreeSet<(Instant, Requester)>>,
    /// How many wait in each priority.
    depths: [usize; RequestPriority::ALL.len()],
    /// When each namespace was last served, as a count of permits.
    served: HashMap<String, u64>,
    permits: u64,
    /// Permits in a row that went to objects that do not fail.
    healthy_in_a_row: u32,
}

/// Entries of which the oldest goes first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    is_failing: bool,
    priority: RequestPriority,
    namespace: String,
}

/// A waiting entry with its age.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Waiter {
    pub(super) entry: QueueEntry,
    /// When its requester began to wait.
    pub(super) since: Instant,
    /// How often its requester left a reserved permit unused.
    pub(super) expirations: u32,
}

/// One of so many permits may go to an object that fails while others wait.
const FAILING_SHARE: u32 = 4;

// === impl Group ===

impl Group {
    fn of(entry: &QueueEntry) -> Self {
        let QueueEntry { requester, priority, is_failing } = entry;
        Self { is_failing: *is_failing, priority: *priority, namespace: requester.namespace.clone() }
    }
}

// === impl WaitList ===

impl WaitList {
    /// Adds an entry. It keeps the age of an earlier one of the same requester, whose expirations are forgotten.
    pub(super) fn put(&mut self, entry: QueueEntry, now: Instant) {
        let since = self.take_out(&entry.requester).map_or(now, |before| before.since);
        self.put_back(Waiter { entry, since, expirations: 0 }, 0);
    }

    /// Puts back what was taken out, with its age.
    pub(super) fn put_back(&mut self, waiter: Waiter, expirations: u32) {
        let requester = waiter.entry.requester.clone();
        self.take_out(&requester);
        self.groups.entry(Group::of(&waiter.entry)).or_default().insert((waiter.since, requester.clone()));
        self.count(waiter.entry.priority, |depth| depth + 1);
        self.waiters.insert(requester, Waiter { expirations, ..waiter });
    }

    pub(super) fn take_out(&mut self, requester: &Requester) -> Option<Waiter> {
        let waiter = self.waiters.remove(requester)?;
        let group = Group::of(&waiter.entry);
        if let Some(waiting) = self.groups.get_mut(&group) {
            waiting.remove(&(waiter.since, requester.clone()));
            if waiting.is_empty() {
                self.groups.remove(&group);
            }
        }
        self.count(waiter.entry.priority, |depth| depth.saturating_sub(1));
        Some(waiter)
    }

    /// The state for metrics, after so many answered requests.
    pub(super) fn series(&self, now: Instant, responses: u64) -> QueueSeries {
        let oldest =
            self.groups.values().filter_map(|waiting| waiting.first()).map(|(since, _)| *since).min();
        let longest_wait = oldest.map(|since| now.saturating_duration_since(since));
        QueueSeries { waiting: self.waiters.len(), longest_wait, permits: self.permits, responses }
    }

    /// Removes and returns the next entry.
    pub(super) fn pop(&mut self, now: Instant, aging: Duration) -> Option<Waiter> {
        let requester = self.best(now, aging)?.clone();
        let waiter = self.take_out(&requester)?;
        self.record_permit(&waiter.entry);
        Some(waiter)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }

    pub(super) fn is_next(&self, requester: &Requester, now: Instant, aging: Duration) -> bool {
        self.best(now, aging) == Some(requester)
    }

    /// Whether the next entry goes before that waiter.
    pub(super) fn has_more_urgent(&self, waiter: &Waiter, now: Instant, aging: Duration) -> bool {
        let rank = waiter.entry.priority.rank(now - waiter.since, aging);
        let next = self.best(now, aging).and_then(|requester| self.waiters.get(requester));
        next.is_some_and(|next| next.entry.priority.rank(now - next.since, aging) < rank)
    }

    /// Counts a permit, including one that was granted without waiting.
    pub(super) fn record_permit(&mut self, entry: &QueueEntry) {
        self.permits += 1;
        self.served.insert(entry.requester.namespace.clone(), self.permits);
        self.healthy_in_a_row = if entry.is_failing { 0 } else { self.healthy_in_a_row.saturating_add(1) };
        if self.waiters.is_empty() {
            // With nothing waiting, the order of namespaces no longer matters.
            self.served.clear();
        }
    }

    pub(super) fn depth(&self, priority: RequestPriority) -> usize {
        self.depths.get(priority as usize).copied().unwrap_or_default()
    }

    fn count(&mut self, priority: RequestPriority, change: impl FnOnce(usize) -> usize) {
        if let Some(depth) = self.depths.get_mut(priority as usize) {
            *depth = change(*depth);
        }
    }

    /// The next requester. Only the oldest of each group can be it.
    fn best(&self, now: Instant, aging: Duration) -> Option<&Requester> {
        let first = |is_failing: bool| {
            let groups = self.groups.iter().filter(move |(group, _)| group.is_failing == is_failing);
            let heads = groups.filter_map(|(group, waiting)| waiting.first().map(|head| (group, head)));
            let keyed = heads.map(|(group, (since, requester))| {
                let rank = group.priority.rank(now - *since, aging);
                let served = self.served.get(&group.namespace).copied().unwrap_or_default();
                ((rank, served, *since), requester)
            });
            keyed.min_by_key(|(key, _)| *key)
        };
        let (healthy, failing) = (first(false), first(true));
        let failing_is_due = self.healthy_in_a_row + 1 >= FAILING_SHARE;
        let next = match (healthy, failing) {
            (Some(healthy), Some(failing)) if failing_is_due && failing.0 < healthy.0 => Some(failing),
            (healthy, failing) => healthy.or(failing),
        };
        next.map(|(_, requester)| requester)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGING: Duration = Duration::from_mins(10);

    fn entry(namespace: &str, name: &str, priority: RequestPriority) -> QueueEntry {
        let requester =
            Requester { kind: RequesterKind::Credential, namespace: namespace.into(), name: name.into() };
        QueueEntry { requester, priority, is_failing: false }
    }

    fn names(queue: &mut WaitList, now: Instant) -> Vec<String> {
        std::iter::from_fn(|| queue.pop(now, AGING)).map(|waiter| waiter.entry.requester.name).collect()
    }

    #[test]
    fn the_most_urgent_entry_goes_first_and_then_the_oldest() {
        let (mut queue, start) = (WaitList::default(), Instant::now());
        let put = |queue: &mut WaitList, name: &str, priority, seconds| {
            queue.put(entry("a", name, priority), start + Duration::from_secs(seconds));
        };
        put(&mut queue, "new-1", RequestPriority::New, 0);
        put(&mut queue, "new-2", RequestPriority::New, 1);
        put(&mut queue, "repair", RequestPriority::Repair, 2);
        put(&mut queue, "resync", RequestPriority::Resync, 0);
        put(&mut queue, "namespace", RequestPriority::TerminatingNamespace, 3);
        let now = start + Duration::from_secs(4);
        let waiter = |priority| Waiter { entry: entry("a", "granted", priority), since: now, expirations: 0 };
        assert!(queue.has_more_urgent(&waiter(RequestPriority::Repair), now, AGING));
        assert!(!queue.has_more_urgent(&waiter(RequestPriority::TerminatingNamespace), now, AGING));
        assert!(queue.is_next(&entry("a", "namespace", RequestPriority::New).requester, now, AGING));
        assert_eq!(names(&mut queue, now), ["namespace", "repair", "new-1", "new-2", "resync"]);
    }

    #[test]
    fn a_thousand_entries_are_served_in_order_and_leave_nothing_behind() {
        let (mut queue, start) = (WaitList::default(), Instant::now());
        for n in 0..1000 {
            queue.put(entry("a", &format!("{n}"), RequestPriority::New), start + Duration::from_millis(n));
        }
        queue.put(entry("a", "0", RequestPriority::Rename), start + Duration::from_secs(2));
        let now = start + Duration::from_secs(3);
        assert_eq!((queue.depth(RequestPriority::New), queue.depth(RequestPriority::Rename)), (999, 1));
        let series = queue.series(now, 0);
        assert_eq!((series.waiting, series.longest_wait), (1000, Some(Duration::from_secs(3))));
        let expected: Vec<String> = (1..1000).chain([0]).map(|n| n.to_string()).collect();
        assert_eq!(names(&mut queue, now), expected);
        assert!(queue.is_empty() && queue.groups.is_empty() && queue.depth(RequestPriority::New) == 0);
    }

    #[test]
    fn every_ten_minutes_of_waiting_raise_the_priority_by_one() {
        let (mut queue, start) = (WaitList::default(), Instant::now());
        queue.put(entry("a", "old", RequestPriority::Resync), start);
        let later = start + Duration::from_mins(50);
        queue.put(entry("a", "young", RequestPriority::New), later);
        assert_eq!(names(&mut queue, later), ["old", "young"], "five priorities up, it is before New");
    }

    #[test]
    fn namespaces_alternate_within_a_priority() {
        let (mut queue, now) = (WaitList::default(), Instant::now());
        for n in 0..4 {
            queue.put(
                entry("many", &format!("many-{n}"), RequestPriority::New),
                now + Duration::from_millis(n),
            );
        }
        queue.put(entry("few", "few-0", RequestPriority::New), now + Duration::from_secs(1));
        let order = names(&mut queue, now + Duration::from_secs(2));
        assert_eq!(order[..3], ["many-0", "few-0", "many-1"]);
    }

    #[test]
    fn failing_objects_get_one_of_four_permits_while_others_wait() {
        let (mut queue, now) = (WaitList::default(), Instant::now());
        for n in 0..3 {
            let failing = entry("a", &format!("failing-{n}"), RequestPriority::Repair);
            queue.put(QueueEntry { is_failing: true, ..failing }, now);
        }
        for n in 0..4 {
            queue.put(
                entry("a", &format!("healthy-{n}"), RequestPriority::New),
                now + Duration::from_millis(n),
            );
        }
        let order = names(&mut queue, now + Duration::from_secs(1));
        assert!(order[3].starts_with("failing"), "{order:?}");
        assert_eq!(order.iter().take(5).filter(|name| name.starts_with("failing")).count(), 1, "{order:?}");
        assert_eq!(order.len(), 7, "with nobody else waiting they all go");
    }

    #[test]
    fn an_entry_that_is_added_again_keeps_its_age() {
        let (mut queue, start) = (WaitList::default(), Instant::now());
        queue.put(entry("a", "one", RequestPriority::New), start);
        queue.put(entry("a", "one", RequestPriority::Rotation), start + Duration::from_secs(9));
        let again = queue.pop(start + Duration::from_secs(9), AGING).unwrap();
        assert_eq!((again.entry.priority, again.since), (RequestPriority::Rotation, start));
        queue.put_back(again.clone(), 1);
        assert_eq!(
            queue.pop(start + Duration::from_secs(10), AGING),
            Some(Waiter { expirations: 1, ..again })
        );
        assert_eq!(queue.pop(start + Duration::from_secs(10), AGING), None);
    }
}
