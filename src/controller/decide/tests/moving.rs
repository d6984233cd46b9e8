//! From one account to another.

use super::*;

#[test]
fn a_create_at_an_account_that_the_spec_has_left_is_looked_for_there() {
    let mut observed =
        proved(fresh(&json!({"destination": {"woodpecker": {"accountRef": {"name": "other"}}}})));
    observed.status.pending = Some(pending("t0ken", &[]));
    let nothing = listed_as(observed.clone(), vec![], Freshness::Anew);
    assert_eq!(acts(&nothing), Action::ForgetPending);
    let found = listed_as(observed.clone(), vec![entry(7, "x [t0ken]")], Freshness::Anew);
    assert_eq!(acts(&found), Action::Recover(7));
    observed.target = Target::Missing(account());
    assert_eq!(reason(&observed), Reason::AccountNotFound);
}

#[test]
fn an_object_that_moves_registers_at_the_new_account_before_it_leaves_the_old_one() {
    let mut observed = settled(&json!({"deletionPolicy": "Delete"}));
    observed.object.metadata.finalizers = Some(vec![crate::resources::FINALIZER.into()]);
    if let Target::Ready(target) = &mut observed.target {
        target.place.account = other_account();
    }
    assert_eq!(acts(&observed), Action::List(Freshness::Any));
    assert_eq!(acts(&listed(observed.clone(), &[])), Action::Create);
    observed.status.retiring = vec![registration(); 4];
    assert_eq!(reason(&observed), Reason::InUse, "there is no room for a fifth");
    observed.retiring = with_retiring(&plain()).retiring;
    assert_eq!(acts(&observed), Action::Retire, "room is made first");
}

#[test]
fn an_earlier_registration_is_removed_once_the_new_one_stands_and_holds_nothing_up() {
    let delete = json!({"deletionPolicy": "Delete"});
    let mut observed = with_retiring(&delete);
    assert_eq!(acts(&observed), Action::Retire);
    observed.learnt.retiring_failure = Some(in_use());
    let rest = rests(&observed);
    assert_eq!(rest, Rest { standing: Standing::Settled, retry: Retry::Look(rules().timing.in_use_retry) });
    let mut missing = with_retiring(&delete);
    missing.retiring.as_mut().unwrap().is_reachable = false;
    assert_eq!(rests(&missing).standing, Standing::Settled);
}

#[test]
fn with_retain_what_was_still_to_be_removed_is_left() {
    let observed = with_retiring(&plain());
    assert_eq!(acts(&observed), Action::RemoveFinalizer);
    let mut observed = observed;
    observed.object.metadata.finalizers = None;
    assert_eq!(acts(&observed), Action::LeaveRetiring);
}

#[test]
fn nothing_moves_between_woodpecker_and_the_store() {
    let mut observed = proved(settled(&json!({"destination": {"store": {}}})));
    observed.target = Target::Store;
    assert_eq!(reason(&observed), Reason::DestinationNotSupported);
}

#[test]
fn an_object_that_leaves_an_account_goes_once_that_has_the_new_secret() {
    let leaving = json!({"destination": {"woodpecker": {"accountRef": {"name": "other"}}}});
    assert_eq!(acts(&proved(rotated(&leaving))), Action::Update, "mail goes by it until it has moved");
    assert_eq!(acts(&settled(&leaving)), Action::LookAgain);
}
