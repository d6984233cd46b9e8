//! The end of an object, and its finalizer.

use super::*;

#[test]
fn a_policy_changed_to_retain_takes_the_finalizer_off() {
    let mut observed = settled(&plain());
    observed.object.metadata.finalizers = Some(vec![crate::resources::FINALIZER.into()]);
    assert_eq!(acts(&observed), Action::RemoveFinalizer);
    let observed = settled(&json!({"deletionPolicy": "Delete"}));
    assert_eq!(acts(&observed), Action::AddFinalizer);
}

#[test]
fn the_finalizer_follows_the_policy_whatever_else_is_wrong() {
    let broken = |spec: &Value| {
        let mut observed = settled(spec);
        observed.source =
            Source::Unusable(Problem { reason: Reason::SecretNotFound, message: "no Secret".into() });
        observed.target = Target::NotReady(account());
        observed
    };
    assert_eq!(acts(&broken(&json!({"deletionPolicy": "Delete"}))), Action::AddFinalizer);
    assert_eq!(acts(&broken(&json!({"deletionPolicy": "Delete", "suspend": true}))), Action::AddFinalizer);
    let mut retained = broken(&plain());
    retained.object.metadata.finalizers = Some(vec![crate::resources::FINALIZER.into()]);
    assert_eq!(acts(&retained), Action::RemoveFinalizer);
}

#[test]
fn a_deletion_takes_away_only_what_the_object_made() {
    let delete = json!({"deletionPolicy": "Delete"});
    assert_eq!(rests(&deleted(settled(&delete), false)).standing, Standing::Gone);
    assert_eq!(acts(&deleted(fresh(&delete), true)), Action::LetGo(Parting::NeverRegistered));
    assert_eq!(acts(&deleted(settled(&delete), true)), Action::List(Freshness::Fresh));
    assert_eq!(acts(&listed(deleted(settled(&delete), true), &[22_334_455])), Action::Delete);
    assert_eq!(acts(&deleted(settled(&plain()), true)), Action::LetGo(Parting::Retained));
    let mut adopted = deleted(settled(&delete), true);
    if let Some(registration) = &mut adopted.status.registration {
        registration.ownership = Ownership::Adopted;
    }
    assert_eq!(acts(&adopted), Action::LetGo(Parting::NotOurs));
    let mut removed = deleted(settled(&delete), true);
    removed.learnt.removed = true;
    assert_eq!(acts(&removed), Action::LetGo(Parting::Removed));
}

#[test]
fn a_deletion_while_suspended_leaves_an_orphan_and_says_so() {
    let observed = deleted(settled(&json!({"deletionPolicy": "Delete", "suspend": true})), true);
    assert_eq!(acts(&observed), Action::LetGo(Parting::OrphanedBySuspension));
}

#[test]
fn a_terminating_namespace_gets_out_after_ten_minutes() {
    let observed = deleted(settled(&json!({"deletionPolicy": "Delete"})), true);
    let mut observed = failing(observed, Operation::Delete, FailureKind::Unavailable);
    observed.namespace_deleted_at = Some(now() - Duration::from_mins(9));
    assert_eq!(rests(&observed).retry, Retry::Backoff(None));
    observed.namespace_deleted_at = Some(now() - Duration::from_mins(10));
    assert_eq!(acts(&observed), Action::LetGo(Parting::OrphanedByNamespace));
}

#[test]
fn what_is_in_use_is_tried_again_slowly() {
    let observed = deleted(settled(&json!({"deletionPolicy": "Delete"})), true);
    let observed = failing(observed, Operation::Delete, FailureKind::Refused { status: 409, word: None });
    assert_eq!(rests(&observed).retry, Retry::Stalled(Duration::from_mins(10)));
}

#[test]
fn a_deletion_waits_for_its_account_and_for_no_other() {
    let mut observed = deleted(settled(&json!({"deletionPolicy": "Delete"})), true);
    observed.target = Target::NotReady(account());
    assert_eq!(reason(&observed), Reason::AccountNotReady);
    observed.target = Target::Missing(account());
    assert_eq!(reason(&observed), Reason::AccountNotFound);
    let mut changed = deleted(settled(&json!({"deletionPolicy": "Delete"})), true);
    if let Target::Ready(target) = &mut changed.target {
        target.place.company_id = Some(7);
    }
    assert_eq!(reason(&changed), Reason::AccountNotFound);
}

#[test]
fn a_deletion_with_a_create_under_way_waits_until_it_must_have_settled() {
    let mut observed = deleted(fresh(&json!({"deletionPolicy": "Delete"})), true);
    observed.status.pending = Some(pending("t0ken", &[]));
    observed.settles_in = Duration::from_secs(90);
    assert_eq!(rests(&observed).retry, Retry::Settle(Duration::from_secs(90)));
    observed.settles_in = Duration::ZERO;
    assert_eq!(acts(&observed), Action::List(Freshness::Anew));
    let found = listed_as(observed.clone(), vec![entry(7, "x [t0ken]")], Freshness::Anew);
    assert_eq!(acts(&found), Action::Recover(7));
    let nothing = listed_as(observed.clone(), vec![], Freshness::Anew);
    assert_eq!(acts(&nothing), Action::ForgetPending);
    let mut retained = deleted(fresh(&plain()), true);
    retained.status.pending = observed.status.pending;
    assert_eq!(acts(&retained), Action::LetGo(Parting::Retained));
}

#[test]
fn a_deletion_removes_earlier_registrations_and_late_duplicates_as_well() {
    let mut observed = deleted(with_retiring(&json!({"deletionPolicy": "Delete"})), true);
    assert_eq!(acts(&observed), Action::Retire);
    let retiring = observed.retiring.as_mut().unwrap();
    (retiring.target, retiring.is_reachable) = (Target::Missing(account()), false);
    let mut observed =
        listed_as(observed, vec![entry(22_334_455, "x"), entry(9, "x [abcdefghjk29]")], Freshness::Fresh);
    assert_eq!(acts(&observed), Action::RemoveDuplicate(9));
    observed.learnt.listed.as_mut().unwrap().entries.pop();
    assert_eq!(acts(&observed), Action::Delete, "an account that is gone holds up nothing else");
    observed.learnt.removed = true;
    assert_eq!(reason(&observed), Reason::AccountNotFound);
    observed.learnt.retiring_failure = Some(in_use());
    assert_eq!(rests(&observed).retry, Retry::Stalled(rules().timing.in_use_retry));
    observed.learnt.retiring_failure = None;
    (observed.retiring, observed.status.retiring) = (None, vec![]);
    assert_eq!(acts(&observed), Action::LetGo(Parting::Removed));
}

#[test]
fn what_was_taken_over_is_deleted_only_where_its_ownership_was_taken() {
    let adopted = |spec: &Value| {
        let mut observed = deleted(settled(spec), true);
        observed.status.registration.as_mut().unwrap().ownership = Ownership::Adopted;
        observed
    };
    let mut spec = adoption(&json!({"takeOwnership": true}));
    spec["deletionPolicy"] = json!("Delete");
    assert_eq!(acts(&listed(adopted(&spec), &[])), Action::Delete);
    assert_eq!(acts(&adopted(&json!({"deletionPolicy": "Delete"}))), Action::LetGo(Parting::NotOurs));
}
