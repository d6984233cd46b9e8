//! An object's wait for a permit of its account's queue. What Microsoft said of its secret is kept here meanwhile, and nothing
//! is written about a short wait.

use std::time::Duration;

use tokio::time::Instant;

use crate::controller::observed::Proof;

/// The wait of an object.
#[derive(Debug)]
pub struct Waiting {
    since: Instant,
    /// What Microsoft said, and of which secret, by its fingerprint.
    verified: Option<(String, Proof, Instant)>,
}

// === impl Waiting ===

impl Default for Waiting {
    fn default() -> Self {
        Self { since: Instant::now(), verified: None }
    }
}

impl Waiting {
    /// It goes on. Returns how long it has lasted.
    pub(super) fn go_on(&mut self, verified: Option<(String, Proof)>) -> Duration {
        if let Some((fingerprint, proof)) = verified {
            // One that was kept already stays as old as it is.
            let kept = self.verified.take().filter(|(_, kept, _)| *kept == proof);
            self.verified = Some((fingerprint, proof, kept.map_or_else(Instant::now, |(_, _, at)| at)));
        }
        self.since.elapsed()
    }

    /// What Microsoft said of the secret of that fingerprint, at most so long ago.
    pub(super) fn verified(&self, fingerprint: &str, max_age: Duration) -> Option<Proof> {
        let (of, proof, at) = self.verified.as_ref()?;
        (of == fingerprint && at.elapsed() < max_age).then(|| proof.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::observed::testing::issued;

    #[tokio::test(start_paused = true)]
    async fn what_microsoft_said_is_kept_for_that_secret_and_for_a_while() {
        let mut waiting = Waiting::default();
        let minute = Duration::from_mins(1);
        assert_eq!(waiting.go_on(Some(("k:1".into(), issued()))), Duration::ZERO);
        assert!(waiting.verified("k:1", minute).is_some());
        assert!(waiting.verified("k:2", minute).is_none(), "another secret");
        tokio::time::advance(minute / 2).await;
        assert_eq!(waiting.go_on(Some(("k:1".into(), issued()))), minute / 2);
        tokio::time::advance(minute / 2).await;
        assert!(waiting.verified("k:1", minute).is_none(), "it does not grow younger by waiting");
    }
}
