//! Tests of the conditions.

use super::*;
use crate::api::timestamp::Time;
use crate::api::{LeftMailbox, MailboxStatus, PendingConnection, UnknownFields};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn status(states: &[ConnectionState]) -> WoodpeckerMailboxesStatus {
    let mailbox = |(number, state): (usize, &ConnectionState)| MailboxStatus {
        state: *state,
        ..MailboxStatus::new(&format!("m{number}@example.com"))
    };
    WoodpeckerMailboxesStatus {
        mailboxes: states.iter().enumerate().map(mailbox).collect(),
        last_listed_time: Some(Time(at(0))),
        ..WoodpeckerMailboxesStatus::default()
    }
}

fn ready_of(
    status: &WoodpeckerMailboxesStatus,
    policy: MailboxPolicy,
    standing: &Standing,
) -> (ConditionStatus, String, Option<String>) {
    let report = report(status, status.clone(), policy, 1, standing, at(1));
    let ready = report.status.conditions[0].clone();
    // Neither addresses nor Woodpecker's texts are in an event.
    let event = report.event.map(|event| event.text).unwrap_or_default();
    assert!(!event.contains("example.com") && !event.contains("remote"), "{event}");
    (ready.status, ready.reason, report.status.conditions.get(1).map(|it| it.type_.clone()))
}

#[test]
fn ready_says_what_is_still_to_be_done() {
    use ConnectionState::{AlreadyConnected, Connected, NotConnected, Refused};
    let (connect, plan) = (MailboxPolicy::Connect, MailboxPolicy::Plan);
    let reconciling = || Some("Reconciling".to_owned());
    let all = status(&[Connected, AlreadyConnected]);
    let expect = |status: ConditionStatus, reason: &str, beside| (status, reason.to_owned(), beside);
    for policy in [connect, plan] {
        let expected = expect(ConditionStatus::True, "MailboxesConnected", None);
        assert_eq!(ready_of(&all, policy, &Standing::Settled), expected);
    }
    let some = status(&[Connected, NotConnected]);
    let planned = expect(ConditionStatus::True, "ConnectionPlanned", None);
    assert_eq!(ready_of(&some, plan, &Standing::Settled), planned);
    let pending = expect(ConditionStatus::Unknown, "ConnectionPending", reconciling());
    assert_eq!(ready_of(&some, connect, &Standing::Settled), pending);
    assert_eq!(ready_of(&some, connect, &Standing::Queued), pending);
    let refused = expect(ConditionStatus::False, "MailboxesRefused", reconciling());
    assert_eq!(ready_of(&status(&[Connected, Refused]), connect, &Standing::Settled), refused);
    assert_eq!(ready_of(&status(&[Refused, NotConnected]), connect, &Standing::Settled), pending);
    let mut failed = status(&[Refused, NotConnected]);
    failed.consecutive_failures = Some(1);
    assert_eq!(ready_of(&failed, connect, &Standing::Settled), refused);
    failed.last_refusal = Some("remote".to_owned());
    let rejected = expect(ConditionStatus::False, "ConnectionRejected", reconciling());
    assert_eq!(ready_of(&failed, connect, &Standing::Settled), rejected);
}

#[test]
fn ready_says_what_a_person_has_to_look_for() {
    use ConnectionState::{AlreadyConnected, Connected, NotConnected, Submitted};
    let (connect, plan) = (MailboxPolicy::Connect, MailboxPolicy::Plan);
    let expect = |status: ConditionStatus, reason: &str, beside: Option<&str>| {
        (status, reason.to_owned(), beside.map(str::to_owned))
    };
    let pending = expect(ConditionStatus::Unknown, "ConnectionPending", Some("Reconciling"));
    let mut lost = status(&[Submitted]);
    lost.pending = Some(PendingConnection {
        start_time: Time(at(0)),
        credential_id: 7,
        account: AccountName { namespace: "mail".into(), name: "agency".into() },
        account_uid: "uid".to_owned(),
        base_url: "https://a.example".to_owned(),
        company_id: None,
        emails: vec!["m0@example.com".to_owned()],
        hold: None,
        unknown: UnknownFields::default(),
    });
    let unknown = expect(ConditionStatus::Unknown, "OutcomeUnknown", Some("Reconciling"));
    assert_eq!(ready_of(&lost, connect, &Standing::Settled), unknown);
    assert_eq!(ready_of(&lost, connect, &Standing::Submitting), pending);
    for (reason, expected) in
        [(HoldReason::NotListed, "ConnectionNotListed"), (HoldReason::UnexpectedAddress, "UnexpectedAddress")]
    {
        let mut waiting = lost.clone();
        let hold = ConnectionHold { reason, ids: vec![444_444], unknown: UnknownFields::default() };
        waiting.pending.as_mut().unwrap().hold = Some(hold);
        let stalled = expect(ConditionStatus::False, expected, Some("Stalled"));
        assert_eq!(ready_of(&waiting, connect, &Standing::Settled), stalled);
        let report = report(&waiting, waiting.clone(), connect, 1, &Standing::Settled, at(1));
        assert!(report.status.conditions[0].message.contains("444444"), "{:?}", report.status.conditions);
    }
    lost.mailboxes[0].state = Connected;
    assert_eq!(ready_of(&lost, connect, &Standing::Settled), pending, "a listing has to show it first");
    let incomplete = WoodpeckerMailboxesStatus { missing: Some(1), ..status(&[Connected, AlreadyConnected]) };
    for policy in [connect, plan] {
        let expected = expect(ConditionStatus::False, "IncompleteList", Some("Reconciling"));
        assert_eq!(ready_of(&incomplete, policy, &Standing::Settled), expected);
    }
    let some = status(&[Connected, NotConnected]);
    let new = WoodpeckerMailboxesStatus { last_listed_time: None, ..some.clone() };
    let listing = expect(ConditionStatus::Unknown, "ListingPending", Some("Reconciling"));
    assert_eq!(ready_of(&new, plan, &Standing::Settled), listing);
    let suspended = expect(ConditionStatus::False, "Suspended", None);
    assert_eq!(ready_of(&some, connect, &Standing::Suspended), suspended);
    let blocked = Standing::Blocked(Reason::NotAtWoodpecker, "x".to_owned(), false);
    let stalled = expect(ConditionStatus::False, "NotAtWoodpecker", Some("Stalled"));
    assert_eq!(ready_of(&some, connect, &blocked), stalled);
}

