//! The status of a `SealedGraphCredential`, and when it is due.

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
use crate::core::status::undecryptable::Undecryptable;
use crate::core::timing::Timing;
use crate::core::{clock, expiry};

/// Verification interval, the same as the default of `spec.verification.interval`.
const INTERVAL: Duration = Duration::from_hours(24);

/// How long before the expiry the warning begins, the same as the default of `spec.expiryWarning`.
const WARNING: Duration = Duration::from_hours(720);

pub(super) const REMEDY: &str = "send a new client_secret with its secret_expires_at by PATCH";

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
            let message = format!("{description} ({code}): {REMEDY}, or fix the app in Entra");
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const UNDECRYPTABLE: RecordVerification = RecordVerification::NotDecrypted(Undecryptable::Changed);

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn record() -> SealedGraphCredential {
        serde_json::from_value(json!({
            "apiVersion": "graph-credentials.io/v1alpha1", "kind": "SealedGraphCredential",
            "metadata": {"name": "r-1", "generation": 2},
            "spec": {
                "recordId": "0123456789abcdef0123456789abcdef", "credentialId": 1,
                "tenantId": "bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32",
                "clientId": "e1c6ac69-480e-4a17-9b85-3467967bd179",
                "secretExpiresAt": "2027-11-28T23:59:59Z", "name": "x", "envelope": "e"
            }
        }))
        .unwrap()
    }

    /// The record after that verification.
    fn after(
        record: &SealedGraphCredential,
        verification: Option<&RecordVerification>,
        now: &str,
    ) -> SealedGraphCredential {
        SealedGraphCredential { status: Some(next_status(record, verification, at(now))), ..record.clone() }
    }

    fn reasons(record: &SealedGraphCredential) -> Vec<&str> {
        record.status.as_ref().unwrap().conditions.iter().map(|it| it.reason.as_str()).collect()
    }

    fn rejected() -> RecordVerification {
        RecordVerification::Rejected(Rejection { reason: Reason::SecretExpired, code: Some(7_000_222) })
    }

    #[test]
    fn a_verified_record_is_ready_and_is_verified_again_a_day_later() {
        assert_eq!(
            verification_due_at(&record(), &Timing::STANDARD, at("2026-11-24T08:00:00Z")),
            Timestamp::MIN
        );
        let verified = after(&record(), Some(&RecordVerification::Issued), "2026-11-24T08:00:00.5Z");
        assert_eq!(reasons(&verified), ["Ready", "TokenIssued", "NotExpiring"]);
        assert_eq!(
            verification_due_at(&verified, &Timing::STANDARD, at("2026-11-24T08:00:00Z")),
            at("2026-11-25T08:00:00Z")
        );
        let later = after(&verified, None, "2026-11-24T09:00:00Z");
        assert_eq!(later, verified, "nothing changed");
        let due = |now: &str| status_due_at(&verified, at(now));
        assert_eq!(due("2026-11-24T09:00:00Z"), at("2027-10-29T00:00:00Z"));
        assert_eq!(due("2027-11-01T00:00:00Z"), at("2027-11-01T00:00:00Z"), "it expires soon");
        assert_eq!(
            status_due_at(&record(), at("2026-11-24T09:00:00Z")),
            Timestamp::MAX,
            "it is not verified yet"
        );
    }

    #[test]
    fn another_generation_is_verified_at_once() {
        let mut changed = after(&record(), Some(&RecordVerification::Issued), "2026-11-24T08:00:00Z");
        changed.metadata.generation = Some(3);
        assert!(!status_is_current(&changed));
        assert_eq!(
            verification_due_at(&changed, &Timing::STANDARD, at("2026-11-24T08:00:00Z")),
            Timestamp::MIN
        );
    }

    #[test]
    fn a_rejection_has_its_code_and_stays_without_a_new_verification() {
        let verified = after(&record(), Some(&RecordVerification::Issued), "2026-11-24T08:00:00Z");
        let rejected = after(&verified, Some(&rejected()), "2026-11-25T08:00:00Z");
        assert_eq!(reasons(&rejected), ["SecretExpired", "SecretExpired", "NotExpiring"]);
        let ready = &rejected.status.as_ref().unwrap().conditions[0];
        assert!(
            ready.status == ConditionStatus::False && ready.message.contains("AADSTS7000222"),
            "{ready:?}"
        );
        let status = rejected.status.as_ref().unwrap();
        assert_eq!(delay_after_rejection(status, &Timing::STANDARD), Timing::STANDARD.stalled_probe);
        assert_eq!(
            status.last_verified_time,
            verified.status.unwrap().last_verified_time,
            "the time of the last success stays"
        );
        assert_eq!(after(&rejected, None, "2026-11-25T09:00:00Z"), rejected);
        let unopened = after(&rejected, Some(&UNDECRYPTABLE), "2026-11-26T08:00:00Z");
        assert_eq!(reasons(&unopened), ["VerificationPending", "VerificationPending", "NotExpiring"]);
    }

    #[test]
    fn a_rejection_of_a_verified_secret_counts_after_the_fourth_in_a_row() {
        let wrong = RecordVerification::Rejected(Rejection {
            reason: Reason::InvalidClientSecret,
            code: Some(7_000_215),
        });
        let never_verified = after(&record(), Some(&wrong), "2026-11-24T08:00:00Z");
        assert_eq!(reasons(&never_verified), ["InvalidClientSecret", "InvalidClientSecret", "NotExpiring"]);
        let mut record = after(&record(), Some(&RecordVerification::Issued), "2026-11-24T08:00:00Z");
        for (rejection, seconds) in (1..4).zip([30, 60, 120]) {
            record = after(&record, Some(&wrong), &format!("2026-11-25T08:0{rejection}:00Z"));
            assert_eq!(reasons(&record), ["Ready", "RejectionUnconfirmed", "NotExpiring"], "{rejection}");
            assert_eq!(after(&record, None, "2026-11-25T08:09:00Z"), record, "kept between the requests");
            let delay = delay_after_rejection(record.status.as_ref().unwrap(), &Timing::STANDARD);
            assert_eq!(delay.as_secs(), seconds);
        }
        let contradicted = after(&record, Some(&RecordVerification::Issued), "2026-11-25T08:05:00Z");
        assert_eq!(reasons(&contradicted), ["Ready", "TokenIssued", "NotExpiring"]);
        assert_eq!(
            verification_due_at(&contradicted, &Timing::STANDARD, at("2026-11-25T08:05:00Z")),
            at("2026-11-25T09:05:00Z")
        );
        let again = after(&contradicted, Some(&RecordVerification::Issued), "2026-11-25T09:05:00Z");
        assert_eq!(
            verification_due_at(&again, &Timing::STANDARD, at("2026-11-25T09:05:00Z")),
            at("2026-11-26T09:05:00Z")
        );
        for minute in [5, 6] {
            record = after(&record, Some(&wrong), &format!("2026-11-25T08:0{minute}:00Z"));
            assert_eq!(reasons(&record), ["InvalidClientSecret", "InvalidClientSecret", "NotExpiring"]);
        }
        record.metadata.generation = Some(3);
        assert_eq!(after(&record, Some(&wrong), "2026-11-25T09:00:00Z").status.unwrap().rejections, None);
    }

    #[test]
    fn a_changed_result_is_emitted_once() {
        let reported = |before: &SealedGraphCredential, verification: &RecordVerification| {
            let next = next_status(before, Some(verification), at("2026-11-25T08:00:00Z"));
            let events = events(before, &next, Some("trace 1".into()), None);
            events.into_iter().map(|event| (event.is_warning, event.reason, event.request_ids)).next()
        };
        let verified = after(&record(), Some(&RecordVerification::Issued), "2026-11-24T08:00:00Z");
        assert_eq!(reported(&verified, &RecordVerification::Issued), None);
        assert_eq!(reported(&verified, &rejected()), Some((true, "SecretExpired", "trace 1".into())));
        let rejected_before = after(&verified, Some(&rejected()), "2026-11-24T09:00:00Z");
        assert_eq!(reported(&rejected_before, &rejected()), None, "unchanged a day later");
        let fixed = reported(&rejected_before, &RecordVerification::Issued);
        assert_eq!(fixed.map(|it| (it.0, it.1)), Some((false, "TokenIssued")));
        assert_eq!(reported(&verified, &UNDECRYPTABLE).map(|it| it.0), Some(true));
    }

    #[test]
    fn each_expiry_notice_is_given_once_for_an_expiry() {
        let mut record = after(&record(), Some(&RecordVerification::Issued), "2026-11-24T08:00:00Z");
        let mut given = Vec::new();
        for day in ["2027-10-28", "2027-10-30", "2027-10-31", "2027-11-15", "2027-11-29", "2027-11-30"] {
            let now = at(&format!("{day}T00:00:00Z"));
            let (notice, mut next) = (expiry_notice_due(&record, now), next_status(&record, None, now));
            let events = events(&record, &next, None, notice);
            given.extend(events.iter().map(|event| (day, event.reason)));
            assert!(events.iter().all(|event| event.text.contains("PATCH")), "{events:?}");
            next.expiry_notice_days = notice.or(next.expiry_notice_days);
            record.status = Some(next);
        }
        let expected =
            [("2027-10-30", "ExpiresSoon"), ("2027-11-15", "ExpiresSoon"), ("2027-11-29", "Expired")];
        assert_eq!(given, expected);
        record.spec.secret_expires_at = Time(at("2029-01-01T00:00:00Z"));
        let later = after(&record, Some(&RecordVerification::Issued), "2027-12-01T00:00:00Z");
        assert_eq!(later.status.as_ref().unwrap().expiry_notice_days, None);
        assert_eq!(expiry_notice_due(&later, at("2028-12-31T12:00:00Z")), Some(1));
    }

    #[test]
    fn an_expiry_is_announced_thirty_days_before_and_ends_readiness() {
        let verified = after(&record(), Some(&RecordVerification::Issued), "2026-11-24T08:00:00Z");
        for (now, expected) in [
            ("2027-10-28T23:59:59Z", ["Ready", "TokenIssued", "NotExpiring"]),
            ("2027-10-29T00:00:00Z", ["Ready", "TokenIssued", "ExpiresSoon"]),
            ("2027-11-28T23:59:59Z", ["Expired", "TokenIssued", "Expired"]),
        ] {
            assert_eq!(reasons(&after(&verified, None, now)), expected, "{now}");
        }
    }
}
