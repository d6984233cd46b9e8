//! What the status says, and that it says it once.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

use super::*;
use crate::controller::decide::Decision;
use crate::controller::decide::decide;
use crate::controller::observed::testing::{
    fresh, issued, now, refused, registration, rotated, rules, seen, settled,
};
use crate::controller::observed::{Problem, Source};
use crate::destination::{Failure, FailureKind, Operation};
use crate::resources::conditions::Condition;
use crate::woodpecker::LaneClosed;

/// The report of a pass that ends here by the decision of `decide`.
fn concluded(observed: &Observed, now: Timestamp) -> Report {
    match decide(observed, &rules(), now) {
        Decision::Rest(rest) => report(observed, &rest, &rules(), now),
        Decision::Act(action) => panic!("acts: {action:?}"),
    }
}

fn condition(report: &Report, type_: ConditionType) -> &Condition {
    find(&report.status.conditions, type_)
        .unwrap_or_else(|| panic!("no {type_:?} in {:#?}", report.status.conditions))
}

fn says(report: &Report, type_: ConditionType) -> (ConditionStatus, &str) {
    let condition = condition(report, type_);
    (condition.status, condition.reason.as_str())
}

fn after(observed: &Observed, report: Report) -> Observed {
    Observed { written: report.status.clone(), status: report.status, ..observed.clone() }
}

#[test]
fn a_settled_object_is_ready_and_its_next_report_changes_nothing() {
    let observed = settled(&json!({}));
    let first = concluded(&observed, now());
    assert_eq!(says(&first, ConditionType::Ready), (ConditionStatus::True, "Ready"));
    assert_eq!((first.status.credential_id, first.status.observed_generation), (Some(22_334_455), 1));
    assert!(find(&first.status.conditions, ConditionType::Reconciling).is_none());
    let later = after(&observed, first.clone());
    let second = concluded(&later, now() + Duration::from_hours(3));
    assert_eq!(second.status, first.status);
    assert!(second.notes.is_empty());
}

#[test]
fn where_finalizers_are_off_an_object_to_be_deleted_says_that_nothing_will_be() {
    let off = Rules { sets_finalizers: false, ..rules() };
    let told = |policy: &str, rules: &Rules| {
        let observed = settled(&json!({"deletionPolicy": policy}));
        let rest = match decide(&observed, &off, now()) {
            Decision::Rest(rest) => rest,
            Decision::Act(action) => panic!("acts: {action:?}"),
        };
        condition(&report(&observed, &rest, rules, now()), ConditionType::Ready).message.clone()
    };
    assert!(told("Delete", &off).contains("--finalizers=false"));
    assert!(!told("Retain", &off).contains("finalizers"));
    assert!(!told("Delete", &rules()).contains("finalizers"));
}

#[test]
fn a_refused_rotation_is_told_and_the_registration_stays() {
    let mut observed = seen(rotated(&json!({})), Duration::from_hours(1), Reason::AwaitingPropagation);
    observed.learnt.proof = Some(refused(Reason::InvalidClientSecret));
    let report = concluded(&observed, now());
    assert_eq!(says(&report, ConditionType::Verified), (ConditionStatus::False, "InvalidClientSecret"));
    assert_eq!(says(&report, ConditionType::Registered), (ConditionStatus::True, "Registered"));
    assert_eq!(says(&report, ConditionType::Ready), (ConditionStatus::False, "InvalidClientSecret"));
    assert_eq!(says(&report, ConditionType::Stalled).0, ConditionStatus::True);
    assert_eq!(report.status.registration, Some(registration()));
    assert!(condition(&report, ConditionType::Registered).message.contains("last accepted"));
    assert_eq!(report.status.candidate.as_ref().map(|candidate| candidate.attempts), Some(2));
    assert!(report.status.next_attempt_at.is_some());
}

#[test]
fn a_first_refusal_is_reconciling_and_unknown() {
    let mut observed = fresh(&json!({}));
    observed.learnt.proof = Some(refused(Reason::InvalidClientSecret));
    let report = concluded(&observed, now());
    assert_eq!(says(&report, ConditionType::Verified), (ConditionStatus::Unknown, "AwaitingPropagation"));
    assert_eq!(says(&report, ConditionType::Registered), (ConditionStatus::Unknown, "AwaitingVerification"));
    assert_eq!(says(&report, ConditionType::Reconciling).0, ConditionStatus::True);
    assert!(find(&report.status.conditions, ConditionType::Stalled).is_none());
    assert_eq!(report.again_in, Duration::from_secs(10));
}

