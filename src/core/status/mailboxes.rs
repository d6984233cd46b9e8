//! The status of a `WoodpeckerMailboxes`.

use jiff::Timestamp;

use crate::api::conditions::{ConditionStatus, ConditionType, Desired, Reason, find, merge};
use crate::api::{AccountName, ConnectionState, MailboxPolicy, WoodpeckerMailboxesStatus};
use crate::core::event::EventBody;
use crate::core::mailbox_connection::{MAX_ATTEMPTS, has_stopped};
use crate::core::outcome::Outcome;

/// What keeps the object from being worked on; `Settled` if nothing does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The conditions follow from the status.
    Settled,
    /// A request is about to be sent.
    Submitting,
    Suspended,
    /// Something in the cluster has to change. `true` if the operator continues automatically then.
    Blocked(Reason, String, bool),
    /// Other requests to the account are ahead.
    Queued,
    /// The mailboxes could not be listed. The text is the message.
    NotListed(String),
    /// What was submitted cannot be looked up, for that reason. `true` if the operator continues automatically.
    NotLookedUp(String, bool),
}

/// The outcome of a reconcile.
#[derive(Clone, Debug)]
pub struct MailboxesReport {
    /// The status to write if it differs.
    pub status: WoodpeckerMailboxesStatus,
    /// The event to emit if Ready changed.
    pub event: Option<EventBody>,
    pub outcome: Outcome,
}

/// How many mailboxes of the spec are in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionCounts {
    pub not_connected: i32,
    pub submitted: i32,
    pub connected: i32,
    pub already_connected: i32,
    pub refused: i32,
    pub unconfirmed: i32,
    pub stopped: i32,
}

/// Completes a status with its counts and conditions.
pub fn report(
    before: &WoodpeckerMailboxesStatus,
    mut status: WoodpeckerMailboxesStatus,
    policy: MailboxPolicy,
    generation: i64,
    standing: &Standing,
    now: Timestamp,
) -> MailboxesReport {
    let counts = ConnectionCounts::of(&status);
    status.observed_generation = generation;
    status.connected = Some(counts.connected);
    status.already_connected = Some(counts.already_connected);
    status.open = Some(counts.open());
    let ready = ready(before, &status, counts, policy, standing);
    let outcome = match (ready.status, standing) {
        (ConditionStatus::True, _) => Outcome::Success,
        (ConditionStatus::Unknown, Standing::Settled | Standing::Submitting | Standing::Queued) => {
            Outcome::Waiting
        }
        _ => Outcome::NotMet,
    };
    let beside = beside(&ready, standing);
    let desired = [Some(ready), beside].into_iter().flatten().collect();
    status.conditions = merge(&before.conditions, desired, generation, now);
    let (old, new) =
        (find(&before.conditions, ConditionType::Ready), find(&status.conditions, ConditionType::Ready));
    let event = new.filter(|new| new.status != ConditionStatus::Unknown);
    let event =
        event.filter(|new| old.is_none_or(|old| old.reason != new.reason || old.status != new.status));
    let event = event.and_then(|ready| {
        EventBody::of(ready, ready.status != ConditionStatus::True, "ConnectMailboxes", String::new())
    });
    MailboxesReport { status, event, outcome }
}

fn ready(
    before: &WoodpeckerMailboxesStatus,
    status: &WoodpeckerMailboxesStatus,
    counts: ConnectionCounts,
    policy: MailboxPolicy,
    standing: &Standing,
) -> Desired {
    let type_ = ConditionType::Ready;
    match standing {
        Standing::Settled | Standing::Submitting => {}
        Standing::Suspended => {
            let message = "spec.suspend is true, so nothing is sent";
            return Desired::unmet(type_, Reason::Suspended, message);
        }
        Standing::Blocked(reason, message, _) => return Desired::unmet(type_, *reason, message.clone()),
        Standing::NotListed(message) => {
            return Desired::unknown(type_, Reason::MailboxesNotListed, message.clone());
        }
        Standing::NotLookedUp(problem, is_automatic) => {
            let action = if *is_automatic {
                "the operator continues automatically"
            } else {
                "look for them in Woodpecker, and then request a reconcile to submit those that are not there"
            };
            let message = format!(
                "there is no clear response about {} mailboxes, and {problem}; {action}",
                counts.submitted
            );
            return Desired::unknown(type_, Reason::OutcomeUnknown, message);
        }
        // A wait says nothing about what was known before.
        Standing::Queued if status.last_listed_time.is_some() && status.mailboxes == before.mailboxes => {}
        Standing::Queued => {
            let message = "other requests to the account are ahead; the operator waits and continues";
            return Desired::unknown(type_, Reason::Queued, message);
        }
    }
    settled(status, counts, policy, *standing == Standing::Submitting)
}

