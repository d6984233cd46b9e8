//! A first registration: taken over, created, or in the way.

use super::*;

#[test]
fn the_road_of_a_new_object_proves_before_it_touches_anything() {
    let observed = fresh(&plain());
    assert_eq!(acts(&observed), Action::Prove);
    let observed = proved(observed);
    assert_eq!(acts(&observed), Action::List(Freshness::Any));
    let mut observed = listed(observed, &[]);
    assert_eq!(acts(&observed), Action::Create);
    // An old listing is no ground to create on.
    observed.learnt.listed = Some(Listed { entries: vec![], freshness: Freshness::Any });
    assert_eq!(acts(&observed), Action::List(Freshness::Fresh));
}

#[test]
fn what_is_in_the_way_at_the_account_is_looked_for_in_its_own_listings() {
    let observed = proved(fresh(&adoption(&json!({"policy": "CreateOnly"}))));
    let observed = listed_as(observed, vec![entry(7, "")], Freshness::Any);
    assert_eq!(rests(&observed).retry, Retry::Look(rules().timing.listing_interval));
}

#[test]
fn with_policy_delete_the_finalizer_comes_before_the_create() {
    let mut observed = listed(proved(fresh(&json!({"deletionPolicy": "Delete"}))), &[]);
    assert_eq!(acts(&observed), Action::AddFinalizer);
    observed.object.metadata.finalizers = Some(vec![crate::resources::FINALIZER.into()]);
    assert_eq!(acts(&observed), Action::Create);
}

#[test]
fn where_finalizers_are_off_none_is_put_on() {
    let off = Rules { sets_finalizers: false, ..rules() };
    let observed = listed(proved(fresh(&json!({"deletionPolicy": "Delete"}))), &[]);
    assert_eq!(decide(&observed, &off, now()), Decision::Act(Action::Create));
    let registered = settled(&json!({"deletionPolicy": "Delete"}));
    assert_eq!(acts(&registered), Action::AddFinalizer);
    assert!(matches!(decide(&registered, &off, now()), Decision::Rest(_)));
}

#[test]
fn what_the_account_holds_already_is_taken_over_by_policy_and_never_created_again() {
    let with = |policy: Value, ids: &[i64]| listed(proved(fresh(&adoption(&policy))), ids);
    assert_eq!(acts(&listed(proved(fresh(&plain())), &[7])), Action::Adopt(7));
    assert_eq!(acts(&with(json!({"policy": "AdoptOnly"}), &[7])), Action::Adopt(7));
    assert_eq!(reason(&with(json!({"policy": "AdoptOnly"}), &[])), Reason::NothingToAdopt);
    assert_eq!(reason(&with(json!({"policy": "CreateOnly"}), &[7])), Reason::AlreadyExists);
    assert_eq!(acts(&with(json!({"policy": "CreateOnly"}), &[])), Action::Create);
    assert_eq!(reason(&with(json!({}), &[7, 8])), Reason::AmbiguousRemote);
    assert_eq!(acts(&with(json!({"credentialId": 8}), &[7, 8])), Action::Adopt(8));
    assert_eq!(reason(&with(json!({"credentialId": 9}), &[7, 8])), Reason::NothingToAdopt);
    assert_eq!(reason(&with(json!({"credentialId": 9}), &[])), Reason::NothingToAdopt);
}

#[test]
fn nothing_is_taken_over_on_the_word_of_an_old_listing() {
    let observed = listed_as(proved(fresh(&plain())), vec![entry(7, "")], Freshness::Any);
    assert_eq!(acts(&observed), Action::List(Freshness::Fresh));
}

#[test]
fn what_exists_is_never_taken_over_without_a_proof_whatever_the_policy() {
    let allowed = Rules { allow_unverified: true, ..rules() };
    let disabled = listed(fresh(&json!({"verification": {"policy": "Disabled"}})), &[7]);
    assert_eq!(decide(&disabled, &allowed, now()), Decision::Act(Action::Prove));
    let best_effort = json!({"verification": {"policy": "BestEffort"}});
    let mut unproved = listed(fresh(&best_effort), &[7]);
    unproved.learnt.proof = Some(not_issued(Diagnosis::Unavailable));
    assert_eq!(reason(&unproved), Reason::MicrosoftUnavailable);
    let mut adopted = rotated(&best_effort);
    adopted.status.registration.as_mut().unwrap().ownership = Ownership::Adopted;
    adopted.learnt.proof = Some(not_issued(Diagnosis::Unavailable));
    assert_eq!(reason(&adopted), Reason::MicrosoftUnavailable, "nor is it changed without one");
    assert_eq!(acts(&Observed { learnt: Learnt::default(), ..adopted.clone() }), Action::Prove);
    assert_eq!(acts(&proved(adopted)), Action::Update);
}

#[test]
fn what_was_taken_over_keeps_its_name_unless_the_spec_names_it() {
    let adopted = |spec: &Value| {
        let mut observed = settled(spec);
        let registration = observed.status.registration.as_mut().unwrap();
        (registration.ownership, registration.name) = (Ownership::Adopted, "made by hand".into());
        observed
    };
    assert_eq!(rests(&adopted(&plain())).standing, Standing::Settled);
    assert_eq!(acts(&adopted(&json!({"displayName": "MS Graph app"}))), Action::Rename);
}

