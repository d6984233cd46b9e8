//! Plans of objects whose client secrets the operator creates.

use serde_json::json;

use super::*;
use crate::api::conditions::{ConditionStatus, Desired, merge};
use crate::api::{
    CreateAttempt, CreatedSecret, MicrosoftGraphCredentialStatus, NamespacedName, Observations,
    RotationStatus,
};
use crate::core::app_reading::AppAccess;
use crate::core::model::{OwnSecrets, ReadingSubject};
use crate::core::plan::RotationStep;
use crate::core::plan::rotation::renewal_at;
use crate::core::rotation::failure::RotationFailure;
use crate::core::rotation::{SecretRecord, display_name};

pub(super) const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

fn created(key: &str, created: Timestamp) -> CreatedSecret {
    CreatedSecret {
        key_id: key.to_owned(),
        display_name: display_name("u", key),
        expires_at: Time(created + DAY * 180),
        creation_time: Time(created),
        kept: false,
        unknown: UnknownFields::default(),
    }
}

fn with_record(mut observed: Observed, record: SecretRecord) -> Observed {
    observed.own_secrets = Some(OwnSecrets { record, is_outdated: false, other: None });
    observed
}

/// The object rotates, and a grant allows it.
fn rotating(mut observed: Observed) -> Observed {
    let spec = &mut observed.object.spec;
    spec.secret_ref = None;
    spec.rotation = Some(Box::default());
    observed.app_access = Some(AppAccess::Granted);
    observed.status.entra = Some(Box::default());
    if let Source::Usable(source) = &mut observed.source {
        source.reading = Some(ReadingSubject { fingerprint: String::new(), is_recorded: true });
    }
    let mut observed = read_at(observed, now());
    observed.object.metadata.finalizers = Some(vec![crate::api::FINALIZER.to_owned()]);
    observed
}

/// With a daily reading of the app at that time.
fn read_at(mut observed: Observed, at: Timestamp) -> Observed {
    let entra = observed.status.entra.get_or_insert_default();
    (entra.last_read_time, entra.expires_at) = (Some(Time(at)), Some(Time(now() + DAY * 179)));
    observed
}

/// A new object without a client secret.
fn new() -> Observed {
    let mut observed = rotating(fresh(&json!({})));
    observed.source =
        Source::Unusable(ConditionFailure { reason: Reason::CreationPending, message: "none yet".into() });
    with_record(observed, SecretRecord::Missing)
}

/// An object whose client secret was created a day ago, read a minute ago and is registered.
pub(super) fn in_use() -> Observed {
    let mut observed = rotating(settled(&json!({})));
    let current = created("a", now() - DAY);
    let rotation = RotationStatus {
        current: Some(current.clone()),
        last_read_time: Some(Time(now() - Duration::from_mins(1))),
        ..RotationStatus::default()
    };
    set(&mut observed.status, rotation);
    observed.written = observed.status.clone();
    with_record(observed, SecretRecord::Readable { current: current.into(), pending: None })
}

pub(super) fn set(status: &mut MicrosoftGraphCredentialStatus, rotation: RotationStatus) {
    status.rotation = Some(Box::new(rotation));
}

pub(super) fn change(observed: &mut Observed, change: impl FnOnce(&mut RotationStatus)) {
    change(observed.status.rotation.get_or_insert_default());
}

pub(super) fn rotation_step(observed: &Observed, at: Timestamp) -> Option<RotationStep> {
    match next_step(observed, &policy(), at) {
        Plan::Step(Step::Rotation(step)) => Some(step),
        Plan::Step(step) => panic!("{step:?}"),
        Plan::Done(_) => None,
    }
}

pub(super) fn read(mut observed: Observed) -> Observed {
    observed.results.rotation.entries = Some(Vec::new());
    observed
}

#[test]
fn the_first_client_secret_is_created_after_a_reading_and_the_finalizer() {
    assert_eq!(rotation_step(&new(), now()), Some(RotationStep::Read));
    assert_eq!(rotation_step(&read(new()), now()), Some(RotationStep::Create));
    let mut unprotected = read(new());
    unprotected.object.metadata.finalizers = None;
    assert_eq!(next_step(&unprotected, &policy(), now()), Plan::Step(Step::AddFinalizer));
}

