//! The status of a `MicrosoftGraphCredential` after a reconcile, its events, and when to requeue it.
//!
//! A reconcile that changed nothing results in an equal status, so nothing is written.

mod conditions;
#[cfg(test)]
mod property_tests;

use std::time::Duration;

use crate::api::timestamp::Time;
use jiff::Timestamp;

use crate::api::conditions::{ConditionStatus, ConditionType, Reason, changed, find, merge, whole_second};
use crate::api::{MicrosoftGraphCredentialStatus, PendingSecret, RotationStatus, UnknownFields};
use crate::core::event::EventBody;
use crate::core::model::{Content, Observed, OperatorPolicy, VerificationResult};
use crate::core::plan::{
    Conclusion, ReconcileState, Requeue, reading_due_at, rejections_of_source, rotation_due_times,
    verification_due_at,
};
use crate::core::token_result::TokenResult;
use crate::core::{backoff, clock, expiry, expiry_confirmed, rotation_ready};

/// What to do about a secret that expires.
const REMEDY: &str = "create a new one in Entra and put it into the Secret with its expiry";

/// The outcome of a reconcile.
#[derive(Clone, Debug)]
pub struct Report {
    /// The status to write if it differs from the one in the API server.
    pub status: MicrosoftGraphCredentialStatus,
    /// The events to emit.
    pub events: Vec<EventBody>,
    /// When to requeue the object unless something triggers it first.
    pub requeue_after: Duration,
}

/// The report at the end of a reconcile.
pub fn report(
    observed: &Observed,
    conclusion: &Conclusion,
    policy: &OperatorPolicy,
    now: Timestamp,
) -> Report {
    let mut status = observed.status.clone();
    if conclusion.state == ReconcileState::Waiting && status.observed_generation < 0 {
        // Nothing was observed yet, so the status stays unobserved.
        let requeue_after = requeue_after(&status, observed, conclusion, policy, now);
        return Report { status, events: Vec::new(), requeue_after };
    }
    let generation = observed.object.metadata.generation.unwrap_or_default();
    if conclusion.state != ReconcileState::Waiting {
        status.observed_generation = generation;
        if let Some(requested) = observed.object.reconcile_requested_at() {
            status.last_handled_reconcile_at = Some(requested.to_owned());
        }
    }
    if !matches!(conclusion.state, ReconcileState::Waiting | ReconcileState::Suspended) {
        record_verification(&mut status, observed, conclusion);
        record_source(&mut status, observed, conclusion, policy, now);
        record_reading(&mut status, observed);
        record_rotation(&mut status, observed, policy, now);
        plan_next_attempt(&mut status, observed, conclusion, policy, now);
    } else if observed.results.rotation.failure.is_some() || observed.results.rotation.entries.is_some() {
        // A rejected client secret is replaced while the verification waits.
        record_rotation(&mut status, observed, policy, now);
    }
    if conclusion.state == ReconcileState::UpToDate
        && let Some(registration) = &mut status.registration
    {
        // The update took effect, and no other one is needed.
        registration.update_sent_time = None;
    }
    status.credential_id = status.registration.as_ref().map(|registration| registration.credential_id);
    status.expires_at = status.registration.as_ref().map(|registration| registration.expires_at.clone());
    let expires_at = conditions::expires_at(&status, observed);
    status.expiry_notice_days = expires_at.and_then(|expires_at| expiry::notice_days(expires_at, now));
    let desired = conditions::desired(observed, conclusion, policy, &status, now);
    status.conditions = merge(&observed.status.conditions, desired, status.observed_generation, now);
    if status != observed.written {
        // Only together with another change, because it is not worth a write of its own.
        record_versions(&mut status, observed);
    }
    let events = events(observed, &status);
    let requeue_after = requeue_after(&status, observed, conclusion, policy, now);
    Report { status, events, requeue_after }
}

fn record_verification(
    status: &mut MicrosoftGraphCredentialStatus,
    observed: &Observed,
    conclusion: &Conclusion,
) {
    if observed.usable_source().is_some() {
        status.rejections = rejections_of_source(observed).map(Box::new);
    }
    if let Some(verification) = &observed.results.verification
        && let TokenResult::Issued { roles } = &verification.result
    {
        status.last_verified_time = Some(Time(whole_second(verification.at)));
        if !conclusion.state.is_rejection_unconfirmed() {
            status.observed_roles.clone_from(roles);
        }
    }
}

