//! One request at a time per Woodpecker account.
//!
//! The vendor processes one request of an account at a time, queues six and drops the rest with 429. A lane
//! belongs to base URL and API key: accounts that differ in the company id alone share one, since the vendor
//! does not say that these endpoints honour the id.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use thiserror::Error;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::secret::SecretText;
use crate::settings::{BaseUrl, Timing};

/// A request that the lane did not let in; it was not sent.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum LaneClosed {
    /// Others are still ahead of it.
    #[error("other requests to the account are still ahead")]
    Busy,
    /// The program is ending, and no new request may begin.
    #[error("the program is ending")]
    Ending,
    /// Woodpecker asked to slow down a moment ago.
    #[error("the account is paused after Woodpecker asked to slow down")]
    Paused(Duration),
}

/// A keyed digest of an API key, by which keys can be told apart without holding them. The key of the digest
/// is random and lives as long as the process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyDigest([u8; 32]);

/// The lanes of all accounts.
#[derive(Debug)]
pub struct Lanes {
    digest_key: [u8; 32],
    wait: Duration,
    pause: Duration,
    stop: CancellationToken,
    open: Mutex<HashMap<(BaseUrl, KeyDigest), Weak<LaneState>>>,
}

/// The turn in a lane: who has it may send a request. It ends when this goes.
#[derive(Debug)]
pub struct Turn {
    _guard: OwnedMutexGuard<()>,
}

/// The lane of one account; clones are the same lane.
#[derive(Clone, Debug)]
pub struct Lane(Arc<LaneState>);

#[derive(Debug)]
struct LaneState {
    wait: Duration,
    pause: Duration,
    stop: CancellationToken,
    turn: Arc<AsyncMutex<()>>,
    paused_until: Mutex<Option<Instant>>,
}

// === impl Lanes ===

impl Lanes {
    /// No lane yet. All of them close when `stop` is cancelled. Fails only where the system gives no
    /// randomness.
    pub fn new(timing: &Timing, stop: CancellationToken) -> Result<Self, getrandom::Error> {
        let mut digest_key = [0; 32];
        getrandom::fill(&mut digest_key)?;
        let (wait, pause) = (timing.woodpecker_call, timing.throttle_pause);
        Ok(Self { digest_key, wait, pause, stop, open: Mutex::default() })
    }

    /// The digest of an API key.
    pub fn digest(&self, api_key: &SecretText) -> KeyDigest {
        // An HMAC takes a key of any length, so this cannot fail; the empty digest would only merge lanes.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.digest_key) else { return KeyDigest([0; 32]) };
        mac.update(api_key.expose().as_bytes());
        KeyDigest(mac.finalize().into_bytes().into())
    }

    /// The lane of that address and key, made where there is none.
    pub fn lane(&self, base_url: &BaseUrl, digest: KeyDigest) -> Lane {
        let mut lanes = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.retain(|_, lane| lane.strong_count() > 0);
        let key = (base_url.clone(), digest);
        if let Some(lane) = lanes.get(&key).and_then(Weak::upgrade) {
            return Lane(lane);
        }
        let state = LaneState {
            wait: self.wait,
            pause: self.pause,
            stop: self.stop.clone(),
            turn: Arc::default(),
            paused_until: Mutex::new(None),
        };
        let lane = Arc::new(state);
        lanes.insert(key, Arc::downgrade(&lane));
        Lane(lane)
    }
}

// === impl Lane ===

impl Lane {
    /// Waits for the turn, for at most the length of one call.
    pub async fn enter(&self) -> Result<Turn, LaneClosed> {
        let wait = tokio::time::timeout(self.0.wait, self.0.turn.clone().lock_owned());
        let turn = self.0.stop.run_until_cancelled(wait).await.ok_or(LaneClosed::Ending)?;
        let turn = turn.map_err(|_elapsed| LaneClosed::Busy)?;
        if self.0.stop.is_cancelled() {
            return Err(LaneClosed::Ending);
        }
        let left = self.paused_until().map(|until| until.saturating_duration_since(Instant::now()));
        match left {
            Some(left) if !left.is_zero() => Err(LaneClosed::Paused(left)),
            Some(_) | None => Ok(Turn { _guard: turn }),
        }
    }

    /// Woodpecker dropped a request: lets none in for that long, or for 15 s where it did not say. A longer
    /// pause that runs already goes on.
    pub fn pause(&self, asked: Option<Duration>) {
        let until = Instant::now() + asked.unwrap_or(self.0.pause);
        let mut paused = self.paused();
        *paused = Some(paused.map_or(until, |before| before.max(until)));
    }

    fn paused_until(&self) -> Option<Instant> {
        *self.paused()
    }

    fn paused(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.paused_until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl KeyDigest ===

impl std::fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyDigest(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lanes() -> Lanes {
        Lanes::new(&Timing::STANDARD, CancellationToken::new()).unwrap()
    }

    fn lane(lanes: &Lanes, url: &str, key: &str) -> Lane {
        lanes.lane(&url.parse().unwrap(), lanes.digest(&SecretText::new(key.into())))
    }

    #[tokio::test(start_paused = true)]
    async fn one_key_has_one_lane_and_the_second_request_waits() {
        let lanes = lanes();
        let first = lane(&lanes, "https://a.example", "key");
        let same = lane(&lanes, "https://a.example", "key");
        let other = lane(&lanes, "https://a.example", "other");
        let turn = first.enter().await.unwrap();
        assert!(other.enter().await.is_ok());
        assert_eq!(same.enter().await.map(drop), Err(LaneClosed::Busy));
        drop(turn);
        assert!(same.enter().await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_429_keeps_the_lane_shut_for_a_while() {
        let lanes = lanes();
        let lane = lane(&lanes, "https://a.example", "key");
        lane.pause(Some(Duration::from_secs(30)));
        assert_eq!(lane.enter().await.map(drop), Err(LaneClosed::Paused(Duration::from_secs(30))));
        lane.pause(Some(Duration::from_secs(1)));
        assert_eq!(lane.enter().await.map(drop), Err(LaneClosed::Paused(Duration::from_secs(30))));
        tokio::time::advance(Duration::from_secs(30)).await;
        assert!(lane.enter().await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn who_still_waits_when_the_program_ends_is_turned_away_at_once() {
        let stop = CancellationToken::new();
        let lanes = Lanes::new(&Timing::STANDARD, stop.clone()).unwrap();
        let lane = lane(&lanes, "https://a.example", "key");
        let _turn = lane.enter().await.unwrap();
        let (waiting, ()) = tokio::join!(lane.enter(), async { stop.cancel() });
        assert_eq!(waiting.map(drop), Err(LaneClosed::Ending));
        assert_eq!(lane.enter().await.map(drop), Err(LaneClosed::Ending));
    }
}
