//! Which mailboxes are submitted next, and what a listing or a response means for them. All of it is about one
//! `WoodpeckerMailboxes`.
//!
//! A mailbox that no listing shows is submitted at most [`MAX_ATTEMPTS`] times, and so is an object of which no mailbox is
//! connected. The vendor documents neither the order nor the length of a response, so results are matched by address.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use crate::api::conditions::whole_second;
use crate::api::timestamp::Time;
use crate::api::{
    ConnectionState, LeftMailbox, MailboxPolicy, MailboxSpec, MailboxStatus, PendingConnection,
    UnknownFields, WoodpeckerMailboxesStatus,
};
use crate::core::mailboxes::{Mailboxes, normalized};
use crate::core::timing::Timing;

/// Mailboxes of one request. The vendor documents no limit, and a request must end before its timeout.
pub const MAX_SUBMITTED: usize = 10;

/// How often a mailbox is submitted without being connected, and how many requests in a row connect none, before the
/// operator stops.
pub const MAX_ATTEMPTS: i32 = 3;

/// Mailboxes that stay connected and are kept in the status.
const MAX_LEFT: usize = 1000;

/// Bytes of their addresses.
const MAX_LEFT_BYTES: usize = 64 << 10;

/// Bytes of Woodpecker's texts about all mailboxes.
const MAX_TEXT_BYTES: usize = 32 << 10;

/// What Woodpecker's response says about one mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectResult {
    /// As Woodpecker writes the address.
    pub email: String,
    pub outcome: ConnectOutcome,
}

/// Whether a mailbox was connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectOutcome {
    /// With its ID.
    Connected(i64),
    /// With Woodpecker's text.
    Refused(String),
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Submit these mailboxes.
    Submit(Vec<String>),
    /// Nothing before that time.
    WaitUntil(Timestamp),
    /// Nothing.
    Nothing,
}

/// The status with exactly the mailboxes of the spec, in its order. One that was connected and is no longer there is
/// left connected. With a new one, the last listing no longer counts.
pub fn aligned(before: &WoodpeckerMailboxesStatus, spec: &[MailboxSpec]) -> WoodpeckerMailboxesStatus {
    let mut status = before.clone();
    let mut known: BTreeMap<String, MailboxStatus> =
        status.mailboxes.drain(..).map(|mailbox| (mailbox.email.clone(), mailbox)).collect();
    let mut is_any_new = false;
    let of_spec = |mailbox: &MailboxSpec| {
        let known = known.remove(&mailbox.email);
        is_any_new |= known.is_none();
        known.unwrap_or_else(|| MailboxStatus::new(&mailbox.email))
    };
    status.mailboxes = spec.iter().map(of_spec).collect();
    status.last_listed_time = status.last_listed_time.filter(|_| !is_any_new);
    let gone = known.into_values().filter(|mailbox| mailbox.state == ConnectionState::Connected);
    for MailboxStatus { email, id, .. } in gone {
        add_left(&mut status, email, id);
    }
    status
}

/// Whether a listing is due: to submit, or for a plan, which is valid for `plan_age`.
pub fn needs_listing(
    status: &WoodpeckerMailboxesStatus,
    policy: MailboxPolicy,
    next: &Next,
    plan_age: Duration,
    now: Timestamp,
) -> bool {
    let is_old =
        |listed: &Time| Duration::try_from(now.duration_since(listed.0)).is_ok_and(|age| age >= plan_age);
    match policy {
        MailboxPolicy::Connect => matches!(next, Next::Submit(_)),
        MailboxPolicy::Plan => status.last_listed_time.as_ref().is_none_or(is_old),
    }
}

/// Applies a listing of the account that has the credential. No request may be pending.
pub fn apply_listing(status: &mut WoodpeckerMailboxesStatus, listing: &Mailboxes, at: Timestamp) {
    status.last_listed_time = Some(Time(whole_second(at)));
    // A listing may lag behind a connection.
    let uncertain = status.mailboxes.iter_mut().filter(|it| it.state != ConnectionState::Connected);
    for mailbox in uncertain {
        let is_left = status.left_connected.iter().any(|left| left.email == mailbox.email);
        match listing.get(&mailbox.email) {
            Some(shown) if is_left => set_known(mailbox, ConnectionState::Connected, Some(shown.id)),
            Some(shown) => set_known(mailbox, ConnectionState::AlreadyConnected, Some(shown.id)),
            None if matches!(
                mailbox.state,
                ConnectionState::AlreadyConnected | ConnectionState::Submitted
            ) =>
            {
                set_known(mailbox, ConnectionState::NotConnected, None);
            }
            None => {}
        }
    }
    let of_spec: BTreeSet<&str> = status.mailboxes.iter().map(|mailbox| mailbox.email.as_str()).collect();
    status.left_connected.retain(|left| !of_spec.contains(left.email.as_str()));
}

