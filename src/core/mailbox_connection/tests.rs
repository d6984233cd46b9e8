//! Tests of the policy, and a simulation in which responses are lost and the process is killed.

use proptest::prelude::*;

use super::response::MAX_TEXT_BYTES;
use super::*;
use crate::api::AccountName;
use crate::core::mailboxes::MailboxState;

mod listings;

const TIMING: Timing = Timing::STANDARD;

fn at(minute: i64) -> Timestamp {
    Timestamp::from_second(minute * 60).unwrap()
}

fn spec(emails: &[&str]) -> Vec<MailboxSpec> {
    emails.iter().map(|email| MailboxSpec { email: (*email).to_owned(), display_name: None }).collect()
}

fn status(emails: &[&str]) -> WoodpeckerMailboxesStatus {
    aligned(&WoodpeckerMailboxesStatus::default(), &spec(emails))
}

fn listing(shown: &[(i64, &str)]) -> Mailboxes {
    let mut listing = Mailboxes::default();
    for (id, email) in shown {
        listing.add(*id, Some(email), MailboxState::Healthy);
    }
    listing
}

fn next_at(status: &WoodpeckerMailboxesStatus, minute: i64) -> Next {
    next(status, 7, &BTreeMap::new(), at(minute))
}

fn pending(emails: &[String], minute: i64) -> PendingConnection {
    PendingConnection {
        start_time: Time(at(minute)),
        credential_id: 7,
        account: AccountName { namespace: "mail".into(), name: "agency".into() },
        account_uid: "uid".to_owned(),
        base_url: "https://a.example".to_owned(),
        company_id: None,
        emails: emails.to_vec(),
        hold: None,
        unknown: UnknownFields::default(),
    }
}

fn start(status: &mut WoodpeckerMailboxesStatus, minute: i64) -> Vec<String> {
    let Next::Submit(emails) = next_at(status, minute) else { panic!("nothing is submitted: {status:#?}") };
    begin(status, pending(&emails, minute));
    emails
}

fn submit(emails: &[&str]) -> Next {
    Next::Submit(emails.iter().map(|email| (*email).to_owned()).collect())
}

fn connected(email: &str, id: i64) -> ConnectResult {
    ConnectResult { email: email.to_owned(), outcome: ConnectOutcome::Connected(id) }
}

fn refused(email: &str) -> ConnectResult {
    ConnectResult {
        email: email.to_owned(),
        outcome: ConnectOutcome::Refused("NO_SUCH_MAILBOX".to_owned(), None),
    }
}

/// Applies a listing of the account with the credential.
fn list(status: &mut WoodpeckerMailboxesStatus, shown: &[(i64, &str)], minute: i64) {
    apply_listing(status, &listing(shown), at(minute), 7, &BTreeMap::new(), &TIMING);
}

/// Looks up what is pending.
fn look(status: &mut WoodpeckerMailboxesStatus, shown: &[(i64, &str)], minute: i64) {
    look_up(status, &listing(shown), false, &TIMING, at(minute));
}

/// Submits what is next and applies the results.
fn round(status: &mut WoodpeckerMailboxesStatus, minute: i64, results: &[ConnectResult]) {
    start(status, minute);
    apply_results(status, results, &TIMING, at(minute));
}

fn states(status: &WoodpeckerMailboxesStatus) -> Vec<(ConnectionState, Option<i64>)> {
    status.mailboxes.iter().map(|mailbox| (mailbox.state, mailbox.id)).collect()
}

#[test]
fn one_mailbox_is_submitted_alone_until_one_was_connected() {
    let emails: Vec<String> = (0..30).map(|n| format!("m{n:02}@example.com")).collect();
    let emails: Vec<&str> = emails.iter().map(String::as_str).collect();
    let mut status = status(&emails);
    assert_eq!(next_at(&status, 0), submit(&emails[..1]));
    round(&mut status, 0, &[connected(emails[0], 1)]);
    assert_eq!(next_at(&status, 0), Next::Nothing, "a listing has to show it first");
    look(&mut status, &[(1, emails[0])], 2);
    assert_eq!(next_at(&status, 2), submit(&emails[1..11]));
    assert_eq!(next(&status, 8, &BTreeMap::new(), at(0)), submit(&emails[1..2]), "another credential");
}

