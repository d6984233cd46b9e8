//! The vendor's limit of one request at a time for each account: always measured, enforced on demand. One
//! request is processed, and six more wait for up to 15 s each; further ones get a 429. Source:
//! <https://developers.woodpecker.co/docs/getting-started/rate-limiting>.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::double::Delays;
use crate::double::in_flight::InFlight;

const QUEUE: usize = 6;
const LONGEST_WAIT: Duration = Duration::from_secs(15);

/// One account's requests.
pub(crate) struct Lane {
    pub(crate) in_flight: Arc<InFlight>,
    turn: Arc<Semaphore>,
    waiting: AtomicUsize,
}

/// The account's request slot; released when dropped.
pub(crate) struct Turn(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

/// Rejected by the vendor's limit.
pub(crate) struct TooMany;

impl Lane {
    pub(crate) fn new() -> Self {
        Self { in_flight: Arc::default(), turn: Arc::new(Semaphore::new(1)), waiting: AtomicUsize::new(0) }
    }

    /// Waits for the account's request slot as in the vendor's queue.
    pub(crate) async fn queue(&self, delays: &Delays) -> Result<Turn, TooMany> {
        if let Ok(free) = Arc::clone(&self.turn).try_acquire_owned() {
            return Ok(Turn(free));
        }
        if self.waiting.fetch_add(1, Ordering::SeqCst) >= QUEUE {
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            return Err(TooMany);
        }
        let waited =
            tokio::time::timeout(delays.scaled(LONGEST_WAIT), Arc::clone(&self.turn).acquire_owned()).await;
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        match waited {
            Ok(Ok(turn)) => Ok(Turn(turn)),
            Ok(Err(_)) | Err(_) => Err(TooMany),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_works_six_wait_and_the_eighth_is_dropped() {
        let (lane, delays) = (Arc::new(Lane::new()), Arc::new(Delays::new()));
        let first = lane.queue(&delays).await.ok().expect("the queue is free");
        let wait = || {
            let (lane, delays) = (Arc::clone(&lane), Arc::clone(&delays));
            tokio::spawn(async move { lane.queue(&delays).await.is_ok() })
        };
        let waiting: Vec<_> = (0..6).map(|_| wait()).collect();
        while lane.waiting.load(Ordering::SeqCst) < 6 {
            tokio::task::yield_now().await;
        }
        assert!(lane.queue(&delays).await.is_err(), "the queue is full");

        drop(first);
        for one in waiting {
            assert!(one.await.expect("joins"));
        }
    }

    #[tokio::test]
    async fn a_queued_request_is_dropped_after_its_own_fifteen_seconds() {
        let (lane, delays) = (Lane::new(), Delays::new());
        delays.divide_by(300);
        let _first = lane.queue(&delays).await.ok().expect("the queue is free");
        let start = std::time::Instant::now();
        assert!(lane.queue(&delays).await.is_err());
        assert!(start.elapsed() >= Duration::from_millis(50));
    }
}
