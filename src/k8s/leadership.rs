//! Leadership of this process, which is checked right before every action that only a leader may take.
//!
//! Each check reads a clock that counts suspended time. A process that was stopped, or whose machine slept, therefore
//! notices that its lease has expired before it does anything else.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use thiserror::Error;

/// Reads a clock: the time since a moment that is fixed for the life of the process.
pub type Clock = fn() -> Duration;

/// Whether this process leads, and for how long at least. Clones share the state.
#[derive(Clone, Debug)]
pub struct Leadership(Option<Arc<LeaseTerm>>);

/// An action that only a leader may take was not started.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("this replica does not lead, or not for long enough, so nothing was sent")]
pub struct NotLeading;

#[derive(Debug)]
struct LeaseTerm {
    clock: Clock,
    margin: Duration,
    /// The moment, by the clock, from which another replica may lead.
    until: Mutex<Duration>,
}

// === impl Leadership ===

impl Leadership {
    /// Leadership without an election, which never ends.
    pub fn always() -> Self {
        Self(None)
    }

    /// Leadership of a process that does not lead yet. A call may start only if its own time and `margin` remain.
    pub fn none(clock: Clock, margin: Duration) -> Self {
        Self(Some(Arc::new(LeaseTerm { clock, margin, until: Mutex::default() })))
    }

    /// For how long no other replica can lead; zero if this one does not lead.
    pub fn remaining(&self) -> Duration {
        match &self.0 {
            None => Duration::MAX,
            Some(term) => term.until.lock().saturating_sub((term.clock)()),
        }
    }

    pub fn is_held(&self) -> bool {
        !self.remaining().is_zero()
    }

    /// Whether a call that takes at most `call` would end before another replica can lead.
    pub fn has_remaining(&self, call: Duration) -> bool {
        match &self.0 {
            None => true,
            Some(term) => self.remaining() >= call.saturating_add(term.margin),
        }
    }

    /// Fails if a call that takes at most `call` may not start.
    pub fn check_call(&self, call: Duration) -> Result<(), NotLeading> {
        if self.has_remaining(call) { Ok(()) } else { Err(NotLeading) }
    }

    /// Fails if a write to the Kubernetes API may not start. It needs no margin, because it applies only to the version
    /// of the object that was read.
    pub fn check_write(&self) -> Result<(), NotLeading> {
        if self.is_held() { Ok(()) } else { Err(NotLeading) }
    }

    /// Extends leadership until that time of the clock.
    pub(crate) fn extend(&self, until: Duration) {
        if let Some(term) = &self.0 {
            *term.until.lock() = until;
        }
    }

    /// Ends leadership now.
    pub(crate) fn relinquish(&self) {
        self.extend(Duration::ZERO);
    }
}

/// A clock that tests control.
#[cfg(test)]
pub(crate) mod testing {
    use std::cell::Cell;
    use std::time::Duration;

    use tokio::time::Instant;

    thread_local! {
        static START: Cell<Option<Instant>> = const { Cell::new(None) };
        static SLEPT: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    }

    /// Tokio's time, which tests advance, plus the time the machine slept.
    pub(crate) fn clock() -> Duration {
        let now = Instant::now();
        let start = START.get().unwrap_or(now);
        START.set(Some(start));
        Duration::from_hours(1) + (now - start) + SLEPT.get()
    }

    /// Simulates sleep of the machine, which tokio's timers do not notice.
    pub(crate) fn suspend_machine(span: Duration) {
        SLEPT.set(SLEPT.get() + span);
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{clock, suspend_machine};
    use super::*;

    const CALL: Duration = Duration::from_secs(45);

    fn leadership() -> Leadership {
        Leadership::none(clock, Duration::from_secs(5))
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_starts_only_if_it_and_the_margin_end_in_time() {
        let leadership = leadership();
        assert!(!leadership.is_held() && leadership.check_call(Duration::ZERO) == Err(NotLeading));
        leadership.extend(clock() + Duration::from_secs(90));
        assert_eq!(leadership.remaining(), Duration::from_secs(90));
        tokio::time::advance(Duration::from_secs(40)).await;
        assert!(leadership.has_remaining(CALL), "50 s are left");
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!leadership.has_remaining(CALL) && leadership.has_remaining(Duration::from_secs(15)));
        assert!(leadership.is_held());
    }

    #[tokio::test(start_paused = true)]
    async fn time_asleep_counts() {
        let leadership = leadership();
        leadership.extend(clock() + Duration::from_secs(90));
        let clone = leadership.clone();
        suspend_machine(Duration::from_secs(91));
        assert_eq!((clone.remaining(), clone.is_held()), (Duration::ZERO, false));
    }

    #[tokio::test(start_paused = true)]
    async fn relinquishing_ends_leadership_for_every_clone_at_once() {
        let leadership = leadership();
        leadership.extend(clock() + Duration::from_secs(90));
        leadership.clone().relinquish();
        assert!(!leadership.is_held());
    }

    #[test]
    fn a_process_without_leader_election_may_always_start_calls() {
        assert!(Leadership::always().has_remaining(Duration::MAX));
    }
}