#[test]
fn what_a_listing_shows_is_never_submitted_nor_claimed() {
    let mut status = status(&["jim@example.com", "pam@example.com"]);
    list(&mut status, &[(5, "Jim@Example.com")], 0);
    let expected = [(ConnectionState::AlreadyConnected, Some(5)), (ConnectionState::NotConnected, None)];
    assert_eq!(states(&status), expected);
    assert_eq!(next_at(&status, 0), submit(&["pam@example.com"]));
    let unsettled = BTreeMap::from([("pam@example.com".to_owned(), at(2))]);
    assert_eq!(next(&status, 7, &unsettled, at(0)), Next::WaitUntil(at(2)), "it may still take effect");
}

#[test]
fn results_are_matched_by_address_and_the_rest_is_looked_up() {
    let mut status = status(&["a@x.io", "b@x.io", "c@x.io", "d@x.io"]);
    round(&mut status, 0, &[connected("a@x.io", 1)]);
    look(&mut status, &[(1, "a@x.io")], 1);
    let results = [refused("other@x.io"), refused("d@x.io"), refused("B@X.io"), connected("b@x.io", 2)];
    round(&mut status, 1, &results);
    let of = |state, id| (state, id);
    assert_eq!(
        states(&status),
        [
            of(ConnectionState::Connected, Some(1)),
            of(ConnectionState::Connected, Some(2)),
            of(ConnectionState::Submitted, None),
            of(ConnectionState::Refused, None)
        ]
    );
    assert_eq!(status.pending.as_ref().unwrap().emails, ["c@x.io"]);
    assert_eq!(next_at(&status, 1), Next::Nothing, "a request may still take effect");
    let mut shown = status.clone();
    look(&mut shown, &[(3, "C@x.io")], 3);
    assert_eq!(states(&shown)[2], (ConnectionState::Connected, Some(3)));
    look(&mut status, &[], 3);
    assert_eq!(states(&status)[2], (ConnectionState::Unconfirmed, None));
    assert_eq!(next_at(&status, 11), Next::WaitUntil(at(13)), "both wait, and the object too");
    assert_eq!(next_at(&status, 13), submit(&["c@x.io"]), "one alone that was submitted before");
}

#[test]
fn an_object_without_success_stops_after_three_requests_until_it_is_asked() {
    let mut status = status(&["a@x.io", "b@x.io", "c@x.io", "d@x.io"]);
    round(&mut status, 0, &[refused("a@x.io")]);
    assert_eq!(next_at(&status, 9), Next::WaitUntil(at(10)));
    assert_eq!(next_at(&status, 10), submit(&["b@x.io"]), "another one is tried first");
    start(&mut status, 10);
    apply_refusal(&mut status, "HTTP 422: X".into(), &TIMING, at(10));
    assert_eq!(status.last_refusal.as_deref(), Some("HTTP 422: X"));
    assert_eq!(next_at(&status, 129), Next::WaitUntil(at(130)), "a permission may need two hours");
    start(&mut status, 130);
    look(&mut status, &[], 132);
    assert!(has_stopped(&status));
    assert_eq!((next_at(&status, 9999), status.next_attempt_time.clone()), (Next::Nothing, None));
    retry_now(&mut status, Request::Reconcile);
    assert_eq!(next_at(&status, 133), submit(&["d@x.io"]), "one that was not tried goes first");
    let again = MailboxStatus { credential_id: Some(7), ..MailboxStatus::new("a@x.io") };
    assert_eq!(status.mailboxes[0], again, "it begins again");
    round(&mut status, 133, &[connected("d@x.io", 1)]);
    assert_eq!((status.consecutive_failures, status.last_refusal), (None, None));
}

#[test]
fn a_mailbox_without_success_stops_after_three_attempts_and_the_others_go_on() {
    let mut status = status(&["bad@x.io", "ok1@x.io", "ok2@x.io", "ok3@x.io"]);
    round(&mut status, 0, &[refused("bad@x.io")]);
    round(&mut status, 10, &[connected("ok1@x.io", 1)]);
    look(&mut status, &[(1, "ok1@x.io")], 10);
    assert_eq!(next_at(&status, 10), submit(&["ok2@x.io", "ok3@x.io"]));
    round(&mut status, 10, &[connected("ok2@x.io", 2), connected("ok3@x.io", 3)]);
    for (minute, attempts, state) in [(10, 2, ConnectionState::Refused), (130, 3, ConnectionState::Stopped)] {
        assert_eq!(next_at(&status, minute - 1), Next::WaitUntil(at(minute)));
        start(&mut status, minute);
        apply_results(&mut status, &[refused("bad@x.io")], &TIMING, at(minute));
        assert_eq!(status.pending.is_some(), attempts == 3, "it is listed once more before it stops");
        look(&mut status, &[], minute);
        let bad = &status.mailboxes[0];
        assert_eq!((bad.attempts, bad.state, bad.error.is_some()), (Some(attempts), state, true));
    }
    assert_eq!(next_at(&status, 9999), Next::Nothing);
    assert!(!has_stopped(&status), "the object itself goes on");
}

