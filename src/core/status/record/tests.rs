//! When a record is Ready, when it is verified again, and which events report it.

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
    assert_eq!(verification_due_at(&record(), &Timing::STANDARD, at("2026-11-24T08:00:00Z")), Timestamp::MIN);
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
    assert_eq!(verification_due_at(&changed, &Timing::STANDARD, at("2026-11-24T08:00:00Z")), Timestamp::MIN);
}

#[test]
fn a_rejection_has_its_code_and_stays_without_a_new_verification() {
    let verified = after(&record(), Some(&RecordVerification::Issued), "2026-11-24T08:00:00Z");
    let rejected = after(&verified, Some(&rejected()), "2026-11-25T08:00:00Z");
    assert_eq!(reasons(&rejected), ["SecretExpired", "SecretExpired", "NotExpiring"]);
    let ready = &rejected.status.as_ref().unwrap().conditions[0];
    assert!(
        ready.status == ConditionStatus::False && ready.message.contains("explain AADSTS7000222 says how"),
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
    let expected = [("2027-10-30", "ExpiresSoon"), ("2027-11-15", "ExpiresSoon"), ("2027-11-29", "Expired")];
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
