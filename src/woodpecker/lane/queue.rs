//! Who is next in a lane. PURE: no clock of its own, no waiting.
//!
//! Whatever is asked costs as much as there are namespaces that wait, however many tickets each of them has.
//!
//! The most urgent class first; every ten minutes of waiting lift a ticket by one class. Within a class the
//! namespaces take turns, and within a namespace the oldest ticket goes first. Objects whose last request
//! failed have one of four grants while others wait.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use crate::telemetry::metrics::LaneSeries;

/// What a request is for, most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// A deletion in a namespace that is terminating itself.
    TerminatingNamespace,
    /// What is registered is bad, expires within two days, or is not known.
    Repair,
    /// A first registration.
    New,
    /// Another secret for what is registered.
    Rotation,
    /// A removal.
    Delete,
    /// A look at what does not agree with what is written down.
    Drift,
    /// A look whether all is well.
    Recheck,
    /// Another name: nothing depends on it.
    Rename,
}

/// Whoever waits for a grant.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner {
    pub kind: OwnerKind,
    pub namespace: String,
    pub name: String,
}

/// The kinds of objects that send requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OwnerKind {
    Credential,
    Account,
}

/// A place in the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    pub owner: Owner,
    pub class: Class,
    /// Whether its last request failed.
    pub is_failing: bool,
}

/// The tickets of one lane.
#[derive(Debug, Default)]
pub(super) struct Queue {
    places: HashMap<Owner, Waiting>,
    /// The same in the order of their age; what is empty is not kept.
    lines: BTreeMap<Line, BTreeSet<(Instant, Owner)>>,
    /// How many wait in each class.
    depths: [usize; Class::ALL.len()],
    /// When each namespace was last served, as a count of grants.
    served: HashMap<String, u64>,
    grants: u64,
    /// Grants in a row that went to objects that do not fail.
    sound_in_a_row: u32,
}

/// Tickets of which the oldest goes first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Line {
    is_failing: bool,
    class: Class,
    namespace: String,
}

/// A ticket with its age.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) ticket: Ticket,
    /// Since when its owner has waited.
    pub(super) since: Instant,
    /// How often its owner was called and did not come.
    pub(super) lapses: u32,
}

/// Of so many grants one may go to an object that fails, while others wait.
const FAILING_SHARE: u32 = 4;

// === impl Class ===

impl Class {
    pub const ALL: [Self; 8] = [
        Self::TerminatingNamespace,
        Self::Repair,
        Self::New,
        Self::Rotation,
        Self::Delete,
        Self::Drift,
        Self::Recheck,
        Self::Rename,
    ];

    /// As metrics name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TerminatingNamespace => "terminating_namespace",
            Self::Repair => "repair",
            Self::New => "new",
            Self::Rotation => "rotation",
            Self::Delete => "delete",
            Self::Drift => "drift",
            Self::Recheck => "recheck",
            Self::Rename => "rename",
        }
    }

    /// Its rank after having waited so long; 0 is the most urgent.
    fn rank(self, waited: Duration, ageing: Duration) -> u128 {
        let lifted = waited.as_nanos() / ageing.as_nanos().max(1);
        (self as u128).saturating_sub(lifted)
    }
}

// === impl Line ===

impl Line {
    fn of(ticket: &Ticket) -> Self {
        let Ticket { owner, class, is_failing } = ticket;
        Self { is_failing: *is_failing, class: *class, namespace: owner.namespace.clone() }
    }
}

// === impl Queue ===

impl Queue {
    /// Puts a ticket in; one that its owner has already keeps its age, and that it did not come is forgotten.
    pub(super) fn put(&mut self, ticket: Ticket, now: Instant) {
        let since = self.take_out(&ticket.owner).map_or(now, |before| before.since);
        self.put_back(Waiting { ticket, since, lapses: 0 }, 0);
    }

    /// Puts back what was taken out; its owner keeps its age.
    pub(super) fn put_back(&mut self, place: Waiting, lapses: u32) {
        let owner = place.ticket.owner.clone();
        self.take_out(&owner);
        self.lines.entry(Line::of(&place.ticket)).or_default().insert((place.since, owner.clone()));
        self.count(place.ticket.class, |depth| depth + 1);
        self.places.insert(owner, Waiting { lapses, ..place });
    }

