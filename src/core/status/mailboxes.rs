//! The status of a `WoodpeckerMailboxes`.

use jiff::Timestamp;

use crate::api::conditions::{ConditionStatus, ConditionType, Desired, Reason, find, merge};
use crate::api::{
    AccountName, ConnectionHold, ConnectionState, HoldReason, MailboxPolicy, PendingConnection,
    WoodpeckerMailboxesStatus,
};
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
    /// Of the stopped ones, those that a person has to look for.
    pub unlisted: i32,
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
                "what was submitted has not been found in a listing ({}), and {problem}; {action}",
                mailboxes(
                    status
                        .pending
                        .as_ref()
                        .map_or(0, |it| i32::try_from(it.emails.len()).unwrap_or(i32::MAX))
                )
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
    if let Some(waiting) = pending(status).filter(|_| !is_submitting) {
        return waiting;
    }
    if let Some(missing) = status.missing {
        let message = format!(
            "the last listing lacks {} that the operator has connected, with {}, so it may be incomplete: nothing is \
             sent, and the operator lists again after 10 minutes. If they were disconnected in Woodpecker, or have another \
             address there, remove them from the spec",
            mailboxes(missing),
            the_ids(&status.missing_ids, missing)
        );
        return Desired::unmet(type_, Reason::IncompleteList, message);
    }
    if counts.open() == 0 {
        return Desired::met(
            type_,
            Reason::MailboxesConnected,
            format!("all {total} mailboxes are connected"),
        );
    }
    if status.last_listed_time.is_none() {
        return Desired::unknown(type_, Reason::ListingPending, "the mailboxes have not been listed yet");
    }
    if policy == MailboxPolicy::Plan {
        let message = format!(
            "spec.policy is Plan, so nothing is sent; Connect would connect {}, each of which may use a paid slot of the \
             account; {connected} connected already{}",
            mailboxes(counts.open() - counts.unlisted),
            if counts.unlisted > 0 {
                format!("; {} to be looked for by a person first", counts.unlisted)
            } else {
                String::new()
            }
        );
        return Desired::met(type_, Reason::ConnectionPlanned, message);
    }
    unsuccessful(status, counts).unwrap_or_else(|| {
        let message =
            format!("{connected} of {total} mailboxes are connected, and the operator connects the others");
        Desired::unknown(type_, Reason::ConnectionPending, message)
    })
}

/// Ready while a request is pending.
fn pending(status: &WoodpeckerMailboxesStatus) -> Option<Desired> {
    const LOOK: &str = "Nothing more is sent until a person looks in Woodpecker, and requests a reconcile";
    let (type_, pending) = (ConditionType::Ready, status.pending.as_ref()?);
    let unanswered = unanswered(status, pending);
    Some(match &pending.hold {
        Some(hold @ ConnectionHold { reason: HoldReason::NotListed, .. }) => {
            let message = format!(
                "with credential {}, Woodpecker connected a mailbox with {}, and a later listing of the account lacks \
                 it. {LOOK}",
                pending.credential_id,
                the_ids(&hold.ids, 0)
            );
            Desired::unmet(type_, Reason::ConnectionNotListed, message)
        }
        Some(hold @ ConnectionHold { reason: HoldReason::UnexpectedAddress, .. }) => {
            let message = format!(
                "Woodpecker connected an address that was not submitted, with {}{}. If an address of the spec is an \
                 alias, replace it with its primary address. {LOOK}",
                the_ids(&hold.ids, 0),
                match unanswered {
                    0 => String::new(),
                    1 => ", and 1 mailbox of the request is without result".to_owned(),
                    more => format!(", and {more} mailboxes of the request are without result"),
                }
            );
            Desired::unmet(type_, Reason::UnexpectedAddress, message)
        }
        None if unanswered == 0 => {
            let message = "Woodpecker has responded; the operator looks for the mailbox in a listing, and submits nothing \
                           more before that";
            Desired::unknown(type_, Reason::ConnectionPending, message)
        }
        None => {
            let message = format!(
                "there is no clear response about {}; the operator looks for them in a listing, and submits none of them \
                 before that",
                mailboxes(unanswered)
            );
            Desired::unknown(type_, Reason::OutcomeUnknown, message)
        }
    })
}