/// Keeps what was read at Microsoft Entra as long as it is about the secret of the source, and its fingerprint under the
/// newest key.
fn record_reading(status: &mut MicrosoftGraphCredentialStatus, observed: &Observed) {
    if observed.object.spec.entra.is_none() {
        status.entra = None;
    }
    let Some(subject) = observed.usable_source().and_then(|source| source.reading.as_ref()) else { return };
    match &mut status.entra {
        Some(entra) if subject.is_recorded => entra.fingerprint.clone_from(&subject.fingerprint),
        entra => *entra = None,
    }
}

/// Records a failed step of a rotation, and forgets a rotation of which nothing is left.
fn record_rotation(
    status: &mut MicrosoftGraphCredentialStatus,
    observed: &Observed,
    policy: &OperatorPolicy,
    now: Timestamp,
) {
    let is_unknown = status.rotation.as_ref().is_some_and(|it| !it.unknown_secrets.is_empty());
    if !observed.rotates() && !observed.has_secrets_at_entra() && !is_unknown {
        status.rotation = None;
        return;
    }
    if observed.rotates() || status.rotation.is_some() {
        let rotation = status.rotation.take().unwrap_or_default();
        let rotation = rotation_ready::record_result(&rotation, observed, policy, now);
        status.rotation = (rotation != RotationStatus::default()).then(|| Box::new(rotation));
    }
}

/// Records the versions of Secret and record, so that unchanged ones are not read again.
fn record_versions(status: &mut MicrosoftGraphCredentialStatus, observed: &Observed) {
    let is_registered = observed.usable_source().is_some_and(|source| source.is_registered);
    if let Some(version) = &observed.source_version {
        status.observed_secret = Some(version.clone()).filter(|_| is_registered);
    }
    if let Some(version) = &observed.record_version {
        let holds = observed.sealed_record().is_some_and(|sealed| sealed.content == Content::SourceSecret)
            || observed.has_settled_secret_record();
        status.observed_record = holds.then(|| Box::new(version.clone()));
    }
}

/// Records the fingerprint under the newest key, and the pending secret until it is accepted.
fn record_source(
    status: &mut MicrosoftGraphCredentialStatus,
    observed: &Observed,
    conclusion: &Conclusion,
    policy: &OperatorPolicy,
    now: Timestamp,
) {
    let Some(source) = observed.usable_source() else { return };
    if source.is_registered {
        if let Some(registration) = &mut status.registration {
            registration.fingerprint.clone_from(&source.fingerprint);
        }
        status.expiry_source = Some(source.expiry_source);
        status.pending_secret = None;
        return;
    }
    let is_issued =
        |verification: &VerificationResult| matches!(verification.result, TokenResult::Issued { .. });
    let reason = match (&conclusion.state, &observed.results.verification) {
        (state, _) if state.is_rejection_unconfirmed() => None,
        (ReconcileState::NotVerified(problem), _) => Some(problem.reason),
        (ReconcileState::Failed(_), _) if matches!(conclusion.requeue, Requeue::Propagation(_)) => {
            Some(Reason::AwaitingPropagation)
        }
        (_, Some(verification)) if is_issued(verification) => Some(Reason::TokenIssued),
        _ => None,
    };
    let earlier = status.pending_secret.take().filter(|_| source.is_pending).unwrap_or_else(|| {
        Box::new(PendingSecret {
            fingerprint: source.fingerprint.clone(),
            first_seen_time: Time(whole_second(now)),
            attempts: 0,
            reason: Reason::VerificationPending.as_str().to_owned(),
            unknown: UnknownFields::default(),
        })
    });
    status.pending_secret = Some(Box::new(PendingSecret {
        fingerprint: source.fingerprint.clone(),
        first_seen_time: Time(whole_second(clock::began(
            earlier.first_seen_time.0,
            policy.timing.propagation_window,
            now,
        ))),
        attempts: earlier.attempts.saturating_add(i32::from(observed.results.verification.is_some())),
        reason: reason.map_or_else(|| earlier.reason.clone(), |reason| reason.as_str().to_owned()),
        ..*earlier
    }));
}

