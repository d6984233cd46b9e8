//! One request at a time per Woodpecker account, for whoever needs it most.
//!
//! The vendor processes one request of an account at a time, queues six and drops the rest with 429. Whoever
//! wants to send one asks for a grant. Two are out at a time: one whose request is under way, and one that
//! gets ready meanwhile; more, where requests are answered faster than the next one gets ready. Who gets none leaves
//! a ticket and is called when its turn comes; it holds nothing until then. A lane belongs to base URL and API key: accounts that differ in the company id alone share
//! one until the vendor is seen to honour the id, for it does not say that these endpoints do.

mod grant;
mod queue;
mod state;

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use thiserror::Error;
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use self::grant::{Grant, Turn};
pub use self::queue::{Class, Owner, OwnerKind, Ticket};
use self::queue::{Queue, Waiting};
use self::state::{FAILURES, LAPSES, Pause, Reservation, State};
use crate::backoff::{doubled, jittered};
use crate::settings::Timing;
use crate::telemetry::metrics::{LaneSeries, Metrics};

/// Why there is no grant now. The owner is called when there is one.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum LaneClosed {
    /// Others are still ahead of it.
    #[error("other requests to the account are still ahead")]
    Queued,
    /// Woodpecker asked to slow down a moment ago.
    #[error("the account is paused after Woodpecker asked to slow down")]
    Paused,
    /// Woodpecker failed several times in a row.
    #[error("the account is left in peace after several failures in a row")]
    Failing,
    /// The program is ending, and no new request may begin.
    #[error("the program is ending")]
    Ending,
}

/// What an answer means for the requests that follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Woodpecker answers.
    Answered,
    /// It asks to slow down, for that long where it says so.
    Throttled(Option<Duration>),
    /// It has a failure, or cannot be reached.
    Failed,
}

/// Calls the owner of a ticket whose turn has come.
pub type Call = Arc<dyn Fn(&Owner) + Send + Sync>;

/// What holds for all lanes.
#[derive(Clone)]
pub(super) struct Rules {
    pause: Duration,
    longest_pause: Duration,
    ageing: Duration,
    claim: Duration,
    stop: CancellationToken,
    metrics: Arc<Metrics>,
    call: Call,
    asked: Asked,
}

/// The lanes in which each owner has asked for a grant since it last left them.
#[derive(Clone, Default)]
pub(super) struct Asked(Arc<Mutex<HashMap<Owner, Vec<WeakLane>>>>);

/// The lane of one account; clones are the same lane.
#[derive(Clone)]
pub struct Lane(Arc<Shared>);

/// A lane that goes when nobody has it any more.
#[derive(Clone)]
pub(super) struct WeakLane(Weak<Shared>);

struct Shared {
    rules: Rules,
    turn: Arc<AsyncMutex<()>>,
    state: Mutex<State>,
}

// === impl Rules ===

impl Rules {
    /// All lanes close when `stop` is cancelled; `call` wakes the owner of a ticket.
    pub(super) fn new(timing: &Timing, stop: CancellationToken, metrics: Arc<Metrics>, call: Call) -> Self {
        Self {
            pause: timing.throttle_pause,
            longest_pause: timing.lane_longest_pause,
            ageing: timing.lane_ageing,
            claim: timing.lane_claim,
            stop,
            metrics,
            call,
            asked: Asked::default(),
        }
    }

    /// Takes an owner's tickets back in all lanes but the one in which it waits.
    pub(super) fn withdraw(&self, owner: &Owner, waits_in: Option<&Lane>) {
        let left = self.asked.leave(owner, waits_in);
        left.iter().filter_map(WeakLane::upgrade).for_each(|lane| lane.withdraw(owner));
    }
}

// === impl Asked ===

impl Asked {
    fn note(&self, owner: &Owner, lane: &Lane) {
        let mut asked = self.lock();
        let lanes = asked.entry(owner.clone()).or_default();
        if !lanes.iter().any(|known| known.is(lane)) {
            lanes.push(lane.downgrade());
        }
    }

