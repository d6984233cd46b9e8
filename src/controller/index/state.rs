//! State of a `MicrosoftGraphCredential` that is kept beside the object.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::api::conditions::{Condition, ConditionStatus};
use crate::controller::index::claim_key::ClaimKey;
use crate::controller::index::credential::Facts;
use crate::core::model::VerificationResult;

#[derive(Default)]
pub struct CredentialState {
    /// The last known facts, if the object can no longer be deserialized.
    pub last_readable: Option<Box<Facts>>,
    /// Its create of unknown outcome.
    pub create: InFlight,
    /// Its update of unknown outcome.
    pub change: InFlight,
    /// Since when it has not been ready; `None` while it is.
    pub unready_since: Option<Timestamp>,
    /// Its wait for a permit of its account's queue. A short wait is not written to the status.
    pub waiting: Option<Box<Waiting>>,
    pub account_changed: bool,
    /// Whether its app, which could not be read, must be read again, because its identity changed.
    pub is_reading_requested: bool,
    pub claims: Vec<Arc<ClaimKey>>,
}

/// When this process first saw a request of unknown outcome. Only this process's clock counts, because another process
/// may have sent the request just before it ended.
#[derive(Debug, Default)]
pub struct InFlight(Option<Box<InFlightRequest>>);

#[derive(Debug)]
struct InFlightRequest {
    request_id: String,
    /// `None` if the request has settled.
    at: Option<Instant>,
}

#[derive(Debug)]
pub struct Waiting {
    since: Instant,
    /// The result of a verification, with the fingerprint of the verified secret.
    verified: Option<(String, VerificationResult, Instant)>,
}

// === impl CredentialState ===

impl CredentialState {
    /// Records how a reconcile ended. If the credential has become ready, returns how long it was not: since it was
    /// last ready, or since its creation. After a restart, the last transition of its condition counts.
    pub fn record_readiness(
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
    /// How long until the request counts as settled, `settle` after it was first seen; zero if none is in flight.
    /// `request_id` identifies the request; the first call with a new one is when it was first seen.
    pub fn settles_in(&mut self, request_id: Option<&str>, settle: Duration) -> Duration {
        let Some(request_id) = request_id else {
            self.0 = None;
            return Duration::ZERO;
        };
        let seen = match self.0.take().filter(|seen| seen.request_id == request_id) {
            Some(seen) => seen,
            None => InFlightRequest::of(request_id, Some(Instant::now())).into(),
        };
        let at = self.0.insert(seen).at;
        at.map_or(Duration::ZERO, |at| settle.saturating_sub(at.elapsed()))
    }

    /// The request is being sent, or has just ended.
    pub fn begin(&mut self, request_id: &str) {
        self.0 = Some(InFlightRequest::of(request_id, Some(Instant::now())).into());
    }

    /// The request was not processed, and earlier requests with the same id had settled.
    pub fn end(&mut self, request_id: &str) {
        self.0 = Some(InFlightRequest::of(request_id, None).into());
    }
}

// === impl InFlightRequest ===

impl InFlightRequest {
    fn of(request_id: &str, at: Option<Instant>) -> Self {
        Self { request_id: request_id.to_owned(), at }
    }
}

// === impl Waiting ===

impl Default for Waiting {
    fn default() -> Self {
        Self { since: Instant::now(), verified: None }
    }
}

impl Waiting {
    /// Records that it still waits. Returns for how long.
    pub fn keep_waiting(&mut self, verified: Option<(String, VerificationResult)>) -> Duration {
        if let Some((fingerprint, verification)) = verified {
            // A result that was already kept keeps its age.
            let kept = self.verified.take().filter(|(_, kept, _)| *kept == verification);
            self.verified =
                Some((fingerprint, verification, kept.map_or_else(Instant::now, |(_, _, at)| at)));
        }
        self.since.elapsed()
    }

    /// The verification result of the secret with that fingerprint, if it is recent enough.
    pub fn verified(&self, fingerprint: &str, max_age: Duration) -> Option<VerificationResult> {
        let (of, verification, at) = self.verified.as_ref()?;
        (of == fingerprint && at.elapsed() < max_age).then(|| verification.clone())
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use crate::api::conditions::{ConditionType, Reason};
    use crate::core::model::fixtures::issued;

    #[tokio::test(start_paused = true)]
    async fn a_request_settles_from_when_it_was_first_seen() {
        let settle = Duration::from_secs(120);
        let (mut create, mut change) = (InFlight::default(), InFlight::default());
        assert_eq!(create.settles_in(None, settle), Duration::ZERO);
        assert_eq!(create.settles_in(Some("a"), settle), settle);
        tokio::time::advance(Duration::from_secs(100)).await;
        assert_eq!(create.settles_in(Some("a"), settle), Duration::from_secs(20));
        assert_eq!(change.settles_in(Some("a"), settle), settle, "that is another request");
        assert_eq!(create.settles_in(Some("b"), settle), settle, "another create");
        tokio::time::advance(settle).await;
        assert_eq!(create.settles_in(Some("b"), settle), Duration::ZERO);
        create.begin("b");
        assert_eq!(create.settles_in(Some("b"), settle), settle, "it was sent again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_verification_result_is_kept_for_its_secret_and_for_a_while() {
        let mut waiting = Waiting::default();
        let minute = Duration::from_mins(1);
        assert_eq!(waiting.keep_waiting(Some(("k:1".into(), issued()))), Duration::ZERO);
        assert!(waiting.verified("k:1", minute).is_some());
        assert!(waiting.verified("k:2", minute).is_none(), "another secret");
        tokio::time::advance(minute / 2).await;
        assert_eq!(waiting.keep_waiting(Some(("k:1".into(), issued()))), minute / 2);
        tokio::time::advance(minute / 2).await;
        assert!(waiting.verified("k:1", minute).is_none(), "waiting does not renew it");
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
            unknown: crate::api::UnknownFields::default(),
        }
    }

    #[test]
    fn a_new_credential_counts_from_its_creation() {
        let mut known = CredentialState::default();
        assert_eq!(known.record_readiness(at(10), None, false, at(12)), None);
        let unknown = ready(ConditionStatus::Unknown, 12);
        assert_eq!(known.record_readiness(at(10), Some(&unknown), false, at(20)), None);
        let rejected = ready(ConditionStatus::False, 20);
        assert_eq!(
            known.record_readiness(at(10), Some(&rejected), true, at(40)),
            Some(Duration::from_secs(30))
        );
        let done = ready(ConditionStatus::True, 40);
        assert_eq!(known.record_readiness(at(10), Some(&done), true, at(50)), None, "it is reported once");
    }

    #[test]
    fn a_credential_that_became_unready_counts_from_then_on() {
        let mut known = CredentialState::default();
        let done = ready(ConditionStatus::True, 40);
        assert_eq!(known.record_readiness(at(10), Some(&done), false, at(100)), None);
        let rejected = ready(ConditionStatus::False, 100);
        assert_eq!(
            known.record_readiness(at(10), Some(&rejected), true, at(107)),
            Some(Duration::from_secs(7))
        );
    }

    #[test]
    fn after_a_restart_the_last_transition_of_the_condition_counts() {
        let rejected = ready(ConditionStatus::False, 100);
        assert_eq!(
            CredentialState::default().record_readiness(at(10), Some(&rejected), true, at(130)),
            Some(Duration::from_secs(30))
        );
    }
}
