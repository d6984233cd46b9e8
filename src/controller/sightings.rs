//! When this process first saw each create whose outcome it does not know. Only its own clock counts: the
//! request may have left another process a moment before that one ended.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::resources::MicrosoftGraphCredential;

/// First sights of creates under way, by the object's uid.
#[derive(Debug, Default)]
pub struct Sightings {
    first: Mutex<HashMap<String, Sighting>>,
}

#[derive(Debug)]
struct Sighting {
    token: String,
    at: Instant,
}

// === impl Sightings ===

impl Sightings {
    /// How long until the object's create counts as settled, `settle` after its first sight; zero where none
    /// is under way. The first call for a create is its first sight.
    pub fn settles_in(&self, object: &MicrosoftGraphCredential, settle: Duration) -> Duration {
        let uid = object.metadata.uid.clone().unwrap_or_default();
        let pending = object.status.as_ref().and_then(|status| status.pending.as_ref());
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(pending) = pending else {
            first.remove(&uid);
            return Duration::ZERO;
        };
        let now = Instant::now();
        let seen = first.entry(uid).or_insert_with(|| Sighting { token: pending.token.clone(), at: now });
        if seen.token != pending.token {
            *seen = Sighting { token: pending.token.clone(), at: now };
        }
        settle.saturating_sub(seen.at.elapsed())
    }

    /// Begins anew: a request has just been sent once more.
    pub fn forget(&self, uid: &str) {
        self.first.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::controller::observed::testing;

    fn object(token: Option<&str>) -> MicrosoftGraphCredential {
        let mut object = testing::object(&json!({}));
        let mut status = object.status_or_default();
        status.pending = token.map(|token| testing::pending(token, &[]));
        object.status = Some(status);
        object
    }

    #[tokio::test(start_paused = true)]
    async fn a_create_settles_from_its_first_sight() {
        let settle = Duration::from_secs(120);
        let sightings = Sightings::default();
        assert_eq!(sightings.settles_in(&object(None), settle), Duration::ZERO);
        assert_eq!(sightings.settles_in(&object(Some("a")), settle), settle);
        tokio::time::advance(Duration::from_secs(100)).await;
        assert_eq!(sightings.settles_in(&object(Some("a")), settle), Duration::from_secs(20));
        assert_eq!(sightings.settles_in(&object(Some("b")), settle), settle, "another create");
        tokio::time::advance(settle).await;
        assert_eq!(sightings.settles_in(&object(Some("b")), settle), Duration::ZERO);
        sightings.forget("u-1");
        assert_eq!(sightings.settles_in(&object(Some("b")), settle), settle, "it was sent once more");
    }
}
