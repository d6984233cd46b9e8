//! The status of a `SealedGraphCredential`, and when it is due.

#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::api::timestamp::Time;
use jiff::Timestamp;

use crate::api::conditions::{
    Condition, ConditionStatus, ConditionType, Desired, Reason, changed, find, merge, whole_second,
};
use crate::api::{Rejections, SealedGraphCredential, SealedGraphCredentialStatus, reasons};
use crate::core::diagnosis::{self, Rejection};
use crate::core::event::EventBody;
use crate::core::rejections::{
    self, Evidence, confirmation_delay, confirmation_due_at, is_contradicted, is_final,
};
use crate::core::status::undecryptable::{REMEDY, Undecryptable};
use crate::core::timing::Timing;
use crate::core::{clock, expiry};

/// Verification interval, the same as the default of `spec.verification.interval`.
const INTERVAL: Duration = Duration::from_hours(24);

/// How long before the expiry the warning begins, the same as the default of `spec.expiryWarning`.
const WARNING: Duration = Duration::from_hours(720);

/// The result of verifying a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordVerification {
    Issued,
    Rejected(Rejection),
    NotDecrypted(Undecryptable),
}

/// Whether the status is about the secret in the record.
pub fn status_is_current(record: &SealedGraphCredential) -> bool {
    record.status.as_ref().is_some_and(|status| record.holds_secret_of(status.observed_generation))
}

/// The rejections of the secret in the record.
fn rejections(record: &SealedGraphCredential) -> Option<&Rejections> {
    record.status.as_ref().filter(|_| status_is_current(record))?.rejections.as_ref()
}

/// How long to wait after a rejection.
pub fn delay_after_rejection(status: &SealedGraphCredentialStatus, timing: &Timing) -> Duration {
    confirmation_delay(status.rejections.as_ref(), timing).unwrap_or(timing.stalled_probe)
}

/// When the record is to be verified: an interval after the last verification of its secret, and at once if there is
/// none. Rejections that are not confirmed are confirmed on their own schedule, also after a restart.
pub fn verification_due_at(record: &SealedGraphCredential, timing: &Timing, now: Timestamp) -> Timestamp {
    if let Some(due) = confirmation_due_at(rejections(record), timing, now) {
        return due;
    }
    let verified_at = record.status.as_ref().filter(|_| status_is_current(record)).and_then(|status| {
        let verified = find(&status.conditions, ConditionType::Verified)?;
        let is_verified = verified.status == ConditionStatus::True;
        clock::happened(status.last_verified_time.as_ref()?.0, now).filter(|_| is_verified)
    });
    let interval = if is_contradicted(rejections(record)) { rejections::RECHECK } else { INTERVAL };
    verified_at.map_or(Timestamp::MIN, |at| at.saturating_add(interval).unwrap_or(Timestamp::MAX))
}

/// Whether its last verification is from a time that is ahead.
pub fn has_status_from_ahead(record: &SealedGraphCredential, now: Timestamp) -> bool {
    let verified_at = record.status.as_ref().and_then(|status| status.last_verified_time.as_ref());
    verified_at.is_some_and(|at| clock::happened(at.0, now).is_none())
}

/// When the status changes without a verification. The status of a new secret changes only after an attempt to verify
/// it.
pub fn status_due_at(record: &SealedGraphCredential, now: Timestamp) -> Timestamp {
    if !status_is_current(record) {
        return Timestamp::MAX;
    }
    if expiry_notice_due(record, now).is_some() || record.status != Some(next_status(record, None, now)) {
        return now;
    }
    let changes = expiry::boundaries(record.spec.secret_expires_at.0, WARNING);
    changes.filter(|at| *at > now).min().unwrap_or(Timestamp::MAX)
}

/// The due expiry notice that was not given yet, in days before the expiry.
pub fn expiry_notice_due(record: &SealedGraphCredential, now: Timestamp) -> Option<i32> {
    let due = expiry::notice_days(record.spec.secret_expires_at.0, now)?;
    let given = record.status.as_ref().and_then(|status| status.expiry_notice_days);
    given.is_none_or(|given| given > due).then_some(due)
}

/// The events of a record with its next status: a changed verification result, with the IDs by which Microsoft finds
/// it, and the due expiry notice.
pub fn events(
    record: &SealedGraphCredential,
    next: &SealedGraphCredentialStatus,
    request_ids: Option<String>,
    notice: Option<i32>,
) -> Vec<EventBody> {
    let before = record.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let verification = request_ids.and_then(|ids| {
        let verified = changed(before, &next.conditions, ConditionType::Verified)?;
        let is_warning =
            verified.status != ConditionStatus::True && !verified.is_because(Reason::RejectionUnconfirmed);
        EventBody::of(verified, is_warning, "Verify", ids)
    });
    let notice = notice.map(|days| expiry::notice_event(days, record.spec.secret_expires_at.0, REMEDY));
    verification.into_iter().chain(notice).collect()
}

