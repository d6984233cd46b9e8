//! Whether the secret counts as verified, and what a rejection by Microsoft means for this object.

use std::time::Duration;

use jiff::Timestamp;

use crate::api::conditions::{ConditionType, Reason, find};
use crate::api::{MicrosoftGraphCredential, MicrosoftGraphCredentialStatus, Rejections, VerificationPolicy};
use crate::core::diagnosis::{Diagnosis, Rejection};
use crate::core::model::{ConditionFailure, Observed, OperatorPolicy, UsableSource, VerificationResult};
use crate::core::plan::Requeue;
use crate::core::rejections::{Evidence, confirmation_delay, is_contradicted, is_final};
use crate::core::token_result::TokenResult;
use crate::core::{backoff, clock, diagnosis, rejections};

/// Whether the source's secret counts as verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VerificationState {
    Passed,
    /// A token must be requested first.
    Required,
    Failed {
        problem: ConditionFailure,
        requeue: Requeue,
    },
}

/// The state after the verification of this reconcile, or else of an earlier one.
pub fn verification_state(observed: &Observed, policy: &OperatorPolicy, now: Timestamp) -> VerificationState {
    let mode = effective_policy(observed, policy);
    if mode == VerificationPolicy::Disabled {
        return VerificationState::Passed;
    }
    verification_state_by(observed, policy, mode, now)
}

/// The same under any policy: a token must have been issued for this secret.
pub(super) fn verification_state_strict(
    observed: &Observed,
    policy: &OperatorPolicy,
    now: Timestamp,
) -> VerificationState {
    verification_state_by(observed, policy, VerificationPolicy::Required, now)
}

fn verification_state_by(
    observed: &Observed,
    policy: &OperatorPolicy,
    mode: VerificationPolicy,
    now: Timestamp,
) -> VerificationState {
    let Some(source) = observed.usable_source() else { return VerificationState::Required };
    if let Some(verification) = &observed.results.verification {
        return state_after_result(observed, policy, verification, mode, now);
    }
    let is_due = observed.object.is_reconcile_requested()
        || verification_due_at(&observed.object, &observed.status, source, now).is_none_or(|due| due <= now)
        // Roles may have been required or granted since the last verification.
        || !missing_roles(observed, observed.status.observed_roles.as_deref()).is_empty();
    if is_due { VerificationState::Required } else { VerificationState::Passed }
}

/// `Disabled` counts as `Required` unless the operator allows it.
pub fn effective_policy(observed: &Observed, policy: &OperatorPolicy) -> VerificationPolicy {
    match observed.object.spec.verification_policy() {
        VerificationPolicy::Disabled if !policy.allow_unverified => VerificationPolicy::Required,
        mode => mode,
    }
}

/// When the secret must be verified again: an interval after its last verification, less up to a twentieth so that many
/// objects do not become due at once, and when its expiry passes. After a rejection that a later token contradicted, the
/// interval is at most an hour: while a deletion of the secret spreads, Microsoft gives both responses. `None` if this
/// secret has no valid verification.
pub fn verification_due_at(
    object: &MicrosoftGraphCredential,
    status: &MicrosoftGraphCredentialStatus,
    source: &UsableSource,
    now: Timestamp,
) -> Option<Timestamp> {
    let last_verified_time = clock::happened(status.last_verified_time.as_ref()?.0, now)?;
    let stands = if source.is_registered {
        // The last verification may have been of a pending secret.
        status.pending_secret.is_none()
            && find(&status.conditions, ConditionType::Verified)
                .is_some_and(|verified| verified.is_because(Reason::TokenIssued))
    } else {
        let accepted = Reason::TokenIssued.as_str();
        source.is_pending
            && status.pending_secret.as_ref().is_some_and(|candidate| candidate.reason == accepted)
    };
    if !stands {
        return None;
    }
    let of_source =
        status.rejections.as_deref().filter(|it| it.fingerprint.as_ref() == Some(&source.fingerprint));
    let interval = interval(object, of_source);
    let uid = object.metadata.uid.as_deref().unwrap_or_default();
    let due = last_verified_time + backoff::shorten(uid, interval, 20);
    let expiry = source.expires_at.filter(|expiry| last_verified_time < *expiry && *expiry < due);
    Some(expiry.unwrap_or(due))
}

