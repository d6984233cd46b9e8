//! Properties of the report, tested with random observations.

use std::time::Duration;

use crate::api::timestamp::Time;
use jiff::Timestamp;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::json;

use crate::api::Registration;
use crate::api::conditions::{Condition, ConditionStatus, ConditionType, Reason, find};
use crate::api::reasons::{self, Kind};
use crate::core::diagnosis::Diagnosis;
use crate::core::failure::{Failure, FailureKind, Operation, QueueError};
use crate::core::model::fixtures::{
    account, deleted, fresh, issued, new_in_store, not_issued, now, pending, policy, registration, rejected,
    rotated, sealed, seen, settled,
};
use crate::core::model::{
    Claim, ConditionFailure, Content, Existence, Listed, MaxAge, Observed, PreviousRegistration, Record,
    Source, StepResults, Target, VerificationResult,
};
use crate::core::plan::{Plan, ReconcileState, next_step};
use crate::core::remote::Entry;
use crate::core::status::credential::{Report, report};

fn specs() -> impl Strategy<Value = serde_json::Value> {
    select(vec![
        json!({}),
        json!({"deletionPolicy": "Delete"}),
        json!({"suspend": true}),
        json!({"suspend": true, "deletionPolicy": "Delete"}),
        json!({"displayName": "another"}),
        json!({"verification": {"policy": "BestEffort", "interval": "15m"}}),
        json!({"verification": {"policy": "Disabled", "requiredRoles": ["Mail.Send"]}}),
        json!({"verification": {"requiredRoles": ["Mail.Read"]}, "expiryWarning": "8760h"}),
        json!({"destination": {"store": {}}}),
        json!({"destination": {"store": {}}, "deletionPolicy": "Delete"}),
    ])
}

fn verifications() -> impl Strategy<Value = Option<VerificationResult>> {
    select(vec![
        None,
        Some(issued()),
        Some(not_issued(Diagnosis::Throttled)),
        Some(not_issued(Diagnosis::Unavailable)),
        Some(rejected(Reason::InvalidClientSecret)),
        Some(rejected(Reason::ConditionalAccessBlocked)),
        Some(rejected(Reason::VerificationRejected)),
    ])
}

fn failures() -> impl Strategy<Value = Option<Failure>> {
    let operations = select(vec![
        Operation::List,
        Operation::Create,
        Operation::Update,
        Operation::Rename,
        Operation::Delete,
    ]);
    let kinds = select(vec![
        FailureKind::Queued(QueueError::Queued),
        FailureKind::Queued(QueueError::Paused),
        FailureKind::Throttled,
        FailureKind::Unavailable,
        FailureKind::OutcomeUnknown,
        FailureKind::Unauthorized,
        FailureKind::NotInPlan,
        FailureKind::Unreadable,
        FailureKind::WrongAccount,
        FailureKind::CompanyIdIgnored,
        FailureKind::NameUnknown,
        FailureKind::StoreRejected(403),
        FailureKind::KeyringUnavailable,
        FailureKind::NotPersisted,
        FailureKind::ObjectsUnknown,
        FailureKind::SecretRejected,
        FailureKind::Rejected { status: 422, code: Some("WORD".into()) },
    ]);
    let retry_after =
        select(vec![None, Some(Duration::ZERO), Some(Duration::from_mins(7)), Some(Duration::MAX)]);
    let failure = (operations, kinds, retry_after).prop_map(|(operation, kind, retry_after)| Failure {
        operation,
        kind,
        retry_after,
        id: None,
    });
    proptest::option::weighted(0.3, failure)
}

fn listings() -> impl Strategy<Value = Option<Listed>> {
    let entry =
        Entry { id: 7, tenant: "t".into(), client: "c".into(), name: String::new(), expires_at: None };
    let max_age = select(vec![MaxAge::Cached, MaxAge::Recent, MaxAge::Live]);
    let listed = (select(vec![vec![], vec![entry]]), max_age)
        .prop_map(|(entries, max_age)| Listed { entries, max_age });
    proptest::option::of(listed)
}

fn targets() -> impl Strategy<Value = Option<Target>> {
    let others = vec![
        Target::Missing(account()),
        Target::NotServed(account()),
        Target::NotAllowed(account()),
        Target::NotReady(account()),
        Target::NotReconciled(account()),
        Target::NotReached(account()),
    ];
    proptest::option::weighted(0.3, select(others))
}

fn bases() -> impl Strategy<Value = Observed> {
    (specs(), 0_u8..4, 0_u64..3000, any::<bool>()).prop_map(|(spec, base, minutes, was_verified)| {
        let reason = if was_verified { Reason::TokenIssued } else { Reason::InvalidClientSecret };
        let ago = Duration::from_mins(minutes);
        let is_store = spec["destination"]["store"].is_object();
        let mut observed = match base {
            0 => fresh(&spec),
            1 => settled(&spec),
            2 => rotated(&spec),
            _ => seen(rotated(&spec), ago, reason),
        };
        if is_store {
            observed = match base {
                0 => new_in_store(&spec),
                _ => sealed(&spec),
            };
        }
        observed
    })
}