/// The next status. Without a verification the condition Verified stays, and so does the last expiry notice until the
/// expiry changes.
pub fn next_status(
    record: &SealedGraphCredential,
    verification: Option<&RecordVerification>,
    now: Timestamp,
) -> SealedGraphCredentialStatus {
    let before = record.status.clone().unwrap_or_default();
    let generation = record.metadata.generation.unwrap_or_default();
    let rejections = next_rejections(record, verification, now);
    let is_unconfirmed = matches!(verification, Some(RecordVerification::Rejected(_)))
        && rejections.as_ref().is_some_and(|rejections| rejections.count < rejections::CONFIRMED);
    let verified = match verification {
        Some(RecordVerification::Rejected(rejection)) if is_unconfirmed => unconfirmed(rejection),
        Some(verification) => verified(verification),
        None => find(&before.conditions, ConditionType::Verified)
            .and_then(Condition::as_desired)
            .unwrap_or_else(unverified),
    };
    let expiring = expiry::expiring_condition(record.spec.secret_expires_at.0, WARNING, REMEDY, now);
    // A rejection that is not confirmed does not end readiness.
    let was_ready = find(&before.conditions, ConditionType::Ready)
        .is_some_and(|ready| ready.status == ConditionStatus::True);
    let keeps_ready = was_ready && verified.reason == Reason::RejectionUnconfirmed;
    let desired = vec![ready(&verified, &expiring, keeps_ready), verified, expiring];
    let last_verified_time = match verification {
        Some(RecordVerification::Issued) => Some(Time(whole_second(now))),
        _ => before.last_verified_time,
    };
    let due = expiry::notice_days(record.spec.secret_expires_at.0, now);
    let expiry_notice_days = before.expiry_notice_days.zip(due).map(|(given, due)| given.max(due));
    SealedGraphCredentialStatus {
        observed_generation: generation,
        last_verified_time,
        rejections,
        expiry_notice_days,
        conditions: merge(&before.conditions, desired, generation, now),
        unknown: before.unknown,
    }
}

/// The rejections of the record's secret after a verification. Another secret begins without any.
fn next_rejections(
    record: &SealedGraphCredential,
    verification: Option<&RecordVerification>,
    now: Timestamp,
) -> Option<Rejections> {
    let status = record.status.as_ref().filter(|_| status_is_current(record))?;
    let before = status.rejections.as_ref();
    let evidence = match verification {
        Some(RecordVerification::Issued) => Evidence::Accepted,
        Some(RecordVerification::Rejected(rejection)) => {
            let verified = find(&status.conditions, ConditionType::Verified);
            let had_token = verified.is_some_and(|verified| verified.status == ConditionStatus::True);
            if before.is_none() && !had_token {
                return None;
            }
            let is_final = is_final(rejection, record.spec.secret_expires_at.0, now);
            if is_final { Evidence::RejectedForGood } else { Evidence::Rejected }
        }
        Some(RecordVerification::NotDecrypted(_)) | None => return before.cloned(),
    };
    rejections::after(before, evidence, None, now)
}

fn unconfirmed(rejection: &Rejection) -> Desired {
    let message = format!(
        "Microsoft rejected the secret ({}), for which it issued a token before; the operator requests further tokens before this counts",
        diagnosis::code_text(rejection)
    );
    Desired::unknown(ConditionType::Verified, Reason::RejectionUnconfirmed, message)
}

fn verified(verification: &RecordVerification) -> Desired {
    const TYPE: ConditionType = ConditionType::Verified;
    match verification {
        RecordVerification::Issued => {
            Desired::met(TYPE, Reason::TokenIssued, "Microsoft issued a token for the secret")
        }
        RecordVerification::Rejected(rejection) => {
            let description = reasons::entry(rejection.reason).description.trim_end_matches('.');
            let code = diagnosis::code_text(rejection);
            let subject = rejection.code.map_or_else(|| rejection.reason.to_string(), |_| code.clone());
            let message = format!(
                "{description} ({code}): {REMEDY}, or fix the app in Entra (graph-credential-operator explain {subject} says how)"
            );
            Desired::unmet(TYPE, rejection.reason, message)
        }
        RecordVerification::NotDecrypted(cause) => {
            Desired::unknown(TYPE, Reason::VerificationPending, cause.to_string())
        }
    }
}

fn unverified() -> Desired {
    Desired::unknown(
        ConditionType::Verified,
        Reason::VerificationPending,
        "the secret has not been verified yet",
    )
}

/// The summary: the first of both that is not met, or only the expiry while a rejection is not confirmed.
fn ready(verified: &Desired, expiring: &Desired, is_unconfirmed: bool) -> Desired {
    const TYPE: ConditionType = ConditionType::Ready;
    if verified.status != ConditionStatus::True && !is_unconfirmed {
        Desired { type_: TYPE, ..verified.clone() }
    } else if expiring.reason == Reason::Expired {
        Desired::unmet(TYPE, Reason::Expired, expiring.message.clone())
    } else {
        Desired::met(TYPE, Reason::Ready, "the secret is encrypted and verified")
    }
}
