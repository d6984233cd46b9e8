//! When this process first saw each request whose outcome it does not know. Only its own clock counts: the
//! request may have left another process a moment before that one ended.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// What a request was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// To make a credential.
    Create,
    /// To change one.
    Change,
}

/// First sights of requests of unknown outcome, by the object's uid.
#[derive(Debug, Default)]
pub struct Sightings {
    first: Mutex<HashMap<(String, Kind), Sighting>>,
}

#[derive(Debug)]
struct Sighting {
    mark: String,
    /// Nothing for one that has settled.
    at: Option<Instant>,
}

// === impl Sightings ===

impl Sightings {
    /// How long until the object's request counts as settled, `settle` after its first sight; zero where none
    /// is under way. `mark` tells one request from another; the first call for one is its first sight.
    pub fn settles_in(&self, uid: &str, kind: Kind, mark: Option<&str>, settle: Duration) -> Duration {
        let key = (uid.to_owned(), kind);
        let mut first = self.lock();
        let Some(mark) = mark else {
            first.remove(&key);
            return Duration::ZERO;
        };
        let now = Some(Instant::now());
        let seen = first.entry(key).or_insert_with(|| Sighting { mark: mark.to_owned(), at: now });
        if seen.mark != mark {
            *seen = Sighting { mark: mark.to_owned(), at: now };
        }
        seen.at.map_or(Duration::ZERO, |at| settle.saturating_sub(at.elapsed()))
    }

    /// A request of that mark is being sent, or has ended just now.
    pub fn begin(&self, uid: &str, kind: Kind, mark: &str) {
        let sighting = Sighting { mark: mark.to_owned(), at: Some(Instant::now()) };
        self.lock().insert((uid.to_owned(), kind), sighting);
    }

    /// A request of that mark was not processed; what was sent before it with the same mark had settled.
    pub fn end(&self, uid: &str, kind: Kind, mark: &str) {
        self.lock().insert((uid.to_owned(), kind), Sighting { mark: mark.to_owned(), at: None });
    }

    /// Forgets an object that is gone.
    pub fn forget(&self, uid: &str) {
        self.lock().retain(|(of, _), _| of != uid);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(String, Kind), Sighting>> {
        self.first.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_request_settles_from_its_first_sight() {
        let settle = Duration::from_secs(120);
        let sightings = Sightings::default();
        let create = |mark| sightings.settles_in("u-1", Kind::Create, mark, settle);
        assert_eq!(create(None), Duration::ZERO);
        assert_eq!(create(Some("a")), settle);
        tokio::time::advance(Duration::from_secs(100)).await;
        assert_eq!(create(Some("a")), Duration::from_secs(20));
        assert_eq!(sightings.settles_in("u-1", Kind::Change, Some("a"), settle), settle, "that is another");
        assert_eq!(create(Some("b")), settle, "another create");
        tokio::time::advance(settle).await;
        assert_eq!(create(Some("b")), Duration::ZERO);
        sightings.begin("u-1", Kind::Create, "b");
        assert_eq!(create(Some("b")), settle, "it was sent once more");
    }
}
