//! What a lane keeps: who waits, whose turn is kept for it, and why nobody has one.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::LaneClosed;
use super::queue::{Class, Owner, Queue, Waiting};
use crate::telemetry::metrics::Metrics;

/// Grants that are out at a time at least: one request under way, one in preparation.
const FEWEST_GRANTS: usize = 2;

/// And at most, where requests are answered in less time than it takes to get one ready.
const MOST_GRANTS: usize = 16;

/// How often an owner may not come for its turn before it loses its place.
pub(super) const LAPSES: u32 = 3;

/// Failures in a row after which a lane rests.
pub(super) const FAILURES: u32 = 5;

#[derive(Default)]
pub(super) struct State {
    pub(super) queue: Queue,
    /// Grants that are out, reserved ones included.
    pub(super) out: usize,
    /// Grants beyond the fewest that may be out.
    pub(super) more: usize,
    /// Those with a grant that wait for the turn.
    pub(super) ready: usize,
    /// Grants that wait for their owners, who have been called.
    pub(super) reserved: HashMap<Owner, Reservation>,
    pub(super) reservations: u64,
    pub(super) rest: Option<Pause>,
    pub(super) failures: u32,
    pub(super) throttles: u32,
    /// Requests that were answered.
    pub(super) answers: u64,
    /// What the metrics have been told to wait, by class.
    told: [i64; Class::ALL.len()],
}

/// A grant that waits for its owner.
pub(super) struct Reservation {
    pub(super) number: u64,
    pub(super) place: Waiting,
    pub(super) at: Instant,
}

/// Until when nobody has a turn.
#[derive(Clone, Copy)]
pub(super) struct Pause {
    pub(super) until: Instant,
    pub(super) why: LaneClosed,
}

// === impl State ===

impl State {
    /// After failures in a row one request at a time finds out whether Woodpecker is back.
    pub(super) fn capacity(&self) -> usize {
        if self.failures >= FAILURES { 1 } else { FEWEST_GRANTS + self.more }
    }

    /// A request has ended. One more gets ready from now on where none was ready to follow it, and fewer where several
    /// were: an urgent one would have to wait for them.
    pub(super) fn adapt(&mut self) {
        match self.ready {
            0 if !self.queue.is_empty() => self.more = (self.more + 1).min(MOST_GRANTS - FEWEST_GRANTS),
            0..=2 => {}
            ready => self.more = self.more.saturating_sub((ready - 1) / 2),
        }
    }

    /// Takes the grant that has been kept for somebody who does not come, who goes back to its place.
    pub(super) fn take_from_a_latecomer(&mut self, now: Instant, claim: Duration) {
        let is_late = |reserved: &Reservation| now - reserved.at > claim / 20;
        let late =
            self.reserved.iter().find(|(_, reserved)| is_late(reserved)).map(|(owner, _)| owner.clone());
        let Some(reserved) = late.and_then(|owner| self.reserved.remove(&owner)) else { return };
        self.out = self.out.saturating_sub(1);
        // Its call is still on the way: when it comes, it asks anew if it has lost its place.
        let lapses = reserved.place.lapses + 1;
        if lapses <= LAPSES {
            self.queue.put_back(reserved.place, lapses);
        }
    }

    /// Tells the metrics by how much the number that waits in each class has changed.
    pub(super) fn tell(&mut self, metrics: &Metrics, depth: impl Fn(&Queue, Class) -> usize) {
        for (class, told) in Class::ALL.into_iter().zip(&mut self.told) {
            let now = i64::try_from(depth(&self.queue, class)).unwrap_or(i64::MAX);
            if now != *told {
                metrics.lanes.waiting(class.as_str(), now - *told);
                *told = now;
            }
        }
    }
}
