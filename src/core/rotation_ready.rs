//! The conditions `RotationReady` and `UnknownOwnSecrets`, and what a failed step of a rotation does to the status.

use jiff::Timestamp;

use crate::api::conditions::{Condition, ConditionType, Desired, Reason, find};
use crate::api::timestamp::{Time, rfc3339};
use crate::api::{EarlierSecret, REMOVE_UNKNOWN_SECRETS, RotationStatus};
use crate::core::app_reading::AppAccess;
use crate::core::model::{Observed, OperatorPolicy};
use crate::core::plan::rotation::{overdue_at, renewal_at};
use crate::core::rotation::failure::RotationFailure;
use crate::core::rotation::has_room;
use crate::core::{backoff, clock, expiry_confirmed};

const TYPE: ConditionType = ConditionType::RotationReady;

/// The types of these conditions.
pub const TYPES: [ConditionType; 2] = [TYPE, ConditionType::UnknownOwnSecrets];

/// The conditions about client secrets that the operator created.
pub fn conditions(observed: &Observed, status: Option<&RotationStatus>, now: Timestamp) -> Vec<Desired> {
    let default = RotationStatus::default();
    let status = status.unwrap_or(&default);
    let ready = (observed.rotates() || status.has_secrets()).then(|| ready(observed, status, now));
    ready.into_iter().chain(unknown_secrets(status)).collect()
}

fn ready(observed: &Observed, status: &RotationStatus, now: Timestamp) -> Desired {
    let overdue = overdue_since(observed, status, now);
    let kept = find(&observed.status.conditions, TYPE).and_then(Condition::as_desired);
    let is_waiting = status.next_attempt_time.is_some() && observed.results.rotation.failure.is_none();
    if let Some(kept) =
        kept.filter(|it| is_waiting && overdue.is_some() && it.reason == Reason::RenewalOverdue)
    {
        // It says what the delay is for.
        return kept;
    }
    let problem = problem(observed, status, overdue.is_some());
    match (overdue, problem) {
        (Some(since), Some(problem)) => Desired::unmet(
            TYPE,
            Reason::RenewalOverdue,
            format!("a new client secret is overdue since {}: {}", rfc3339(since), problem.message),
        ),
        (Some(since), None) => Desired::unmet(
            TYPE,
            Reason::RenewalOverdue,
            format!(
                "a new client secret is overdue since {}: see the other conditions for what it waits for",
                rfc3339(since)
            ),
        ),
        (None, Some(problem)) => problem,
        (None, None) => scheduled(observed, status),
    }
}

/// Why no client secret is created or removed now.
fn problem(observed: &Observed, status: &RotationStatus, is_overdue: bool) -> Option<Desired> {
    match expiry_confirmed::access_problem(observed) {
        Some((reason, text)) => return Some(Desired::unmet(TYPE, reason, text)),
        None if observed.app_access == Some(AppAccess::NotKnown) => {
            let kept = find(&observed.status.conditions, TYPE).and_then(Condition::as_desired);
            return kept.or_else(|| Some(pending("the operator has not read its identities yet".to_owned())));
        }
        None => {}
    }
    let is_left = |it: &EarlierSecret| !it.kept && it.removal_time.is_none();
    if observed.app_access.is_none() && status.earlier.iter().any(is_left) {
        let text = format!("without spec.entra nothing is removed at Entra{}", earlier(status));
        return Some(Desired::unmet(TYPE, Reason::GrantMissing, text));
    }
    if let Some(other) = observed.own_secrets.as_ref().and_then(|own| own.other.as_ref()) {
        let text = format!("MicrosoftGraphCredential {other} already rotates the client secrets of this app");
        return Some(Desired::unmet(TYPE, Reason::AlreadyManaged, text));
    }
    if let Some(failure) = &observed.results.rotation.failure {
        return Some(of_failure(failure));
    }
    // A delay after an earlier failure is running.
    let kept = find(&observed.status.conditions, TYPE).and_then(Condition::as_desired);
    let is_failing = status.next_attempt_time.is_some();
    if let Some(kept) = kept
        .filter(|it| is_failing && it.reason.as_str() == status.failure_reason.as_deref().unwrap_or_default())
    {
        return Some(kept);
    }
    if let Some(problem) = no_room(observed, status) {
        return Some(problem);
    }
    if let Some(attempt) = &status.attempt {
        let text = format!(
            "Microsoft Graph gave no usable response to the creation of client secret {}; the operator looks for it and removes it before it creates another one",
            attempt.display_name
        );
        return Some(Desired::unknown(TYPE, Reason::OutcomeUnknown, text));
    }
    if is_overdue || !observed.rotates() {
        return None;
    }
    match (&status.pending, &status.current) {
        (Some(pending_secret), _) => Some(pending(format!(
            "client secret {} is to replace the current one, and waits for its verification and registration",
            pending_secret.key_id
        ))),
        (None, None) => Some(pending("the operator has not created a client secret yet".to_owned())),
        (None, Some(_)) => None,
    }
}

