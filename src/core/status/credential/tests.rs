//! Tests of the report.

mod expiry;
mod reading;

use std::time::Duration;

use crate::api::timestamp::Time;
use serde_json::json;

use crate::api::conditions::Condition;
use crate::core::diagnosis::Diagnosis;
use crate::core::failure::{Failure, FailureKind, Operation, QueueError};
use crate::core::model::fixtures::{
    account, fresh, issued, not_issued, now, policy, registration, rejected, rotated, seen, settled,
};
use crate::core::model::{ConditionFailure, Source, StepResults, Target};
use crate::core::plan::{Plan, next_step};
use crate::core::status::credential::*;

/// The report of a reconcile for which `next_step` returns a conclusion.
fn concluded(observed: &Observed, now: Timestamp) -> Report {
    match next_step(observed, &policy(), now) {
        Plan::Done(conclusion) => report(observed, &conclusion, &policy(), now),
        Plan::Step(step) => panic!("step: {step:?}"),
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
    assert!(second.events.is_empty());
}

#[test]
fn ready_says_if_the_deletion_policy_has_no_effect() {
    let off = OperatorPolicy { sets_finalizers: false, ..policy() };
    let message = |deletion: &str, policy: &OperatorPolicy| {
        let observed = settled(&json!({"deletionPolicy": deletion}));
        let conclusion = match next_step(&observed, &off, now()) {
            Plan::Done(conclusion) => conclusion,
            Plan::Step(step) => panic!("step: {step:?}"),
        };
        condition(&report(&observed, &conclusion, policy, now()), ConditionType::Ready).message.clone()
    };
    assert!(message("Delete", &off).contains("--enable-finalizers=false"));
    assert!(!message("Retain", &off).contains("finalizers"));
    assert!(!message("Delete", &policy()).contains("finalizers"));
}

#[test]
fn a_rejected_rotation_is_reported_and_the_registration_stays() {
    let mut observed = seen(rotated(&json!({})), Duration::from_hours(1), Reason::AwaitingPropagation);
    observed.results.verification = Some(rejected(Reason::InvalidClientSecret));
    let report = concluded(&observed, now());
    assert_eq!(says(&report, ConditionType::Verified), (ConditionStatus::False, "InvalidClientSecret"));
    assert_eq!(says(&report, ConditionType::Registered), (ConditionStatus::True, "Registered"));
    assert_eq!(says(&report, ConditionType::Ready), (ConditionStatus::False, "InvalidClientSecret"));
    assert_eq!(says(&report, ConditionType::Stalled).0, ConditionStatus::True);
    assert_eq!(report.status.registration, Some(registration()));
    assert!(condition(&report, ConditionType::Registered).message.contains("last accepted"));
    assert_eq!(report.status.pending_secret.as_ref().map(|candidate| candidate.attempts), Some(2));
    assert!(report.status.next_verification_time.is_some());
}

#[test]
fn readiness_ends_with_the_fourth_rejection_of_a_verified_secret() {
    let mut observed = settled(&json!({}));
    let ready = concluded(&observed, now());
    observed = after(&observed, ready);
    observed.results.verification = Some(rejected(Reason::InvalidClientSecret));
    for (count, seconds) in (1..4).zip([30, 60, 120]) {
        let report = concluded(&observed, now());
        assert_eq!(
            says(&report, ConditionType::Verified),
            (ConditionStatus::Unknown, "RejectionUnconfirmed")
        );
        assert_eq!(says(&report, ConditionType::Ready), (ConditionStatus::True, "Ready"));
        assert!(find(&report.status.conditions, ConditionType::Reconciling).is_none());
        assert_eq!(report.status.next_verification_time, Some(Time(now() + Duration::from_secs(seconds))));
        assert_eq!(report.status.rejections.as_ref().map(|rejections| rejections.count), Some(count));
        observed = after(&observed, report);
        observed.status.next_verification_time = None;
    }
    let contradicted = Observed {
        results: StepResults { verification: Some(issued()), ..StepResults::default() },
        ..observed.clone()
    };
    let report = concluded(&contradicted, now());
    assert_eq!(says(&report, ConditionType::Verified), (ConditionStatus::True, "TokenIssued"));
    assert_eq!(report.status.rejections.as_ref().map(|rejections| rejections.count), Some(0));
    let again = concluded(&after(&contradicted, report), now());
    assert_eq!(again.status.rejections, None, "a second token ends it");
    let report = concluded(&observed, now());
    assert_eq!(says(&report, ConditionType::Ready), (ConditionStatus::False, "InvalidClientSecret"));
    assert_eq!(says(&report, ConditionType::Stalled).0, ConditionStatus::True);
}

#[test]
fn an_unconfirmed_rejection_does_not_make_an_object_ready() {
    let mut observed = settled(&json!({}));
    observed.results.verification = Some(rejected(Reason::InvalidClientSecret));
    let report = concluded(&observed, now());
    assert_eq!(says(&report, ConditionType::Ready), (ConditionStatus::Unknown, "RejectionUnconfirmed"));
    assert_eq!(says(&report, ConditionType::Reconciling).0, ConditionStatus::True);
}

#[test]
fn a_first_rejection_is_reconciling_and_unknown() {
    let mut observed = fresh(&json!({}));
    observed.results.verification = Some(rejected(Reason::InvalidClientSecret));
    let report = concluded(&observed, now());
    assert_eq!(says(&report, ConditionType::Verified), (ConditionStatus::Unknown, "AwaitingPropagation"));
    assert_eq!(says(&report, ConditionType::Registered), (ConditionStatus::Unknown, "AwaitingVerification"));
    assert_eq!(says(&report, ConditionType::Reconciling).0, ConditionStatus::True);
    assert!(find(&report.status.conditions, ConditionType::Stalled).is_none());
    assert_eq!(report.requeue_after, Duration::from_secs(10));
}

#[test]
fn a_paused_account_has_an_event_and_waiting_in_the_queue_has_none() {
    let waits = |closed| {
        let mut observed = fresh(&json!({}));
        observed.results.verification = Some(issued());
        observed.results.failure = Some(Failure {
            operation: Operation::Create,
            kind: FailureKind::Queued(closed),
            retry_after: None,
            id: None,
        });
        concluded(&observed, now())
    };
    let queued = waits(QueueError::Queued);
    assert_eq!(says(&queued, ConditionType::Ready), (ConditionStatus::Unknown, "Queued"));
    assert_eq!(queued.events, [], "the verification is reported with the registration");
    assert_ne!(waits(QueueError::Paused).events, []);
}

#[test]
fn waiting_for_the_next_attempt_changes_nothing() {
    let mut observed = fresh(&json!({}));
    observed.results.verification = Some(rejected(Reason::InvalidClientSecret));
    let first = concluded(&observed, now());
    let mut waiting = after(&observed, first.clone());
    waiting.results.verification = None;
    let waiting = seen(waiting, Duration::ZERO, Reason::AwaitingPropagation);
    let waiting = Observed { status: first.status.clone(), written: first.status.clone(), ..waiting };
    let second = concluded(&waiting, now() + Duration::from_secs(4));
    assert_eq!(second.status, first.status);
    assert_eq!(second.requeue_after, Duration::from_secs(6));
}

#[test]
fn the_end_of_a_settle_period_replaces_an_earlier_plan() {
    let mut observed = rotated(&json!({}));
    observed.results.verification = Some(issued());
    observed.change_settles_in = Duration::from_secs(90);
    observed.status.next_attempt_time = Some(Time(now() + Duration::from_hours(24)));
    observed.status.consecutive_failures = Some(2);
    let report = concluded(&observed, now());
    assert_eq!(says(&report, ConditionType::Registered), (ConditionStatus::Unknown, "OutcomeUnknown"));
    assert_eq!(report.requeue_after, Duration::from_secs(90));
    assert_eq!((report.status.next_attempt_time, report.status.consecutive_failures), (None, Some(2)));
}

#[test]
fn consecutive_failures_are_counted_and_a_new_secret_resets_the_count() {
    let mut observed = seen(rotated(&json!({})), Duration::from_secs(30), Reason::AwaitingPropagation);
    observed.status.consecutive_failures = Some(3);
    observed.results.verification = Some(rejected(Reason::InvalidClientSecret));
    let report = concluded(&observed, now());
    assert_eq!((report.status.consecutive_failures, report.requeue_after), (Some(4), Duration::from_mins(1)));
    if let Source::Usable(source) = &mut observed.source {
        source.is_pending = false;
    }
    let report = concluded(&observed, now());
    assert_eq!(
        (report.status.consecutive_failures, report.requeue_after),
        (Some(1), Duration::from_secs(10))
    );
}

#[test]
fn a_suspended_object_keeps_its_conditions_and_is_written_once() {
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
fn a_deleted_secret_is_reported_and_the_registration_stays() {
    let mut observed = settled(&json!({}));
    observed.source =
        Source::Unusable(ConditionFailure { reason: Reason::SecretNotFound, message: "no Secret".into() });
    let report = concluded(&observed, now());
    assert_eq!(says(&report, ConditionType::SecretReady), (ConditionStatus::False, "SecretNotFound"));
    assert_eq!(says(&report, ConditionType::Verified), (ConditionStatus::Unknown, "AwaitingSecret"));
    assert_eq!(says(&report, ConditionType::Registered), (ConditionStatus::True, "Registered"));
    assert_eq!(says(&report, ConditionType::Ready), (ConditionStatus::False, "SecretNotFound"));
    assert_eq!(says(&report, ConditionType::Reconciling).0, ConditionStatus::True);
}

#[test]
fn a_fingerprint_under_an_older_key_is_replaced() {
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
fn the_handled_request_is_recorded() {
    let mut observed = settled(&json!({}));
    observed.object.metadata.annotations =
        Some([(crate::api::RECONCILE_REQUESTED_AT.to_owned(), "tick".to_owned())].into());
    observed.results.verification = Some(issued());
    let report = concluded(&observed, now());
    assert_eq!(report.status.last_handled_reconcile_at.as_deref(), Some("tick"));
    assert_eq!(report.status.last_verified_time, Some(Time(now())));
}

#[test]
fn the_status_stays_unobserved_until_the_account_is_reconciled() {
    let mut observed = fresh(&json!({}));
    observed.target = crate::core::model::Target::NotReconciled(crate::core::model::fixtures::account());
    let report = concluded(&observed, now());
    assert_eq!(report.status, observed.written);
    assert_eq!(report.status.observed_generation, -1);
}

#[test]
fn advice_about_permissions_is_given_for_403_alone() {
    for (code, reason, has_advice) in
        [(403, "StorageForbidden", true), (422, "StorageError", false), (400, "StorageError", false)]
    {
        let mut observed = rotated(&json!({}));
        observed.results.failure = Some(Failure {
            operation: Operation::Update,
            kind: FailureKind::StoreRejected(code),
            retry_after: None,
            id: None,
        });
        let report = concluded(&observed, now());
        assert_eq!(says(&report, ConditionType::Registered).1, reason);
        let message = &condition(&report, ConditionType::Registered).message;
        assert_eq!(message.contains("grant the operator's ServiceAccount"), has_advice, "{message}");
        assert!(message.contains(&format!("HTTP {code}")), "{message}");
    }
}

#[test]
fn times_that_are_ahead_are_overwritten_once() {
    let year = Duration::from_hours(24 * 365);
    let mut observed = seen(fresh(&json!({})), Duration::ZERO, Reason::AwaitingPropagation);
    observed.results.verification = Some(rejected(Reason::InvalidClientSecret));
    observed.status.pending_secret.as_mut().unwrap().first_seen_time = Time(now() + year);
    observed.status.next_verification_time = Some(Time(now() + year));
    let status = concluded(&observed, now()).status;
    let window = policy().timing.propagation_window;
    assert_eq!(status.pending_secret.unwrap().first_seen_time.0, now() - window);
    assert!(status.next_verification_time.unwrap().0 <= now() + Duration::from_hours(24));
}

#[test]
fn verification_and_destination_have_a_next_time_each() {
    let mut observed = settled(&json!({"displayName": "MS Graph app"}));
    let rejected = FailureKind::Rejected { status: 422, code: None };
    observed.results.failure =
        Some(Failure { operation: Operation::Rename, kind: rejected, retry_after: None, id: None });
    let failed = after(&observed, concluded(&observed, now()));
    let planned = failed.status.next_attempt_time.clone();
    assert!(planned.is_some() && failed.status.next_verification_time.is_none());

    let mut down = Observed { results: StepResults::default(), ..failed };
    down.status.last_verified_time = Some(Time(now() - Duration::from_hours(48)));
    down.results.verification = Some(not_issued(Diagnosis::Unavailable));
    let report = concluded(&down, now());
    assert_eq!(says(&report, ConditionType::Verified), (ConditionStatus::Unknown, "MicrosoftUnavailable"));
    assert_eq!(says(&report, ConditionType::Registered), (ConditionStatus::False, "UpdateRejected"));
    assert!(report.status.next_verification_time.is_some());
    assert_eq!(report.status.next_attempt_time, planned);

    let mut up = after(&down, report);
    up.results.verification = Some(issued());
    let report = concluded(&up, now());
    assert_eq!(says(&report, ConditionType::Verified), (ConditionStatus::True, "TokenIssued"));
    assert_eq!(says(&report, ConditionType::Ready), (ConditionStatus::False, "UpdateRejected"));
    assert_eq!(says(&report, ConditionType::Stalled).0, ConditionStatus::True);
    assert_eq!((report.status.next_verification_time, report.status.next_attempt_time), (None, planned));
}

#[test]
fn a_registration_at_an_account_that_was_not_reached_stays_ready_until_its_secret_expires() {
    let target = Target::NotReached(account());
    let mut observed = Observed { target, ..settled(&json!({})) };
    observed.results.verification = Some(issued());
    assert_eq!(says(&concluded(&observed, now()), ConditionType::Ready), (ConditionStatus::True, "Ready"));
    let expired = concluded(&observed, registration().expires_at.0);
    assert_eq!(says(&expired, ConditionType::Ready), (ConditionStatus::False, "Expired"));
    observed.source = rotated(&json!({})).source;
    let changed = concluded(&observed, now());
    assert_eq!(
        says(&changed, ConditionType::Registered),
        (ConditionStatus::Unknown, "WoodpeckerUnavailable")
    );
    assert_eq!(says(&changed, ConditionType::Reconciling).0, ConditionStatus::True);
}

#[test]
fn a_planned_attempt_does_not_outlive_its_spec() {
    let mut observed = settled(&json!({}));
    let planned = Some(Time(now() + Duration::from_hours(9)));
    observed.status.next_attempt_time = planned.clone();
    let conclusion = Conclusion { state: ReconcileState::Deferred, requeue: Requeue::AsPlanned };
    observed.status.observed_generation = 1;
    observed.object.metadata.generation = Some(1);
    assert_eq!(report(&observed, &conclusion, &policy(), now()).status.next_attempt_time, planned);
    observed.object.metadata.generation = Some(2);
    assert_eq!(report(&observed, &conclusion, &policy(), now()).status.next_attempt_time, None);
}
