//! An existing registration.

use crate::core::plan::tests::*;

#[test]
fn a_missing_registration_is_checked_by_its_id_before_it_is_created_again() {
    let mut observed = settled(&plain());
    observed.cached_entries = Some(vec![]);
    assert_eq!(step_of(&observed), Step::ExistenceCheck);
    observed.results.existence = Some(Existence::Present);
    assert_eq!(conclusion_of(&observed).state, ReconcileState::UpToDate);
    observed.results.existence = Some(Existence::Deleted);
    assert_eq!(step_of(&observed), Step::ClearRegistration);
    observed.results.existence = None;
    let unclear = FailureKind::Rejected { status: 403, code: None };
    let rejected = failing(observed.clone(), Operation::Rename, unclear);
    assert!(matches!(conclusion_of(&rejected).requeue, Requeue::Stalled(_)));
    let annotate = |id: &str| {
        let mut observed = observed.clone();
        observed.object.metadata.annotations =
            Some([(crate::api::CONFIRM_DELETED.to_owned(), id.to_owned())].into());
        observed
    };
    assert_eq!(step_of(&annotate("22334455")), Step::ClearRegistration);
    assert_eq!(step_of(&annotate("1")), Step::ExistenceCheck, "that is for another one");
}

#[test]
fn only_own_late_duplicates_are_deleted() {
    let mut observed = settled(&plain());
    let own = entry(22_334_455, "mail/sales-eu");
    observed.cached_entries = Some(vec![own.clone(), entry(8, "mail/sales-eu")]);
    assert_eq!(conclusion_of(&observed).state, ReconcileState::UpToDate);
    observed.cached_entries = Some(vec![own, entry(9, "mail/sales-eu [abcdefghjk29]")]);
    assert_eq!(step_of(&observed), Step::DeleteDuplicate(9));
    observed.results.failed_duplicates = vec![9];
    assert_eq!(conclusion_of(&observed).state, ReconcileState::UpToDate, "the object stays Ready");
    observed.results.failed_duplicates.clear();
    let other_app = Entry { client: "another".into(), ..entry(9, "mail/sales-eu [abcdefghjk29]") };
    let other_tenant = Entry { tenant: "another".into(), ..entry(9, "mail/sales-eu [abcdefghjk29]") };
    let in_the_middle = entry(9, "[abcdefghjk29] is what it was called");
    for not_owned in [other_app, other_tenant, in_the_middle] {
        observed.cached_entries = Some(vec![entry(22_334_455, "mail/sales-eu"), not_owned]);
        assert_eq!(conclusion_of(&observed).state, ReconcileState::UpToDate, "the token alone is not enough");
    }
}

#[test]
fn a_settled_object_needs_no_step() {
    let conclusion = conclusion_of(&settled(&plain()));
    assert_eq!(conclusion, Conclusion { state: ReconcileState::UpToDate, requeue: Requeue::WhenDue });
}

#[test]
fn a_registration_with_an_unknown_secret_gets_the_current_one() {
    let mut observed = rotated(&plain());
    observed.status.registration.as_mut().unwrap().fingerprint = Registration::UNKNOWN.into();
    assert_eq!(step_of(&observed), Step::Verify);
    assert_eq!(step_of(&verified(observed)), Step::Update);
}

#[test]
fn a_suspended_object_needs_no_step() {
    let suspended = json!({"suspend": true});
    assert_eq!(conclusion_of(&fresh(&suspended)).state, ReconcileState::Suspended);
    assert_eq!(conclusion_of(&rotated(&suspended)).state, ReconcileState::Suspended);
}

#[test]
fn a_failure_at_woodpecker_ends_the_reconcile_with_its_delay() {
    let requeue =
        |kind, operation| conclusion_of(&failing(verified(fresh(&plain())), operation, kind)).requeue;
    assert_eq!(requeue(FailureKind::Unavailable, Operation::Update), Requeue::Backoff(None));
    assert_eq!(requeue(FailureKind::Throttled, Operation::Create), Requeue::Backoff(None));
    assert_eq!(requeue(FailureKind::Queued(QueueError::Queued), Operation::Create), Requeue::OnPermit);
    assert_eq!(requeue(FailureKind::Unauthorized, Operation::List), Requeue::Backoff(None));
    let rejection = FailureKind::Rejected { status: 422, code: None };
    assert!(matches!(requeue(rejection.clone(), Operation::Create), Requeue::Stalled(_)));
    assert_eq!(requeue(rejection, Operation::List), Requeue::Backoff(None));
}

#[test]
fn an_update_without_a_response_settles_before_the_next_request() {
    let mut observed = verified(rotated(&plain()));
    observed.status.registration.as_mut().unwrap().fingerprint = Registration::UNKNOWN.into();
    observed.cached_entries = Some(vec![]);
    let left = Duration::from_secs(20);
    observed.change_settles_in = left;
    assert_eq!(
        conclusion_of(&observed),
        Conclusion { state: ReconcileState::Settling, requeue: Requeue::Settle(left) }
    );
    observed.change_settles_in = Duration::ZERO;
    assert_eq!(step_of(&observed), Step::ExistenceCheck);
    observed.cached_entries = None;
    assert_eq!(step_of(&observed), Step::Update);
}

#[test]
fn only_a_name_of_the_spec_is_applied_and_as_the_last_step() {
    let mut observed = settled(&plain());
    observed.status.registration.as_mut().unwrap().name = "renamed by a person [abcdefghjk29]".into();
    assert_eq!(
        conclusion_of(&observed).state,
        ReconcileState::UpToDate,
        "without a displayName it keeps any name"
    );
    observed.status.registration.as_mut().unwrap().name.clear();
    assert_eq!(conclusion_of(&observed).state, ReconcileState::UpToDate);
    observed.object.spec.display_name = Some("Sales EU".into());
    assert_eq!(step_of(&observed), Step::Rename);
    observed.cached_entries = Some(vec![entry(22_334_455, ""), entry(9, "x [abcdefghjk29]")]);
    assert_eq!(step_of(&observed), Step::DeleteDuplicate(9), "a late duplicate first");
}

#[test]
fn a_confirmed_deletion_does_not_wait_for_the_next_attempt() {
    let mut observed = settled(&plain());
    observed.cached_entries = Some(vec![]);
    observed.status.next_attempt_time = Some(crate::api::timestamp::Time(now() + Duration::from_hours(24)));
    assert_eq!(conclusion_of(&observed).state, ReconcileState::Waiting);
    let confirmation = (crate::api::CONFIRM_DELETED.to_owned(), "22334455".to_owned());
    observed.object.metadata.annotations = Some([confirmation].into());
    assert_eq!(step_of(&observed), Step::ClearRegistration);
}
