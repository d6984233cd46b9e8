//! Who keeps a connection: so many at the same time. While all are taken, the one that has shown no API key for the longest,
//! and for a second at least, makes room for the next; so whoever has no key shuts nobody out. One account keeps no more than
//! a quarter of them, so that it does not shut out the others.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Of so many seats one account keeps one at most.
const SHARE: usize = 4;

/// So many it keeps in any case.
const LEAST: usize = 2;

#[derive(Debug)]
pub struct Seats {
    most: usize,
    grace: Duration,
    state: Mutex<State>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct State {
    taken: usize,
    next: u64,
    /// Those without a key, the earliest first.
    strangers: BTreeMap<u64, Stranger>,
    /// Whose the others are, where that is known.
    accounts: BTreeMap<u64, String>,
}

#[derive(Debug)]
struct Stranger {
    since: Instant,
    asked_to_leave: CancellationToken,
}

/// One connection's.
#[derive(Debug)]
pub struct Seat {
    seats: Arc<Seats>,
    number: u64,
    asked_to_leave: CancellationToken,
}

// === impl Seats ===

impl Seats {
    /// So many; nobody is asked to leave before `grace` is over.
    pub fn new(most: usize, grace: Duration) -> Arc<Self> {
        Arc::new(Self { most, grace, state: Mutex::default(), freed: Notify::new() })
    }

    /// Takes a seat once there is one. One caller at a time waits for it.
    pub async fn take(self: &Arc<Self>) -> Arc<Seat> {
        loop {
            let wait = match self.try_take() {
                Ok(seat) => return seat,
                Err(wait) => wait,
            };
            let freed = self.freed.notified();
            match wait {
                Some(until) => drop(tokio::time::timeout_at(until, freed).await),
                None => freed.await,
            }
        }
    }

    /// A seat, or when somebody is to leave who holds one up.
    fn try_take(self: &Arc<Self>) -> Result<Arc<Seat>, Option<Instant>> {
        let mut state = self.state.lock();
        if state.taken >= self.most {
            let Some(first) = state.strangers.first_entry() else { return Err(None) };
            let until = first.get().since + self.grace;
            if until > Instant::now() {
                return Err(Some(until));
            }
            first.remove().asked_to_leave.cancel();
            return Err(None);
        }
        let (number, asked_to_leave) = (state.next, CancellationToken::new());
        let stranger = Stranger { since: Instant::now(), asked_to_leave: asked_to_leave.clone() };
        state.strangers.insert(number, stranger);
        (state.next, state.taken) = (number + 1, state.taken + 1);
        Ok(Arc::new(Seat { seats: self.clone(), number, asked_to_leave }))
    }
}

// === impl Seat ===

impl Seat {
    /// Its holder has shown a key, and is not asked to leave any more.
    pub fn keep(&self) {
        self.seats.state.lock().strangers.remove(&self.number);
    }

    /// Its holder has shown a key of that account, and is not asked to leave any more. Returns whether it may stay: not
    /// where the account has as many seats as it may have.
    #[must_use]
    pub fn keep_for(&self, account: &str) -> bool {
        let most = (self.seats.most / SHARE).max(LEAST);
        let mut state = self.seats.state.lock();
        let kept = state.accounts.iter().filter(|(number, of)| **number != self.number && *of == account);
        if kept.count() >= most {
            return false;
        }
        state.strangers.remove(&self.number);
        state.accounts.insert(self.number, account.to_owned());
        true
    }

    /// Until its holder is asked to leave.
    pub async fn asked_to_leave(&self) {
        self.asked_to_leave.cancelled().await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = self.seats.state.lock();
        state.strangers.remove(&self.number);
        state.accounts.remove(&self.number);
        state.taken -= 1;
        drop(state);
        self.seats.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn who_shows_no_key_makes_room_after_a_second_and_who_does_keeps_a_seat() {
        let seats = Seats::new(2, GRACE);
        let start = Instant::now();
        let (guest, stranger) = (seats.take().await, seats.take().await);
        guest.keep();
        let leaving = tokio::spawn(async move {
            stranger.asked_to_leave().await;
            start.elapsed()
        });
        let third = seats.take().await;
        assert_eq!(leaving.await.unwrap(), GRACE);
        third.keep();
        let waiting = tokio::time::timeout(Duration::from_mins(1), seats.take()).await;
        assert!(waiting.is_err(), "all of them have shown a key");
        drop(guest);
        seats.take().await;
        assert!(!third.asked_to_leave.is_cancelled());
    }
    #[tokio::test(start_paused = true)]
    async fn an_account_keeps_no_more_than_a_quarter_of_the_seats_and_two_in_any_case() {
        for (most, expected) in [(256, 64), (16, 4), (4, 2), (3, 2)] {
            let seats = Seats::new(most, GRACE);
            let mut kept = Vec::new();
            for _ in 0..most {
                kept.push(seats.take().await);
            }
            let of_mail = kept.iter().filter(|seat| seat.keep_for("mail")).count();
            assert_eq!(of_mail, expected, "of {most}");
            assert!(kept[most - 1].keep_for("sales"), "another account has its own");
            assert!(kept[0].keep_for("mail"), "it is counted once");
            kept.remove(0);
            assert!(kept[expected - 1].keep_for("mail"), "one was given back");
        }
    }
}