/// Counts a failure and sets the next attempt, or clears both.
fn plan_next_attempt(
    status: &mut MicrosoftGraphCredentialStatus,
    observed: &Observed,
    conclusion: &Conclusion,
    policy: &OperatorPolicy,
    now: Timestamp,
) {
    // The secret is verified, or this conclusion plans its next verification.
    status.next_verification_time = None;
    let same_spec = observed.object.metadata.generation == Some(observed.status.observed_generation);
    let same_secret = observed.usable_source().is_none() || observed.is_same_secret();
    let was_same = same_spec && same_secret;
    // A plan for another spec or secret, or from before a request to reconcile, no longer counts.
    let keeps_plan = was_same && !observed.object.is_reconcile_requested();
    if conclusion.requeue == Requeue::AsPlanned {
        if !keeps_plan {
            (status.next_attempt_time, status.consecutive_failures) = (None, None);
        }
        return;
    }
    if let Requeue::OnPermit | Requeue::Settle(_) = conclusion.requeue {
        // Nothing was attempted, so the count stays. A delay ends once a permit was requested, and the end of a settle
        // period replaces an earlier plan.
        status.next_attempt_time = None;
        return;
    }
    let before = observed.status.consecutive_failures.filter(|_| was_same).unwrap_or(0);
    let failures = before.saturating_add(1);
    let uid = observed.object.metadata.uid.as_deref().unwrap_or_default();
    let timing = &policy.timing;
    let delay = match conclusion.requeue {
        Requeue::Stalled(delay) if delay < Duration::MAX => Some(delay),
        Requeue::Confirmation(delay) => Some(delay),
        Requeue::Backoff(at_least) => {
            Some(backoff::delay(timing, failures.unsigned_abs(), uid).max(at_least.unwrap_or_default()))
        }
        Requeue::Propagation(at_least) => Some(
            backoff::propagation_delay(timing, failures.unsigned_abs()).max(at_least.unwrap_or_default()),
        ),
        Requeue::WhenDue
        | Requeue::AsPlanned
        | Requeue::OnTrigger
        | Requeue::UntilArrival(_)
        | Requeue::OnPermit
        | Requeue::Settle(_)
        | Requeue::After(_)
        | Requeue::Stalled(_) => None,
    };
    status.consecutive_failures = delay.map(|_| failures);
    // A remote side may ask for any delay.
    let next = delay.map(|delay| Time(now + delay.min(clock::LONGEST_WAIT)));
    if matches!(conclusion.state, ReconcileState::NotVerified(_)) {
        status.next_verification_time = next;
        // A delay of the destination goes on.
        status.next_attempt_time = status.next_attempt_time.take().filter(|_| keeps_plan);
    } else {
        status.next_attempt_time = next;
    }
}

/// The events of the steps; an event for a change of Ready or of the verification result; and one for each expiry
/// notice. A change to Ready=True has no event of its own if the steps have one.
fn events(observed: &Observed, status: &MicrosoftGraphCredentialStatus) -> Vec<EventBody> {
    let mut events = observed.results.events.clone();
    let (before, after) = (
        find(&observed.status.conditions, ConditionType::Ready),
        find(&status.conditions, ConditionType::Ready),
    );
    // Waiting in the account's queue is not worth an event. A successful verification is reported with the
    // registration.
    let is_queued = after.is_some_and(|after| after.is_because(Reason::Queued));
    if let Some(after) = after
        && before.is_none_or(|before| before.status != after.status || before.reason != after.reason)
        && !is_queued
        && (after.status != ConditionStatus::True || events.is_empty())
    {
        events.extend(EventBody::of(
            after,
            after.status == ConditionStatus::False,
            "Reconcile",
            ids(observed),
        ));
    }
    let verification = verification_event(observed, status).filter(|verification| {
        if verification.is_warning {
            events.iter().all(|event| event.text != verification.text)
        } else {
            events.is_empty() && !is_queued
        }
    });
    events.extend(verification);
    let (given, due) = (observed.status.expiry_notice_days, status.expiry_notice_days);
    events.extend(confirmation_event(observed, status));
    if let (Some(due), Some(expires_at)) = (due, conditions::expires_at(status, observed))
        && given.is_none_or(|given| given > due)
    {
        events.push(expiry::notice_event(due, expires_at, REMEDY));
    }
    events
}