#[test]
fn one_mailbox_with_which_requests_fail_does_not_keep_the_others_from_being_connected() {
    let mut status = status(&["ok1@x.io", "bad@x.io", "ok2@x.io"]);
    round(&mut status, 0, &[connected("ok1@x.io", 1)]);
    let mut minute = 0;
    for _ in 0..20 {
        look(&mut status, &[(1, "ok1@x.io")], minute);
        match next_at(&status, minute) {
            Next::Submit(emails) if emails.iter().any(|email| email == "bad@x.io") => {
                start(&mut status, minute);
                apply_refusal(&mut status, "HTTP 422: X".into(), &TIMING, at(minute));
            }
            Next::Submit(emails) => {
                let results: Vec<ConnectResult> = emails.iter().map(|email| connected(email, 9)).collect();
                round(&mut status, minute, &results);
            }
            Next::WaitUntil(until) => minute = until.as_second() / 60,
            Next::Nothing => break,
        }
    }
    let found: Vec<ConnectionState> = status.mailboxes.iter().map(|mailbox| mailbox.state).collect();
    assert_eq!(found, [ConnectionState::Connected, ConnectionState::Stopped, ConnectionState::Connected]);
}

#[test]
fn a_pending_mailbox_is_forgotten_only_on_request() {
    let mut status = status(&["a@x.io"]);
    start(&mut status, 0);
    retry_now(&mut status, Request::Reconcile);
    assert_eq!((next_at(&status, 9), states(&status)[0].0), (Next::Nothing, ConnectionState::Submitted));
    forget_pending(&mut status);
    assert_eq!(next_at(&status, 9), submit(&["a@x.io"]));
}

#[test]
fn the_status_is_bounded_in_bytes() {
    let emails: Vec<String> = (0..1000).map(|n| format!("{}{n:03}@x.io", "m".repeat(92))).collect();
    let specs: Vec<&str> = emails.iter().map(String::as_str).collect();
    let mut status = status(&specs);
    for email in &emails {
        begin(&mut status, pending(std::slice::from_ref(email), 0));
        let error = ConnectOutcome::Refused("x".repeat(256), None);
        apply_results(&mut status, &[ConnectResult { email: email.clone(), outcome: error }], &TIMING, at(0));
    }
    assert_eq!(status.mailboxes.iter().filter(|it| it.error.is_some()).count(), MAX_TEXT_BYTES / 256);
    assert!(status.mailboxes.iter().all(|it| it.state == ConnectionState::Refused));
    let texts = serde_json::to_string(&status).unwrap().len();
    for mailbox in &mut status.mailboxes {
        mailbox.state = ConnectionState::Connected;
    }
    let left = aligned(&status, &[]).left_connected;
    let bytes: usize = left.iter().map(|left| left.email.len()).sum();
    assert!(bytes <= MAX_LEFT_BYTES && bytes > MAX_LEFT_BYTES - 200, "{bytes}");
    assert_eq!(left.last().map(|left| &left.email), emails.last(), "the latest ones are kept");
    let left = serde_json::to_string(&left).unwrap().len();
    assert!(texts + left < 400 << 10, "{texts} and {left}");
}

#[test]
fn a_mailbox_that_leaves_the_spec_stays_connected_and_is_recognized_when_it_returns() {
    let mut before = status(&["a@x.io", "b@x.io", "c@x.io"]);
    round(&mut before, 0, &[connected("a@x.io", 1)]);
    look(&mut before, &[(1, "a@x.io")], 1);
    list(&mut before, &[(1, "a@x.io"), (2, "b@x.io")], 1);
    let mut after = aligned(&before, &spec(&["c@x.io"]));
    let left = |status: &WoodpeckerMailboxesStatus| -> Vec<(String, Option<i64>)> {
        status.left_connected.iter().map(|left| (left.email.clone(), left.id)).collect()
    };
    assert_eq!(left(&after), [("a@x.io".to_owned(), Some(1))], "b was never the operator's");
    start(&mut after, 2);
    let mut gone = aligned(&after, &spec(&["b@x.io"]));
    look(&mut gone, &[(1, "a@x.io"), (2, "b@x.io"), (3, "c@x.io")], 5);
    list(&mut gone, &[(1, "a@x.io"), (2, "b@x.io"), (3, "c@x.io")], 5);
    assert_eq!(left(&gone).last(), Some(&("c@x.io".to_owned(), Some(3))), "it left the spec meanwhile");
    let mut back = aligned(&gone, &spec(&["a@x.io"]));
    assert_eq!(states(&back), [(ConnectionState::Connected, Some(1))]);
    list(&mut back, &[], 6);
    assert_eq!(states(&back), [(ConnectionState::Connected, Some(1))], "one listing may lack it");
    assert_eq!(left(&back), [("c@x.io".to_owned(), Some(3))]);
}