#[test]
fn waiting_in_the_queue_is_no_news_and_a_paused_account_is() {
    let waits = |closed| {
        let mut observed = fresh(&json!({}));
        observed.learnt.proof = Some(issued());
        observed.learnt.failure = Some(Failure {
            operation: Operation::Create,
            kind: FailureKind::Queued(closed),
            retry_after: None,
            id: None,
        });
        concluded(&observed, now())
    };
    let queued = waits(LaneClosed::Queued);
    assert_eq!(says(&queued, ConditionType::Ready), (ConditionStatus::Unknown, "Queued"));
    assert_eq!(queued.notes, [], "that the secret is good is said with its registration");
    assert_ne!(waits(LaneClosed::Paused).notes, []);
}

#[test]
fn waiting_for_the_next_attempt_changes_nothing() {
    let mut observed = fresh(&json!({}));
    observed.learnt.proof = Some(refused(Reason::InvalidClientSecret));
    let first = concluded(&observed, now());
    let mut waiting = after(&observed, first.clone());
    waiting.learnt.proof = None;
    let waiting = seen(waiting, Duration::ZERO, Reason::AwaitingPropagation);
    let waiting = Observed { status: first.status.clone(), written: first.status.clone(), ..waiting };
    let second = concluded(&waiting, now() + Duration::from_secs(4));
    assert_eq!(second.status, first.status);
    assert_eq!(second.again_in, Duration::from_secs(6));
}

#[test]
fn what_has_to_settle_is_looked_at_as_soon_as_it_has_whatever_was_planned_before() {
    let mut observed = rotated(&json!({}));
    observed.learnt.proof = Some(issued());
    observed.change_settles_in = Duration::from_secs(90);
    observed.status.next_attempt_at = Some(Time(now() + Duration::from_hours(24)));
    observed.status.consecutive_failures = Some(2);
    let report = concluded(&observed, now());
    assert_eq!(says(&report, ConditionType::Registered), (ConditionStatus::Unknown, "OutcomeUnknown"));
    assert_eq!(report.again_in, Duration::from_secs(90));
    assert_eq!((report.status.next_attempt_at, report.status.consecutive_failures), (None, Some(2)));
}

#[test]
fn failures_in_a_row_are_counted_and_a_new_secret_starts_anew() {
    let mut observed = seen(rotated(&json!({})), Duration::from_secs(30), Reason::AwaitingPropagation);
    observed.status.consecutive_failures = Some(3);
    observed.learnt.proof = Some(refused(Reason::InvalidClientSecret));
    let report = concluded(&observed, now());
    assert_eq!((report.status.consecutive_failures, report.again_in), (Some(4), Duration::from_mins(1)));
    if let Source::Usable(source) = &mut observed.source {
        source.is_candidate = false;
    }
    let report = concluded(&observed, now());
    assert_eq!((report.status.consecutive_failures, report.again_in), (Some(1), Duration::from_secs(10)));
}

#[test]
fn an_expired_secret_is_not_ready_even_if_microsoft_accepts_it() {
    let mut observed = settled(&json!({}));
    observed.learnt.proof = Some(issued());
    let expired = registration().expires_at.0 + Duration::from_secs(1);
    let report = concluded(&observed, expired);
    assert_eq!(says(&report, ConditionType::Expiring), (ConditionStatus::True, "Expired"));
    assert_eq!(says(&report, ConditionType::Ready), (ConditionStatus::False, "Expired"));
    assert!(condition(&report, ConditionType::Ready).message.contains("correct the date"));
}

#[test]
fn the_expiry_warning_begins_in_time_and_leaves_ready_alone() {
    let mut observed = settled(&json!({"expiryWarning": "48h", "verification": {"interval": "720h"}}));
    let expiry = registration().expires_at.0;
    observed.status.verified_at = Some(Time(expiry - Duration::from_hours(60)));
    let before = concluded(&observed, expiry - Duration::from_hours(49));
    assert_eq!(says(&before, ConditionType::Expiring), (ConditionStatus::False, "NotExpiring"));
    assert_eq!(before.again_in, Duration::from_hours(1));
    let after = concluded(&observed, expiry - Duration::from_hours(48));
    assert_eq!(says(&after, ConditionType::Expiring), (ConditionStatus::True, "ExpiresSoon"));
    assert_eq!(says(&after, ConditionType::Ready).0, ConditionStatus::True);
}