/// What follows from the status if nothing keeps the object from being worked on.
fn settled(
    status: &WoodpeckerMailboxesStatus,
    counts: ConnectionCounts,
    policy: MailboxPolicy,
    is_submitting: bool,
) -> Desired {
    let type_ = ConditionType::Ready;
    let (total, connected) = (status.mailboxes.len(), counts.connected + counts.already_connected);
    if counts.open() == 0 {
        return Desired::met(
            type_,
            Reason::MailboxesConnected,
            format!("all {total} mailboxes are connected"),
        );
    }
    if status.pending.is_some() && !is_submitting {
        let message = format!(
            "there is no clear response about {} mailboxes; the operator looks for them in a listing, and submits none \
             of them before that",
            counts.submitted
        );
        return Desired::unknown(type_, Reason::OutcomeUnknown, message);
    }
    if status.last_listed_time.is_none() {
        return Desired::unknown(type_, Reason::ListingPending, "the mailboxes have not been listed yet");
    }
    if policy == MailboxPolicy::Plan {
        let message = format!(
            "spec.policy is Plan, so nothing is sent; Connect would connect {} mailboxes, each of which may use a paid \
             slot of the account; {connected} are connected already",
            counts.open()
        );
        return Desired::met(type_, Reason::ConnectionPlanned, message);
    }
    unsuccessful(status, counts).unwrap_or_else(|| {
        let message =
            format!("{connected} of {total} mailboxes are connected, and the operator connects the others");
        Desired::unknown(type_, Reason::ConnectionPending, message)
    })
}

/// Ready, if what is left was submitted without success.
fn unsuccessful(status: &WoodpeckerMailboxesStatus, counts: ConnectionCounts) -> Option<Desired> {
    const RETRIES: &str = "The operator tries again after 10 minutes, and a last time 2 hours later, because a \
                           permission that was granted works after up to two hours";
    let (type_, total) = (ConditionType::Ready, status.mailboxes.len());
    let has_failed = status.consecutive_failures.is_some();
    if has_stopped(status) || counts.stopped == counts.open() {
        let message = format!(
            "{} of {total} mailboxes are not connected after {MAX_ATTEMPTS} attempts, and the operator submits nothing \
             more: status.mailboxes and status.lastRefusal have Woodpecker's texts. Remove the cause, and then change the \
             spec or request a reconcile",
            counts.open()
        );
        return Some(Desired::unmet(type_, Reason::ConnectionStopped, message));
    }
    if has_failed && status.last_refusal.is_some() {
        let message =
            format!("Woodpecker refused the last request: status.lastRefusal has its text. {RETRIES}");
        return Some(Desired::unmet(type_, Reason::ConnectionRejected, message));
    }
    let (refused, unconfirmed) = (counts.refused + counts.stopped, counts.unconfirmed);
    if refused + unconfirmed == 0 || counts.not_connected > 0 && !has_failed {
        return None;
    }
    Some(if refused > 0 {
        let message = format!(
            "Woodpecker refused {refused} of {total} mailboxes: status.mailboxes has its texts. {RETRIES}"
        );
        Desired::unmet(type_, Reason::MailboxesRefused, message)
    } else {
        let message = format!(
            "{unconfirmed} mailboxes were submitted without a clear response, and a listing lacks them. {RETRIES}"
        );
        Desired::unknown(type_, Reason::OutcomeUnknown, message)
    })
}

