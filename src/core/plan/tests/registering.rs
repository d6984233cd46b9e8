//! The first registration: adopted, created or blocked.

use crate::core::plan::tests::*;

#[test]
fn a_new_object_is_verified_listed_and_created() {
    let observed = fresh(&plain());
    assert_eq!(step_of(&observed), Step::Verify);
    let observed = verified(observed);
    assert_eq!(step_of(&observed), Step::List(MaxAge::Cached));
    let mut observed = listed(observed, &[]);
    assert_eq!(step_of(&observed), Step::Create);
    // A cached listing is not enough to create.
    observed.results.listed = Some(Listed { entries: vec![], max_age: MaxAge::Cached });
    assert_eq!(step_of(&observed), Step::List(MaxAge::Recent));
}

#[test]
fn an_obstacle_at_the_account_is_checked_at_the_listing_interval() {
    let observed = verified(fresh(&adoption(&json!({"policy": "CreateOnly"}))));
    let observed = listed_as(observed, vec![entry(7, "")], MaxAge::Cached);
    assert_eq!(conclusion_of(&observed).requeue, Requeue::After(policy().timing.listing_interval));
}

#[test]
fn with_policy_delete_the_finalizer_comes_before_the_create() {
    let mut observed = listed(verified(fresh(&json!({"deletionPolicy": "Delete"}))), &[]);
    assert_eq!(step_of(&observed), Step::AddFinalizer);
    observed.object.metadata.finalizers = Some(vec![crate::api::FINALIZER.into()]);
    assert_eq!(step_of(&observed), Step::Create);
}

#[test]
fn no_finalizer_is_added_if_finalizers_are_disabled() {
    let off = OperatorPolicy { sets_finalizers: false, ..policy() };
    let observed = listed(verified(fresh(&json!({"deletionPolicy": "Delete"}))), &[]);
    assert_eq!(next_step(&observed, &off, now()), Plan::Step(Step::Create));
    let registered = settled(&json!({"deletionPolicy": "Delete"}));
    assert_eq!(step_of(&registered), Step::AddFinalizer);
    assert!(matches!(next_step(&registered, &off, now()), Plan::Done(_)));
}

#[test]
fn an_existing_credential_is_adopted_by_policy_and_never_created_again() {
    let with = |policy: Value, ids: &[i64]| listed(verified(fresh(&adoption(&policy))), ids);
    assert_eq!(step_of(&listed(verified(fresh(&plain())), &[7])), Step::Adopt(7));
    assert_eq!(step_of(&with(json!({"policy": "AdoptOnly"}), &[7])), Step::Adopt(7));
    assert_eq!(reason(&with(json!({"policy": "AdoptOnly"}), &[])), Reason::NoMatchToAdopt);
    assert_eq!(reason(&with(json!({"policy": "CreateOnly"}), &[7])), Reason::AlreadyExists);
    assert_eq!(step_of(&with(json!({"policy": "CreateOnly"}), &[])), Step::Create);
    assert_eq!(reason(&with(json!({}), &[7, 8])), Reason::AmbiguousMatch);
    assert_eq!(step_of(&with(json!({"credentialId": 8}), &[7, 8])), Step::Adopt(8));
    assert_eq!(reason(&with(json!({"credentialId": 9}), &[7, 8])), Reason::NoMatchToAdopt);
    assert_eq!(reason(&with(json!({"credentialId": 9}), &[])), Reason::NoMatchToAdopt);
}

#[test]
fn a_cached_listing_is_not_enough_to_adopt() {
    let observed = listed_as(verified(fresh(&plain())), vec![entry(7, "")], MaxAge::Cached);
    assert_eq!(step_of(&observed), Step::List(MaxAge::Recent));
}

#[test]
fn what_the_object_has_registered_is_its_own_under_any_adoption_policy() {
    for policy in ["CreateOnly", "AdoptOnly", "AdoptOrCreate"] {
        let mut moved = verified(settled(&adoption(&json!({"policy": policy}))));
        let registration = moved.status.registration.as_mut().unwrap();
        registration.account = Some(other_account());
        registration.idempotency_token = Some("abcdefghjk29".into());
        let id = registration.credential_id;
        let step = |entries: Vec<Entry>| step_of(&listed_as(moved.clone(), entries, MaxAge::Recent));
        assert_eq!(step(vec![entry(7, ""), entry(id, "renamed")]), Step::Adopt(id), "{policy}");
        assert_eq!(step(vec![entry(7, ""), entry(8, "x [abcdefghjk29]")]), Step::Adopt(8), "{policy}");
        let of_another_app = Entry { client: "another".into(), ..entry(id, "") };
        let others = listed_as(moved.clone(), vec![entry(7, ""), of_another_app], MaxAge::Recent);
        if policy == "CreateOnly" {
            assert_eq!(reason(&others), Reason::AlreadyExists);
        }
    }
}