#[test]
fn nothing_is_created_without_a_grant_or_beside_another_object() {
    for access in [AppAccess::NotGranted, AppAccess::NotKnown, AppAccess::OtherCloud] {
        for observed in [read(new()), read(in_use())] {
            let later = now() + DAY * 170;
            let denied = Observed { app_access: Some(access.clone()), ..verified_at(observed, later) };
            assert_eq!(rotation_step(&denied, later), None, "{access:?}");
        }
    }
    let mut second = read(new());
    second.own_secrets.as_mut().unwrap().other =
        Some(NamespacedName { namespace: "mail".into(), name: "first".into() });
    let Plan::Done(end) = next_step(&second, &policy(), now()) else { panic!() };
    assert!(
        matches!(end.state, ReconcileState::Blocked(problem) if problem.reason == Reason::AlreadyManaged)
    );
    let foreign = with_record(read(new()), SecretRecord::Foreign);
    assert_eq!(rotation_step(&foreign, now()), None, "the record of another object stays");
}

#[test]
fn a_failure_is_not_repeated_at_once() {
    let mut failed = read(new());
    failed.results.rotation.failure = Some(RotationFailure::lasting(Reason::WriteForbidden, "no"));
    let Plan::Done(end) = next_step(&failed, &policy(), now()) else { panic!() };
    assert_eq!(
        end,
        Conclusion { state: ReconcileState::SourceUnusable, requeue: Requeue::Stalled(Duration::MAX) }
    );
    let mut delayed = new();
    change(&mut delayed, |rotation| rotation.next_attempt_time = Some(Time(now() + HOUR)));
    delayed.status.observed_generation = delayed.object.metadata.generation.unwrap();
    assert_eq!(rotation_step(&delayed, now()), None);
    assert_eq!(rotation_step(&delayed, now() + HOUR * 2), Some(RotationStep::Read));
}

#[test]
fn another_one_is_created_only_once_a_lost_response_is_settled() {
    for observed in [new(), in_use()] {
        let mut waiting = observed;
        change(&mut waiting, |rotation| {
            rotation.attempt = Some(CreateAttempt {
                display_name: display_name("u", "x"),
                start_time: Time(now()),
                unknown: UnknownFields::default(),
            });
            rotation.last_read_time = Some(Time(now() - HOUR));
        });
        assert_eq!(rotation_step(&waiting, now()), Some(RotationStep::Read));
        assert_eq!(rotation_step(&read(waiting), now()), None);
    }
}

#[test]
fn a_client_secret_is_replaced_before_it_expires_and_on_request() {
    let observed = read(in_use());
    let current = observed.rotation().unwrap().current.clone().unwrap();
    let due = renewal_at(&observed.object, &current);
    let latest = current.expires_at.0 - DAY * 30;
    assert!(due <= latest && due + DAY * 8 > latest, "{due}");
    let mut observed = verified_at(observed, due);
    assert_eq!(rotation_step(&observed, due - Duration::from_secs(1)), None);
    assert_eq!(rotation_step(&observed, due), Some(RotationStep::Create));
    let annotations = observed.object.metadata.annotations.get_or_insert_default();
    annotations.insert(crate::api::ROTATE_REQUESTED_AT.to_owned(), "1".to_owned());
    let mut observed = read_at(observed, now());
    assert_eq!(rotation_step(&observed, now()), Some(RotationStep::Create));
    change(&mut observed, |rotation| rotation.last_handled_rotate_at = Some("1".into()));
    assert_eq!(rotation_step(&observed, now()), None);
}

/// With a token from that time.
pub(super) fn verified_at(mut observed: Observed, at: Timestamp) -> Observed {
    observed.status.last_verified_time = Some(Time(at));
    observed.results.verification = Some(VerificationResult { at, ..issued() });
    read_at(observed, at)
}

