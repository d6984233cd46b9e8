//! What is known of a `MicrosoftGraphCredential` beside the object.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::credential::Facts;
use crate::controller::claims::ClaimKey;
use crate::controller::observed::Proof;
use crate::resources::conditions::{Condition, ConditionStatus};

/// What is known of a credential beside the object.
#[derive(Default)]
pub struct CredentialState {
    /// Of an object that cannot be read: what was last known of it.
    pub salvaged: Option<Box<Facts>>,
    /// Its create of unknown outcome.
    pub create: InFlight,
    /// Its change of unknown outcome.
    pub change: InFlight,
    /// Since when it has not been ready; nothing while it is.
    pub unready_since: Option<Timestamp>,
    /// Its wait for a permit of its account's queue. Nothing is written about a short wait.
    pub waiting: Option<Box<Waiting>>,
    /// Whether its account has changed since its last reconcile.
    pub account_changed: bool,
    pub claims: Vec<Arc<ClaimKey>>,
}

/// The first sight of a request of unknown outcome, where one is under way. Only this process's own clock counts: the request
/// may have left another process a moment before that one ended.
#[derive(Debug, Default)]
pub struct InFlight(Option<Box<Sighting>>);

#[derive(Debug)]
struct Sighting {
    mark: String,
    /// Nothing for one that has settled.
    at: Option<Instant>,
}

/// The wait of an object.
#[derive(Debug)]
pub struct Waiting {
    since: Instant,
    /// What Microsoft said, and of which secret, by its fingerprint.
    verified: Option<(String, Proof, Instant)>,
}

// === impl CredentialState ===

impl CredentialState {
    /// Notes how a reconcile ended. Says how long a credential was not ready that has become ready: from when it was last
    /// ready, or from its creation. After a restart, what is known of one is the last change of its condition.
    pub fn note_readiness(
        &mut self,
        created: Timestamp,
        before: Option<&Condition>,
        is_ready: bool,
        now: Timestamp,
    ) -> Option<Duration> {
        let was_ready = before.is_some_and(|ready| ready.status == ConditionStatus::True);
        let earlier = match before {
            Some(_) if was_ready => now,
            Some(ready) => ready.last_transition_time.0,
            None => created,
        };
        if !is_ready {
            self.unready_since.get_or_insert(earlier);
            return None;
        }
        let began = self.unready_since.take().or_else(|| (!was_ready).then_some(earlier))?;
        Some(Duration::try_from(now.duration_since(began)).unwrap_or_default())
    }
}

// === impl InFlight ===

impl InFlight {
    /// How long until the request counts as settled, `settle` after its first sight; zero where none is under way.
    /// `mark` tells one request from another; the first call for one is its first sight.
    pub fn settles_in(&mut self, mark: Option<&str>, settle: Duration) -> Duration {
        let Some(mark) = mark else {
            self.0 = None;
            return Duration::ZERO;
        };
        let seen = match self.0.take().filter(|seen| seen.mark == mark) {
            Some(seen) => seen,
            None => Sighting::of(mark, Some(Instant::now())).into(),
        };
        let at = self.0.insert(seen).at;
        at.map_or(Duration::ZERO, |at| settle.saturating_sub(at.elapsed()))
    }

    /// A request of that mark is being sent, or has ended just now.
    pub fn begin(&mut self, mark: &str) {
        self.0 = Some(Sighting::of(mark, Some(Instant::now())).into());
    }

    /// A request of that mark was not processed; what was sent before it with the same mark had settled.
    pub fn end(&mut self, mark: &str) {
        self.0 = Some(Sighting::of(mark, None).into());
    }
}

// === impl Sighting ===

impl Sighting {
    fn of(mark: &str, at: Option<Instant>) -> Self {
        Self { mark: mark.to_owned(), at }
    }
}

// === impl Waiting ===

impl Default for Waiting {
    fn default() -> Self {
        Self { since: Instant::now(), verified: None }
    }
}

impl Waiting {
    /// It goes on. Returns how long it has lasted.
    pub fn go_on(&mut self, verified: Option<(String, Proof)>) -> Duration {
        if let Some((fingerprint, proof)) = verified {
            // One that was kept already stays as old as it is.
            let kept = self.verified.take().filter(|(_, kept, _)| *kept == proof);
            self.verified = Some((fingerprint, proof, kept.map_or_else(Instant::now, |(_, _, at)| at)));
        }
        self.since.elapsed()
    }

    /// What Microsoft said of the secret of that fingerprint, at most so long ago.
    pub fn verified(&self, fingerprint: &str, max_age: Duration) -> Option<Proof> {
        let (of, proof, at) = self.verified.as_ref()?;
        (of == fingerprint && at.elapsed() < max_age).then(|| proof.clone())
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use crate::controller::observed::testing::issued;
    use crate::resources::conditions::{ConditionType, Reason};

    #[tokio::test(start_paused = true)]
    async fn a_request_settles_from_its_first_sight() {
        let settle = Duration::from_secs(120);
        let (mut create, mut change) = (InFlight::default(), InFlight::default());
        assert_eq!(create.settles_in(None, settle), Duration::ZERO);
        assert_eq!(create.settles_in(Some("a"), settle), settle);
        tokio::time::advance(Duration::from_secs(100)).await;
        assert_eq!(create.settles_in(Some("a"), settle), Duration::from_secs(20));
        assert_eq!(change.settles_in(Some("a"), settle), settle, "that is another");
        assert_eq!(create.settles_in(Some("b"), settle), settle, "another create");
        tokio::time::advance(settle).await;
        assert_eq!(create.settles_in(Some("b"), settle), Duration::ZERO);
        create.begin("b");
        assert_eq!(create.settles_in(Some("b"), settle), settle, "it was sent once more");
    }

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

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn ready(status: ConditionStatus, since: i64) -> Condition {
        Condition {
            type_: ConditionType::Ready.as_str().into(),
            status,
            reason: Reason::Ready.as_str().into(),
            message: String::new(),
            observed_generation: Some(1),
            last_transition_time: Time(at(since)),
            unknown: crate::resources::UnknownFields::default(),
        }
    }

    #[test]
    fn a_new_credential_counts_from_its_creation() {
        let mut known = CredentialState::default();
        assert_eq!(known.note_readiness(at(10), None, false, at(12)), None);
        let unknown = ready(ConditionStatus::Unknown, 12);
        assert_eq!(known.note_readiness(at(10), Some(&unknown), false, at(20)), None);
        let refused = ready(ConditionStatus::False, 20);
        assert_eq!(known.note_readiness(at(10), Some(&refused), true, at(40)), Some(Duration::from_secs(30)));
        let done = ready(ConditionStatus::True, 40);
        assert_eq!(known.note_readiness(at(10), Some(&done), true, at(50)), None, "it is told once");
    }

    #[test]
    fn one_that_ceased_to_be_ready_counts_from_then_on() {
        let mut known = CredentialState::default();
        let done = ready(ConditionStatus::True, 40);
        assert_eq!(known.note_readiness(at(10), Some(&done), false, at(100)), None);
        let refused = ready(ConditionStatus::False, 100);
        assert_eq!(known.note_readiness(at(10), Some(&refused), true, at(107)), Some(Duration::from_secs(7)));
    }

    #[test]
    fn after_a_restart_the_last_change_of_the_condition_counts() {
        let refused = ready(ConditionStatus::False, 100);
        assert_eq!(
            CredentialState::default().note_readiness(at(10), Some(&refused), true, at(130)),
            Some(Duration::from_secs(30))
        );
    }
}
