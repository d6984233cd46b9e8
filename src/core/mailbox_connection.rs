//! Which mailboxes are submitted next, and what a listing or a response means for them. All of it is about one
//! `WoodpeckerMailboxes`.
//!
//! A mailbox that no listing shows is submitted at most [`MAX_ATTEMPTS`] times, and so is an object of which no mailbox is
//! connected. The vendor documents neither the order nor the length of a response, so results are matched by address. It
//! does not document either whether a listing shows a mailbox that was connected with an app. So a credential is proven
//! only once a listing has shown one, and before that, that a listing lacks a submitted mailbox means nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::api::conditions::whole_second;
use crate::api::timestamp::Time;
use crate::api::{
    ConnectionHold, ConnectionState, HoldReason, LeftMailbox, MailboxPolicy, MailboxSpec, MailboxStatus,
    PendingConnection, UnknownFields, WoodpeckerMailboxesStatus,
};
use crate::core::mailbox_connection::attempts::{attempts, later, set_known, set_unlisted};
use crate::core::mailbox_connection::response::bound_texts;
use crate::core::mailboxes::Mailboxes;
use crate::core::timing::Timing;

pub use self::attempts::{MAX_ATTEMPTS, Request, forget_pending, has_stopped, retry_now};
pub use self::look_up::look_up;
pub use self::others::{Intent, Obstacle, obstacle};
pub use self::response::{ConnectOutcome, ConnectResult, apply_refusal, apply_results};

mod attempts;
mod look_up;
mod others;
mod response;

/// Mailboxes of one request. The vendor documents no limit, and a request must end before its timeout.
pub const MAX_SUBMITTED: usize = 10;

/// Mailboxes that left the spec and are kept in the status.
const MAX_LEFT: usize = 1000;

/// Bytes of their addresses.
const MAX_LEFT_BYTES: usize = 64 << 10;

/// IDs of mailboxes that a person has to look for.
const MAX_IDS: usize = 25;

/// The text of a mailbox that a listing no longer shows.
const NO_LONGER_LISTED: &str = "the account had it, and a listing lacks it: look for it in Woodpecker";

/// The text of a mailbox that was submitted before the credential was proven.
const NOT_LISTED: &str =
    "it was submitted without a clear response, and a listing lacks it: look for it in Woodpecker";

/// The text of such a mailbox that left the spec and returns.
const RETURNED: &str = "a listing lacked it when it left the spec: look for it in Woodpecker";

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

/// The status with exactly the mailboxes of the spec, in its order. One that was connected, or may have been, and is no
/// longer there is kept apart, and found again if it returns. With a new one, the last listing no longer counts.
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
    let proven = status.proven_credential_id;
    for mailbox in status.mailboxes.iter_mut().filter(|it| it.state != ConnectionState::Connected) {
        restore(mailbox, &mut status.left_connected, status.pending.as_ref(), proven);
    }
    status.last_listed_time = status.last_listed_time.filter(|_| !is_any_new);
    for MailboxStatus { email, id, state, credential_id, unlisted, .. } in known.into_values() {
        // Of a refused one that is to be looked up, it is not known whether it is connected.
        let is_pending = status.pending.as_ref().is_some_and(|pending| pending.emails.contains(&email));
        let is_unclear = state == ConnectionState::Refused && is_pending;
        let unlisted =
            unlisted.filter(|_| state != ConnectionState::Connected).or(is_unclear.then_some(true));
        if state == ConnectionState::Connected || unlisted.is_some() {
            add_left(&mut status, LeftMailbox { unlisted, ..LeftMailbox::new(email, id, credential_id) });
        }
    }
    status
}

/// Restores what is known about a mailbox that returns: that it is connected, whatever a listing shows, that a person has to
/// look for it, or that a request about it is pending.
fn restore(
    mailbox: &mut MailboxStatus,
    left: &mut Vec<LeftMailbox>,
    pending: Option<&PendingConnection>,
    proven: Option<i64>,
) {
    if let Some(at) = left.iter().position(|left| left.email == mailbox.email) {
        let LeftMailbox { id, credential_id, unlisted, .. } = left.remove(at);
        mailbox.credential_id = credential_id;
        match unlisted {
            None => {
                set_known(mailbox, ConnectionState::Connected, id);
                // No listing has shown that it would show it.
                mailbox.unlisted = credential_id.filter(|_| credential_id != proven).map(|_| true);
            }
            Some(_) => set_unlisted(mailbox, RETURNED),
        }
    }
    let pending = pending.filter(|pending| pending.emails.contains(&mailbox.email));
    if let Some(pending) = pending.filter(|_| mailbox.state == ConnectionState::NotConnected) {
        mailbox.state = ConnectionState::Submitted;
        (mailbox.attempts, mailbox.credential_id) = (Some(1), Some(pending.credential_id));
    }
}

/// Whether a listing is due: to submit, for a plan, which is valid for `plan_age`, for what a listing lacked, or after an
/// incomplete one.
pub fn needs_listing(
    status: &WoodpeckerMailboxesStatus,
    policy: MailboxPolicy,
    next: &Next,
    plan_age: Duration,
    now: Timestamp,
) -> bool {
    // One that is ahead of a clock that was set back is old, too.
    let is_old =
        |listed: &Time| Duration::try_from(now.duration_since(listed.0)).map_or(true, |age| age >= plan_age);
    if status.missing.is_some() {
        return status.next_attempt_time.as_ref().is_none_or(|at| at.0 <= now);
    }
    let is_plan_old = status.last_listed_time.as_ref().is_none_or(is_old);
    // A listing that lags shows it later.
    let is_any_unlisted = status.mailboxes.iter().any(|mailbox| mailbox.unlisted.is_some());
    match policy {
        MailboxPolicy::Connect => matches!(next, Next::Submit(_)) || is_any_unlisted && is_plan_old,
        MailboxPolicy::Plan => is_plan_old,
    }
}

