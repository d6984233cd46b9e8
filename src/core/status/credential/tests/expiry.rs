//! Reports about an expiry.

use super::*;

#[test]
fn an_expired_secret_is_not_ready_even_if_microsoft_accepts_it() {
    let mut observed = settled(&json!({}));
    observed.results.verification = Some(issued());
    let expired = registration().expires_at.0 + Duration::from_secs(1);
    let report = concluded(&observed, expired);
    assert_eq!(says(&report, ConditionType::Expiring), (ConditionStatus::True, "Expired"));
    assert_eq!(says(&report, ConditionType::Ready), (ConditionStatus::False, "Expired"));
    assert!(condition(&report, ConditionType::Ready).message.contains("correct the date"));
}

#[test]
fn a_secret_that_expires_while_its_rejection_waits_for_confirmation_is_not_ready() {
    let expiry = registration().expires_at.0;
    let just_before = expiry - Duration::from_secs(10);
    let mut observed = settled(&json!({}));
    observed.status.last_verified_time = Some(Time(just_before));
    let ready = concluded(&observed, just_before);
    observed = after(&observed, ready);
    observed.results.verification =
        Some(VerificationResult { at: just_before, ..rejected(Reason::InvalidClientSecret) });
    let unconfirmed = concluded(&observed, just_before);
    assert_eq!(says(&unconfirmed, ConditionType::Ready), (ConditionStatus::True, "Ready"));
    let mut waiting = after(&observed, unconfirmed);
    waiting.results.verification = None;
    let still = concluded(&waiting, expiry - Duration::from_secs(1));
    assert_eq!(says(&still, ConditionType::Ready).0, ConditionStatus::True);
    let expired = concluded(&waiting, expiry);
    assert_eq!(says(&expired, ConditionType::Verified).1, "RejectionUnconfirmed", "it is still waiting");
    assert_eq!(says(&expired, ConditionType::Ready), (ConditionStatus::False, "Expired"));
    assert_eq!(says(&expired, ConditionType::Stalled), (ConditionStatus::True, "Expired"));
}

#[test]
fn the_expiry_warning_begins_in_time_and_does_not_change_ready() {
    let mut observed = settled(&json!({"expiryWarning": "48h", "verification": {"interval": "720h"}}));
    // Warnings and notices count to the beginning of the day of which the expiry is the end.
    let expiry = registration().expires_at.0 - Duration::from_secs(86_399);
    observed.status.last_verified_time = Some(Time(expiry - Duration::from_hours(60)));
    let before = concluded(&observed, expiry - Duration::from_hours(49));
    assert_eq!(says(&before, ConditionType::Expiring), (ConditionStatus::False, "NotExpiring"));
    assert_eq!(before.requeue_after, Duration::from_hours(1));
    let after = concluded(&observed, expiry - Duration::from_hours(48));
    assert_eq!(says(&after, ConditionType::Expiring), (ConditionStatus::True, "ExpiresSoon"));
    assert_eq!(says(&after, ConditionType::Ready).0, ConditionStatus::True);
}

#[test]
fn each_expiry_notice_is_given_once() {
    let mut observed = settled(&json!({"verification": {"interval": "720h"}}));
    // Warnings and notices count to the beginning of the day of which the expiry is the end.
    let expiry = registration().expires_at.0 - Duration::from_secs(86_399);
    observed.status.last_verified_time = Some(Time(expiry - Duration::from_hours(24 * 15)));
    let notices =
        |report: &Report| report.events.iter().filter(|event| event.action == "CheckExpiry").count();
    let first = concluded(&observed, expiry - Duration::from_hours(24 * 8));
    assert_eq!((notices(&first), first.status.expiry_notice_days), (1, Some(14)));
    let observed = after(&observed, first);
    let again = concluded(&observed, expiry - Duration::from_hours(24 * 8 - 2));
    assert_eq!(notices(&again), 0);
    let next = concluded(&observed, expiry - Duration::from_hours(24 * 7));
    assert_eq!((notices(&next), next.status.expiry_notice_days), (1, Some(7)));
}
