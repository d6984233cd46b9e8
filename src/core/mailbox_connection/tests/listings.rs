//! What a listing that lacks a mailbox means, and what waits for a person.

use super::*;

fn held(status: &WoodpeckerMailboxesStatus) -> Option<(HoldReason, Vec<i64>)> {
    let hold = status.pending.as_ref()?.hold.as_ref()?;
    Some((hold.reason, hold.ids.clone()))
}

/// A status with a credential of which a listing has shown a mailbox.
fn proven(emails: &[&str]) -> WoodpeckerMailboxesStatus {
    WoodpeckerMailboxesStatus { proven_credential_id: Some(7), ..status(emails) }
}

#[test]
fn nothing_more_is_submitted_until_a_listing_shows_the_first_mailbox() {
    let mut status = status(&["a@x.io", "b@x.io", "c@x.io"]);
    round(&mut status, 0, &[connected("a@x.io", 9)]);
    assert_eq!((next_at(&status, 1), status.proven_credential_id), (Next::Nothing, None));
    let mut shown = status.clone();
    look(&mut shown, &[(9, "A@x.io")], 3);
    assert_eq!((shown.proven_credential_id, next_at(&shown, 3)), (Some(7), submit(&["b@x.io", "c@x.io"])));
    look(&mut status, &[(5, "other@x.io")], 3);
    assert_eq!(held(&status), Some((HoldReason::NotListed, vec![9])));
    retry_now(&mut status, Request::NewSpec);
    assert_eq!(
        (next_at(&status, 9999), states(&status)[0]),
        (Next::Nothing, (ConnectionState::Connected, Some(9)))
    );
    // A person has looked.
    retry_now(&mut status, Request::Reconcile);
    let mut late = status.clone();
    look_up(&mut late, &listing(&[(9, "a@x.io")]), true, &TIMING, at(4));
    assert_eq!((late.proven_credential_id, late.pending, late.mailboxes[0].unlisted), (Some(7), None, None));
    look_up(&mut status, &listing(&[]), true, &TIMING, at(4));
    list(&mut status, &[], 4);
    assert_eq!((status.missing, next_at(&status, 4)), (None, submit(&["b@x.io"])), "one more, alone");
    round(&mut status, 4, &[connected("b@x.io", 10)]);
    look(&mut status, &[], 6);
    assert_eq!(held(&status), Some((HoldReason::NotListed, vec![10])), "it waits again");
}

#[test]
fn a_first_mailbox_that_leaves_the_spec_still_has_to_be_listed() {
    let mut first = status(&["a@x.io", "b@x.io"]);
    round(&mut first, 0, &[connected("a@x.io", 9)]);
    let mut left = aligned(&first, &spec(&["b@x.io"]));
    look(&mut left, &[], 3);
    assert_eq!(held(&left), Some((HoldReason::NotListed, vec![9])));
}

#[test]
fn what_a_listing_lacks_before_the_credential_is_proven_is_submitted_only_on_request() {
    let mut status = status(&["a@x.io"]);
    start(&mut status, 0);
    look(&mut status, &[], 3);
    let lost = &status.mailboxes[0];
    assert_eq!((lost.state, lost.unlisted, lost.attempts), (ConnectionState::Stopped, Some(true), Some(1)));
    assert!(lost.error.is_some());
    retry_now(&mut status, Request::NewSpec);
    list(&mut status, &[], 200);
    assert_eq!(next_at(&status, 9999), Next::Nothing);
    retry_now(&mut status, Request::Reconcile);
    assert_eq!(next_at(&status, 9999), submit(&["a@x.io"]));
}

#[test]
fn a_mailbox_that_was_there_before_and_is_missing_is_submitted_only_on_request() {
    let mut status = proven(&["a@x.io", "b@x.io"]);
    list(&mut status, &[(1, "a@x.io"), (2, "b@x.io")], 0);
    list(&mut status, &[(2, "b@x.io")], 60);
    let missing = &status.mailboxes[0];
    assert_eq!(
        (missing.state, missing.unlisted, missing.id),
        (ConnectionState::Stopped, Some(true), Some(1))
    );
    assert_eq!(next_at(&status, 9999), Next::Nothing);
    let with_new = aligned(&status, &spec(&["a@x.io", "b@x.io", "c@x.io"]));
    assert_eq!(next_at(&with_new, 61), Next::WaitUntil(at(70)), "the listing may lack the new one, too");
    retry_now(&mut status, Request::NewSpec);
    assert_eq!(next_at(&status, 61), Next::Nothing);
    let mut again = status.clone();
    list(&mut again, &[(1, "a@x.io"), (2, "b@x.io")], 62);
    assert_eq!(states(&again)[0], (ConnectionState::AlreadyConnected, Some(1)), "it was a gap");
    retry_now(&mut status, Request::Reconcile);
    assert_eq!(next_at(&status, 61), submit(&["a@x.io"]));
}