    /// Takes an owner's ticket out.
    pub(super) fn take_out(&mut self, owner: &Owner) -> Option<Waiting> {
        let place = self.places.remove(owner)?;
        let line = Line::of(&place.ticket);
        if let Some(tickets) = self.lines.get_mut(&line) {
            tickets.remove(&(place.since, owner.clone()));
            if tickets.is_empty() {
                self.lines.remove(&line);
            }
        }
        self.count(place.ticket.class, |depth| depth.saturating_sub(1));
        Some(place)
    }

    /// Who waits now, and how many grants there were; so many requests were answered.
    pub(super) fn series(&self, now: Instant, answers: u64) -> LaneSeries {
        let oldest = self.lines.values().filter_map(|tickets| tickets.first()).map(|(since, _)| *since).min();
        let longest_wait = oldest.map(|since| now.saturating_duration_since(since));
        LaneSeries { waiting: self.places.len(), longest_wait, grants: self.grants, answers }
    }

    /// The next one, which leaves the queue.
    pub(super) fn pop(&mut self, now: Instant, ageing: Duration) -> Option<Waiting> {
        let owner = self.best(now, ageing)?.clone();
        let place = self.take_out(&owner)?;
        self.note_grant(&place.ticket);
        Some(place)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Whether that owner is the next one.
    pub(super) fn is_next(&self, owner: &Owner, now: Instant, ageing: Duration) -> bool {
        self.best(now, ageing) == Some(owner)
    }

    /// Whether the next one goes before that place.
    pub(super) fn has_more_urgent(&self, place: &Waiting, now: Instant, ageing: Duration) -> bool {
        let rank = place.ticket.class.rank(now - place.since, ageing);
        let next = self.best(now, ageing).and_then(|owner| self.places.get(owner));
        next.is_some_and(|next| next.ticket.class.rank(now - next.since, ageing) < rank)
    }

    /// Notes a grant, also one that did not wait.
    pub(super) fn note_grant(&mut self, ticket: &Ticket) {
        self.grants += 1;
        self.served.insert(ticket.owner.namespace.clone(), self.grants);
        self.sound_in_a_row = if ticket.is_failing { 0 } else { self.sound_in_a_row.saturating_add(1) };
        if self.places.is_empty() {
            // Nobody waits, so nobody's turn needs to be remembered.
            self.served.clear();
        }
    }

    /// How many wait in that class.
    pub(super) fn depth(&self, class: Class) -> usize {
        self.depths.get(class as usize).copied().unwrap_or_default()
    }

    fn count(&mut self, class: Class, change: impl FnOnce(usize) -> usize) {
        if let Some(depth) = self.depths.get_mut(class as usize) {
            *depth = change(*depth);
        }
    }

    /// The next one. Of each line it can only be the oldest.
    fn best(&self, now: Instant, ageing: Duration) -> Option<&Owner> {
        let first = |is_failing: bool| {
            let lines = self.lines.iter().filter(move |(line, _)| line.is_failing == is_failing);
            let heads = lines.filter_map(|(line, tickets)| tickets.first().map(|head| (line, head)));
            let keyed = heads.map(|(line, (since, owner))| {
                let rank = line.class.rank(now - *since, ageing);
                let served = self.served.get(&line.namespace).copied().unwrap_or_default();
                ((rank, served, *since), owner)
            });
            keyed.min_by_key(|(key, _)| *key)
        };
        let (sound, failing) = (first(false), first(true));
        let failing_is_due = self.sound_in_a_row + 1 >= FAILING_SHARE;
        let next = match (sound, failing) {
            (Some(sound), Some(failing)) if failing_is_due && failing.0 < sound.0 => Some(failing),
            (sound, failing) => sound.or(failing),
        };
        next.map(|(_, owner)| owner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGEING: Duration = Duration::from_mins(10);

    fn ticket(namespace: &str, name: &str, class: Class) -> Ticket {
        let owner = Owner { kind: OwnerKind::Credential, namespace: namespace.into(), name: name.into() };
        Ticket { owner, class, is_failing: false }
    }

    fn names(queue: &mut Queue, now: Instant) -> Vec<String> {
        std::iter::from_fn(|| queue.pop(now, AGEING)).map(|place| place.ticket.owner.name).collect()
    }

    #[test]
    fn the_most_urgent_goes_first_and_then_the_oldest() {
        let (mut queue, start) = (Queue::default(), Instant::now());
        let put = |queue: &mut Queue, name: &str, class, seconds| {
            queue.put(ticket("a", name, class), start + Duration::from_secs(seconds));
        };
        put(&mut queue, "new-1", Class::New, 0);
        put(&mut queue, "new-2", Class::New, 1);
        put(&mut queue, "repair", Class::Repair, 2);
        put(&mut queue, "recheck", Class::Recheck, 0);
        put(&mut queue, "namespace", Class::TerminatingNamespace, 3);
        let now = start + Duration::from_secs(4);
        let place = |class| Waiting { ticket: ticket("a", "granted", class), since: now, lapses: 0 };
        assert!(queue.has_more_urgent(&place(Class::Repair), now, AGEING));
        assert!(!queue.has_more_urgent(&place(Class::TerminatingNamespace), now, AGEING));
        assert!(queue.is_next(&ticket("a", "namespace", Class::New).owner, now, AGEING));
        assert_eq!(names(&mut queue, now), ["namespace", "repair", "new-1", "new-2", "recheck"]);
    }

    #[test]
    fn a_thousand_that_wait_are_served_in_order_and_leave_nothing_behind() {
        let (mut queue, start) = (Queue::default(), Instant::now());
        for n in 0..1000 {
            queue.put(ticket("a", &format!("{n}"), Class::New), start + Duration::from_millis(n));
        }
        queue.put(ticket("a", "0", Class::Rename), start + Duration::from_secs(2));
        let now = start + Duration::from_secs(3);
        assert_eq!((queue.depth(Class::New), queue.depth(Class::Rename)), (999, 1));
        let series = queue.series(now, 0);
        assert_eq!((series.waiting, series.longest_wait), (1000, Some(Duration::from_secs(3))));
        let expected: Vec<String> = (1..1000).chain([0]).map(|n| n.to_string()).collect();
        assert_eq!(names(&mut queue, now), expected);
        assert!(queue.is_empty() && queue.lines.is_empty() && queue.depth(Class::New) == 0);
    }

    #[test]
    fn waiting_lifts_by_one_class_every_ten_minutes() {
        let (mut queue, start) = (Queue::default(), Instant::now());
        queue.put(ticket("a", "old", Class::Recheck), start);
        let later = start + Duration::from_mins(50);
        queue.put(ticket("a", "young", Class::New), later);
        assert_eq!(names(&mut queue, later), ["old", "young"], "five classes up, it is before New");
    }

    #[test]
    fn namespaces_take_turns_within_a_class() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        for n in 0..4 {
            queue.put(ticket("many", &format!("many-{n}"), Class::New), now + Duration::from_millis(n));
        }
        queue.put(ticket("few", "few-0", Class::New), now + Duration::from_secs(1));
        let order = names(&mut queue, now + Duration::from_secs(2));
        assert_eq!(order[..3], ["many-0", "few-0", "many-1"]);
    }

    #[test]
    fn who_fails_has_one_of_four_grants_while_others_wait() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        for n in 0..3 {
            let failing = ticket("a", &format!("failing-{n}"), Class::Repair);
            queue.put(Ticket { is_failing: true, ..failing }, now);
        }
        for n in 0..4 {
            queue.put(ticket("a", &format!("sound-{n}"), Class::New), now + Duration::from_millis(n));
        }
        let order = names(&mut queue, now + Duration::from_secs(1));
        assert!(order[3].starts_with("failing"), "{order:?}");
        assert_eq!(order.iter().take(5).filter(|name| name.starts_with("failing")).count(), 1, "{order:?}");
        assert_eq!(order.len(), 7, "with nobody else waiting they all go");
    }

    #[test]
    fn a_ticket_that_is_put_in_again_keeps_its_age() {
        let (mut queue, start) = (Queue::default(), Instant::now());
        queue.put(ticket("a", "one", Class::New), start);
        queue.put(ticket("a", "one", Class::Rotation), start + Duration::from_secs(9));
        let again = queue.pop(start + Duration::from_secs(9), AGEING).unwrap();
        assert_eq!((again.ticket.class, again.since), (Class::Rotation, start));
        queue.put_back(again.clone(), 1);
        assert_eq!(queue.pop(start + Duration::from_secs(10), AGEING), Some(Waiting { lapses: 1, ..again }));
        assert_eq!(queue.pop(start + Duration::from_secs(10), AGEING), None);
    }
}