/// How many mailboxes of a request are without result, including those that left the spec.
fn unanswered(status: &WoodpeckerMailboxesStatus, pending: &PendingConnection) -> i32 {
    let state = |email: &String| status.mailboxes.iter().find(|it| it.email == *email).map(|it| it.state);
    let of_spec = pending.emails.iter().map(state);
    let count = of_spec.filter(|state| state.is_none_or(|it| it == ConnectionState::Submitted)).count();
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// The IDs, of at least so many.
fn the_ids(ids: &[i64], total: i32) -> String {
    let list = ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match ids.len() {
        1 => format!("the id {list}"),
        known if usize::try_from(total).is_ok_and(|total| total > known) => format!("ids such as {list}"),
        _ => format!("the ids {list}"),
    }
}

fn mailboxes(count: i32) -> String {
    if count == 1 { "1 mailbox".to_owned() } else { format!("{count} mailboxes") }
}

/// Ready, if what is left was submitted without success.
fn unsuccessful(status: &WoodpeckerMailboxesStatus, counts: ConnectionCounts) -> Option<Desired> {
    const RETRIES: &str = "The operator tries again after 10 minutes, and a last time 2 hours later, because a \
                           permission that was granted works after up to two hours";
    const REMEDY: &str = "status.mailboxes and status.lastRefusal have the texts. Remove the cause, and then request a \
                          reconcile";
    let (type_, total) = (ConditionType::Ready, status.mailboxes.len());
    let has_failed = status.consecutive_failures.is_some();
    if has_stopped(status) {
        let message = format!(
            "{MAX_ATTEMPTS} requests in a row connected no mailbox, {} of {total} mailboxes are not connected, and the \
             operator submits nothing more: {REMEDY}",
            counts.open()
        );
        return Some(Desired::unmet(type_, Reason::ConnectionStopped, message));
    }
    if counts.stopped == counts.open() {
        let message = format!(
            "{} of {total} mailboxes are not connected, {} after {MAX_ATTEMPTS} attempts and {} because a listing lacks \
             what was submitted or there before, and the operator no longer submits them: {REMEDY}",
            counts.stopped,
            counts.stopped - counts.unlisted,
            counts.unlisted
        );
        return Some(Desired::unmet(type_, Reason::ConnectionStopped, message));
    }
    if has_failed && status.last_refusal.is_some() {
        let message =
            format!("Woodpecker refused the last request: status.lastRefusal has its text. {RETRIES}");
        return Some(Desired::unmet(type_, Reason::ConnectionRejected, message));
    }
    let (refused, unconfirmed) = (counts.refused + counts.stopped - counts.unlisted, counts.unconfirmed);
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
            "{} submitted without a clear response are not in a listing. {RETRIES}",
            mailboxes(unconfirmed)
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
        _ if is_stalled(ready.reason) => ConditionType::Stalled,
        _ => ConditionType::Reconciling,
    };
    Some(Desired::met(type_, ready.reason, ready.message.clone()))
}

/// Whether nothing happens until a person acts.
fn is_stalled(reason: Reason) -> bool {
    matches!(reason, Reason::ConnectionStopped | Reason::ConnectionNotListed | Reason::UnexpectedAddress)
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
            if mailbox.state == ConnectionState::Stopped && mailbox.unlisted.is_some() {
                counts.unlisted = counts.unlisted.saturating_add(1);
            }
        }
        counts
    }

    /// How many are not connected.
    pub fn open(self) -> i32 {
        self.not_connected + self.submitted + self.refused + self.unconfirmed + self.stopped
    }
}

#[cfg(test)]
mod tests;
