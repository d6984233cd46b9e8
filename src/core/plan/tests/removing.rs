//! Plans that remove client secrets which the operator created.

use super::rotating::{HOUR, change, in_use, read, rotation_step, set, verified_at};
use super::*;
use crate::api::{DeletionPolicy, REMOVE_UNKNOWN_SECRETS, UnknownSecret};
use crate::core::app_reading::AppAccess;
use crate::core::plan::RotationStep;
use crate::core::rotation::failure::RotationFailure;
use crate::core::rotation::{after_deletion, after_switch};

#[test]
fn one_that_nothing_records_is_removed_only_after_the_registration_was_sent_again() {
    let mut requested = verified_at(read(in_use()), now());
    let key = (REMOVE_UNKNOWN_SECRETS.to_owned(), "x".to_owned());
    requested.object.metadata.annotations = Some([key].into());
    change(&mut requested, |rotation| {
        rotation.unknown_secrets = vec![UnknownSecret {
            key_id: "x".into(),
            expires_at: None,
            first_seen_time: Some(Time(now())),
            unknown: UnknownFields::default(),
        }];
    });
    // A restored status may name another client secret than Woodpecker has.
    assert_eq!(rotation_step(&requested, now()), Some(RotationStep::Resend));
    requested.status.registration.as_mut().unwrap().registration_time = Time(now() + HOUR);
    assert_eq!(rotation_step(&requested, now()), Some(RotationStep::Remove("x".into())));
}

#[test]
fn a_deletion_does_not_wait_for_an_app_that_is_gone() {
    let mut going = deleted(in_use(), true);
    going.object.spec.deletion_policy = Some(DeletionPolicy::Delete);
    going.status.registration = None;
    let released = after_deletion(going.rotation().unwrap(), now());
    set(&mut going.status, released);
    let not_found = RotationFailure::lasting(Reason::ApplicationNotFound, "no such app");
    let mut gone = going.clone();
    gone.results.rotation.failure = Some(not_found);
    assert!(
        matches!(next_step(&gone, &policy(), now()), Plan::Done(end) if matches!(end.state, ReconcileState::Blocked(_)))
    );
    let later = now() + Duration::from_mins(15);
    assert!(matches!(next_step(&gone, &policy(), later), Plan::Step(Step::Finalize(_))));
    // As the message of a blocked deletion offers.
    going.object.spec.deletion_policy = Some(DeletionPolicy::Retain);
    assert!(matches!(next_step(&going, &policy(), now()), Plan::Step(Step::Finalize(_))));
}

#[test]
fn a_deleted_object_removes_its_client_secrets_after_its_registration() {
    let mut going = deleted(in_use(), true);
    going.object.spec.deletion_policy = Some(DeletionPolicy::Delete);
    let first = next_step(&going, &policy(), now());
    assert!(matches!(first, Plan::Step(Step::List(_) | Step::Delete)), "{first:?}");
    going.results.is_deletion_done = true;
    assert_eq!(rotation_step(&going, now()), Some(RotationStep::Release));
    let released = after_deletion(going.rotation().unwrap(), now());
    going.status.registration = None;
    set(&mut going.status, released);
    let going = read(going);
    assert_eq!(rotation_step(&going, now()), Some(RotationStep::Remove("a".into())));
    let mut done = going.clone();
    change(&mut done, |rotation| rotation.earlier[0].removal_time = Some(Time(now())));
    assert!(matches!(next_step(&done, &policy(), now()), Plan::Step(Step::Finalize(_))));
    let denied = Observed { app_access: Some(AppAccess::NotGranted), ..going };
    assert!(
        matches!(next_step(&denied, &policy(), now()), Plan::Step(Step::Finalize(_))),
        "the event names them"
    );

    let mut retained = deleted(in_use(), true);
    retained.object.spec.deletion_policy = None;
    assert_eq!(next_step(&retained, &policy(), now()), Plan::Step(Step::Finalize(Finalization::Retained)));
}

#[test]
fn after_a_switch_to_a_secret_those_of_the_operator_are_removed() {
    let mut switched = verified_at(read(in_use()), now());
    switched.object.spec.rotation = None;
    switched.object.spec.secret_ref = fresh(&json!({})).object.spec.secret_ref;
    assert_eq!(rotation_step(&switched, now()), Some(RotationStep::Confirm));
    let next = after_switch(switched.rotation().unwrap(), HOUR, now());
    set(&mut switched.status, next);
    assert_eq!(rotation_step(&switched, now()), None);
    let later = verified_at(switched, now() + HOUR);
    assert_eq!(rotation_step(&later, now() + HOUR), Some(RotationStep::Remove("a".into())));
}
