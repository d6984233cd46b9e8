//! The right to send requests to an account, and the turn for one of them.

use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;

use super::queue::{Class, Waiting};
use super::{Lane, LaneClosed};

/// The right to send requests, one after the other; it is given back when this goes.
pub struct Grant {
    pub(super) lane: Lane,
    /// The place in the queue that it was given for, to which its owner goes back where it must wait again.
    pub(super) place: Waiting,
}

/// The turn in a lane: who has it may send a request. It ends when this goes.
#[derive(Debug)]
pub struct Turn {
    _guard: OwnedMutexGuard<()>,
    lane: Lane,
}

/// One that has a grant and waits for the turn.
struct Ready<'a>(&'a Lane);

// === impl Grant ===

impl Grant {
    /// Waits for the turn: for at most the one request that is under way.
    pub async fn turn(&self) -> Result<Turn, LaneClosed> {
        let stop = &self.lane.0.rules.stop;
        let turn = self.lane.0.turn.clone().lock_owned();
        let ready = Ready::in_lane(&self.lane);
        let guard = stop.run_until_cancelled(turn).await.ok_or(LaneClosed::Ending)?;
        drop(ready);
        if stop.is_cancelled() {
            return Err(LaneClosed::Ending);
        }
        let mut state = self.lane.state();
        if let Some(rest) = state.rest.filter(|rest| Instant::now() < rest.until) {
            state.queue.put_back(self.place.clone(), 0);
            return Err(rest.why);
        }
        drop(state);
        self.lane.0.rules.metrics.lanes.in_flight(1);
        Ok(Turn { _guard: guard, lane: self.lane.clone() })
    }

    /// What its next request is for.
    pub fn reclassify(&mut self, class: Class) {
        self.place.ticket.class = class;
    }

    /// Whether the next request should wait, for somebody more urgent does.
    pub fn should_yield(&self) -> bool {
        let ageing = self.lane.0.rules.ageing;
        self.lane.state().queue.has_more_urgent(&self.place, Instant::now(), ageing)
    }

    /// Gives it back and goes to its place in the queue, to be called again.
    pub fn step_back(self) -> LaneClosed {
        self.lane.state().queue.put_back(self.place.clone(), 0);
        LaneClosed::Queued
    }

    pub fn is_of(&self, lane: &Lane) -> bool {
        self.lane.is(lane)
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        let mut state = self.lane.state();
        state.out = state.out.saturating_sub(1);
        self.lane.fill(&mut state);
    }
}

impl std::fmt::Debug for Grant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grant").field("ticket", &self.place.ticket).finish_non_exhaustive()
    }
}

// === impl Turn ===

impl Drop for Turn {
    fn drop(&mut self) {
        self.lane.0.rules.metrics.lanes.in_flight(-1);
        let mut state = self.lane.state();
        state.adapt();
        self.lane.fill(&mut state);
    }
}

// === impl Ready ===

impl<'a> Ready<'a> {
    fn in_lane(lane: &'a Lane) -> Self {
        lane.state().ready += 1;
        Self(lane)
    }
}

impl Drop for Ready<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.ready = state.ready.saturating_sub(1);
    }
}