#[test]
fn a_rejected_name_does_not_keep_a_client_secret_from_being_replaced() {
    let mut named = in_use();
    named.object.spec.display_name = Some("taken".into());
    let renewal = renewal_at(&named.object, named.rotation().unwrap().current.as_ref().unwrap());
    let mut due = verified_at(read(named), renewal);
    assert_eq!(rotation_step(&due, renewal), Some(RotationStep::Create), "the name comes last");

    let rejected = Desired {
        type_: ConditionType::Registered,
        status: ConditionStatus::False,
        reason: Reason::UpdateRejected,
        message: "NAME_TAKEN".into(),
    };
    due.status.conditions = merge(&due.status.conditions, vec![rejected], 1, now());
    due.status.next_attempt_time = Some(Time(renewal + HOUR));
    due.cached_entries = Some(vec![entry(registration().credential_id, "mail/sales-eu")]);
    assert_eq!(rotation_step(&due, renewal), Some(RotationStep::Create));

    let changes: [fn(&mut Observed); 7] = [
        |it| {
            let Source::Usable(source) = &mut it.source else { panic!("{:?}", it.source) };
            source.is_registered = false;
        },
        |it| it.target = Target::NotReady(account()),
        |it| it.claim = Claim::Conflict("mail/other".into()),
        |it| it.cached_entries = None,
        |it| it.cached_entries = Some(Vec::new()),
        |it| it.change_settles_in = HOUR,
        |it| it.object.spec.display_name = None,
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut other = due.clone();
        change(&mut other);
        let next = next_step(&other, &policy(), renewal);
        let is_rotation = matches!(next, Plan::Step(Step::Rotation(_)));
        assert!(!is_rotation, "{number}: a client secret could not be registered now: {next:?}");
    }
}

#[test]
fn a_registered_pending_one_is_confirmed_before_anything_else() {
    let mut observed = in_use();
    change(&mut observed, |rotation| rotation.pending = Some(created("b", now())));
    let (current, pending) = (created("a", now() - DAY).into(), Some(created("b", now()).into()));
    let observed = with_record(observed, SecretRecord::Readable { current, pending });
    assert_eq!(rotation_step(&observed, now()), Some(RotationStep::Confirm));
}

/// With an earlier client secret whose overlap is over.
fn retiring() -> Observed {
    let mut observed = in_use();
    change(&mut observed, |rotation| {
        rotation.earlier = vec![created("old", now() - DAY * 2).into_earlier(Some(Time(now() - HOUR)))];
        rotation.observations = Some(Observations {
            key_id: "a".into(),
            count: 3,
            first_time: Time(now() - Duration::from_mins(6)),
            last_time: Time(now()),
            unknown: UnknownFields::default(),
        });
    });
    verified_at(read(observed), now())
}

#[test]
fn an_earlier_one_is_removed_only_if_nothing_needs_it() {
    let remove = Some(RotationStep::Remove("old".into()));
    assert_eq!(rotation_step(&retiring(), now()), remove);

    let mut early = retiring();
    change(&mut early, |rotation| rotation.earlier[0].remove_after_time = Some(Time(now() + HOUR)));
    assert_eq!(rotation_step(&early, now()), None, "the overlap is not over");

    let mut unseen = retiring();
    change(&mut unseen, |rotation| rotation.observations.as_mut().unwrap().count = 2);
    assert_eq!(rotation_step(&unseen, now()), None, "Entra does not show the current one reliably");

    let mut unproven = retiring();
    unproven.results.verification = None;
    unproven.status.last_verified_time = Some(Time(now() - HOUR * 2));
    assert_eq!(next_step(&unproven, &policy(), now()), Plan::Step(Step::Verify));

    let mut elsewhere = retiring();
    elsewhere.status.previous_registrations = vec![registration()];
    elsewhere.object.spec.deletion_policy = Some(crate::api::DeletionPolicy::Delete);
    assert_eq!(rotation_step(&elsewhere, now()), None, "a previous registration may have it");

    let mut removed = retiring();
    change(&mut removed, |rotation| rotation.earlier[0].removal_time = Some(Time(now())));
    assert_eq!(rotation_step(&removed, now()), None);
}

