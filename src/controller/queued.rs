//! Objects that wait for a permit of their account's queue. What Microsoft said of their secret is kept here meanwhile, and
//! nothing is written about a short wait.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::observed::Proof;

/// Objects that wait for a permit, by uid.
#[derive(Debug, Default)]
pub struct Queued(Mutex<HashMap<String, Wait>>);

#[derive(Debug)]
struct Wait {
    since: Instant,
    /// What Microsoft said, and of which secret, by its fingerprint.
    verified: Option<(String, Proof, Instant)>,
}

// === impl Queued ===

impl Queued {
    /// An object waits. Returns how long it has waited.
    pub fn wait(&self, uid: &str, verified: Option<(String, Proof)>) -> Duration {
        let now = Instant::now();
        let mut all = self.lock();
        let wait = all.entry(uid.to_owned()).or_insert_with(|| Wait { since: now, verified: None });
        if let Some((fingerprint, proof)) = verified {
            // One that was kept already stays as old as it is.
            let at =
                wait.verified.as_ref().filter(|(_, kept, _)| *kept == proof).map_or(now, |(_, _, at)| *at);
            wait.verified = Some((fingerprint, proof, at));
        }
        now - wait.since
    }

    /// What Microsoft said of the secret of that fingerprint, at most so long ago.
    pub fn verified(&self, uid: &str, fingerprint: &str, max_age: Duration) -> Option<Proof> {
        let all = self.lock();
        let (of, proof, at) = all.get(uid)?.verified.as_ref()?;
        (of == fingerprint && at.elapsed() < max_age).then(|| proof.clone())
    }

    /// It does not wait any more.
    pub fn forget(&self, uid: &str) {
        self.lock().remove(uid);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Wait>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::observed::testing::issued;

    #[tokio::test(start_paused = true)]
    async fn what_microsoft_said_is_kept_for_that_secret_and_for_a_while() {
        let queued = Queued::default();
        let minute = Duration::from_mins(1);
        assert_eq!(queued.wait("u", Some(("k:1".into(), issued()))), Duration::ZERO);
        assert!(queued.verified("u", "k:1", minute).is_some());
        assert!(queued.verified("u", "k:2", minute).is_none(), "another secret");
        tokio::time::advance(minute / 2).await;
        assert_eq!(queued.wait("u", Some(("k:1".into(), issued()))), minute / 2);
        tokio::time::advance(minute / 2).await;
        assert!(queued.verified("u", "k:1", minute).is_none(), "it does not grow younger by waiting");
        queued.forget("u");
        assert_eq!(queued.wait("u", None), Duration::ZERO);
    }
}
