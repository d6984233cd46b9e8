//! Deletion, and the finalizer.

use crate::core::plan::tests::*;

#[test]
fn changing_the_policy_to_retain_removes_the_finalizer() {
    let mut observed = settled(&plain());
    observed.object.metadata.finalizers = Some(vec![crate::api::FINALIZER.into()]);
    assert_eq!(step_of(&observed), Step::RemoveFinalizer);
    let observed = settled(&json!({"deletionPolicy": "Delete"}));
    assert_eq!(step_of(&observed), Step::AddFinalizer);
}

#[test]
fn the_finalizer_follows_the_policy_even_if_secret_and_account_are_unusable() {
    let broken = |spec: &Value| {
        let mut observed = settled(spec);
        observed.source = Source::Unusable(ConditionFailure {
            reason: Reason::SecretNotFound,
            message: "no Secret".into(),
        });
        observed.target = Target::NotReady(account());
        observed
    };
    assert_eq!(step_of(&broken(&json!({"deletionPolicy": "Delete"}))), Step::AddFinalizer);
    assert_eq!(step_of(&broken(&json!({"deletionPolicy": "Delete", "suspend": true}))), Step::AddFinalizer);
    let mut retained = broken(&plain());
    retained.object.metadata.finalizers = Some(vec![crate::api::FINALIZER.into()]);
    assert_eq!(step_of(&retained), Step::RemoveFinalizer);
}

#[test]
fn a_deletion_deletes_only_what_the_object_created() {
    let delete = json!({"deletionPolicy": "Delete"});
    assert_eq!(conclusion_of(&deleted(settled(&delete), false)).state, ReconcileState::Deleted);
    assert_eq!(step_of(&deleted(fresh(&delete), true)), Step::Finalize(Finalization::NeverRegistered));
    assert_eq!(step_of(&deleted(settled(&delete), true)), Step::List(MaxAge::Recent));
    assert_eq!(step_of(&listed(deleted(settled(&delete), true), &[22_334_455])), Step::Delete);
    assert_eq!(step_of(&deleted(settled(&plain()), true)), Step::Finalize(Finalization::Retained));
    let mut adopted = deleted(settled(&delete), true);
    if let Some(registration) = &mut adopted.status.registration {
        registration.ownership = Ownership::Adopted;
    }
    assert_eq!(step_of(&adopted), Step::Finalize(Finalization::NotOwned));
    let mut removed = deleted(settled(&delete), true);
    removed.results.is_deletion_done = true;
    assert_eq!(step_of(&removed), Step::Finalize(Finalization::Deleted));
}

#[test]
fn a_deletion_while_suspended_leaves_an_orphan() {
    let observed = deleted(settled(&json!({"deletionPolicy": "Delete", "suspend": true})), true);
    assert_eq!(step_of(&observed), Step::Finalize(Finalization::Orphaned(OrphanCause::Suspended)));
}

#[test]
fn a_terminating_namespace_is_released_after_ten_minutes() {
    let observed = deleted(settled(&json!({"deletionPolicy": "Delete"})), true);
    let mut observed = failing(observed, Operation::Delete, FailureKind::Unavailable);
    observed.namespace_deleted_at = Some(now() - Duration::from_mins(9));
    assert_eq!(conclusion_of(&observed).requeue, Requeue::Backoff(None));
    observed.namespace_deleted_at = Some(now() - Duration::from_mins(10));
    assert_eq!(step_of(&observed), Step::Finalize(Finalization::Orphaned(OrphanCause::Namespace)));
}

#[test]
fn deleting_a_credential_in_use_is_retried_after_ten_minutes() {
    let observed = deleted(settled(&json!({"deletionPolicy": "Delete"})), true);
    let observed = failing(observed, Operation::Delete, FailureKind::Rejected { status: 409, code: None });
    assert_eq!(conclusion_of(&observed).requeue, Requeue::Stalled(Duration::from_mins(10)));
}

#[test]
fn a_deletion_waits_for_its_own_account() {
    let mut observed = deleted(settled(&json!({"deletionPolicy": "Delete"})), true);
    observed.target = Target::NotReady(account());
    assert_eq!(reason(&observed), Reason::AccountNotReady);
    observed.target = Target::Missing(account());
    assert_eq!(reason(&observed), Reason::AccountNotFound);
    let mut changed = deleted(settled(&json!({"deletionPolicy": "Delete"})), true);
    if let Target::Ready(target) = &mut changed.target {
        target.location.company_id = Some(7);
    }
    assert_eq!(reason(&changed), Reason::AccountNotFound);
}

#[test]
fn a_deletion_with_a_pending_create_waits_for_its_settle_period() {
    let mut observed = deleted(fresh(&json!({"deletionPolicy": "Delete"})), true);
    observed.status.pending_create = Some(pending("t0ken", &[]));
    observed.settles_in = Duration::from_secs(90);
    assert_eq!(conclusion_of(&observed).requeue, Requeue::Settle(Duration::from_secs(90)));
    observed.settles_in = Duration::ZERO;
    assert_eq!(step_of(&observed), Step::List(MaxAge::Live));
    let found = listed_as(observed.clone(), vec![entry(7, "x [t0ken]")], MaxAge::Live);
    assert_eq!(step_of(&found), Step::RecoverCreated(7));
    let nothing = listed_as(observed.clone(), vec![], MaxAge::Live);
    assert_eq!(step_of(&nothing), Step::ClearPendingCreate);
    let mut retained = deleted(fresh(&plain()), true);
    retained.status.pending_create = observed.status.pending_create;
    assert_eq!(step_of(&retained), Step::Finalize(Finalization::Retained));
}

#[test]
fn a_deletion_deletes_previous_registrations_and_late_duplicates() {
    let mut observed = deleted(with_previous_registration(&json!({"deletionPolicy": "Delete"})), true);
    assert_eq!(step_of(&observed), Step::DeletePrevious);
    let previous = observed.previous_registration.as_mut().unwrap();
    (previous.target, previous.is_reachable) = (Target::Missing(account()), false);
    let mut observed =
        listed_as(observed, vec![entry(22_334_455, "x"), entry(9, "x [abcdefghjk29]")], MaxAge::Recent);
    assert_eq!(step_of(&observed), Step::DeleteDuplicate(9));
    observed.results.listed.as_mut().unwrap().entries.pop();
    assert_eq!(step_of(&observed), Step::Delete, "a deleted account does not block the rest");
    observed.results.is_deletion_done = true;
    assert_eq!(reason(&observed), Reason::AccountNotFound);
    observed.results.previous_failure = Some(in_use());
    assert_eq!(conclusion_of(&observed).requeue, Requeue::Stalled(policy().timing.in_use_retry));
    observed.results.previous_failure = None;
    (observed.previous_registration, observed.status.previous_registrations) = (None, vec![]);
    assert_eq!(step_of(&observed), Step::Finalize(Finalization::Deleted));
}

#[test]
fn an_adopted_credential_is_deleted_only_with_ownership() {
    let adopted = |spec: &Value| {
        let mut observed = deleted(settled(spec), true);
        observed.status.registration.as_mut().unwrap().ownership = Ownership::Adopted;
        observed
    };
    let mut spec = adoption(&json!({"takeOwnership": true}));
    spec["deletionPolicy"] = json!("Delete");
    assert_eq!(step_of(&listed(adopted(&spec), &[])), Step::Delete);
    assert_eq!(
        step_of(&adopted(&json!({"deletionPolicy": "Delete"}))),
        Step::Finalize(Finalization::NotOwned)
    );
}
