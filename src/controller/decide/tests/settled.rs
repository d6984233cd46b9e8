//! What is registered is kept up.

use super::*;

#[test]
fn what_the_listing_lacks_is_asked_for_by_its_id_before_anything_is_made_anew() {
    let mut observed = settled(&plain());
    observed.seen = Some(vec![]);
    assert_eq!(acts(&observed), Action::Probe);
    observed.learnt.probe = Some(Probe::Present);
    assert_eq!(rests(&observed).standing, Standing::Settled);
    observed.learnt.probe = Some(Probe::Gone);
    assert_eq!(acts(&observed), Action::ForgetRegistration);
    observed.learnt.probe = None;
    let unclear = FailureKind::Refused { status: 403, word: None };
    let refused = failing(observed.clone(), Operation::Rename, unclear);
    assert!(matches!(rests(&refused).retry, Retry::Stalled(_)));
    let annotate = |id: &str| {
        let mut observed = observed.clone();
        observed.object.metadata.annotations =
            Some([(crate::resources::ACKNOWLEDGE_GONE.to_owned(), id.to_owned())].into());
        observed
    };
    assert_eq!(acts(&annotate("22334455")), Action::ForgetRegistration);
    assert_eq!(acts(&annotate("1")), Action::Probe, "another one was meant");
}

#[test]
fn a_late_duplicate_of_our_own_is_removed_and_nobody_elses() {
    let mut observed = settled(&plain());
    let ours = entry(22_334_455, "mail/sales-eu");
    observed.seen = Some(vec![ours.clone(), entry(8, "mail/sales-eu")]);
    assert_eq!(rests(&observed).standing, Standing::Settled);
    observed.seen = Some(vec![ours, entry(9, "mail/sales-eu [abcdefghjk29]")]);
    assert_eq!(acts(&observed), Action::RemoveDuplicate(9));
    observed.learnt.stuck_duplicates = vec![9];
    assert_eq!(rests(&observed).standing, Standing::Settled, "it does not unmake Ready");
    observed.learnt.stuck_duplicates.clear();
    let other_app = Entry { client: "another".into(), ..entry(9, "mail/sales-eu [abcdefghjk29]") };
    let in_the_middle = entry(9, "[abcdefghjk29] is what it was called");
    for not_ours in [other_app, in_the_middle] {
        observed.seen = Some(vec![entry(22_334_455, "mail/sales-eu"), not_ours]);
        assert_eq!(rests(&observed).standing, Standing::Settled, "the token alone is no proof");
    }
}

/// A settled object that still has to remove an earlier registration at another account.
#[test]
fn a_settled_object_does_nothing() {
    let rest = rests(&settled(&plain()));
    assert_eq!(rest, Rest { standing: Standing::Settled, retry: Retry::WhenDue });
}

#[test]
fn what_holds_an_unknown_secret_is_sent_the_one_there_is() {
    let mut observed = rotated(&plain());
    observed.status.registration.as_mut().unwrap().fingerprint = Registration::UNKNOWN.into();
    assert_eq!(acts(&observed), Action::Prove);
    assert_eq!(acts(&proved(observed)), Action::Update);
}

#[test]
fn a_suspended_object_is_left_alone() {
    let suspended = json!({"suspend": true});
    assert_eq!(rests(&fresh(&suspended)).standing, Standing::Suspended);
    assert_eq!(rests(&rotated(&suspended)).standing, Standing::Suspended);
}

#[test]
fn failures_at_woodpecker_end_the_pass_with_the_right_patience() {
    let retry = |kind, operation| rests(&failing(proved(fresh(&plain())), operation, kind)).retry;
    assert_eq!(retry(FailureKind::Unavailable, Operation::Update), Retry::Backoff(None));
    assert_eq!(retry(FailureKind::Throttled, Operation::Create), Retry::Backoff(None));
    assert_eq!(retry(FailureKind::Queued(LaneClosed::Queued), Operation::Create), Retry::WhenGranted);
    assert_eq!(retry(FailureKind::Unauthorized, Operation::List), Retry::Backoff(None));
    let refusal = FailureKind::Refused { status: 422, word: None };
    assert!(matches!(retry(refusal.clone(), Operation::Create), Retry::Stalled(_)));
    assert_eq!(retry(refusal, Operation::List), Retry::Backoff(None));
}

#[test]
fn a_change_without_an_answer_is_waited_for_before_anything_else_is_sent() {
    let mut observed = proved(rotated(&plain()));
    observed.status.registration.as_mut().unwrap().fingerprint = Registration::UNKNOWN.into();
    observed.seen = Some(vec![]);
    let left = Duration::from_secs(20);
    observed.change_settles_in = left;
    assert_eq!(rests(&observed), Rest { standing: Standing::Settling, retry: Retry::Settle(left) });
    observed.change_settles_in = Duration::ZERO;
    assert_eq!(acts(&observed), Action::Probe);
    observed.seen = None;
    assert_eq!(acts(&observed), Action::Update);
}

#[test]
fn only_a_name_of_the_spec_is_given_and_last_of_all() {
    let mut observed = settled(&plain());
    observed.status.registration.as_mut().unwrap().name = "renamed by a person [abcdefghjk29]".into();
    assert_eq!(rests(&observed).standing, Standing::Settled, "without a displayName it keeps any name");
    observed.status.registration.as_mut().unwrap().name.clear();
    assert_eq!(rests(&observed).standing, Standing::Settled);
    observed.object.spec.display_name = Some("Sales EU".into());
    assert_eq!(acts(&observed), Action::Rename);
    observed.seen = Some(vec![entry(22_334_455, ""), entry(9, "x [abcdefghjk29]")]);
    assert_eq!(acts(&observed), Action::RemoveDuplicate(9), "a late duplicate first");
}
