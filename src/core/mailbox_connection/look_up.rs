//! What a listing means for a request that is pending.

use jiff::Timestamp;

use crate::api::{ConnectionState, HoldReason, LeftMailbox, MailboxStatus, WoodpeckerMailboxesStatus};
use crate::core::mailbox_connection::attempts::{
    MAX_ATTEMPTS, attempts, record_failure, record_success, set_failed, set_known, set_unlisted,
};
use crate::core::mailbox_connection::response::bound_texts;
use crate::core::mailbox_connection::{NOT_LISTED, add_left, hold};
use crate::core::mailboxes::Mailboxes;
use crate::core::timing::Timing;

/// What a listing shows of a mailbox that was submitted.
enum Found {
    /// It is there, as the operator has connected it.
    Connected,
    /// It is lacking although Woodpecker said that it is connected, with that ID.
    Missing(Option<i64>),
    /// It is lacking, and there was no clear response.
    Lost,
    /// Nothing that says whether listings show what was connected with the credential.
    Nothing,
}

/// How a request was pending.
#[derive(Clone, Copy)]
struct Request {
    /// Whether a listing has shown a mailbox of its credential.
    is_proven: bool,
    /// Whether it waited for a person.
    was_held: bool,
    /// Whether the person has looked.
    is_released: bool,
}

/// Looks up what was submitted in a listing of that account, which began after the request had settled. `is_requested` if a
/// person, for whom it was on hold, has looked.
pub fn look_up(
    status: &mut WoodpeckerMailboxesStatus,
    listing: &Mailboxes,
    is_requested: bool,
    timing: &Timing,
    now: Timestamp,
) {
    let Some(mut pending) = status.pending.take() else { return };
    let was_held = pending.hold.is_some();
    let is_released = is_requested && pending.hold.take().is_some();
    let is_proven = status.proven_credential_id == Some(pending.credential_id);
    let request = Request { is_proven, was_held, is_released };
    let (mut is_any_shown, mut is_any_lost, mut missing) = (false, false, Vec::new());
    for email in &pending.emails {
        let shown = listing.get(email).map(|shown| shown.id);
        let of_spec = status.mailboxes.iter_mut().find(|mailbox| mailbox.email == *email);
        let found = match of_spec {
            Some(mailbox) => look_up_one(mailbox, shown, request, timing, now),
            None => look_up_left(status, email, shown, pending.credential_id, request),
        };
        match found {
            Found::Connected => is_any_shown = true,
            Found::Missing(id) => missing.extend(id),
            Found::Lost => is_any_lost = true,
            Found::Nothing => {}
        }
    }
    bound_texts(&mut status.mailboxes);
    if is_any_shown {
        status.proven_credential_id = Some(pending.credential_id);
        record_success(status);
    } else if is_any_lost {
        record_failure(status, timing, now);
    }
    if !missing.is_empty() && !is_any_shown && !is_released {
        pending.emails.retain(|email| listing.get(email).is_none());
        pending.hold = Some(hold(HoldReason::NotListed, missing));
        status.pending = Some(pending);
    }
}

fn look_up_one(
    mailbox: &mut MailboxStatus,
    shown: Option<i64>,
    request: Request,
    timing: &Timing,
    now: Timestamp,
) -> Found {
    match (shown, mailbox.state) {
        (Some(_), state) => {
            // A person may have connected one that was refused, or that had another ID.
            let is_unclear = matches!(state, ConnectionState::Refused | ConnectionState::Stopped);
            let is_by_person = is_unclear || (request.was_held && mailbox.id != shown);
            set_known(mailbox, ConnectionState::Connected, shown);
            if is_by_person { Found::Nothing } else { Found::Connected }
        }
        (None, ConnectionState::Connected) => {
            mailbox.unlisted = Some(true);
            Found::Missing(mailbox.id)
        }
        (None, ConnectionState::Submitted) if request.is_released => {
            set_known(mailbox, ConnectionState::NotConnected, None);
            Found::Nothing
        }
        (None, ConnectionState::Submitted) => {
            if request.is_proven {
                set_failed(mailbox, ConnectionState::Unconfirmed, None, timing, now);
            } else {
                set_unlisted(mailbox, NOT_LISTED);
            }
            Found::Lost
        }
        (None, ConnectionState::Refused) if mailbox.id.is_some() && !request.is_proven => {
            let text = mailbox.error.clone().unwrap_or_default();
            set_unlisted(mailbox, &text);
            Found::Nothing
        }
        (None, _) => {
            // It was refused, and this may be the last listing before the operator stops.
            if attempts(mailbox) >= MAX_ATTEMPTS {
                mailbox.state = ConnectionState::Stopped;
            }
            Found::Nothing
        }
    }
}

/// Looks up a mailbox that has left the spec.
fn look_up_left(
    status: &mut WoodpeckerMailboxesStatus,
    email: &str,
    shown: Option<i64>,
    credential_id: i64,
    request: Request,
) -> Found {
    let known = status.left_connected.iter().find(|left| left.email == email);
    let known = known.map(|left| (left.id, left.unlisted.is_some()));
    let new = LeftMailbox::new(email.to_owned(), shown, Some(credential_id));
    match (shown, known) {
        (Some(_), known) => {
            add_left(status, new);
            let (id, is_unclear) = known.unwrap_or_default();
            let is_by_person = is_unclear || (request.was_held && id != shown);
            if is_by_person { Found::Nothing } else { Found::Connected }
        }
        (None, _) if request.is_proven => Found::Nothing,
        (None, Some((id, false))) => Found::Missing(id),
        (None, Some((_, true))) => Found::Nothing,
        (None, None) => {
            add_left(status, LeftMailbox { unlisted: Some(true), ..new });
            Found::Nothing
        }
    }
}
