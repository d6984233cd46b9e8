//! How many listings of records are made at the same time: each holds all records of an account in memory, and one account's
//! must not keep the others waiting.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Listings at the same time, of all accounts.
const ALL: usize = 6;

/// Listings at the same time of one account.
const OF_ACCOUNT: usize = 2;

/// Gives turns to listings.
#[derive(Debug)]
pub struct Listings {
    all: Arc<Semaphore>,
    accounts: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// A listing's turn; the next one comes when it goes.
#[derive(Debug)]
pub struct Listing {
    #[allow(dead_code, reason = "they are held, not used")]
    turns: [Option<OwnedSemaphorePermit>; 2],
}

// === impl Listings ===

impl Listings {
    /// Waits for the turn of a listing of that account.
    pub async fn take(&self, account: &str) -> Listing {
        // Neither is ever closed.
        let own = self.of(account).acquire_owned().await.ok();
        Listing { turns: [own, self.all.clone().acquire_owned().await.ok()] }
    }

    /// There are as many as accounts have API keys, so none is ever let go.
    fn of(&self, account: &str) -> Arc<Semaphore> {
        let mut accounts = self.accounts.lock();
        let fresh = || Arc::new(Semaphore::new(OF_ACCOUNT));
        accounts.entry(account.to_owned()).or_insert_with(fresh).clone()
    }
}

impl Default for Listings {
    fn default() -> Self {
        Self { all: Arc::new(Semaphore::new(ALL)), accounts: Mutex::default() }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

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