/// Applies a listing of the account that has the credential. No request may be pending. A listing that lacks a mailbox that
/// was connected with this credential may be incomplete, so it is not applied, and the next one follows later. Those that
/// are `unsettled` may still be about to be connected.
pub fn apply_listing(
    status: &mut WoodpeckerMailboxesStatus,
    listing: &Mailboxes,
    at: Timestamp,
    credential_id: i64,
    unsettled: &BTreeMap<String, Timestamp>,
    timing: &Timing,
) {
    let is_missing = |mailbox: &&MailboxStatus| {
        mailbox.state == ConnectionState::Connected
            && mailbox.credential_id == Some(credential_id)
            && mailbox.unlisted.is_none()
            && !unsettled.contains_key(&mailbox.email)
            && listing.get(&mailbox.email).is_none()
    };
    let missing: Vec<Option<i64>> = status.mailboxes.iter().filter(is_missing).map(|it| it.id).collect();
    if status.missing.is_some() {
        status.next_attempt_time = None;
    }
    status.missing = i32::try_from(missing.len()).ok().filter(|missing| *missing > 0);
    status.missing_ids = missing.into_iter().flatten().take(MAX_IDS).collect();
    if status.missing.is_some() {
        status.next_attempt_time = Some(later(at, timing.connection_retry));
        return;
    }
    status.last_listed_time = Some(Time(whole_second(at)));
    let mut is_any_gone = false;
    for mailbox in &mut status.mailboxes {
        let is_own = mailbox.credential_id.is_some();
        match (mailbox.state, listing.get(&mailbox.email)) {
            (ConnectionState::Connected, Some(_)) => mailbox.unlisted = None,
            (_, Some(shown)) if is_own => set_known(mailbox, ConnectionState::Connected, Some(shown.id)),
            (_, Some(shown)) => set_known(mailbox, ConnectionState::AlreadyConnected, Some(shown.id)),
            (ConnectionState::AlreadyConnected, None) => {
                set_unlisted(mailbox, NO_LONGER_LISTED);
                is_any_gone = true;
            }
            (ConnectionState::Submitted, None) => set_known(mailbox, ConnectionState::NotConnected, None),
            // A listing may lag behind a connection.
            (_, None) => {}
        }
    }
    if is_any_gone {
        // The listing may lack others, too: the next one decides what is submitted.
        status.next_attempt_time = Some(later(at, timing.connection_retry));
    }
    bound_texts(&mut status.mailboxes);
}

/// The next mailboxes to submit with that credential: one alone until the credential is proven and after a failure, so
/// that a missing permission affects one mailbox, and one alone that was submitted before, because it may be why a request
/// failed.
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
    // Of equal ones the first in the spec. One that was tried does not keep the others from being tried.
    let was_tried = |mailbox: &MailboxStatus| attempts(mailbox) > 0 || mailbox.credential_id.is_some();
    due.sort_by_key(|mailbox| (attempts(mailbox), was_tried(mailbox)));
    let Some(first) = due.first() else {
        return open.into_iter().filter_map(due_at).min().map_or(Next::Nothing, Next::WaitUntil);
    };
    let is_alone = status.proven_credential_id != Some(credential_id)
        || status.consecutive_failures.is_some()
        || was_tried(first);
    due.retain(|mailbox| is_alone || !was_tried(mailbox));
    due.truncate(if is_alone { 1 } else { MAX_SUBMITTED });
    Next::Submit(due.into_iter().map(|mailbox| mailbox.email.clone()).collect())
}

/// Records the request that is about to be sent.
pub fn begin(status: &mut WoodpeckerMailboxesStatus, pending: PendingConnection) {
    for mailbox in status.mailboxes.iter_mut().filter(|mailbox| pending.emails.contains(&mailbox.email)) {
        mailbox.state = ConnectionState::Submitted;
        mailbox.attempts = Some(attempts(mailbox).saturating_add(1));
        mailbox.credential_id = Some(pending.credential_id);
        (mailbox.next_attempt_time, mailbox.unlisted, mailbox.error) = (None, None, None);
    }
    status.pending = Some(pending);
}

fn add_left(status: &mut WoodpeckerMailboxesStatus, mailbox: LeftMailbox) {
    let left = &mut status.left_connected;
    left.retain(|left| left.email != mailbox.email);
    left.push(mailbox);
    let mut bytes = 0;
    let kept = left.iter().rev().take(MAX_LEFT).take_while(|left| {
        bytes += left.email.len();
        bytes <= MAX_LEFT_BYTES
    });
    let excess = left.len() - kept.count();
    left.drain(..excess);
}

/// A hold with as many IDs as the status has room for.
fn hold(reason: HoldReason, mut ids: Vec<i64>) -> ConnectionHold {
    ids.truncate(MAX_IDS);
    ConnectionHold { reason, ids, unknown: UnknownFields::default() }
}

#[cfg(test)]
mod tests;