/// Why the status or the app has no room for another client secret.
fn no_room(observed: &Observed, status: &RotationStatus) -> Option<Desired> {
    if !has_room(status) {
        let (earlier, attempts) = (status.earlier.len(), status.earlier_attempts.len());
        let text = format!(
            "{earlier} earlier client secrets are in their overlap or could not be removed, and the outcome of {attempts} creations is not known; no new one is created before that number falls: see status.rotation"
        );
        return Some(Desired::unmet(TYPE, Reason::TooManySecrets, text));
    }
    if let Some(others) = status.blocking_secrets.filter(|_| observed.rotates()) {
        let text = format!(
            "the app has room for two client secrets, because personal Microsoft accounts may use it, and {others} of others leave no room for the next one: remove them in the Entra admin center once nothing uses them"
        );
        return Some(Desired::unmet(TYPE, Reason::TooManySecrets, text));
    }
    None
}

fn pending(text: String) -> Desired {
    Desired::unknown(TYPE, Reason::CreationPending, text)
}

fn of_failure(failure: &RotationFailure) -> Desired {
    if failure.needs_person {
        Desired::unmet(TYPE, failure.reason, failure.message.clone())
    } else {
        Desired::unknown(TYPE, failure.reason, failure.message.clone())
    }
}

/// Since when a new client secret is overdue.
fn overdue_since(observed: &Observed, status: &RotationStatus, now: Timestamp) -> Option<Timestamp> {
    let current = status.current.as_ref().filter(|_| observed.rotates())?;
    let since = overdue_at(&observed.object, current);
    (since <= now).then_some(since)
}

fn scheduled(observed: &Observed, status: &RotationStatus) -> Desired {
    let earlier = earlier(status);
    let Some(current) = status.current.as_ref().filter(|_| observed.rotates()) else {
        let text = format!("the object uses the client secret of its Secret{earlier}");
        return Desired::met(TYPE, Reason::RotationScheduled, text);
    };
    let text = format!(
        "client secret {} is in use, and is replaced after {}{earlier}",
        current.key_id,
        rfc3339(renewal_at(&observed.object, current))
    );
    Desired::met(TYPE, Reason::RotationScheduled, text)
}

/// The earlier client secrets as text.
fn earlier(status: &RotationStatus) -> String {
    let each = |it: &EarlierSecret| match &it.remove_after_time {
        _ if it.kept => format!("{} never, because a registration that was left has it", it.key_id),
        Some(at) => format!("{} after {}", it.key_id, rfc3339(at.0)),
        None => it.key_id.clone(),
    };
    let left: Vec<String> = status.earlier.iter().filter(|it| it.removal_time.is_none()).map(each).collect();
    if left.is_empty() {
        String::new()
    } else {
        format!("; still to be removed at Entra: {}", left.join(", "))
    }
}

fn unknown_secrets(status: &RotationStatus) -> Option<Desired> {
    let ids: Vec<&str> = status.unknown_secrets.iter().map(|it| it.key_id.as_str()).collect();
    if ids.is_empty() {
        return None;
    }
    let ids = ids.join(",");
    let text = format!(
        "the app has client secrets that were created for this object, but that nothing records: {ids}. If nothing uses them, set the annotation {REMOVE_UNKNOWN_SECRETS} to {ids}"
    );
    Some(Desired::met(ConditionType::UnknownOwnSecrets, Reason::SecretsNotRecorded, text))
}

/// The status after the steps of a rotation: a failure is retried later, and later still if it needs a person.
pub fn record_result(
    status: &RotationStatus,
    observed: &Observed,
    policy: &OperatorPolicy,
    now: Timestamp,
) -> RotationStatus {
    let mut next = status.clone();
    let Some(failure) = &observed.results.rotation.failure else {
        // A reading or a write succeeded, or the delay goes on.
        if observed.results.rotation.entries.is_some() {
            (next.failure_reason, next.next_attempt_time, next.consecutive_failures) = (None, None, None);
        }
        return next;
    };
    let failures = status.consecutive_failures.unwrap_or(0).saturating_add(1);
    let uid = observed.object.metadata.uid.as_deref().unwrap_or_default();
    let timing = &policy.timing;
    let delay =
        backoff::delay(timing, failures.unsigned_abs(), uid).max(failure.retry_after.unwrap_or_default());
    let delay = if failure.needs_person { delay.max(timing.backoff_longest) } else { delay };
    next.failure_reason = Some(failure.reason.as_str().to_owned());
    next.next_attempt_time = Some(Time(now + delay.min(clock::LONGEST_WAIT)));
    next.consecutive_failures = Some(failures);
    next
}
