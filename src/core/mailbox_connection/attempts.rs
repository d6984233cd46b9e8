//! How often mailboxes are submitted, and when again.

use std::time::Duration;

use jiff::Timestamp;

use crate::api::conditions::whole_second;
use crate::api::timestamp::Time;
use crate::api::{ConnectionState, MailboxStatus, WoodpeckerMailboxesStatus};
use crate::core::timing::Timing;

/// How often a mailbox is submitted without being connected, and how many requests in a row connect none, before the
/// operator stops.
pub const MAX_ATTEMPTS: i32 = 3;

/// What lets mailboxes be tried again that wait or have stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// The spec changed.
    NewSpec,
    /// A person has requested a reconcile.
    Reconcile,
}

/// Whether the operator sends nothing more for the object.
pub fn has_stopped(status: &WoodpeckerMailboxesStatus) -> bool {
    status.consecutive_failures.unwrap_or_default() >= MAX_ATTEMPTS
}

/// Lets what waits or has stopped be tried now; what a person has to look for only if one requests it. What is pending stays
/// so.
pub fn retry_now(status: &mut WoodpeckerMailboxesStatus, request: Request) {
    (status.consecutive_failures, status.next_attempt_time, status.last_refusal) = (None, None, None);
    let pending = status.pending.as_ref().map(|pending| pending.emails.clone()).unwrap_or_default();
    for mailbox in &mut status.mailboxes {
        let is_kept = mailbox.unlisted.is_some() && request == Request::NewSpec;
        match mailbox.state {
            ConnectionState::Submitted => mailbox.attempts = Some(1),
            // It is looked up first.
            ConnectionState::Refused if pending.contains(&mailbox.email) => mailbox.attempts = Some(1),
            ConnectionState::Refused | ConnectionState::Unconfirmed | ConnectionState::Stopped
                if !is_kept =>
            {
                set_known(mailbox, ConnectionState::NotConnected, None);
            }
            ConnectionState::Refused
            | ConnectionState::Unconfirmed
            | ConnectionState::Stopped
            | ConnectionState::NotConnected
            | ConnectionState::Connected
            | ConnectionState::AlreadyConnected => {}
        }
    }
}

/// Forgets what was submitted to an account that nobody can look it up at.
pub fn forget_pending(status: &mut WoodpeckerMailboxesStatus) {
    let pending = status.pending.take().map(|pending| pending.emails).unwrap_or_default();
    let open = status.mailboxes.iter_mut().filter(|mailbox| !mailbox.is_connected());
    for mailbox in open.filter(|mailbox| pending.contains(&mailbox.email)) {
        *mailbox = MailboxStatus { unknown: mailbox.unknown.clone(), ..MailboxStatus::new(&mailbox.email) };
    }
}

/// Sets what is known for certain. Which credential submitted it stays.
pub(super) fn set_known(mailbox: &mut MailboxStatus, state: ConnectionState, id: Option<i64>) {
    let (unknown, credential_id) = (mailbox.unknown.clone(), mailbox.credential_id);
    *mailbox = MailboxStatus { state, id, credential_id, unknown, ..MailboxStatus::new(&mailbox.email) };
}

/// A person has to look for it.
pub(super) fn set_unlisted(mailbox: &mut MailboxStatus, text: &str) {
    let (id, attempts) = (mailbox.id, mailbox.attempts);
    set_known(mailbox, ConnectionState::Stopped, id);
    (mailbox.attempts, mailbox.unlisted, mailbox.error) = (attempts, Some(true), Some(text.to_owned()));
}

pub(super) fn set_failed(
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

pub(super) fn attempts(mailbox: &MailboxStatus) -> i32 {
    mailbox.attempts.unwrap_or_default()
}

pub(super) fn record_success(status: &mut WoodpeckerMailboxesStatus) {
    (status.consecutive_failures, status.next_attempt_time, status.last_refusal) = (None, None, None);
}

/// After it, the next request is about one mailbox again, because permissions may be missing.
pub(super) fn record_failure(status: &mut WoodpeckerMailboxesStatus, timing: &Timing, now: Timestamp) {
    let failures = status.consecutive_failures.unwrap_or_default().saturating_add(1);
    status.consecutive_failures = Some(failures);
    status.last_refusal = None;
    status.next_attempt_time = (!has_stopped(status)).then(|| later(now, delay(timing, failures)));
}

/// A granted permission works after up to two hours, so the last attempt is later than that. Source: Microsoft's page on
/// RBAC for applications in Exchange Online.
fn delay(timing: &Timing, attempts: i32) -> Duration {
    if attempts <= 1 { timing.connection_retry } else { timing.connection_retry_longest }
}

pub(super) fn later(now: Timestamp, wait: Duration) -> Time {
    Time(whole_second(now.saturating_add(wait).unwrap_or(now)))
}