#[test]
fn a_mailbox_that_a_person_has_to_look_for_leaves_the_spec_and_returns() {
    let mut lost = status(&["a@x.io", "b@x.io"]);
    start(&mut lost, 0);
    let away = aligned(&lost, &spec(&["b@x.io"]));
    // It returns before the outcome is known.
    let mut pending = aligned(&away, &spec(&["a@x.io", "b@x.io"]));
    assert_eq!(pending.mailboxes[0].state, ConnectionState::Submitted);
    look(&mut pending, &[], 3);
    assert_eq!(pending.mailboxes[0].unlisted, Some(true));
    // It returns after it was looked up, or has left after that.
    let mut looked_up = away;
    look(&mut looked_up, &[], 3);
    look(&mut lost, &[], 3);
    for mut before in [looked_up, aligned(&lost, &spec(&["b@x.io"]))] {
        assert_eq!(before.left_connected[0].unlisted, Some(true));
        assert_eq!(next_at(&before, 9999), submit(&["b@x.io"]));
        before = aligned(&before, &spec(&["a@x.io"]));
        assert_eq!((before.left_connected.len(), next_at(&before, 9999)), (0, Next::Nothing));
        retry_now(&mut before, Request::Reconcile);
        assert_eq!(next_at(&before, 9999), submit(&["a@x.io"]));
    }
}

#[test]
fn what_a_listing_lags_behind_is_found_later_and_what_a_person_connected_confirms_nothing() {
    let mut held_back = status(&["a@x.io", "b@x.io"]);
    round(&mut held_back, 0, &[connected("a@x.io", 9)]);
    look(&mut held_back, &[], 3);
    look(&mut held_back, &[], 63);
    assert_eq!(held(&held_back), Some((HoldReason::NotListed, vec![9])), "without a request it stays held");
    for is_requested in [false, true] {
        let mut by_person = held_back.clone();
        look_up(&mut by_person, &listing(&[(55, "a@x.io")]), is_requested, &TIMING, at(64));
        assert_eq!((by_person.proven_credential_id, next_at(&by_person, 64)), (None, submit(&["b@x.io"])));
        let mut left = aligned(&held_back, &spec(&["b@x.io"]));
        look_up(&mut left, &listing(&[(55, "a@x.io")]), is_requested, &TIMING, at(64));
        assert_eq!(left.proven_credential_id, None);
    }
    look(&mut held_back, &[(9, "a@x.io")], 123);
    assert_eq!((held(&held_back), held_back.proven_credential_id), (None, Some(7)));
}

#[test]
fn a_refused_mailbox_with_an_id_may_be_connected() {
    let mut status = status(&["a@x.io", "b@x.io"]);
    let refusal = ConnectOutcome::Refused("ALREADY_THERE".to_owned(), Some(9));
    round(&mut status, 0, &[ConnectResult { email: "a@x.io".to_owned(), outcome: refusal }]);
    assert_eq!(next_at(&status, 9999), Next::Nothing, "it is looked up first");
    let mut shown = status.clone();
    look(&mut shown, &[(9, "a@x.io")], 3);
    assert_eq!(states(&shown)[0], (ConnectionState::Connected, Some(9)));
    assert_eq!(shown.proven_credential_id, None, "it may have been connected in another way");
    look(&mut status, &[], 3);
    let mailbox = &status.mailboxes[0];
    assert_eq!(
        (mailbox.state, mailbox.unlisted, mailbox.id),
        (ConnectionState::Stopped, Some(true), Some(9))
    );
    assert_eq!(mailbox.error.as_deref(), Some("ALREADY_THERE"));
    let due = |minute| {
        needs_listing(&status, MailboxPolicy::Connect, &Next::Nothing, TIMING.mailbox_plan, at(minute))
    };
    assert!(due(3 + 60), "a listing that lags shows it later");
}

#[test]
fn a_refused_mailbox_that_leaves_the_spec_before_it_is_looked_up_confirms_nothing() {
    let mut refused = status(&["a@x.io", "b@x.io"]);
    let refusal = ConnectOutcome::Refused("ALREADY_THERE".to_owned(), Some(9));
    round(&mut refused, 0, &[ConnectResult { email: "a@x.io".to_owned(), outcome: refusal }]);
    let mut left = aligned(&refused, &spec(&["b@x.io"]));
    let mut returned = aligned(&left, &spec(&["a@x.io", "b@x.io"]));
    for status in [&mut left, &mut returned] {
        look(status, &[(9, "a@x.io")], 3);
        assert_eq!(status.proven_credential_id, None);
    }
}

#[test]
fn a_connected_mailbox_that_returns_is_still_one_that_no_listing_has_shown() {
    let mut first = status(&["a@x.io", "b@x.io"]);
    round(&mut first, 0, &[connected("a@x.io", 9)]);
    look(&mut first, &[], 3);
    look_up(&mut first, &listing(&[]), true, &TIMING, at(4));
    let left = aligned(&first, &spec(&["b@x.io"]));
    let mut returned = aligned(&left, &spec(&["a@x.io", "b@x.io"]));
    let mailbox = &returned.mailboxes[0];
    assert_eq!((mailbox.state, mailbox.unlisted), (ConnectionState::Connected, Some(true)));
    list(&mut returned, &[], 5);
    assert_eq!(returned.missing, None, "no listing is incomplete for lack of it");
}