    /// The lanes that the owner leaves.
    fn leave(&self, owner: &Owner, waits_in: Option<&Lane>) -> Vec<WeakLane> {
        let mut asked = self.lock();
        let Some(lanes) = asked.remove(owner) else { return Vec::new() };
        let waits = |lane: &WeakLane| waits_in.is_some_and(|waits_in| lane.is(waits_in));
        let (kept, left): (Vec<_>, Vec<_>) = lanes.into_iter().partition(waits);
        if !kept.is_empty() {
            asked.insert(owner.clone(), kept);
        }
        left
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Owner, Vec<WeakLane>>> {
        self.0.lock()
    }
}

// === impl WeakLane ===

impl WeakLane {
    /// The lane, if anybody still has it.
    pub(super) fn upgrade(&self) -> Option<Lane> {
        self.0.upgrade().map(Lane)
    }

    fn is(&self, lane: &Lane) -> bool {
        std::ptr::eq(self.0.as_ptr(), Arc::as_ptr(&lane.0))
    }
}

// === impl Lane ===

impl Lane {
    /// A lane in which nobody waits.
    pub(super) fn new(rules: Rules) -> Self {
        Self(Arc::new(Shared { rules, turn: Arc::default(), state: Mutex::default() }))
    }

    pub(super) fn downgrade(&self) -> WeakLane {
        WeakLane(Arc::downgrade(&self.0))
    }

    /// Gives a grant where one is free and nobody more urgent waits; else keeps the ticket, and its owner is
    /// called when its turn has come.
    pub fn ask(&self, ticket: &Ticket) -> Result<Grant, LaneClosed> {
        if self.0.rules.stop.is_cancelled() {
            return Err(LaneClosed::Ending);
        }
        let now = Instant::now();
        self.0.rules.asked.note(&ticket.owner, self);
        let mut state = self.state();
        if let Some(reserved) = state.reserved.remove(&ticket.owner) {
            let place = Waiting { ticket: ticket.clone(), ..reserved.place };
            return Ok(Grant { lane: self.clone(), place });
        }
        let ageing = self.0.rules.ageing;
        let rest = state.rest.filter(|rest| now < rest.until);
        state.queue.put(ticket.clone(), now);
        let may_have_one = rest.is_none() && (state.out < state.capacity() || !state.reserved.is_empty());
        let is_next = may_have_one && state.queue.is_next(&ticket.owner, now, ageing);
        if is_next && state.out >= state.capacity() {
            state.take_from_a_latecomer(now, self.0.rules.claim);
        }
        if is_next
            && state.out < state.capacity()
            && let Some(place) = state.queue.take_out(&ticket.owner)
        {
            state.out += 1;
            state.queue.note_grant(&place.ticket);
            self.0.rules.metrics.lanes.granted(now - place.since);
            self.tell_depth(&mut state);
            return Ok(Grant { lane: self.clone(), place });
        }
        // A grant may have become free that another one is to have.
        self.fill(&mut state);
        self.tell_depth(&mut state);
        Err(rest.map_or(LaneClosed::Queued, |rest| rest.why))
    }

    /// Takes back an owner's ticket, or the grant that waits for it.
    fn withdraw(&self, owner: &Owner) {
        let mut state = self.state();
        let had_ticket = state.queue.take_out(owner).is_some();
        let had_grant = state.reserved.remove(owner).is_some();
        if had_grant {
            state.out = state.out.saturating_sub(1);
            self.fill(&mut state);
        }
        if had_ticket || had_grant {
            self.tell_depth(&mut state);
        }
    }