#[test]
fn a_plan_is_listed_again_after_an_hour_or_with_a_new_mailbox() {
    let is_due = |status: &WoodpeckerMailboxesStatus, minute| {
        needs_listing(status, MailboxPolicy::Plan, &next_at(status, minute), TIMING.mailbox_plan, at(minute))
    };
    let mut status = status(&["a@x.io"]);
    assert!(is_due(&status, 0));
    list(&mut status, &[], 0);
    assert!(!is_due(&status, 59) && is_due(&status, 60));
    let longer = aligned(&status, &spec(&["a@x.io", "b@x.io"]));
    assert!(is_due(&longer, 1));
    let shorter = aligned(&status, &spec(&[]));
    assert!(!is_due(&shorter, 1));
}

/// What happens to a request.
#[derive(Clone, Copy, Debug)]
enum Fault {
    None,
    /// It is processed, and the response is lost, also by a kill.
    ResponseLost,
    /// It is not processed, and there is no response.
    RequestLost,
    /// The response has only its first element.
    OneResult,
    Refused,
}

proptest! {
    #[test]
    fn no_address_is_submitted_while_a_listing_shows_it_and_all_are_connected_in_the_end(
        count in 1..25usize,
        faults in prop::collection::vec(prop::sample::select(vec![
            Fault::None, Fault::ResponseLost, Fault::RequestLost, Fault::OneResult, Fault::Refused
        ]), 0..12)
    ) {
        let emails: Vec<String> = (0..count).map(|n| format!("m{n:02}@x.io")).collect();
        let emails: Vec<&str> = emails.iter().map(String::as_str).collect();
        let (mut status, mut remote, mut minute) = (status(&emails), Vec::<(i64, String)>::new(), 0);
        let mut faults = faults.into_iter();
        for _ in 0..200 {
            let shown: Vec<(i64, &str)> = remote.iter().map(|(id, email)| (*id, email.as_str())).collect();
            look(&mut status, &shown, minute);
            list(&mut status, &shown, minute);
            let submitted = match next_at(&status, minute) {
                Next::Submit(submitted) => submitted,
                Next::WaitUntil(until) => { minute = until.as_second() / 60; continue; }
                Next::Nothing if status.mailboxes.iter().all(MailboxStatus::is_connected) => break,
                // Somebody requests a reconcile.
                Next::Nothing => { retry_now(&mut status, Request::Reconcile); continue; }
            };
            prop_assert!(submitted.iter().all(|email| shown.iter().all(|(_, other)| other != email)));
            prop_assert!(status.consecutive_failures.unwrap_or_default() < MAX_ATTEMPTS);
            begin(&mut status, pending(&submitted, minute));
            let fault = faults.next().unwrap_or(Fault::None);
            let mut results = Vec::new();
            for email in &submitted {
                let id = i64::try_from(remote.len()).unwrap() + 1;
                if !matches!(fault, Fault::RequestLost | Fault::Refused) {
                    remote.push((id, email.clone()));
                    results.push(connected(email, id));
                }
            }
            match fault {
                Fault::None => apply_results(&mut status, &results, &TIMING, at(minute)),
                Fault::OneResult => apply_results(&mut status, &results[..1], &TIMING, at(minute)),
                Fault::Refused => apply_refusal(&mut status, "HTTP 422".into(), &TIMING, at(minute)),
                Fault::ResponseLost | Fault::RequestLost => {}
            }
            minute += 3;
        }
        prop_assert!(states(&status).iter().all(|(state, id)| *state == ConnectionState::Connected && id.is_some()));
        prop_assert_eq!(remote.len(), count, "each is connected once");
    }
}