/// The record with the name of the object's record.
fn records() -> impl Strategy<Value = Option<Record>> {
    let contents = select(vec![Content::SourceSecret, Content::AnotherSecret, Content::Unreadable]);
    let ours = (contents, any::<bool>(), any::<bool>(), 0_i64..2).prop_map(
        |(content, is_under_primary, is_for_object, other)| {
            let mut observed = sealed(&json!({"destination": {"store": {}}}));
            let Some(Record::ForApp(record)) = &mut observed.record else { return None };
            (record.content, record.is_under_primary) = (content, is_under_primary);
            (record.is_for_object, record.credential_id) = (is_for_object, record.credential_id + other);
            observed.record
        },
    );
    prop_oneof![4 => ours, 1 => select(vec![None, Some(Record::Missing), Some(Record::ForOtherApp { name: "c-1".into() })])]
}

prop_compose! {
    fn observations()(
        mut observed in bases(),
        verification in verifications(),
        listed in listings(),
        failure in failures(),
        target in targets(),
        claimed in proptest::bool::weighted(0.1),
        unusable in proptest::bool::weighted(0.2),
        is_deleted in proptest::bool::weighted(0.2),
        has_finalizer in any::<bool>(),
        is_unknown in proptest::bool::weighted(0.1),
        removed in proptest::bool::weighted(0.1),
        namespace_minutes in proptest::option::of(0_u64..20),
        failures in proptest::option::of(1_i32..60),
        pending_settles_in in proptest::option::weighted(0.2, 0_u64..120),
        cached in proptest::option::weighted(0.3, select(vec![vec![], vec![22_334_455], vec![22_334_455, 9]])),
        existence in proptest::option::weighted(0.2, select(vec![Existence::Present, Existence::Deleted])),
        previous in proptest::bool::weighted(0.1),
        record in records(),
    ) -> Observed {
        if let (Some(seconds), false) = (pending_settles_in, observed.target == Target::Store) {
            observed.status.pending_create = Some(pending("t0ken", &[]));
            observed.settles_in = Duration::from_secs(seconds / 10 * 10);
        }
        if observed.target == Target::Store {
            observed.record = record;
        } else if previous && observed.status.registration.is_some() {
            observed.status.previous_registrations = vec![registration()];
            let target = observed.target.clone();
            observed.previous_registration = Some(PreviousRegistration { registration: registration(), target, is_reachable: true });
        }
        let named = |id: i64| Entry { id, tenant: "t".into(), client: "c".into(), name: "x [abcdefghjk29]".into(), expires_at: None };
        observed.cached_entries = cached.map(|ids: Vec<i64>| ids.into_iter().map(named).collect());
        if observed.target != Target::Store && let Some(target) = target {
            observed.target = target;
        }
        if let (true, Some(registration)) = (is_unknown, &mut observed.status.registration) {
            registration.fingerprint = Registration::UNKNOWN.into();
            if let Source::Usable(source) = &mut observed.source {
                source.is_registered = false;
            }
        }
        if claimed {
            observed.claim = Claim::Conflict("mail/other".into());
        }
        if unusable {
            observed.source = Source::Unusable(ConditionFailure { reason: Reason::KeyMissing, message: "no key".into() });
        }
        // No request is sent to a destination that cannot be reached.
        let is_reachable = matches!(observed.target, Target::Ready(_));
        let (listed, failure) = if is_reachable { (listed, failure) } else { (None, None) };
        // Only a usable secret is verified, and only a verified one is sent to the destination.
        if observed.usable_source().is_some() && !observed.object.spec.is_suspended() {
            let (listed, failure) = if verification.is_some() { (listed, failure) } else { (None, None) };
            observed.results = StepResults { verification, listed, failure, existence, ..StepResults::default() };
        }
        // Nothing is attempted before a pending create has settled.
        if observed.status.pending_create.is_some() && !observed.settles_in.is_zero() {
            observed.results = StepResults::default();
        }
        observed.status.consecutive_failures = failures;
        observed.status.next_attempt_time = failures.map(|_| Time(now() - Duration::from_secs(1)));
        observed.written = observed.status.clone();
        if is_deleted {
            let failure = observed.results.failure.take();
            observed = deleted(observed, has_finalizer);
            observed.results = StepResults { failure, is_deletion_done: removed, ..StepResults::default() };
            observed.namespace_deleted_at = namespace_minutes.map(|minutes| now() - Duration::from_mins(minutes));
        }
        observed
    }
}