/// The verification result of this reconcile, if it changed.
fn verification_event(observed: &Observed, status: &MicrosoftGraphCredentialStatus) -> Option<EventBody> {
    observed.results.verification.as_ref()?;
    let verified = changed(&observed.status.conditions, &status.conditions, ConditionType::Verified)?;
    EventBody::of(verified, verified.status == ConditionStatus::False, "Verify", ids(observed))
}

/// The result of a comparison with Microsoft Entra, if it changed.
fn confirmation_event(observed: &Observed, status: &MicrosoftGraphCredentialStatus) -> Option<EventBody> {
    const TYPE: ConditionType = ConditionType::ExpiryConfirmed;
    let after = find(&status.conditions, TYPE)?;
    let before = find(&observed.status.conditions, TYPE);
    let is_changed =
        before.is_none_or(|before| (before.status, &before.reason) != (after.status, &after.reason));
    let reason = after.as_desired()?.reason;
    let is_warning = expiry_confirmed::event_kind(reason).filter(|_| is_changed)?;
    // That all is well from the beginning is not worth an event.
    let is_first = before.is_none_or(|before| before.is_because(Reason::ReadingPending));
    let is_well = after.status == ConditionStatus::True && is_first;
    if is_well { None } else { EventBody::of(after, is_warning, "ReadExpiry", String::new()) }
}

/// Codes and IDs by which Microsoft's support finds the request: for events, never for conditions.
fn ids(observed: &Observed) -> String {
    let result = observed.results.verification.as_ref().map(|verification| &verification.result);
    let Some(TokenResult::NotIssued { request_ids, .. }) = result else { return String::new() };
    request_ids.summary()
}

fn requeue_after(
    status: &MicrosoftGraphCredentialStatus,
    observed: &Observed,
    conclusion: &Conclusion,
    policy: &OperatorPolicy,
    now: Timestamp,
) -> Duration {
    let planned = [&status.next_attempt_time, &status.next_verification_time];
    let mut times: Vec<Timestamp> = planned.into_iter().flatten().map(|at| at.0).collect();
    if matches!(conclusion.requeue, Requeue::WhenDue | Requeue::AsPlanned)
        && let Some(source) = observed.usable_source()
    {
        times.extend(verification_due_at(&observed.object, status, source, now));
    }
    if observed.may_read_app() && conclusion.state.has_verified_source() {
        times.push(reading_due_at(observed, status.entra.as_deref(), policy, now));
    }
    if observed.results.is_reading_deferred {
        // In case the object that was enqueued in its place did not need the slot.
        times.push(now + policy.timing.graph_call * 2);
    }
    if let Requeue::After(requeue_after)
    | Requeue::Settle(requeue_after)
    | Requeue::UntilArrival(requeue_after) = conclusion.requeue
    {
        times.push(now + requeue_after);
    }
    if let Some(expires_at) = conditions::expires_at(status, observed) {
        times.extend(expiry::boundaries(expires_at, observed.object.spec.expiry_warning()));
    }
    if let Some(rotation) = status.rotation.as_deref().filter(|_| observed.may_change_app()) {
        times.extend(rotation_due_times(observed, rotation, &policy.timing, now));
    }
    times.extend(observed.namespace_deleted_at.map(|deleted_at| deleted_at + policy.timing.namespace_grace));
    // Times in the past, for example of an attempt before a suspension, do not count.
    let next = times.into_iter().filter(|at| *at > now).min();
    let until = next.and_then(|at| Duration::try_from(at.duration_since(now)).ok());
    // There is no event when a namespace starts to terminate.
    let is_deletion_pending = observed.object.is_deleted() && observed.has_external_state();
    let longest = if is_deletion_pending { policy.timing.in_use_retry } else { policy.timing.resync };
    until.map_or(longest, |until| until.min(longest))
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod simulation;
