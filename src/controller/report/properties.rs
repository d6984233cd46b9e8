//! What holds for every object in every surrounding, tried on many drawn at random.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::json;

use super::{Report, report};
use crate::controller::decide::{Decision, Standing, decide};
use crate::controller::observed::testing::{
    account, deleted, fresh, issued, not_issued, now, pending, refused, registration, rotated, rules, sealed,
    seen, settled, unsealed,
};
use crate::controller::observed::{
    Claim, Content, Freshness, Learnt, Listed, Observed, Probe, Problem, Proof, Record, Retiring, Source,
    Target,
};
use crate::destination::{Failure, FailureKind, Operation};
use crate::microsoft::Diagnosis;
use crate::resources::Registration;
use crate::resources::catalogue::{self, Kind};
use crate::resources::conditions::{Condition, ConditionStatus, ConditionType, Reason, find};
use crate::woodpecker::{Entry, LaneClosed};

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

fn proofs() -> impl Strategy<Value = Option<Proof>> {
    select(vec![
        None,
        Some(issued()),
        Some(not_issued(Diagnosis::Throttled)),
        Some(not_issued(Diagnosis::Unavailable)),
        Some(refused(Reason::InvalidClientSecret)),
        Some(refused(Reason::ConditionalAccessBlocked)),
        Some(refused(Reason::Rejected)),
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
        FailureKind::Queued(LaneClosed::Queued),
        FailureKind::Queued(LaneClosed::Paused),
        FailureKind::Throttled,
        FailureKind::Unavailable,
        FailureKind::OutcomeUnknown,
        FailureKind::Unauthorized,
        FailureKind::Foreign,
        FailureKind::NoName,
        FailureKind::StoreRefused(403),
        FailureKind::KeyringMissing,
        FailureKind::NotKept,
        FailureKind::ObjectsUnknown,
        FailureKind::SecretRefused,
        FailureKind::Refused { status: 422, word: Some("WORD".into()) },
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
        Entry { id: 7, tenant: String::new(), client: String::new(), name: String::new(), expires_at: None };
    let freshness = select(vec![Freshness::Any, Freshness::Fresh, Freshness::Anew]);
    let listed = (select(vec![vec![], vec![entry]]), freshness)
        .prop_map(|(entries, freshness)| Listed { entries, freshness });
    proptest::option::of(listed)
}

fn targets() -> impl Strategy<Value = Option<Target>> {
    let others = vec![
        Target::Missing(account()),
        Target::NotAllowed(account()),
        Target::NotReady(account()),
        Target::NotSeenYet(account()),
        Target::Unjudged(account()),
    ];
    proptest::option::weighted(0.3, select(others))
}

fn bases() -> impl Strategy<Value = Observed> {
    (specs(), 0_u8..4, 0_u64..3000, any::<bool>()).prop_map(|(spec, base, minutes, was_proved)| {
        let reason = if was_proved { Reason::TokenIssued } else { Reason::InvalidClientSecret };
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
                0 => unsealed(&spec),
                _ => sealed(&spec),
            };
        }
        observed
    })
}

/// What stands where the object's record should.
fn records() -> impl Strategy<Value = Option<Record>> {
    let contents = select(vec![Content::SourceSecret, Content::AnotherSecret, Content::Unreadable]);
    let ours = (contents, any::<bool>(), any::<bool>(), 0_i64..2).prop_map(
        |(content, is_under_primary, is_sealed_for_object, other)| {
            let mut observed = sealed(&json!({"destination": {"store": {}}}));
            let Some(Record::Ours(record)) = &mut observed.record else { return None };
            (record.content, record.is_under_primary) = (content, is_under_primary);
            (record.is_sealed_for_object, record.credential_id) =
                (is_sealed_for_object, record.credential_id + other);
            observed.record
        },
    );
    prop_oneof![4 => ours, 1 => select(vec![None, Some(Record::Missing), Some(Record::Foreign)])]
}

prop_compose! {
    fn surroundings()(
        mut observed in bases(),
        proof in proofs(),
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
        seen in proptest::option::weighted(0.3, select(vec![vec![], vec![22_334_455], vec![22_334_455, 9]])),
        probe in proptest::option::weighted(0.2, select(vec![Probe::Present, Probe::Gone])),
        retiring in proptest::bool::weighted(0.1),
        record in records(),
    ) -> Observed {
        if let (Some(seconds), false) = (pending_settles_in, observed.target == Target::Store) {
            observed.status.pending = Some(pending("t0ken", &[]));
            observed.settles_in = Duration::from_secs(seconds / 10 * 10);
        }
        if observed.target == Target::Store {
            observed.record = record;
        } else if retiring && observed.status.registration.is_some() {
            observed.status.retiring = vec![registration()];
            let target = observed.target.clone();
            observed.retiring = Some(Retiring { registration: registration(), target, is_reachable: true });
        }
        let named = |id: i64| Entry { id, tenant: String::new(), client: String::new(), name: "x [abcdefghjk29]".into(), expires_at: None };
        observed.seen = seen.map(|ids: Vec<i64>| ids.into_iter().map(named).collect());
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
            observed.claim = Claim::HeldBy("mail/other".into());
        }
        if unusable {
            observed.source = Source::Unusable(Problem { reason: Reason::KeyMissing, message: "no key".into() });
        }
        // Nothing is asked of a destination that cannot be reached.
        let is_reachable = matches!(observed.target, Target::Ready(_));
        let (listed, failure) = if is_reachable { (listed, failure) } else { (None, None) };
        // Only a usable secret is proved, and only a proved one reaches the destination.
        if observed.usable_source().is_some() && !observed.object.spec.is_suspended() {
            let (listed, failure) = if proof.is_some() { (listed, failure) } else { (None, None) };
            observed.learnt = Learnt { proof, listed, failure, probe, ..Learnt::default() };
        }
        // Before a create under way has settled, nothing is tried.
        if observed.status.pending.is_some() && !observed.settles_in.is_zero() {
            observed.learnt = Learnt::default();
        }
        observed.status.consecutive_failures = failures;
        observed.status.next_attempt_at = failures.map(|_| Time(now() - Duration::from_secs(1)));
        observed.written = observed.status.clone();
        if is_deleted {
            let failure = observed.learnt.failure.take();
            observed = deleted(observed, has_finalizer);
            observed.learnt = Learnt { failure, removed, ..Learnt::default() };
            observed.namespace_deleted_at = namespace_minutes.map(|minutes| now() - Duration::from_mins(minutes));
        }
        observed
    }
}