#[test]
fn ready_says_what_was_submitted_without_success() {
    use ConnectionState::{Connected, NotConnected, Refused, Stopped, Unconfirmed};
    let ready_of = |status: &WoodpeckerMailboxesStatus, standing: &Standing| {
        ready_of(status, MailboxPolicy::Connect, standing)
    };
    let expect = |status: ConditionStatus, reason: &str, beside: &str| {
        (status, reason.to_owned(), Some(beside.to_owned()))
    };
    let mut failed = status(&[Refused, NotConnected]);
    failed.last_refusal = Some("remote".to_owned());
    failed.consecutive_failures = Some(3);
    let stopped = expect(ConditionStatus::False, "ConnectionStopped", "Stalled");
    assert_eq!(ready_of(&failed, &Standing::Settled), stopped);
    assert_eq!(ready_of(&status(&[Connected, Stopped]), &Standing::Settled), stopped);
    let refused = expect(ConditionStatus::False, "MailboxesRefused", "Reconciling");
    assert_eq!(ready_of(&status(&[Connected, Stopped, Refused]), &Standing::Settled), refused);
    let unclear = status(&[Unconfirmed]);
    let unconfirmed = expect(ConditionStatus::Unknown, "OutcomeUnknown", "Reconciling");
    assert_eq!(ready_of(&unclear, &Standing::Settled), unconfirmed);
    for (is_automatic, beside) in [(true, "Reconciling"), (false, "Stalled")] {
        let standing = Standing::NotLookedUp("the account is gone".to_owned(), is_automatic);
        let expected = expect(ConditionStatus::Unknown, "OutcomeUnknown", beside);
        assert_eq!(ready_of(&unclear, &standing), expected);
    }
}

#[test]
fn a_plan_names_the_paid_slots() {
    let mut status = status(&[ConnectionState::NotConnected; 3]);
    status.left_connected = vec![LeftMailbox::new("x@x.io".to_owned(), Some(1), None)];
    let report = report(&status, status.clone(), MailboxPolicy::Plan, 1, &Standing::Settled, at(1));
    assert!(report.status.conditions[0].message.contains("3 mailboxes, each of which may use a paid slot"));
    assert_eq!((report.status.open, report.status.connected), (Some(3), Some(0)));
    let again = super::report(
        &report.status,
        report.status.clone(),
        MailboxPolicy::Plan,
        1,
        &Standing::Settled,
        at(9),
    );
    assert_eq!((again.status, again.event), (report.status, None), "nothing is written again");
}

#[test]
fn what_has_stopped_is_counted_by_its_cause() {
    let mut stopped =
        status(&[ConnectionState::Stopped, ConnectionState::Stopped, ConnectionState::Connected]);
    stopped.mailboxes[0].unlisted = Some(true);
    let message = |status: &WoodpeckerMailboxesStatus| {
        let report = report(status, status.clone(), MailboxPolicy::Connect, 1, &Standing::Settled, at(1));
        report.status.conditions[0].message.clone()
    };
    let text = message(&stopped);
    assert!(
        text.starts_with("2 of 3 mailboxes are not connected, 1 after 3 attempts and 1 because"),
        "{text}"
    );
    let mut failed = status(&[ConnectionState::Refused, ConnectionState::NotConnected]);
    failed.consecutive_failures = Some(3);
    let text = message(&failed);
    assert!(text.starts_with("3 requests in a row connected no mailbox, 2 of 2 mailboxes"), "{text}");
}