/// Reconciling while the operator continues automatically, Stalled otherwise; none if Ready is True.
fn beside(ready: &Desired, standing: &Standing) -> Option<Desired> {
    let type_ = match standing {
        _ if ready.status == ConditionStatus::True => return None,
        Standing::Suspended => return None,
        Standing::Blocked(_, _, false) | Standing::NotLookedUp(_, false) => ConditionType::Stalled,
        _ if ready.reason == Reason::ConnectionStopped => ConditionType::Stalled,
        _ => ConditionType::Reconciling,
    };
    Some(Desired::met(type_, ready.reason, ready.message.clone()))
}

// === impl Standing ===

impl Standing {
    /// The account lets nobody connect mailboxes.
    pub fn connecting_denied(account: &AccountName) -> Self {
        let message = format!(
            "spec.mailboxes.connect of WoodpeckerAccount {account} is not Allowed, so nothing is sent: the owner of the \
             account sets it, because each mailbox may use a paid slot"
        );
        Self::Blocked(Reason::ConnectionNotAllowed, message, true)
    }
}

// === impl ConnectionCounts ===

impl ConnectionCounts {
    pub fn of(status: &WoodpeckerMailboxesStatus) -> Self {
        let mut counts = Self::default();
        for mailbox in &status.mailboxes {
            let count = match mailbox.state {
                ConnectionState::NotConnected => &mut counts.not_connected,
                ConnectionState::Submitted => &mut counts.submitted,
                ConnectionState::Connected => &mut counts.connected,
                ConnectionState::AlreadyConnected => &mut counts.already_connected,
                ConnectionState::Refused => &mut counts.refused,
                ConnectionState::Unconfirmed => &mut counts.unconfirmed,
                ConnectionState::Stopped => &mut counts.stopped,
            };
            *count = count.saturating_add(1);
        }
        counts
    }

    /// How many are not connected.
    pub fn open(self) -> i32 {
        self.not_connected + self.submitted + self.refused + self.unconfirmed + self.stopped
    }
}

#[cfg(test)]
mod tests {
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
        use ConnectionState::{AlreadyConnected, Connected, NotConnected, Refused, Submitted};
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
        let mut lost = status(&[Submitted]);
        lost.pending = Some(PendingConnection {
            start_time: Time(at(0)),
            credential_id: 7,
            account: AccountName { namespace: "mail".into(), name: "agency".into() },
            account_uid: "uid".to_owned(),
            base_url: "https://a.example".to_owned(),
            company_id: None,
            emails: vec!["m0@example.com".to_owned()],
            unknown: UnknownFields::default(),
        });
        let unknown = expect(ConditionStatus::Unknown, "OutcomeUnknown", reconciling());
        assert_eq!(ready_of(&lost, connect, &Standing::Settled), unknown);
        assert_eq!(ready_of(&lost, connect, &Standing::Submitting), pending);
        let new = WoodpeckerMailboxesStatus { last_listed_time: None, ..some.clone() };
        let listing = expect(ConditionStatus::Unknown, "ListingPending", reconciling());
        assert_eq!(ready_of(&new, plan, &Standing::Settled), listing);
        let suspended = expect(ConditionStatus::False, "Suspended", None);
        assert_eq!(ready_of(&some, connect, &Standing::Suspended), suspended);
        let blocked = Standing::Blocked(Reason::NotAtWoodpecker, "x".to_owned(), false);
        let stalled = expect(ConditionStatus::False, "NotAtWoodpecker", Some("Stalled".to_owned()));
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
        status.left_connected =
            vec![LeftMailbox { email: "x@x.io".to_owned(), id: Some(1), unknown: UnknownFields::default() }];
        let report = report(&status, status.clone(), MailboxPolicy::Plan, 1, &Standing::Settled, at(1));
        assert!(
            report.status.conditions[0].message.contains("3 mailboxes, each of which may use a paid slot")
        );
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
}