fn concluded(observed: &Observed, at: Timestamp) -> Option<Report> {
    match next_step(observed, &policy(), at) {
        // There is no report for a deleted object.
        Plan::Done(conclusion) if conclusion.state == ReconcileState::Deleted => None,
        Plan::Done(conclusion) => Some(report(observed, &conclusion, &policy(), at)),
        Plan::Step(_) => None,
    }
}

fn is_true(report: &Report, type_: ConditionType) -> bool {
    find(&report.status.conditions, type_).is_some_and(|condition| condition.status == ConditionStatus::True)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn ready_is_never_true_while_another_condition_is_not(observed in observations(), hours in 0_u64..20_000) {
        let is_suspended = observed.object.spec.is_suspended();
        if let Some(report) = concluded(&observed, now() + Duration::from_hours(hours)) {
            if is_true(&report, ConditionType::Ready) && !is_suspended {
                for part in [ConditionType::SecretReady, ConditionType::Verified, ConditionType::Registered] {
                    prop_assert!(is_true(&report, part), "{part:?} in {report:#?}");
                }
                prop_assert!(!is_true(&report, ConditionType::Stalled) && !is_true(&report, ConditionType::Reconciling));
                let expired = find(&report.status.conditions, ConditionType::Expiring)
                    .is_some_and(|expiring| expiring.is_because(Reason::Expired));
                prop_assert!(!expired);
            }
            prop_assert!(!(is_true(&report, ConditionType::Stalled) && is_true(&report, ConditionType::Reconciling)));
            for condition in &report.status.conditions {
                prop_assert!(condition.observed_generation.is_some_and(|generation| generation >= 0), "{condition:?}");
            }
            let without_text = report.status.conditions.iter().find(|condition| condition.message.is_empty());
            prop_assert!(without_text.is_none(), "{without_text:?}");
        }
    }

    #[test]
    fn a_lost_record_is_never_reported_as_stored(observed in observations(), hours in 0_u64..20_000) {
        let at = now() + Duration::from_hours(hours);
        let is_reconciled = !observed.object.spec.is_suspended() && !observed.object.is_deleted();
        if let (true, true, Some(report)) = (is_reconciled, observed.has_lost_record(), concluded(&observed, at)) {
            let registered = find(&report.status.conditions, ConditionType::Registered);
            let is_stored = registered.is_some_and(|registered| registered.is_because(Reason::Stored));
            prop_assert!(!is_stored && !is_true(&report, ConditionType::Ready), "{report:#?}");
        }
    }

    #[test]
    fn a_repeated_report_changes_nothing(observed in observations(), hours in 0_u64..20_000) {
        let at = now() + Duration::from_hours(hours);
        if let Some(first) = concluded(&observed, at) {
            let mut later = observed.clone();
            later.status = first.status.clone();
            later.written = first.status.clone();
            later.results = StepResults::default();
            if let (Source::Usable(source), Some(_)) = (&mut later.source, &first.status.pending_secret) {
                source.is_pending = true;
            }
            if let Some(second) = concluded(&later, at) {
                prop_assert_eq!(&second.status, &first.status);
                prop_assert!(second.events.is_empty(), "{:?}", second.events);
            }
        }
    }

    #[test]
    fn every_reason_has_a_condition_and_status_of_the_reason_table(
        observed in observations(), hours in 0_u64..20_000,
    ) {
        if let Some(report) = concluded(&observed, now() + Duration::from_hours(hours)) {
            let desired = report.status.conditions.iter().filter_map(Condition::as_desired);
            // The others repeat the reason of one of these.
            let parts = [ConditionType::SecretReady, ConditionType::Verified, ConditionType::Registered, ConditionType::Expiring];
            for part in desired.filter(|desired| parts.contains(&desired.type_)) {
                let mut entries = reasons::entries(part.reason);
                let is_it = entries.any(|it| (it.kind, it.condition, it.status) == (Kind::Credential, part.type_, part.status));
                prop_assert!(is_it, "{:?}", part);
            }
        }
    }

    #[test]
    fn an_object_is_never_requeued_at_once(observed in observations(), hours in 0_u64..20_000) {
        let at = now() + Duration::from_hours(hours);
        if let Some(report) = concluded(&observed, at) {
            prop_assert!(report.requeue_after > Duration::ZERO && report.requeue_after <= policy().timing.resync, "{:?}", report.requeue_after);
        }
    }

    #[test]
    fn a_report_never_loses_a_registration(observed in observations(), hours in 0_u64..20_000) {
        let before = observed.status.registration.as_ref().map(|registration| registration.credential_id);
        if let Some(report) = concluded(&observed, now() + Duration::from_hours(hours)) {
            let after = report.status.registration.as_ref().map(|registration| registration.credential_id);
            prop_assert_eq!(before, after);
            prop_assert_eq!(report.status.credential_id, after);
        }
    }
}