fn concluded(observed: &Observed, at: Timestamp) -> Option<Report> {
    match decide(observed, &rules(), at) {
        // Nothing is reported of an object that is gone.
        Decision::Rest(rest) if rest.standing == Standing::Gone => None,
        Decision::Rest(rest) => Some(report(observed, &rest, &rules(), at)),
        Decision::Act(_) => None,
    }
}

fn is_true(report: &Report, type_: ConditionType) -> bool {
    find(&report.status.conditions, type_).is_some_and(|condition| condition.status == ConditionStatus::True)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn ready_is_never_true_with_a_part_that_is_not(observed in surroundings(), hours in 0_u64..20_000) {
        let is_suspended = observed.object.spec.is_suspended();
        if let Some(report) = concluded(&observed, now() + Duration::from_hours(hours)) {
            if is_true(&report, ConditionType::Ready) && !is_suspended {
                for part in [ConditionType::SourceReady, ConditionType::Verified, ConditionType::Registered] {
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
    fn nothing_counts_as_stored_that_was_seen_to_be_gone(observed in surroundings(), hours in 0_u64..20_000) {
        let at = now() + Duration::from_hours(hours);
        let is_looked_at = !observed.object.spec.is_suspended() && !observed.object.is_deleted();
        if let (true, true, Some(report)) = (is_looked_at, observed.has_lost_record(), concluded(&observed, at)) {
            let registered = find(&report.status.conditions, ConditionType::Registered);
            let is_stored = registered.is_some_and(|registered| registered.is_because(Reason::Stored));
            prop_assert!(!is_stored && !is_true(&report, ConditionType::Ready), "{report:#?}");
        }
    }

    #[test]
    fn what_was_reported_is_not_reported_again(observed in surroundings(), hours in 0_u64..20_000) {
        let at = now() + Duration::from_hours(hours);
        if let Some(first) = concluded(&observed, at) {
            let mut later = observed.clone();
            later.status = first.status.clone();
            later.written = first.status.clone();
            later.learnt = Learnt::default();
            if let (Source::Usable(source), Some(_)) = (&mut later.source, &first.status.candidate) {
                source.is_candidate = true;
            }
            if let Some(second) = concluded(&later, at) {
                prop_assert_eq!(&second.status, &first.status);
                prop_assert!(second.notes.is_empty(), "{:?}", second.notes);
            }
        }
    }

    #[test]
    fn every_reason_comes_with_the_condition_and_status_that_its_catalogue_has(
        observed in surroundings(), hours in 0_u64..20_000,
    ) {
        if let Some(report) = concluded(&observed, now() + Duration::from_hours(hours)) {
            let desired = report.status.conditions.iter().filter_map(Condition::as_desired);
            // The others repeat the reason of one of these.
            let parts = [ConditionType::SourceReady, ConditionType::Verified, ConditionType::Registered, ConditionType::Expiring];
            for part in desired.filter(|desired| parts.contains(&desired.type_)) {
                let entry = catalogue::entry(part.reason);
                prop_assert_eq!((entry.kind, entry.condition, entry.status), (Kind::Credential, part.type_, part.status), "{:?}", part);
            }
        }
    }

    #[test]
    fn an_object_at_rest_is_never_looked_at_again_at_once(observed in surroundings(), hours in 0_u64..20_000) {
        let at = now() + Duration::from_hours(hours);
        if let Some(report) = concluded(&observed, at) {
            prop_assert!(report.again_in > Duration::ZERO && report.again_in <= rules().timing.resync, "{:?}", report.again_in);
        }
    }

    #[test]
    fn a_registration_is_never_lost_by_a_report(observed in surroundings(), hours in 0_u64..20_000) {
        let before = observed.status.registration.as_ref().map(|registration| registration.credential_id);
        if let Some(report) = concluded(&observed, now() + Duration::from_hours(hours)) {
            let after = report.status.registration.as_ref().map(|registration| registration.credential_id);
            prop_assert_eq!(before, after);
            prop_assert_eq!(report.status.credential_id, after);
        }
    }
}