#[test]
fn a_create_of_unknown_outcome_is_waited_for_and_then_looked_for() {
    let mut observed = proved(fresh(&plain()));
    observed.status.pending = Some(pending("t0ken", &[]));
    observed.settles_in = Duration::from_secs(90);
    let settling = Rest { standing: Standing::Settling, retry: Retry::Settle(Duration::from_secs(90)) };
    assert_eq!(rests(&observed), settling);
    observed.settles_in = Duration::ZERO;
    assert_eq!(acts(&observed), Action::List(Freshness::Anew));
    let old = listed_as(observed.clone(), vec![], Freshness::Fresh);
    assert_eq!(acts(&old), Action::List(Freshness::Anew), "a listing from before tells nothing");
    let found = listed_as(observed.clone(), vec![entry(7, "x [t0ken]")], Freshness::Anew);
    assert_eq!(acts(&found), Action::Recover(7));
    let several = listed_as(observed.clone(), vec![entry(7, ""), entry(8, "")], Freshness::Anew);
    assert_eq!(reason(&several), Reason::AmbiguousRemote);
    let nothing = listed_as(observed.clone(), vec![], Freshness::Anew);
    assert_eq!(acts(&nothing), Action::Create, "with the same mark");
    let mut strangers = listed_as(observed.clone(), vec![entry(9, "a stranger's")], Freshness::Anew);
    assert_eq!(acts(&strangers), Action::Adopt(9), "by policy, as ever");
    strangers.object =
        crate::controller::observed::testing::object(&adoption(&json!({"policy": "CreateOnly"})));
    assert_eq!(reason(&strangers), Reason::AlreadyExists);
    let unknown = failing(observed, Operation::Create, FailureKind::OutcomeUnknown);
    assert_eq!(rests(&unknown).retry, Retry::Backoff(Some(rules().timing.create_settle)));
}

#[test]
fn a_create_is_looked_for_even_while_the_secret_is_broken() {
    let mut observed = fresh(&plain());
    observed.status.pending = Some(pending("t0ken", &[]));
    observed.source =
        Source::Unusable(Problem { reason: Reason::SecretNotFound, message: "no Secret".into() });
    assert_eq!(acts(&observed), Action::List(Freshness::Anew));
}

#[test]
fn nothing_is_taken_over_before_all_objects_are_known() {
    let mut observed = listed(proved(fresh(&plain())), &[7]);
    if let Target::Ready(target) = &mut observed.target {
        target.may_adopt = false;
    }
    assert_eq!(reason(&observed), Reason::AccountNotReady);
    assert_eq!(acts(&listed(observed, &[])), Action::Create, "what is not there is nobody's");
}

#[test]
fn an_account_that_was_never_reached_with_its_key_is_not_used_and_changes_no_status() {
    let unjudged = |mut observed: Observed| {
        observed.target = Target::Unjudged(account());
        observed
    };
    assert_eq!(rests(&unjudged(rotated(&plain()))).standing, Standing::Waiting);
    assert_eq!(reason(&proved(unjudged(fresh(&plain())))), Reason::AccountNotReady);
}

#[test]
fn a_create_at_an_account_that_is_gone_can_be_acknowledged() {
    let mut observed = proved(fresh(&plain()));
    observed.status.pending = Some(pending("t0ken", &[]));
    observed.target = Target::Missing(account());
    assert_eq!(reason(&observed), Reason::AccountNotFound);
    observed.object.metadata.annotations =
        Some([(crate::resources::ACKNOWLEDGE_GONE.to_owned(), "t0ken".to_owned())].into());
    assert_eq!(acts(&observed), Action::ForgetPending);
}

#[test]
fn nothing_is_created_on_the_word_of_an_incomplete_listing() {
    let mut observed = listed(proved(fresh(&plain())), &[]);
    if let Target::Ready(target) = &mut observed.target {
        target.may_create = false;
    }
    assert_eq!(reason(&observed), Reason::AccountNotReady);
}

#[test]
fn accounts_that_cannot_be_used_block_and_touch_nothing() {
    for (target, expected) in [
        (Target::Missing(account()), Reason::AccountNotFound),
        (Target::NotAllowed(account()), Reason::AccountNotAllowed),
        (Target::NotReady(account()), Reason::AccountNotReady),
    ] {
        let mut observed = proved(fresh(&plain()));
        observed.target = target;
        assert_eq!(reason(&observed), expected);
    }
    let mut observed = fresh(&plain());
    observed.target = Target::NotSeenYet(account());
    assert_eq!(rests(&observed).standing, Standing::Waiting);
}

#[test]
fn an_app_claimed_by_another_object_is_left_to_it() {
    let mut observed = listed(proved(fresh(&plain())), &[]);
    observed.claim = Claim::HeldBy("mail/first".into());
    assert_eq!(reason(&observed), Reason::DuplicateClaim);
}
