//! Moving from one account to another.

use crate::core::plan::tests::*;

#[test]
fn a_pending_create_is_recovered_at_the_account_that_the_spec_left() {
    let mut observed =
        verified(fresh(&json!({"destination": {"woodpecker": {"accountRef": {"name": "other"}}}})));
    observed.status.pending_create = Some(pending("t0ken", &[]));
    let nothing = listed_as(observed.clone(), vec![], MaxAge::Live);
    assert_eq!(step_of(&nothing), Step::ClearPendingCreate);
    let found = listed_as(observed.clone(), vec![entry(7, "x [t0ken]")], MaxAge::Live);
    assert_eq!(step_of(&found), Step::RecoverCreated(7));
    observed.target = Target::Missing(account());
    assert_eq!(reason(&observed), Reason::AccountNotFound);
}

#[test]
fn a_move_registers_at_the_new_account_before_it_deletes_at_the_old_one() {
    let mut observed = settled(&json!({"deletionPolicy": "Delete"}));
    observed.object.metadata.finalizers = Some(vec![crate::api::FINALIZER.into()]);
    if let Target::Ready(target) = &mut observed.target {
        target.location.account = other_account();
    }
    assert_eq!(step_of(&observed), Step::List(MaxAge::Cached));
    assert_eq!(step_of(&listed(observed.clone(), &[])), Step::Create);
    observed.status.previous_registrations = vec![registration(); 4];
    assert_eq!(reason(&observed), Reason::InUse, "four is the limit");
    observed.previous_registration = with_previous_registration(&plain()).previous_registration;
    assert_eq!(step_of(&observed), Step::DeletePrevious, "one is deleted first");
}

#[test]
fn a_previous_registration_is_deleted_after_the_new_one_exists_and_blocks_nothing() {
    let delete = json!({"deletionPolicy": "Delete"});
    let mut observed = with_previous_registration(&delete);
    assert_eq!(step_of(&observed), Step::DeletePrevious);
    observed.results.previous_failure = Some(in_use());
    let conclusion = conclusion_of(&observed);
    assert_eq!(
        conclusion,
        Conclusion { state: ReconcileState::UpToDate, requeue: Requeue::After(policy().timing.in_use_retry) }
    );
    let mut missing = with_previous_registration(&delete);
    missing.previous_registration.as_mut().unwrap().is_reachable = false;
    assert_eq!(conclusion_of(&missing).state, ReconcileState::UpToDate);
}

#[test]
fn policy_retain_abandons_previous_registrations() {
    let observed = with_previous_registration(&plain());
    assert_eq!(step_of(&observed), Step::RemoveFinalizer);
    let mut observed = observed;
    observed.object.metadata.finalizers = None;
    assert_eq!(step_of(&observed), Step::AbandonPrevious);
}

#[test]
fn credentials_do_not_move_between_woodpecker_and_the_store() {
    let mut observed = verified(settled(&json!({"destination": {"store": {}}})));
    observed.target = Target::Store;
    assert_eq!(reason(&observed), Reason::DestinationChanged);
}

#[test]
fn an_object_leaves_an_account_only_after_that_has_the_new_secret() {
    let leaving = json!({"destination": {"woodpecker": {"accountRef": {"name": "other"}}}});
    assert_eq!(
        step_of(&verified(rotated(&leaving))),
        Step::Update,
        "mailboxes use it until the object has moved"
    );
    assert_eq!(step_of(&settled(&leaving)), Step::Restart);
}
