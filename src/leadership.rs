//! How long this process may act as the leader: asked right before everything that only a leader may do.
//!
//! The answer is computed anew each time, from a clock that counts suspended time: a process that was
//! stopped, or whose machine slept, knows that its time is over before anything else of it has run.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};
use thiserror::Error;

/// Reads a clock: the time since a moment that stays the same as long as the process lives.
pub type Clock = fn() -> Duration;

/// Whether this process leads, and for how long at least. Clones tell the same.
#[derive(Clone, Debug)]
pub struct Leadership(Option<Arc<Term>>);

/// What only a leader may do was not begun.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("this replica does not lead, or not for long enough, so nothing was sent")]
pub struct NotLeading;

#[derive(Debug)]
struct Term {
    clock: Clock,
    margin: Duration,
    /// The moment, by the clock, from which another replica may lead.
    until: Mutex<Duration>,
}

/// The time since the machine started, its sleep included. Source: `clock_gettime(2)`, `CLOCK_BOOTTIME`; the
/// monotonic clock stands still meanwhile.
pub fn since_boot() -> Duration {
    // It is never negative, which is all that could fail.
    Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or(Duration::MAX)
}

// === impl Leadership ===

impl Leadership {
    /// That of a process that has no rivals.
    pub fn always() -> Self {
        Self(None)
    }

    /// That of a process that does not lead yet. A call may start only while `margin` more than its own time
    /// is left.
    pub fn none(clock: Clock, margin: Duration) -> Self {
        Self(Some(Arc::new(Term { clock, margin, until: Mutex::default() })))
    }

    /// How long no other replica can have begun to lead; zero where this one does not lead.
    pub fn remaining(&self) -> Duration {
        match &self.0 {
            None => Duration::MAX,
            Some(term) => term.until.lock().saturating_sub((term.clock)()),
        }
    }

    pub fn is_held(&self) -> bool {
        !self.remaining().is_zero()
    }

    /// Whether a call that takes at most so long may start now: it ends before another replica leads.
    pub fn allows(&self, call: Duration) -> bool {
        match &self.0 {
            None => true,
            Some(term) => self.remaining() >= call.saturating_add(term.margin),
        }
    }

    /// The same, for the use of `?`.
    pub fn admit(&self, call: Duration) -> Result<(), NotLeading> {
        if self.allows(call) { Ok(()) } else { Err(NotLeading) }
    }

    /// Whether a write to the Kubernetes API may start. It needs no margin: it lands only on the version of
    /// an object that was read.
    pub fn admit_write(&self) -> Result<(), NotLeading> {
        if self.is_held() { Ok(()) } else { Err(NotLeading) }
    }

    /// No other replica leads before that moment.
    pub(crate) fn extend(&self, until: Duration) {
        if let Some(term) = &self.0 {
            *term.until.lock() = until;
        }
    }

    /// Another replica may lead from now on.
    pub(crate) fn forfeit(&self) {
        self.extend(Duration::ZERO);
    }
}

/// A clock that tests set.
#[cfg(test)]
pub(crate) mod testing {
    use std::cell::Cell;
    use std::time::Duration;

    use tokio::time::Instant;

    thread_local! {
        static START: Cell<Option<Instant>> = const { Cell::new(None) };
        static SLEPT: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    }

    /// Tokio's time, which stands still unless a test moves it, and how long the machine slept on top.
    pub(crate) fn clock() -> Duration {
        let now = Instant::now();
        let start = START.get().unwrap_or(now);
        START.set(Some(start));
        Duration::from_hours(1) + (now - start) + SLEPT.get()
    }

    /// Lets the machine sleep: tokio's timers do not notice.
    pub(crate) fn sleep_of_the_machine(span: Duration) {
        SLEPT.set(SLEPT.get() + span);
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{clock, sleep_of_the_machine};
    use super::*;

    const CALL: Duration = Duration::from_secs(45);

    fn leadership() -> Leadership {
        Leadership::none(clock, Duration::from_secs(5))
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_starts_only_if_it_and_the_margin_end_in_time() {
        let leadership = leadership();
        assert!(!leadership.is_held() && leadership.admit(Duration::ZERO) == Err(NotLeading));
        leadership.extend(clock() + Duration::from_secs(90));
        assert_eq!(leadership.remaining(), Duration::from_secs(90));
        tokio::time::advance(Duration::from_secs(40)).await;
        assert!(leadership.allows(CALL), "50 s are left");
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!leadership.allows(CALL) && leadership.allows(Duration::from_secs(15)));
        assert!(leadership.is_held());
    }

    #[tokio::test(start_paused = true)]
    async fn the_sleep_of_the_machine_counts() {
        let leadership = leadership();
        leadership.extend(clock() + Duration::from_secs(90));
        let clone = leadership.clone();
        sleep_of_the_machine(Duration::from_secs(91));
        assert_eq!((clone.remaining(), clone.is_held()), (Duration::ZERO, false));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_forfeited_is_over_at_once_for_every_clone() {
        let leadership = leadership();
        leadership.extend(clock() + Duration::from_secs(90));
        leadership.clone().forfeit();
        assert!(!leadership.is_held());
    }

    #[test]
    fn without_rivals_everything_may_start() {
        assert!(Leadership::always().allows(Duration::MAX));
    }

    #[test]
    fn the_clock_runs_forwards() {
        assert!(since_boot() > Duration::ZERO && since_boot() <= since_boot());
    }
}