/// The time from one verification to the next.
pub fn interval(object: &MicrosoftGraphCredential, of_secret: Option<&Rejections>) -> Duration {
    let longest = if is_contradicted(of_secret) { rejections::RECHECK } else { Duration::MAX };
    object.spec.verification_interval().min(longest)
}

/// Whether a rejection still counts as propagation through Entra: the secret is new, and was first seen less than the
/// window ago.
pub fn is_within_window(observed: &Observed, policy: &OperatorPolicy, now: Timestamp) -> bool {
    let Some(source) = observed.usable_source().filter(|source| !source.is_registered) else { return false };
    let first_seen = observed.status.pending_secret.as_ref().filter(|_| source.is_pending);
    let window = policy.timing.propagation_window;
    let first_seen =
        first_seen.map_or(now, |candidate| clock::began(candidate.first_seen_time.0, window, now));
    now < first_seen + window
}

fn state_after_result(
    observed: &Observed,
    policy: &OperatorPolicy,
    verification: &VerificationResult,
    mode: VerificationPolicy,
    now: Timestamp,
) -> VerificationState {
    let (diagnosis, retry_after) = match &verification.result {
        TokenResult::Issued { roles } => return state_of_roles(observed, policy, roles.as_deref()),
        TokenResult::NotIssued { diagnosis, retry_after, .. } => (diagnosis, *retry_after),
    };
    let is_best_effort = mode == VerificationPolicy::BestEffort;
    match diagnosis {
        // What blocks the operator need not block Woodpecker.
        Diagnosis::Rejected(Rejection { reason: Reason::ConditionalAccessBlocked | Reason::TenantRestricted, .. })
        | Diagnosis::Unavailable
            if is_best_effort =>
        {
            VerificationState::Passed
        }
        Diagnosis::Rejected(rejection) => rejected(observed, policy, rejection, retry_after, now),
        Diagnosis::Throttled => VerificationState::Failed {
            problem: ConditionFailure {
                reason: Reason::RateLimited,
                message: "no more tokens may be requested at the moment, because Microsoft limits the attempts for each app; the operator retries automatically".into(),
            },
            requeue: Requeue::Backoff(retry_after),
        },
        Diagnosis::Unavailable => VerificationState::Failed {
            problem: ConditionFailure {
                reason: Reason::MicrosoftUnavailable,
                message: "Microsoft's token endpoint could not be reached or returned an error; the operator retries automatically. If it lasts, check the operator's connection to the internet".into(),
            },
            requeue: Requeue::Backoff(retry_after),
        },
    }
}

fn state_of_roles(
    observed: &Observed,
    policy: &OperatorPolicy,
    granted: Option<&[String]>,
) -> VerificationState {
    let missing = missing_roles(observed, granted);
    if missing.is_empty() {
        return VerificationState::Passed;
    }
    if let Some(delay) = confirmation_delay(rejections_of_source(observed).as_ref(), &policy.timing) {
        let message = format!(
            "Microsoft's token lacks the application permission {}, which an earlier token had; the operator requests further tokens before this counts",
            missing.join(", ")
        );
        return unconfirmed(message, delay);
    }
    let message = match granted {
        Some(_) => format!(
            "the app lacks the application permission {}: grant it with admin consent in Entra, or remove it from verification.requiredRoles",
            missing.join(", ")
        ),
        None => "the roles in Microsoft's token cannot be read: remove verification.requiredRoles".into(),
    };
    VerificationState::Failed {
        problem: ConditionFailure { reason: Reason::RequiredRolesMissing, message },
        requeue: Requeue::Stalled(policy.timing.stalled_probe),
    }
}

/// The required roles that are not granted.
fn missing_roles<'a>(observed: &'a Observed, granted: Option<&[String]>) -> Vec<&'a str> {
    let required = observed.object.spec.required_roles().iter().map(String::as_str);
    required.filter(|role| !granted.unwrap_or_default().iter().any(|have| have == role)).collect()
}