#[test]
fn a_listing_that_lacks_a_connected_mailbox_is_not_applied() {
    let mut status = proven(&["a@x.io", "b@x.io"]);
    start(&mut status, 0);
    apply_results(&mut status, &[connected("a@x.io", 1), refused("b@x.io")], &TIMING, at(0));
    let mut incomplete = status.clone();
    list(&mut incomplete, &[(2, "b@x.io")], 20);
    assert_eq!((incomplete.missing, states(&incomplete)), (Some(1), states(&status)));
    assert_eq!(incomplete.missing_ids, [1]);
    assert_eq!(next_at(&incomplete, 29), Next::WaitUntil(at(30)), "nothing is submitted");
    let plan = |minute| {
        needs_listing(&incomplete, MailboxPolicy::Plan, &Next::Nothing, TIMING.mailbox_plan, at(minute))
    };
    assert!(!plan(29) && plan(30), "a plan waits too");
    let connect =
        needs_listing(&incomplete, MailboxPolicy::Connect, &Next::Nothing, TIMING.mailbox_plan, at(30));
    assert!(connect, "also if nothing is left to submit");
    list(&mut incomplete, &[(1, "a@x.io")], 30);
    assert_eq!((incomplete.missing, next_at(&incomplete, 30)), (None, submit(&["b@x.io"])));
    let unsettled = BTreeMap::from([("a@x.io".to_owned(), at(21))]);
    apply_listing(&mut status.clone(), &listing(&[]), at(20), 7, &unsettled, &TIMING);
    for (credential_id, unsettled) in [(7, &unsettled), (8, &BTreeMap::new())] {
        let mut applied = status.clone();
        apply_listing(&mut applied, &listing(&[]), at(20), credential_id, unsettled, &TIMING);
        assert_eq!(applied.missing, None, "it may be too early, or another account");
    }
}

#[test]
fn what_was_submitted_and_is_listed_later_is_the_operators_also_after_a_retry() {
    let mut status = proven(&["a@x.io", "b@x.io"]);
    start(&mut status, 0);
    let with_id = ConnectOutcome::Refused("ALREADY_THERE".to_owned(), Some(4));
    let result = ConnectResult { email: "a@x.io".to_owned(), outcome: with_id };
    apply_results(&mut status, &[result, connected("b@x.io", 5)], &TIMING, at(0));
    assert_eq!(states(&status)[0], (ConnectionState::Refused, Some(4)), "the ID is kept");
    retry_now(&mut status, Request::Reconcile);
    list(&mut status, &[(4, "a@x.io"), (5, "b@x.io")], 9);
    assert_eq!(states(&status)[0], (ConnectionState::Connected, Some(4)));
}

#[test]
fn after_the_last_attempt_a_listing_decides() {
    let mut status = proven(&["a@x.io"]);
    for minute in [0, 10] {
        round(&mut status, minute, &[refused("a@x.io")]);
    }
    start(&mut status, 130);
    apply_refusal(&mut status, "HTTP 409: X".into(), &TIMING, at(130));
    let mut stopped = status.clone();
    look(&mut stopped, &[], 132);
    assert_eq!((states(&stopped)[0].0, stopped.consecutive_failures), (ConnectionState::Stopped, Some(3)));
    look(&mut status, &[(3, "a@x.io")], 132);
    assert_eq!(states(&status), [(ConnectionState::Connected, Some(3))]);
}

#[test]
fn an_address_that_was_not_submitted_waits_for_a_person() {
    let mut status = proven(&["alias@x.io", "b@x.io"]);
    start(&mut status, 0);
    apply_results(&mut status, &[connected("primary@x.io", 9), connected("b@x.io", 2)], &TIMING, at(0));
    assert_eq!(held(&status), Some((HoldReason::UnexpectedAddress, vec![9])));
    assert_eq!(status.pending.as_ref().unwrap().emails, ["alias@x.io"]);
    assert_eq!((next_at(&status, 9999), states(&status)[1].0), (Next::Nothing, ConnectionState::Connected));
    retry_now(&mut status, Request::Reconcile);
    look_up(&mut status, &listing(&[(9, "primary@x.io"), (2, "b@x.io")]), true, &TIMING, at(9));
    assert_eq!((states(&status)[0].0, &status.pending), (ConnectionState::NotConnected, &None));
}

#[test]
fn mailboxes_that_fail_do_not_keep_the_others_from_being_tried_after_a_retry() {
    let mut status = status(&["bad1@x.io", "bad2@x.io", "bad3@x.io", "ok@x.io"]);
    for (minute, bad) in [(0, "bad1@x.io"), (10, "bad2@x.io"), (130, "bad3@x.io")] {
        round(&mut status, minute, &[refused(bad)]);
    }
    look(&mut status, &[], 132);
    assert_eq!((has_stopped(&status), next_at(&status, 9999)), (true, Next::Nothing));
    retry_now(&mut status, Request::Reconcile);
    assert_eq!(next_at(&status, 133), submit(&["ok@x.io"]));
}