/// Looks up what was submitted in a listing of that account, which began after the request had settled.
pub fn look_up(status: &mut WoodpeckerMailboxesStatus, listing: &Mailboxes, timing: &Timing, now: Timestamp) {
    let Some(pending) = status.pending.take() else { return };
    let mut is_any_shown = false;
    for email in &pending.emails {
        let shown = listing.get(email);
        is_any_shown |= shown.is_some();
        match (status.mailboxes.iter_mut().find(|mailbox| mailbox.email == *email), shown) {
            (Some(mailbox), Some(shown)) => set_known(mailbox, ConnectionState::Connected, Some(shown.id)),
            (Some(mailbox), None) => {
                set_failed(mailbox, ConnectionState::Unconfirmed, None, timing, now);
            }
            // It has left the spec.
            (None, Some(shown)) => add_left(status, email.clone(), Some(shown.id)),
            (None, None) => {}
        }
    }
    if is_any_shown {
        record_success(status, pending.credential_id);
    } else {
        record_failure(status, timing, now);
    }
}

/// The next mailboxes to submit with that credential: one alone until one was connected with it, so that a missing
/// permission concerns one mailbox, and one alone that was submitted before, because it may be why a request failed.
/// Those that are `unsettled` may still be about to be connected, until that time.
pub fn next(
    status: &WoodpeckerMailboxesStatus,
    credential_id: i64,
    unsettled: &BTreeMap<String, Timestamp>,
    now: Timestamp,
) -> Next {
    if status.pending.is_some() || has_stopped(status) {
        return Next::Nothing;
    }
    let is_open = |it: &&MailboxStatus| !it.is_connected() && it.state != ConnectionState::Stopped;
    let time = |at: &Option<Time>| at.as_ref().map(|at| at.0);
    let due_at = |mailbox: &MailboxStatus| {
        let waits = [time(&status.next_attempt_time), time(&mailbox.next_attempt_time)];
        let waits = waits.into_iter().flatten().chain(unsettled.get(&mailbox.email).copied());
        waits.max().filter(|at| *at > now)
    };
    let open: Vec<&MailboxStatus> = status.mailboxes.iter().filter(is_open).collect();
    let mut due: Vec<&MailboxStatus> = open.iter().copied().filter(|it| due_at(it).is_none()).collect();
    // Of equal ones the first in the spec. A refused one does not keep the others from being tried.
    due.sort_by_key(|mailbox| attempts(mailbox));
    let Some(first) = due.first() else {
        return open.into_iter().filter_map(due_at).min().map_or(Next::Nothing, Next::WaitUntil);
    };
    let is_alone = status.proven_credential_id != Some(credential_id) || attempts(first) > 0;
    due.retain(|mailbox| is_alone || attempts(mailbox) == 0);
    due.truncate(if is_alone { 1 } else { MAX_SUBMITTED });
    Next::Submit(due.into_iter().map(|mailbox| mailbox.email.clone()).collect())
}

/// Whether the operator sends nothing more for the object.
pub fn has_stopped(status: &WoodpeckerMailboxesStatus) -> bool {
    status.consecutive_failures.unwrap_or_default() >= MAX_ATTEMPTS
}

/// Records the request that is about to be sent.
pub fn begin(status: &mut WoodpeckerMailboxesStatus, pending: PendingConnection) {
    for mailbox in status.mailboxes.iter_mut().filter(|mailbox| pending.emails.contains(&mailbox.email)) {
        mailbox.state = ConnectionState::Submitted;
        mailbox.attempts = Some(attempts(mailbox).saturating_add(1));
        mailbox.next_attempt_time = None;
    }
    status.pending = Some(pending);
}

/// Applies a response. Mailboxes that it does not mention stay pending, and are looked up in a listing.
pub fn apply_results(
    status: &mut WoodpeckerMailboxesStatus,
    results: &[ConnectResult],
    timing: &Timing,
    now: Timestamp,
) {
    let Some(mut pending) = status.pending.take() else { return };
    let (mut connected, mut refused) = (0_usize, 0_usize);
    for mailbox in status.mailboxes.iter_mut().filter(|mailbox| pending.emails.contains(&mailbox.email)) {
        match outcome_of(results, &mailbox.email) {
            Some(ConnectOutcome::Connected(id)) => {
                connected += 1;
                set_known(mailbox, ConnectionState::Connected, Some(*id));
            }
            Some(ConnectOutcome::Refused(error)) => {
                refused += 1;
                set_failed(mailbox, ConnectionState::Refused, Some(error.clone()), timing, now);
            }
            None => {}
        }
    }
    bound_texts(&mut status.mailboxes);
    pending.emails.retain(|email| outcome_of(results, email).is_none());
    let credential_id = pending.credential_id;
    status.pending = Some(pending).filter(|pending| !pending.emails.is_empty());
    if connected > 0 {
        record_success(status, credential_id);
    } else if refused > 0 {
        record_failure(status, timing, now);
    }
}