    /// Heeds what an answer means for the requests that follow.
    pub fn heed(&self, signal: Signal) {
        let now = Instant::now();
        let rules = &self.0.rules;
        let mut state = self.state();
        let pause = match signal {
            Signal::Answered => {
                (state.failures, state.throttles) = (0, 0);
                state.answers += 1;
                None
            }
            Signal::Throttled(asked) => {
                state.throttles = state.throttles.saturating_add(1);
                let own = jittered(doubled(rules.pause, state.throttles).min(rules.longest_pause));
                // What Woodpecker asks for counts, within reason; asked again and again, the pause grows.
                let least = if state.throttles > 1 { own } else { rules.pause / 15 };
                let asked = asked.map(|asked| asked.max(least).min(rules.longest_pause * 12));
                Some((asked.unwrap_or(own), LaneClosed::Paused))
            }
            Signal::Failed => {
                state.failures = state.failures.saturating_add(1);
                let beyond = state.failures.saturating_sub(FAILURES);
                (state.failures >= FAILURES).then(|| {
                    let long = doubled(rules.pause, beyond + 1).min(rules.longest_pause);
                    (jittered(long), LaneClosed::Failing)
                })
            }
        };
        let Some((long, why)) = pause else {
            self.fill(&mut state);
            return;
        };
        let until = now + long;
        // A longer rest that runs already goes on.
        if state.rest.is_none_or(|rest| rest.until < until) {
            state.rest = Some(Pause { until, why });
        }
        drop(state);
        self.later(long, |lane| lane.fill(&mut lane.state()));
    }

    /// Who waits in it now, for metrics.
    pub fn series(&self) -> LaneSeries {
        let state = self.state();
        state.queue.series(Instant::now(), state.answers)
    }

    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Reserves what is free for those who wait longest or are most urgent, and calls them.
    fn fill(&self, state: &mut State) {
        let now = Instant::now();
        if state.rest.is_some_and(|rest| now < rest.until) || self.0.rules.stop.is_cancelled() {
            return;
        }
        while state.out < state.capacity() {
            let Some(place) = state.queue.pop(now, self.0.rules.ageing) else { break };
            self.0.rules.metrics.lanes.granted(now - place.since);
            state.out += 1;
            self.reserve(state, place, now);
        }
        self.tell_depth(state);
    }

    /// Keeps a grant for an owner and calls it.
    fn reserve(&self, state: &mut State, place: Waiting, now: Instant) {
        state.reservations += 1;
        let number = state.reservations;
        let owner = place.ticket.owner.clone();
        state.reserved.insert(owner.clone(), Reservation { number, place, at: now });
        (self.0.rules.call)(&owner);
        self.later(self.0.rules.claim, move |lane| lane.lapse(&owner, number));
    }

    /// An owner that does not come goes back to its place, and at last out of the queue.
    fn lapse(&self, owner: &Owner, number: u64) {
        let mut state = self.state();
        let is_it = |reserved: &Reservation| reserved.number == number;
        let Some(reserved) = state.reserved.get(owner).filter(|reserved| is_it(reserved)) else { return };
        tracing::debug!(?owner, lapses = reserved.place.lapses, "did not come for its turn");
        let Some(reserved) = state.reserved.remove(owner) else { return };
        state.out = state.out.saturating_sub(1);
        let lapses = reserved.place.lapses + 1;
        if lapses <= LAPSES {
            state.queue.put_back(reserved.place, lapses);
        }
        self.fill(&mut state);
    }

    fn later(&self, after: Duration, then: impl FnOnce(&Self) + Send + 'static) {
        let lane = Arc::downgrade(&self.0);
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            if let Some(lane) = lane.upgrade() {
                then(&Self(lane));
            }
        });
    }

    fn tell_depth(&self, state: &mut State) {
        state.tell(&self.0.rules.metrics, Queue::depth);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock()
    }
}

impl std::fmt::Debug for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lane").finish_non_exhaustive()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let state = self.state.get_mut();
        state.tell(&self.rules.metrics, |_, _| 0);
    }
}

#[cfg(test)]
mod tests;
