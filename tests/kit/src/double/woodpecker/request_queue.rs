//! The vendor's limit of one request at a time for each account: always measured, enforced on demand. One
//! request is processed, and six more wait for up to 15 s each; further ones get a 429. Source:
//! <https://developers.woodpecker.co/docs/getting-started/rate-limiting>.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::double::Delays;
use crate::double::in_flight::InFlight;

const QUEUE_LENGTH: usize = 6;
const MAX_WAIT: Duration = Duration::from_secs(15);

/// One account's requests.
pub(crate) struct RequestQueue {
    pub(crate) in_flight: Arc<InFlight>,
    slot: Arc<Semaphore>,
    waiting: AtomicUsize,
}

/// The account's request slot; released when dropped.
pub(crate) struct RequestSlot(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

/// Rejected by the vendor's limit.
pub(crate) struct TooMany;

impl RequestQueue {
    pub(crate) fn new() -> Self {
        Self { in_flight: Arc::default(), slot: Arc::new(Semaphore::new(1)), waiting: AtomicUsize::new(0) }
    }

    /// Waits for the account's request slot as in the vendor's queue.
    pub(crate) async fn acquire(&self, delays: &Delays) -> Result<RequestSlot, TooMany> {
        if let Ok(free) = Arc::clone(&self.slot).try_acquire_owned() {
            return Ok(RequestSlot(free));
        }
        if self.waiting.fetch_add(1, Ordering::SeqCst) >= QUEUE_LENGTH {
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            return Err(TooMany);
        }
        let waited =
            tokio::time::timeout(delays.scaled(MAX_WAIT), Arc::clone(&self.slot).acquire_owned()).await;
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        match waited {
            Ok(Ok(permit)) => Ok(RequestSlot(permit)),
            Ok(Err(_)) | Err(_) => Err(TooMany),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_is_processed_six_wait_and_the_eighth_is_rejected() {
        let (queue, delays) = (Arc::new(RequestQueue::new()), Arc::new(Delays::new()));
        let first = queue.acquire(&delays).await.ok().expect("the queue is free");
        let wait = || {
            let (queue, delays) = (Arc::clone(&queue), Arc::clone(&delays));
            tokio::spawn(async move { queue.acquire(&delays).await.is_ok() })
        };
        let waiting: Vec<_> = (0..6).map(|_| wait()).collect();
        while queue.waiting.load(Ordering::SeqCst) < 6 {
            tokio::task::yield_now().await;
        }
        assert!(queue.acquire(&delays).await.is_err(), "the queue is full");

        drop(first);
        for one in waiting {
            assert!(one.await.expect("joins"));
        }
    }

    #[tokio::test]
    async fn a_queued_request_is_rejected_after_fifteen_seconds() {
        let (queue, delays) = (RequestQueue::new(), Delays::new());
        delays.divide_by(300);
        let _first = queue.acquire(&delays).await.ok().expect("the queue is free");
        let start = std::time::Instant::now();
        assert!(queue.acquire(&delays).await.is_err());
        assert!(start.elapsed() >= Duration::from_millis(50));
    }
}
