//! What Woodpecker's response to a request means.

use jiff::Timestamp;

use crate::api::{ConnectionState, HoldReason, MailboxStatus, WoodpeckerMailboxesStatus};
use crate::core::mailbox_connection::attempts::{
    attempts, record_failure, record_success, set_failed, set_known,
};
use crate::core::mailbox_connection::{MAX_ATTEMPTS, has_stopped, hold};
use crate::core::mailboxes::normalized;
use crate::core::timing::Timing;

/// Bytes of Woodpecker's texts about all mailboxes.
pub(super) const MAX_TEXT_BYTES: usize = 32 << 10;

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
    /// With Woodpecker's text, and an ID if there is one.
    Refused(String, Option<i64>),
}

/// Applies a response. Mailboxes that it does not mention stay pending, and are looked up in a listing. So is what is
/// connected until the credential is proven, and what is refused for the last time. If an address was connected that was
/// not submitted, the request waits for a person.
pub fn apply_results(
    status: &mut WoodpeckerMailboxesStatus,
    results: &[ConnectResult],
    timing: &Timing,
    now: Timestamp,
) {
    let Some(mut pending) = status.pending.take() else { return };
    let is_proven = status.proven_credential_id == Some(pending.credential_id);
    let (mut connected, mut refused, mut looked_up) = (0_usize, 0_usize, Vec::new());
    for mailbox in status.mailboxes.iter_mut().filter(|mailbox| pending.emails.contains(&mailbox.email)) {
        match outcome_of(results, &mailbox.email) {
            Some(ConnectOutcome::Connected(id)) => {
                connected += 1;
                set_known(mailbox, ConnectionState::Connected, Some(*id));
                if !is_proven {
                    looked_up.push(mailbox.email.clone());
                }
            }
            Some(ConnectOutcome::Refused(error, id)) => {
                refused += 1;
                set_refused(mailbox, Some(error.clone()), timing, now);
                mailbox.id = *id;
                // With an ID, Woodpecker may have it.
                if attempts(mailbox) >= MAX_ATTEMPTS || (id.is_some() && !is_proven) {
                    looked_up.push(mailbox.email.clone());
                }
            }
            None => looked_up.push(mailbox.email.clone()),
        }
    }
    bound_texts(&mut status.mailboxes);
    if connected > 0 {
        record_success(status);
    } else if refused > 0 {
        record_failure(status, timing, now);
    }
    let unexpected = unexpected_ids(results, &pending.emails);
    let has_stopped = has_stopped(status);
    pending.emails.retain(|email| has_stopped || looked_up.contains(email));
    if !unexpected.is_empty() {
        pending.hold = Some(hold(HoldReason::UnexpectedAddress, unexpected));
    }
    status.pending = Some(pending).filter(|pending| !pending.emails.is_empty() || pending.hold.is_some());
}

/// Applies the refusal of the whole request, with Woodpecker's text.
pub fn apply_refusal(status: &mut WoodpeckerMailboxesStatus, text: String, timing: &Timing, now: Timestamp) {
    let Some(mut pending) = status.pending.take() else { return };
    let mut looked_up = Vec::new();
    for mailbox in status.mailboxes.iter_mut().filter(|mailbox| pending.emails.contains(&mailbox.email)) {
        set_refused(mailbox, None, timing, now);
        if attempts(mailbox) >= MAX_ATTEMPTS {
            looked_up.push(mailbox.email.clone());
        }
    }
    record_failure(status, timing, now);
    status.last_refusal = Some(text);
    let has_stopped = has_stopped(status);
    pending.emails.retain(|email| has_stopped || looked_up.contains(email));
    status.pending = Some(pending).filter(|pending| !pending.emails.is_empty());
}

/// After the last attempt, a listing is looked at before the mailbox is no longer submitted.
fn set_refused(mailbox: &mut MailboxStatus, error: Option<String>, timing: &Timing, now: Timestamp) {
    set_failed(mailbox, ConnectionState::Refused, error, timing, now);
    mailbox.state = ConnectionState::Refused;
}

/// The IDs of mailboxes that were connected although their addresses were not submitted.
fn unexpected_ids(results: &[ConnectResult], emails: &[String]) -> Vec<i64> {
    let ids = results.iter().filter_map(|result| match result.outcome {
        ConnectOutcome::Connected(id) if !emails.contains(&normalized(&result.email)) => Some(id),
        _ => None,
    });
    ids.collect()
}

/// What the results say about an address. If several do, a connection counts.
fn outcome_of<'a>(results: &'a [ConnectResult], email: &str) -> Option<&'a ConnectOutcome> {
    let mut of_it = results.iter().filter(|result| normalized(&result.email) == email).map(|it| &it.outcome);
    let first = of_it.next()?;
    let is_connected = |outcome: &&ConnectOutcome| matches!(outcome, ConnectOutcome::Connected(_));
    Some(if is_connected(&first) { first } else { of_it.find(is_connected).unwrap_or(first) })
}

/// Drops the texts for which the status has no room. The states stay.
pub(super) fn bound_texts(mailboxes: &mut [MailboxStatus]) {
    let mut bytes = 0;
    for mailbox in mailboxes {
        bytes += mailbox.error.as_ref().map_or(0, String::len);
        if bytes > MAX_TEXT_BYTES {
            mailbox.error = None;
        }
    }
}
