//! The last listing of an account's mailboxes, which all `WoodpeckerMailboxes` of the account share. One runs at a time, and
//! after failures the next one waits.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::core::backoff;
use crate::core::mailboxes::Mailboxes;
use crate::core::timing::Timing;
use crate::woodpecker::{ApiError, RemoteIdentity};

/// Failures that count before the first one: no mail depends on a listing, so it need not be repeated within seconds.
const FAILURES_BEFORE: u32 = 5;

/// The listings of one account. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct SharedListing(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    is_running: bool,
    last: Option<Listing>,
    /// Consecutive listings that failed or were given up, when the next one may begin, and what the last one failed with.
    failures: u32,
    not_before: Option<Instant>,
    problem: Option<String>,
}

/// A complete listing.
#[derive(Clone, Debug)]
pub struct Listing {
    of: RemoteIdentity,
    /// When its request began.
    pub began: Instant,
    pub at: Timestamp,
    pub mailboxes: Arc<Mailboxes>,
    /// When it is dropped, because it is of no use any longer.
    dropped_at: Instant,
}

/// Why no listing may begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotNow {
    /// One is running, for another object.
    Running,
    /// The last one failed. How long nothing is sent, and with what it failed.
    Failed(Duration, Option<String>),
}

/// A listing in progress.
pub struct Attempt {
    shared: SharedListing,
    of: RemoteIdentity,
    began: Instant,
    at: Timestamp,
}

// === impl SharedListing ===

impl SharedListing {
    /// The last listing of that remote account, if it is at most `max_age` old and began at `since` or later.
    pub fn recent(&self, of: &RemoteIdentity, max_age: Duration, since: Instant) -> Option<Listing> {
        self.forget_old();
        let state = self.0.lock();
        let last = state.last.as_ref()?;
        (last.of == *of && last.began.elapsed() < max_age && last.began >= since).then(|| last.clone())
    }

    /// Drops a listing that is of no use any longer, because it may be large.
    pub fn forget_old(&self) {
        let mut state = self.0.lock();
        state.last = state.last.take().filter(|last| Instant::now() < last.dropped_at);
    }

    /// Begins a listing.
    pub fn begin(&self, of: &RemoteIdentity) -> Result<Attempt, NotNow> {
        let mut state = self.0.lock();
        if state.is_running {
            return Err(NotNow::Running);
        }
        let left = state.not_before.map(|at| at.saturating_duration_since(Instant::now()));
        if let Some(left) = left.filter(|left| !left.is_zero()) {
            return Err(NotNow::Failed(left, state.problem.clone()));
        }
        state.is_running = true;
        drop(state);
        Ok(Attempt { shared: self.clone(), of: of.clone(), began: Instant::now(), at: Timestamp::now() })
    }
}

// === impl Attempt ===

impl Attempt {
    /// Keeps the listing for others.
    pub fn succeed(self, mailboxes: Mailboxes, timing: &Timing) -> Listing {
        let (of, began, at) = (self.of.clone(), self.began, self.at);
        let dropped_at = began + timing.mailbox_plan;
        let listing = Listing { of, began, at, mailboxes: Arc::new(mailboxes), dropped_at };
        let mut state = self.shared.0.lock();
        (state.failures, state.not_before, state.problem) = (0, None, None);
        state.last = Some(listing.clone());
        listing
    }

    /// Records that it failed. Returns how long none begins, and what the condition says if Woodpecker did not list them.
    pub fn fail(self, error: &ApiError, timing: &Timing, spread: &str) -> (Duration, Option<String>) {
        let is_unsent = matches!(error, ApiError::Queue(_) | ApiError::NotLeading(_) | ApiError::GivenUp);
        let mut state = self.shared.0.lock();
        state.failures = state.failures.saturating_add(1);
        let wait = backoff::delay(timing, state.failures.saturating_add(FAILURES_BEFORE), spread);
        state.not_before = Some(Instant::now() + wait);
        if !is_unsent {
            let problem = format!("the mailboxes could not be listed: {error}; the operator tries again");
            state.problem = Some(problem);
        }
        (wait, state.problem.clone())
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.shared.0.lock().is_running = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::failure::QueueError;
    use crate::woodpecker::testing::identity;

    const TIMING: Timing = Timing::STANDARD;
    const MINUTE: Duration = Duration::from_mins(1);

    #[tokio::test(start_paused = true)]
    async fn objects_share_one_listing_while_it_is_recent_and_of_the_same_account() {
        let (shared, of) = (SharedListing::default(), identity(1, None));
        let began = Instant::now();
        assert!(shared.recent(&of, MINUTE, began).is_none());
        let attempt = shared.begin(&of).expect("none is running");
        assert!(matches!(shared.clone().begin(&of), Err(NotNow::Running)));
        tokio::time::advance(MINUTE / 2).await;
        attempt.succeed(Mailboxes::default(), &TIMING);
        assert!(shared.recent(&of, MINUTE, began).is_some());
        assert!(shared.recent(&identity(2, None), MINUTE, began).is_none(), "another key");
        assert!(shared.recent(&of, MINUTE, Instant::now()).is_none(), "it began before");
        tokio::time::advance(MINUTE / 2).await;
        assert!(shared.recent(&of, MINUTE, began).is_none(), "the age counts from its beginning");
        assert!(shared.begin(&of).is_ok());
        assert!(shared.0.lock().last.is_some());
        tokio::time::advance(TIMING.mailbox_plan).await;
        shared.forget_old();
        assert!(shared.0.lock().last.is_none(), "it may be large");
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_listing_is_repeated_after_minutes_and_one_that_was_dropped_at_once() {
        let (shared, of) = (SharedListing::default(), identity(1, None));
        drop(shared.begin(&of));
        let mut waits = Vec::new();
        for error in [ApiError::GivenUp, ApiError::Malformed(200), ApiError::Queue(QueueError::Paused)] {
            let attempt = shared.begin(&of).expect("it may begin");
            let (wait, problem) = attempt.fail(&error, &TIMING, "uid");
            assert_eq!(problem.is_some(), !waits.is_empty(), "{error}");
            let Err(NotNow::Failed(left, _)) = shared.begin(&of) else { panic!("it waits") };
            assert_eq!(left, wait);
            waits.push(wait);
            tokio::time::advance(wait).await;
        }
        assert!(waits[0] > MINUTE && waits.is_sorted(), "{waits:?}");
        shared.begin(&of).expect("it may begin").succeed(Mailboxes::default(), &TIMING);
        let attempt = shared.begin(&of).expect("it may begin");
        let (wait, problem) = attempt.fail(&ApiError::GivenUp, &TIMING, "uid");
        assert_eq!((wait, problem), (waits[0], None), "a success resets it");
    }
}
