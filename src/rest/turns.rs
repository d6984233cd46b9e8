//! How many requests are under way at the same time. Counted in this process alone.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::fault::Fault;

/// Requests of one account that may wait or be under way, where the vendor's limits are emulated.
const PLACES: usize = 7;

/// Listings at the same time, of all accounts.
const LISTINGS: usize = 6;

/// Listings at the same time of one account.
const LISTINGS_OF_ACCOUNT: usize = 2;

/// The vendor's limits, emulated for whoever builds against them: one request at a time for each account, six more that
/// wait, each for at most 15 seconds.
///
/// Source: the vendor's page on rate limiting.
#[derive(Debug)]
pub struct Turns {
    longest_wait: Duration,
    places: PerAccount,
    running: PerAccount,
}

/// Gives turns to listings: each holds all records of an account in memory, and one account's must not keep the others
/// waiting.
#[derive(Debug)]
pub struct Listings {
    all: Arc<Semaphore>,
    accounts: PerAccount,
}

/// A request's turn; the next one comes when it goes.
#[derive(Debug)]
pub struct Turn {
    _permits: [Option<OwnedSemaphorePermit>; 2],
}

/// So many permits for each account. There are as many accounts as have API keys, so none is ever let go.
#[derive(Debug)]
struct PerAccount {
    permits: usize,
    accounts: Mutex<HashMap<String, Arc<Semaphore>>>,
}

// === impl Turns ===

impl Turns {
    /// Nobody waits longer than that.
    pub fn new(longest_wait: Duration) -> Self {
        Self { longest_wait, places: PerAccount::new(PLACES), running: PerAccount::new(1) }
    }

    /// Waits for the turn of a request of that account. It is dropped where too many wait, or where it has waited too long.
    pub async fn take(&self, account: &str) -> Result<Turn, Fault> {
        const DROPPED: Fault = Fault::TooManyRequests(None);
        let place = self.places.of(account).try_acquire_owned().map_err(|_| DROPPED)?;
        let turn = tokio::time::timeout(self.longest_wait, self.running.of(account).acquire_owned()).await;
        // It is never closed.
        Ok(Turn { _permits: [Some(place), turn.map_err(|_| DROPPED)?.ok()] })
    }
}

// === impl Listings ===

impl Listings {
    /// Waits for the turn of a listing of that account.
    pub async fn take(&self, account: &str) -> Turn {
        // Neither is ever closed.
        let own = self.accounts.of(account).acquire_owned().await.ok();
        Turn { _permits: [own, self.all.clone().acquire_owned().await.ok()] }
    }
}

impl Default for Listings {
    fn default() -> Self {
        Self { all: Arc::new(Semaphore::new(LISTINGS)), accounts: PerAccount::new(LISTINGS_OF_ACCOUNT) }
    }
}

// === impl PerAccount ===

impl PerAccount {
    fn new(permits: usize) -> Self {
        Self { permits, accounts: Mutex::default() }
    }

    fn of(&self, account: &str) -> Arc<Semaphore> {
        let mut accounts = self.accounts.lock();
        let fresh = || Arc::new(Semaphore::new(self.permits));
        accounts.entry(account.to_owned()).or_insert_with(fresh).clone()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
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

    #[tokio::test]
    async fn one_account_lists_twice_at_a_time_and_leaves_turns_to_the_others() {
        let listings = Listings::default();
        let held = [listings.take("mail").await, listings.take("mail").await];
        assert!(listings.take("mail").now_or_never().is_none());
        let others =
            ["sales", "sales", "support", "support"].map(|account| listings.take(account).now_or_never());
        assert!(others.iter().all(Option::is_some));
        assert!(listings.take("post").now_or_never().is_none(), "six in all");
        drop(held);
        assert!(listings.take("post").now_or_never().is_some());
    }
}
