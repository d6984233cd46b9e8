//! The vendor's limits, emulated for whoever builds against them: one request at a time for each account, six more that
//! wait, each for at most 15 seconds. Counted in this process alone.
//!
//! Source: the vendor's page on rate limiting.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Requests of one account that may wait.
const QUEUE: usize = 6;

/// Gives each account's requests their turns.
#[derive(Debug)]
pub struct Turns {
    longest_wait: Duration,
    accounts: Mutex<HashMap<String, Arc<Queue>>>,
}

/// A request's turn; the next one comes when it goes.
#[derive(Debug)]
pub struct Turn(#[allow(dead_code, reason = "it is held, not used")] OwnedSemaphorePermit);

/// The request was dropped: too many wait, or it has waited too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dropped;

#[derive(Debug)]
struct Queue {
    turn: Arc<Semaphore>,
    waiting: AtomicUsize,
}

/// A place in the queue.
struct Place<'a>(&'a AtomicUsize);

// === impl Turns ===

impl Turns {
    /// Nobody waits longer than that.
    pub fn new(longest_wait: Duration) -> Self {
        Self { longest_wait, accounts: Mutex::default() }
    }

    /// Waits for the turn of a request of that account.
    pub async fn take(&self, account: &str) -> Result<Turn, Dropped> {
        let queue = self.queue(account);
        if let Ok(turn) = queue.turn.clone().try_acquire_owned() {
            return Ok(Turn(turn));
        }
        let _place = Place::take(&queue.waiting).ok_or(Dropped)?;
        match tokio::time::timeout(self.longest_wait, queue.turn.clone().acquire_owned()).await {
            Ok(Ok(turn)) => Ok(Turn(turn)),
            Ok(Err(_)) | Err(_) => Err(Dropped),
        }
    }

    /// There are as many as accounts have API keys, so none is ever let go.
    fn queue(&self, account: &str) -> Arc<Queue> {
        let mut accounts = self.accounts.lock();
        let fresh = || Arc::new(Queue { turn: Arc::new(Semaphore::new(1)), waiting: AtomicUsize::new(0) });
        accounts.entry(account.to_owned()).or_insert_with(fresh).clone()
    }
}

// === impl Place ===

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize) -> Option<Self> {
        let one_more = |number| (number < QUEUE).then_some(number + 1);
        waiting.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_more).ok().map(|_| Self(waiting))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, sleep};

    use super::*;

    const LONGEST: Duration = Duration::from_secs(15);

    /// How so many requests at once fare that take so long each: whether each had its turn, and after which time.
    async fn fare(requests: usize, each: Duration) -> Vec<(bool, u64)> {
        let turns = Turns::new(LONGEST);
        let start = Instant::now();
        let all = (0..requests).map(|_| async {
            let turn = turns.take("mail").await;
            let at = start.elapsed().as_secs();
            sleep(if turn.is_ok() { each } else { Duration::ZERO }).await;
            (turn.is_ok(), at)
        });
        let mut all = futures::future::join_all(all).await;
        all.sort_by_key(|(is_ok, at)| (!is_ok, *at));
        all
    }

    #[tokio::test(start_paused = true)]
    async fn one_has_its_turn_six_wait_and_more_are_dropped_at_once() {
        let all = fare(9, Duration::from_secs(1)).await;
        let turns: Vec<_> = (0..7).map(|at| (true, at)).collect();
        assert_eq!(all, [turns, vec![(false, 0); 2]].concat());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_longer_than_fifteen_seconds_is_dropped() {
        let all = fare(4, Duration::from_secs(7)).await;
        assert_eq!(all, [(true, 0), (true, 7), (true, 14), (false, 15)]);
    }

    #[tokio::test(start_paused = true)]
    async fn accounts_do_not_wait_for_each_other_and_who_leaves_makes_room() {
        let turns = Turns::new(LONGEST);
        let held = turns.take("mail").await.unwrap();
        assert!(turns.take("sales").await.is_ok());
        for _ in 0..20 {
            let left = tokio::time::timeout(Duration::from_secs(1), turns.take("mail")).await;
            assert!(left.is_err(), "it waits, and leaves");
        }
        drop(held);
        assert!(turns.take("mail").await.is_ok());
    }
}