#[test]
fn each_expiry_notice_is_given_once() {
    let mut observed = settled(&json!({"verification": {"interval": "720h"}}));
    let expiry = registration().expires_at.0;
    observed.status.verified_at = Some(Time(expiry - Duration::from_hours(24 * 15)));
    let notices = |report: &Report| report.notes.iter().filter(|note| note.action == "CheckExpiry").count();
    let first = concluded(&observed, expiry - Duration::from_hours(24 * 8));
    assert_eq!((notices(&first), first.status.expiry_notice_days), (1, Some(14)));
    let observed = after(&observed, first);
    let again = concluded(&observed, expiry - Duration::from_hours(24 * 8 - 2));
    assert_eq!(notices(&again), 0);
    let next = concluded(&observed, expiry - Duration::from_hours(24 * 7));
    assert_eq!((notices(&next), next.status.expiry_notice_days), (1, Some(7)));
}

#[test]
fn a_suspended_object_keeps_its_conditions_and_says_so_once() {
    let observed = settled(&json!({}));
    let ready = after(&observed, concluded(&observed, now()));
    let mut suspended = ready.clone();
    suspended.object.spec.suspend = Some(true);
    suspended.object.metadata.generation = Some(2);
    suspended.source = Source::NotRead;
    let first = concluded(&suspended, now() + Duration::from_hours(1));
    assert_eq!(says(&first, ConditionType::Ready), (ConditionStatus::True, "Ready"));
    assert!(condition(&first, ConditionType::Ready).message.starts_with("suspended"));
    assert_eq!(condition(&first, ConditionType::Verified).status, ConditionStatus::True);
    assert_eq!(first.status.observed_generation, 2);
    let second = concluded(&after(&suspended, first.clone()), now() + Duration::from_hours(2));
    assert_eq!(second.status, first.status);
}

#[test]
fn a_secret_that_went_leaves_the_registration_and_says_what_is_missing() {
    let mut observed = settled(&json!({}));
    observed.source =
        Source::Unusable(Problem { reason: Reason::SecretNotFound, message: "no Secret".into() });
    let report = concluded(&observed, now());
    assert_eq!(says(&report, ConditionType::SourceReady), (ConditionStatus::False, "SecretNotFound"));
    assert_eq!(says(&report, ConditionType::Verified), (ConditionStatus::Unknown, "AwaitingSource"));
    assert_eq!(says(&report, ConditionType::Registered), (ConditionStatus::True, "Registered"));
    assert_eq!(says(&report, ConditionType::Ready), (ConditionStatus::False, "SecretNotFound"));
    assert_eq!(says(&report, ConditionType::Reconciling).0, ConditionStatus::True);
}

#[test]
fn a_fingerprint_under_an_older_key_is_renewed_in_place() {
    let mut observed = settled(&json!({}));
    if let Source::Usable(source) = &mut observed.source {
        source.fingerprint = "newer:same".into();
    }
    let report = concluded(&observed, now());
    assert_eq!(
        report.status.registration.map(|registration| registration.fingerprint),
        Some("newer:same".into())
    );
}

#[test]
fn the_handled_request_is_noted() {
    let mut observed = settled(&json!({}));
    observed.object.metadata.annotations =
        Some([(crate::resources::RECONCILE_REQUESTED_AT.to_owned(), "tick".to_owned())].into());
    observed.learnt.proof = Some(issued());
    let report = concluded(&observed, now());
    assert_eq!(report.status.last_handled_reconcile_at.as_deref(), Some("tick"));
    assert_eq!(report.status.verified_at, Some(Time(now())));
}

#[test]
fn an_object_that_nothing_was_looked_at_for_goes_on_saying_so() {
    let mut observed = fresh(&json!({}));
    observed.target =
        crate::controller::observed::Target::NotSeenYet(crate::controller::observed::testing::account());
    let report = concluded(&observed, now());
    assert_eq!(report.status, observed.written);
    assert_eq!(report.status.observed_generation, -1);
}