#[test]
fn an_existing_credential_is_never_adopted_without_verification() {
    let allowed = OperatorPolicy { allow_unverified: true, ..policy() };
    let disabled = listed(fresh(&json!({"verification": {"policy": "Disabled"}})), &[7]);
    assert_eq!(next_step(&disabled, &allowed, now()), Plan::Step(Step::Verify));
    let best_effort = json!({"verification": {"policy": "BestEffort"}});
    let mut unverified = listed(fresh(&best_effort), &[7]);
    unverified.results.verification = Some(not_issued(Diagnosis::Unavailable));
    assert_eq!(reason(&unverified), Reason::MicrosoftUnavailable);
    let mut adopted = rotated(&best_effort);
    adopted.status.registration.as_mut().unwrap().ownership = Ownership::Adopted;
    adopted.results.verification = Some(not_issued(Diagnosis::Unavailable));
    assert_eq!(reason(&adopted), Reason::MicrosoftUnavailable, "nor is it changed without verification");
    assert_eq!(step_of(&Observed { results: StepResults::default(), ..adopted.clone() }), Step::Verify);
    assert_eq!(step_of(&verified(adopted)), Step::Update);
}

#[test]
fn an_adopted_credential_keeps_its_name_unless_the_spec_has_one() {
    let adopted = |spec: &Value| {
        let mut observed = settled(spec);
        let registration = observed.status.registration.as_mut().unwrap();
        (registration.ownership, registration.name) = (Ownership::Adopted, "made by hand".into());
        observed
    };
    assert_eq!(conclusion_of(&adopted(&plain())).state, ReconcileState::UpToDate);
    assert_eq!(step_of(&adopted(&json!({"displayName": "MS Graph app"}))), Step::Rename);
}

#[test]
fn a_create_of_unknown_outcome_is_recovered_after_its_settle_period() {
    let mut observed = verified(fresh(&plain()));
    observed.status.pending_create = Some(pending("t0ken", &[]));
    observed.settles_in = Duration::from_secs(90);
    let settling =
        Conclusion { state: ReconcileState::Settling, requeue: Requeue::Settle(Duration::from_secs(90)) };
    assert_eq!(conclusion_of(&observed), settling);
    observed.settles_in = Duration::ZERO;
    assert_eq!(step_of(&observed), Step::List(MaxAge::Live));
    let old = listed_as(observed.clone(), vec![], MaxAge::Recent);
    assert_eq!(step_of(&old), Step::List(MaxAge::Live), "an earlier listing does not count");
    let found = listed_as(observed.clone(), vec![entry(7, "x [t0ken]")], MaxAge::Live);
    assert_eq!(step_of(&found), Step::RecoverCreated(7));
    let several = listed_as(observed.clone(), vec![entry(7, ""), entry(8, "")], MaxAge::Live);
    assert_eq!(reason(&several), Reason::AmbiguousMatch);
    let nothing = listed_as(observed.clone(), vec![], MaxAge::Live);
    assert_eq!(step_of(&nothing), Step::Create, "with the same token");
    let mut existing = listed_as(observed.clone(), vec![entry(9, "another")], MaxAge::Live);
    assert_eq!(step_of(&existing), Step::Adopt(9), "by policy, as always");
    existing.object = crate::core::model::fixtures::object(&adoption(&json!({"policy": "CreateOnly"})));
    assert_eq!(reason(&existing), Reason::AlreadyExists);
    let unknown = failing(observed, Operation::Create, FailureKind::OutcomeUnknown);
    assert_eq!(conclusion_of(&unknown).requeue, Requeue::Backoff(Some(policy().timing.settle_period)));
}

#[test]
fn a_pending_create_is_recovered_even_without_a_usable_secret() {
    let mut observed = fresh(&plain());
    observed.status.pending_create = Some(pending("t0ken", &[]));
    observed.source =
        Source::Unusable(ConditionFailure { reason: Reason::SecretNotFound, message: "no Secret".into() });
    assert_eq!(step_of(&observed), Step::List(MaxAge::Live));
}