/// Applies the refusal of the whole request, with Woodpecker's text.
pub fn apply_refusal(status: &mut WoodpeckerMailboxesStatus, text: String, timing: &Timing, now: Timestamp) {
    let Some(pending) = status.pending.take() else { return };
    for mailbox in status.mailboxes.iter_mut().filter(|mailbox| pending.emails.contains(&mailbox.email)) {
        set_failed(mailbox, ConnectionState::Refused, None, timing, now);
    }
    record_failure(status, timing, now);
    status.last_refusal = Some(text);
}

/// Lets everything that waits or has stopped be tried now. What is pending stays so.
pub fn retry_now(status: &mut WoodpeckerMailboxesStatus) {
    (status.consecutive_failures, status.next_attempt_time, status.last_refusal) = (None, None, None);
    for mailbox in &mut status.mailboxes {
        match mailbox.state {
            ConnectionState::Refused | ConnectionState::Unconfirmed | ConnectionState::Stopped => {
                set_known(mailbox, ConnectionState::NotConnected, None);
            }
            ConnectionState::Submitted => mailbox.attempts = Some(1),
            ConnectionState::NotConnected
            | ConnectionState::Connected
            | ConnectionState::AlreadyConnected => {}
        }
    }
}

/// Forgets what was submitted to an account that nobody can look it up at.
pub fn forget_pending(status: &mut WoodpeckerMailboxesStatus) {
    let pending = status.pending.take().map(|pending| pending.emails).unwrap_or_default();
    for mailbox in status.mailboxes.iter_mut().filter(|mailbox| pending.contains(&mailbox.email)) {
        set_known(mailbox, ConnectionState::NotConnected, None);
    }
}

fn set_known(mailbox: &mut MailboxStatus, state: ConnectionState, id: Option<i64>) {
    let unknown = mailbox.unknown.clone();
    *mailbox = MailboxStatus { state, id, unknown, ..MailboxStatus::new(&mailbox.email) };
}

fn set_failed(
    mailbox: &mut MailboxStatus,
    state: ConnectionState,
    error: Option<String>,
    timing: &Timing,
    now: Timestamp,
) {
    let attempts = attempts(mailbox);
    let has_stopped = attempts >= MAX_ATTEMPTS;
    mailbox.state = if has_stopped { ConnectionState::Stopped } else { state };
    mailbox.error = error;
    mailbox.next_attempt_time = (!has_stopped).then(|| later(now, delay(timing, attempts)));
}

fn attempts(mailbox: &MailboxStatus) -> i32 {
    mailbox.attempts.unwrap_or_default()
}

fn record_success(status: &mut WoodpeckerMailboxesStatus, credential_id: i64) {
    status.proven_credential_id = Some(credential_id);
    (status.consecutive_failures, status.next_attempt_time, status.last_refusal) = (None, None, None);
}

/// After it, the next request is about one mailbox again, because permissions may be missing.
fn record_failure(status: &mut WoodpeckerMailboxesStatus, timing: &Timing, now: Timestamp) {
    let failures = status.consecutive_failures.unwrap_or_default().saturating_add(1);
    status.proven_credential_id = None;
    status.consecutive_failures = Some(failures);
    status.last_refusal = None;
    status.next_attempt_time = (!has_stopped(status)).then(|| later(now, delay(timing, failures)));
}

/// A granted permission works after up to two hours, so the last attempt is later than that. Source: Microsoft's page on
/// RBAC for applications in Exchange Online.
fn delay(timing: &Timing, attempts: i32) -> Duration {
    if attempts <= 1 { timing.connection_retry } else { timing.connection_retry_longest }
}

fn later(now: Timestamp, wait: Duration) -> Time {
    Time(whole_second(now.saturating_add(wait).unwrap_or(now)))
}

/// What the results say about an address. If several do, a connection counts.
fn outcome_of<'a>(results: &'a [ConnectResult], email: &str) -> Option<&'a ConnectOutcome> {
    let mut of_it = results.iter().filter(|result| normalized(&result.email) == email).map(|it| &it.outcome);
    let first = of_it.next()?;
    let is_connected = |outcome: &&ConnectOutcome| matches!(outcome, ConnectOutcome::Connected(_));
    Some(if is_connected(&first) { first } else { of_it.find(is_connected).unwrap_or(first) })
}

fn add_left(status: &mut WoodpeckerMailboxesStatus, email: String, id: Option<i64>) {
    let left = &mut status.left_connected;
    left.retain(|left| left.email != email);
    left.push(LeftMailbox { email, id, unknown: UnknownFields::default() });
    let mut bytes = 0;
    let kept = left.iter().rev().take(MAX_LEFT).take_while(|left| {
        bytes += left.email.len();
        bytes <= MAX_LEFT_BYTES
    });
    let excess = left.len() - kept.count();
    left.drain(..excess);
}

/// Drops the texts for which the status has no room. The states stay.
fn bound_texts(mailboxes: &mut [MailboxStatus]) {
    let mut bytes = 0;
    for mailbox in mailboxes {
        bytes += mailbox.error.as_ref().map_or(0, String::len);
        if bytes > MAX_TEXT_BYTES {
            mailbox.error = None;
        }
    }
}

#[cfg(test)]
mod tests;
