//! Limits on concurrent requests, in this process only.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::rest::error::RestError;

/// Requests of one account that may wait or be in progress, if the vendor's limits are emulated.
const MAX_REQUESTS: usize = 7;

/// Concurrent lists of all accounts.
const MAX_LISTS: usize = 6;

/// Concurrent lists of one account.
const MAX_LISTS_PER_ACCOUNT: usize = 2;

/// Emulates the vendor's limits, for developers of clients: one request at a time for each account, and six more that wait,
/// each for at most 15 seconds.
///
/// Source: the vendor's page on rate limiting.
#[derive(Debug)]
pub struct RateLimiter {
    max_wait: Duration,
    admitted: PerAccount,
    running: PerAccount,
}

/// Limits concurrent lists, because each holds all records of an account in memory. An account cannot use all permits.
#[derive(Debug)]
pub struct ListLimit {
    all: Arc<Semaphore>,
    accounts: PerAccount,
}

/// The permit of a request, released on drop.
#[derive(Debug)]
pub struct Permit {
    _permits: [Option<OwnedSemaphorePermit>; 2],
}

/// A semaphore for each account. None is ever removed, because there are only as many accounts as API keys.
#[derive(Debug)]
struct PerAccount {
    permits: usize,
    accounts: Mutex<HashMap<String, Arc<Semaphore>>>,
}

// === impl RateLimiter ===

impl RateLimiter {
    pub fn new(max_wait: Duration) -> Self {
        Self { max_wait, admitted: PerAccount::new(MAX_REQUESTS), running: PerAccount::new(1) }
    }

    /// Waits for a permit. Fails if too many requests wait, or after the longest wait.
    pub async fn acquire(&self, account: &str) -> Result<Permit, RestError> {
        const REJECTED: RestError = RestError::TooManyRequests(None);
        let admitted = self.admitted.of(account).try_acquire_owned().map_err(|_| REJECTED)?;
        let running = tokio::time::timeout(self.max_wait, self.running.of(account).acquire_owned()).await;
        // The semaphore is never closed.
        Ok(Permit { _permits: [Some(admitted), running.map_err(|_| REJECTED)?.ok()] })
    }
}

// === impl ListLimit ===

impl ListLimit {
    pub async fn acquire(&self, account: &str) -> Permit {
        // The semaphores are never closed.
        let own = self.accounts.of(account).acquire_owned().await.ok();
        Permit { _permits: [own, self.all.clone().acquire_owned().await.ok()] }
    }
}

impl Default for ListLimit {
    fn default() -> Self {
        Self { all: Arc::new(Semaphore::new(MAX_LISTS)), accounts: PerAccount::new(MAX_LISTS_PER_ACCOUNT) }
    }
}

// === impl PerAccount ===

impl PerAccount {
    fn new(permits: usize) -> Self {
        Self { permits, accounts: Mutex::default() }
    }

    fn of(&self, account: &str) -> Arc<Semaphore> {
        let mut accounts = self.accounts.lock();
        let new = || Arc::new(Semaphore::new(self.permits));
        accounts.entry(account.to_owned()).or_insert_with(new).clone()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use tokio::time::{Instant, sleep};

    use super::*;

    const MAX_WAIT: Duration = Duration::from_secs(15);

    /// Sends concurrent requests that take that long each; returns whether each got a permit, and after how many seconds.
    async fn send(requests: usize, each: Duration) -> Vec<(bool, u64)> {
        let limiter = RateLimiter::new(MAX_WAIT);
        let start = Instant::now();
        let all = (0..requests).map(|_| async {
            let permit = limiter.acquire("mail").await;
            let at = start.elapsed().as_secs();
            sleep(if permit.is_ok() { each } else { Duration::ZERO }).await;
            (permit.is_ok(), at)
        });
        let mut all = futures::future::join_all(all).await;
        all.sort_by_key(|(is_ok, at)| (!is_ok, *at));
        all
    }

    #[tokio::test(start_paused = true)]
    async fn one_request_runs_six_wait_and_more_are_rejected_at_once() {
        let all = send(9, Duration::from_secs(1)).await;
        let permitted: Vec<_> = (0..7).map(|at| (true, at)).collect();
        assert_eq!(all, [permitted, vec![(false, 0); 2]].concat());
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_waits_longer_than_fifteen_seconds_is_rejected() {
        let all = send(4, Duration::from_secs(7)).await;
        assert_eq!(all, [(true, 0), (true, 7), (true, 14), (false, 15)]);
    }

    #[tokio::test(start_paused = true)]
    async fn accounts_do_not_wait_for_each_other_and_a_cancelled_request_frees_its_place() {
        let limiter = RateLimiter::new(MAX_WAIT);
        let held = limiter.acquire("mail").await.unwrap();
        assert!(limiter.acquire("sales").await.is_ok());
        for _ in 0..20 {
            let waiting = tokio::time::timeout(Duration::from_secs(1), limiter.acquire("mail")).await;
            assert!(waiting.is_err(), "it waits, and is cancelled");
        }
        drop(held);
        assert!(limiter.acquire("mail").await.is_ok());
    }

    #[tokio::test]
    async fn an_account_has_two_concurrent_lists_and_leaves_permits_to_the_others() {
        let limit = ListLimit::default();
        let held = [limit.acquire("mail").await, limit.acquire("mail").await];
        assert!(limit.acquire("mail").now_or_never().is_none());
        let others =
            ["sales", "sales", "support", "support"].map(|account| limit.acquire(account).now_or_never());
        assert!(others.iter().all(Option::is_some));
        assert!(limit.acquire("post").now_or_never().is_none(), "six in total");
        drop(held);
        assert!(limit.acquire("post").now_or_never().is_some());
    }
}