#[test]
fn a_rejected_client_secret_is_replaced_and_a_rejected_pending_one_is_given_up() {
    let reject = |observed: Observed| {
        let mut observed = observed;
        observed.results.verification = Some(rejected(Reason::InvalidClientSecret));
        observed.status.rejections = Some(Box::new(crate::api::Rejections {
            fingerprint: Some(observed.usable_source().unwrap().fingerprint.clone()),
            first_time: Time(now() - HOUR),
            count: 3,
            unknown: UnknownFields::default(),
        }));
        observed
    };
    assert_eq!(rotation_step(&reject(read(in_use())), now()), Some(RotationStep::Create));
    let mut pending = read(in_use());
    let (current, new) = (created("a", now() - DAY).into(), Some(created("b", now()).into()));
    pending.own_secrets.as_mut().unwrap().record = SecretRecord::Readable { current, pending: new };
    assert_eq!(rotation_step(&reject(pending), now()), Some(RotationStep::DiscardPending));
}

/// The rejection is known, and the next verification is a day away.
fn rejected_before() -> Observed {
    let mut observed = in_use();
    observed.status.next_verification_time = Some(Time(now() + DAY));
    let verified = observed.status.conditions.iter_mut().find(|it| it.type_ == "Verified").unwrap();
    (verified.status, verified.reason) = (ConditionStatus::False, "InvalidClientSecret".into());
    observed
}

#[test]
fn the_replacement_of_a_rejected_client_secret_has_delays_of_its_own() {
    assert_eq!(rotation_step(&read(rejected_before()), now()), Some(RotationStep::Create));
    let waits = Conclusion { state: ReconcileState::Waiting, requeue: Requeue::AsPlanned };
    let mut failed = read(rejected_before());
    failed.results.rotation.failure = Some(RotationFailure::temporary(Reason::RateLimited, "later", None));
    assert_eq!(next_step(&failed, &policy(), now()), Plan::Done(waits));
    let mut delayed = read(rejected_before());
    change(&mut delayed, |rotation| rotation.next_attempt_time = Some(Time(now() + HOUR)));
    assert_eq!(rotation_step(&delayed, now()), None);
    assert_eq!(rotation_step(&delayed, now() + HOUR), Some(RotationStep::Create));
    let annotations = [(crate::api::ROTATE_REQUESTED_AT.to_owned(), "1".to_owned())];
    delayed.object.metadata.annotations = Some(annotations.into());
    assert_eq!(rotation_step(&delayed, now()), Some(RotationStep::Create), "on request at once");
    let denied = Observed { app_access: Some(AppAccess::NotGranted), ..read(rejected_before()) };
    assert_eq!(rotation_step(&denied, now()), None);
}

#[test]
fn a_pending_one_that_expired_unregistered_is_given_up() {
    let mut expired = read(in_use());
    let (current, new) = (created("a", now() - DAY).into(), Some(created("b", now() - HOUR).into()));
    expired.own_secrets.as_mut().unwrap().record = SecretRecord::Readable { current, pending: new };
    expired.source =
        Source::Unusable(ConditionFailure { reason: Reason::CreationPending, message: "expired".into() });
    assert_eq!(rotation_step(&expired, now()), Some(RotationStep::DiscardPending));
}

#[test]
fn a_new_client_secret_spreads_before_it_replaces_the_registered_one() {
    let mut observed = read(in_use());
    let new = created("b", now());
    observed.own_secrets.as_mut().unwrap().record =
        SecretRecord::Readable { current: created("a", now() - DAY).into(), pending: Some(new.into()) };
    let Source::Usable(source) = &mut observed.source else { panic!() };
    source.is_registered = false;
    let Plan::Done(end) = next_step(&observed, &policy(), now()) else { panic!() };
    let minute = Duration::from_mins(1);
    let end_of_wait = || Conclusion { state: ReconcileState::Waiting, requeue: Requeue::After(minute) };
    assert_eq!(end, end_of_wait());
    assert_eq!(next_step(&observed, &policy(), now() + minute), Plan::Step(Step::Verify));
    let mut alone = observed.clone();
    alone.own_secrets.as_mut().unwrap().record =
        SecretRecord::Readable { current: created("b", now()).into(), pending: None };
    assert_eq!(
        next_step(&alone, &policy(), now()),
        Plan::Done(end_of_wait()),
        "after a switch, or if the earlier one is lost"
    );
    observed.status.registration = None;
    assert_eq!(next_step(&observed, &policy(), now()), Plan::Step(Step::Verify), "nothing is replaced");
}