#[test]
fn a_value_that_is_missing_in_a_new_secret_is_waited_for_before_a_person_must_act() {
    let mut observed = fresh(&plain());
    for (reason, changed, expected) in [
        (Reason::KeyMissing, Some(60), Requeue::UntilArrival(Duration::from_mins(2))),
        (Reason::EmptyValue, Some(179), Requeue::UntilArrival(Duration::from_secs(1))),
        (Reason::ExpiryMissing, Some(180), Requeue::Stalled(Duration::MAX)),
        (Reason::KeyMissing, None, Requeue::Stalled(Duration::MAX)),
        (Reason::InvalidCharacters, Some(0), Requeue::Stalled(Duration::MAX)),
        (Reason::SecretNotFound, None, Requeue::OnTrigger),
    ] {
        observed.source = Source::Unusable(ConditionFailure { reason, message: "unusable".into() });
        observed.source_changed_at = changed.map(|seconds| now() - Duration::from_secs(seconds));
        assert_eq!(conclusion_of(&observed).requeue, expected, "{reason} {changed:?}");
    }
}

#[test]
fn nothing_is_adopted_before_all_objects_are_known() {
    let mut observed = listed(verified(fresh(&plain())), &[7]);
    if let Target::Ready(target) = &mut observed.target {
        target.may_adopt = false;
    }
    assert_eq!(reason(&observed), Reason::AccountNotReady);
    assert_eq!(
        step_of(&listed(observed, &[])),
        Step::Create,
        "a credential that does not exist has no owner"
    );
}

#[test]
fn an_unverified_account_is_not_used_and_changes_no_status() {
    let unverified_account = |mut observed: Observed| {
        observed.target = Target::NotReached(account());
        observed
    };
    let rotated = verified(unverified_account(rotated(&plain())));
    assert_eq!(conclusion_of(&rotated).state, ReconcileState::Deferred);
    assert_eq!(reason(&verified(unverified_account(fresh(&plain())))), Reason::AccountNotReady);
}

#[test]
fn a_pending_create_at_a_deleted_account_can_be_confirmed() {
    let mut observed = verified(fresh(&plain()));
    observed.status.pending_create = Some(pending("t0ken", &[]));
    observed.target = Target::Missing(account());
    assert_eq!(reason(&observed), Reason::AccountNotFound);
    observed.object.metadata.annotations =
        Some([(crate::api::CONFIRM_DELETED.to_owned(), "t0ken".to_owned())].into());
    assert_eq!(step_of(&observed), Step::ClearPendingCreate);
}

#[test]
fn an_incomplete_listing_is_not_enough_to_create() {
    let mut observed = listed(verified(fresh(&plain())), &[]);
    if let Target::Ready(target) = &mut observed.target {
        target.may_create = false;
    }
    assert_eq!(reason(&observed), Reason::AccountNotReady);
}

#[test]
fn an_unusable_account_blocks_without_a_change() {
    for (target, expected) in [
        (Target::Missing(account()), Reason::AccountNotFound),
        (Target::NotServed(account()), Reason::AccountNotFound),
        (Target::NotAllowed(account()), Reason::AccountNotAllowed),
        (Target::NotReady(account()), Reason::AccountNotReady),
    ] {
        let mut observed = verified(fresh(&plain()));
        observed.target = target;
        assert_eq!(reason(&observed), expected);
    }
    let mut observed = fresh(&plain());
    observed.target = Target::NotReconciled(account());
    assert_eq!(conclusion_of(&observed).state, ReconcileState::Waiting);
}

#[test]
fn an_app_that_another_object_manages_is_not_registered() {
    let mut observed = listed(verified(fresh(&plain())), &[]);
    observed.claim = Claim::Conflict("mail/first".into());
    assert_eq!(reason(&observed), Reason::AlreadyManaged);
}

#[test]
fn an_entry_whose_app_cannot_be_read_blocks_a_create_unless_it_is_of_another_app() {
    let unreadable = |client: &str| Entry { tenant: String::new(), client: client.into(), ..entry(7, "") };
    let own = entry(7, "").client;
    for client in [own.as_str(), ""] {
        let observed = listed_as(verified(fresh(&plain())), vec![unreadable(client)], MaxAge::Recent);
        assert_eq!(reason(&observed), Reason::AmbiguousMatch, "{client}");
    }
    let other = "00000000-0000-4000-8000-000000000001";
    let observed = listed_as(verified(fresh(&plain())), vec![unreadable(other)], MaxAge::Recent);
    assert_eq!(step_of(&observed), Step::Create);
}
