//! The limit on concurrent connections. While all slots are taken, the oldest unauthenticated connection is closed for the
//! next one, once it is at least a second old. Clients without an API key therefore cannot block the others. An account
//! has at most a quarter of the slots, so that it cannot block other accounts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// An account may have at most a quarter of the slots.
const ACCOUNT_SHARE: usize = 4;

/// Slots that an account may have in any case.
const MIN_PER_ACCOUNT: usize = 2;

#[derive(Debug)]
pub struct ConnectionLimiter {
    max: usize,
    grace: Duration,
    state: Mutex<State>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct State {
    taken: usize,
    next: u64,
    /// The oldest first.
    unauthenticated: BTreeMap<u64, Unauthenticated>,
    accounts: BTreeMap<u64, String>,
}

#[derive(Debug)]
struct Unauthenticated {
    since: Instant,
    evicted: CancellationToken,
}

/// The slot of one connection, released on drop.
#[derive(Debug)]
pub struct ConnectionSlot {
    limiter: Arc<ConnectionLimiter>,
    number: u64,
    evicted: CancellationToken,
}

// === impl ConnectionLimiter ===

impl ConnectionLimiter {
    /// Connections younger than `grace` are not evicted.
    pub fn new(max: usize, grace: Duration) -> Arc<Self> {
        Arc::new(Self { max, grace, state: Mutex::default(), freed: Notify::new() })
    }

    /// Waits for a free slot. Only one caller may wait at a time.
    pub async fn acquire(self: &Arc<Self>) -> Arc<ConnectionSlot> {
        loop {
            let wait = match self.try_acquire() {
                Ok(slot) => return slot,
                Err(wait) => wait,
            };
            let freed = self.freed.notified();
            match wait {
                Some(until) => drop(tokio::time::timeout_at(until, freed).await),
                None => freed.await,
            }
        }
    }

    /// A slot, or when the oldest unauthenticated connection can be evicted.
    fn try_acquire(self: &Arc<Self>) -> Result<Arc<ConnectionSlot>, Option<Instant>> {
        let mut state = self.state.lock();
        if state.taken >= self.max {
            let Some(first) = state.unauthenticated.first_entry() else { return Err(None) };
            let until = first.get().since + self.grace;
            if until > Instant::now() {
                return Err(Some(until));
            }
            first.remove().evicted.cancel();
            return Err(None);
        }
        let (number, evicted) = (state.next, CancellationToken::new());
        let connection = Unauthenticated { since: Instant::now(), evicted: evicted.clone() };
        state.unauthenticated.insert(number, connection);
        (state.next, state.taken) = (number + 1, state.taken + 1);
        Ok(Arc::new(ConnectionSlot { limiter: self.clone(), number, evicted }))
    }
}

// === impl ConnectionSlot ===

impl ConnectionSlot {
    /// The connection belongs to that account, and is no longer evicted. Returns false if the account already has as many
    /// slots as it may have.
    #[must_use]
    pub fn assign_account(&self, account: &str) -> bool {
        let max = (self.limiter.max / ACCOUNT_SHARE).max(MIN_PER_ACCOUNT);
        let mut state = self.limiter.state.lock();
        if state.accounts.get(&self.number).is_some_and(|of| of == account) {
            return true;
        }
        let others = state.accounts.iter().filter(|(number, of)| **number != self.number && *of == account);
        if others.count() >= max {
            return false;
        }
        state.unauthenticated.remove(&self.number);
        state.accounts.insert(self.number, account.to_owned());
        true
    }

    /// Closes the connection without a response to its current request.
    pub fn close(&self) {
        self.evicted.cancel();
    }

    /// Waits until the connection is evicted.
    pub async fn evicted(&self) {
        self.evicted.cancelled().await;
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let mut state = self.limiter.state.lock();
        state.unauthenticated.remove(&self.number);
        state.accounts.remove(&self.number);
        state.taken -= 1;
        drop(state);
        self.limiter.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn an_unauthenticated_connection_is_evicted_after_a_second_and_an_authenticated_one_is_not() {
        let limiter = ConnectionLimiter::new(2, GRACE);
        let start = Instant::now();
        let (authenticated, unauthenticated) = (limiter.acquire().await, limiter.acquire().await);
        assert!(authenticated.assign_account("mail"));
        let evicted = tokio::spawn(async move {
            unauthenticated.evicted().await;
            start.elapsed()
        });
        let third = limiter.acquire().await;
        assert_eq!(evicted.await.unwrap(), GRACE);
        assert!(third.assign_account("mail"));
        let waiting = tokio::time::timeout(Duration::from_mins(1), limiter.acquire()).await;
        assert!(waiting.is_err(), "all of them are authenticated");
        drop(authenticated);
        limiter.acquire().await;
        assert!(!third.evicted.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn an_account_has_at_most_a_quarter_of_the_slots_and_at_least_two() {
        for (max, expected) in [(256, 64), (16, 4), (4, 2), (3, 2)] {
            let limiter = ConnectionLimiter::new(max, GRACE);
            let mut slots = Vec::new();
            for _ in 0..max {
                slots.push(limiter.acquire().await);
            }
            let of_mail = slots.iter().filter(|slot| slot.assign_account("mail")).count();
            assert_eq!(of_mail, expected, "of {max}");
            assert!(slots[max - 1].assign_account("sales"), "another account has its own");
            assert!(slots[0].assign_account("mail"), "it is counted once");
            slots.remove(0);
            assert!(slots[expected - 1].assign_account("mail"), "one was released");
        }
    }
}