fn unconfirmed(message: String, delay: Duration) -> VerificationState {
    VerificationState::Failed {
        problem: ConditionFailure { reason: Reason::RejectionUnconfirmed, message },
        requeue: Requeue::Confirmation(delay),
    }
}

/// The rejections of the source's secret, with the result of this reconcile. `None` if Microsoft has not rejected it, or
/// never issued a token for it.
pub fn rejections_of_source(observed: &Observed) -> Option<Rejections> {
    let source = observed.usable_source()?;
    let fingerprint = Some(source.fingerprint.as_str());
    let before =
        observed.status.rejections.as_deref().filter(|before| before.fingerprint.as_deref() == fingerprint);
    let verification = observed.results.verification.as_ref();
    let evidence = verification.and_then(|it| evidence(observed, source, it, before.is_some()));
    match (evidence, verification) {
        (Some(evidence), Some(verification)) => {
            rejections::after(before, evidence, fingerprint, verification.at)
        }
        _ => before.cloned(),
    }
}

/// What the result says about a secret for which a token was issued before, if anything.
fn evidence(
    observed: &Observed,
    source: &UsableSource,
    verification: &VerificationResult,
    was_rejected: bool,
) -> Option<Evidence> {
    match &verification.result {
        TokenResult::Issued { roles } if missing_roles(observed, roles.as_deref()).is_empty() => {
            Some(Evidence::Accepted)
        }
        // Roles that were required or removed before are missing in every token, so the token itself is accepted.
        TokenResult::Issued { .. } => {
            let had_roles = missing_roles(observed, observed.status.observed_roles.as_deref()).is_empty();
            Some(if had_roles { Evidence::Rejected } else { Evidence::Accepted })
        }
        TokenResult::NotIssued { diagnosis: Diagnosis::Rejected(rejection), .. } => {
            let is_final = is_final(rejection, source.expires_at.unwrap_or(Timestamp::MAX), verification.at);
            let evidence = if is_final { Evidence::RejectedForGood } else { Evidence::Rejected };
            (was_rejected || had_token(observed, source)).then_some(evidence)
        }
        TokenResult::NotIssued { .. } => None,
    }
}

/// Whether Microsoft issued a token for the source's secret before.
fn had_token(observed: &Observed, source: &UsableSource) -> bool {
    let status = &observed.status;
    if source.is_registered {
        return status.last_verified_time.is_some();
    }
    let pending = status.pending_secret.as_ref().filter(|_| source.is_pending);
    pending.is_some_and(|pending| pending.reason == Reason::TokenIssued.as_str())
}

fn rejected(
    observed: &Observed,
    policy: &OperatorPolicy,
    rejection: &Rejection,
    retry_after: Option<Duration>,
    now: Timestamp,
) -> VerificationState {
    let form = observed.usable_source().and_then(|source| source.form);
    if is_within_window(observed, policy, now) {
        let message = format!(
            "Microsoft does not accept the new secret yet ({}), which is normal for some minutes after it or its app was created; the operator retries automatically{}",
            diagnosis::code_text(rejection),
            diagnosis::hint(rejection, form)
        );
        return VerificationState::Failed {
            problem: ConditionFailure { reason: Reason::AwaitingPropagation, message },
            requeue: Requeue::Propagation(retry_after),
        };
    }
    if let Some(delay) = confirmation_delay(rejections_of_source(observed).as_ref(), &policy.timing) {
        let message = format!(
            "Microsoft rejected the client secret ({}), for which it issued a token before; the operator requests further tokens before this counts",
            diagnosis::code_text(rejection)
        );
        let at_most = policy.timing.backoff_longest;
        return unconfirmed(message, delay.max(retry_after.unwrap_or_default().min(at_most)));
    }
    VerificationState::Failed {
        problem: ConditionFailure { reason: rejection.reason, message: diagnosis::advice(rejection, form) },
        requeue: Requeue::Stalled(policy.timing.stalled_probe),
    }
}
