//! What `describe` says about a `WoodpeckerMailboxes`. It lists no addresses, but Woodpecker's text about a refusal may name
//! some. The JSON has the whole status.

use jiff::Timestamp;
use serde::Deserialize;

use super::report::Fact;
use crate::api::reasons::Kind;
use crate::api::{AccountName, WoodpeckerMailboxesStatus};
use crate::cli::objects::ObjectState;
use crate::core::status::mailboxes::ConnectionCounts;

/// Its status; `None` for another kind, and if it cannot be read.
fn status(state: &ObjectState) -> Option<WoodpeckerMailboxesStatus> {
    let is_it = state.kind == Kind::Mailboxes;
    let status = state.object.data.get("status").filter(|_| is_it)?;
    WoodpeckerMailboxesStatus::deserialize(status).ok()
}

/// The credential, the policy, and how many mailboxes are in which state.
pub(super) fn facts(state: &ObjectState) -> Vec<Fact> {
    let Some(status) = status(state) else { return Vec::new() };
    let credential = state.text("/spec/credentialRef/name").unwrap_or("-");
    let policy = state.text("/spec/policy").unwrap_or("Plan");
    let mut facts = vec![
        ("credential", credential.to_owned()),
        ("policy", policy.to_owned()),
        ("mailboxes", counts(&status)),
    ];
    if !status.left_connected.is_empty() {
        let unlisted = status.left_connected.iter().filter(|left| left.unlisted.is_some()).count();
        let unknown =
            if unlisted > 0 { format!(", {unlisted} of which may not be connected") } else { String::new() };
        let left = format!("{} that are no longer in the spec{unknown}", status.left_connected.len());
        facts.push(("connected", left));
    }
    if let Some(pending) = &status.pending {
        let AccountName { namespace, name } = &pending.account;
        let account = format!("account {namespace}/{name}");
        let text = match pending.hold {
            Some(_) => format!("a request to {account}: a person has to look in Woodpecker"),
            None => format!("{} submitted to {account}", mailboxes(pending.emails.len())),
        };
        facts.push(("to look up", text));
    }
    facts.extend(status.last_refusal.map(|text| ("refusal", text)));
    facts
}

fn counts(status: &WoodpeckerMailboxesStatus) -> String {
    let counts = ConnectionCounts::of(status);
    let known = [
        format!("{} of {} connected", counts.connected, status.mailboxes.len()),
        format!("{} there before", counts.already_connected),
    ];
    let others = [
        (counts.not_connected, "not connected"),
        (counts.submitted, "submitted"),
        (counts.refused, "refused"),
        (counts.unconfirmed, "submitted without a clear response"),
        (counts.stopped, "no longer submitted"),
    ];
    let others = others.into_iter().filter(|(count, _)| *count > 0);
    let others = others.map(|(count, what)| format!("{count} {what}"));
    known.into_iter().chain(others).collect::<Vec<_>>().join(", ")
}

fn mailboxes(count: usize) -> String {
    if count == 1 { "1 mailbox".to_owned() } else { format!("{count} mailboxes") }
}

/// When the operator submits the next mailboxes, and how many requests have failed.
pub(super) fn next(state: &ObjectState) -> Option<(Option<Timestamp>, Option<i32>)> {
    let status = status(state)?;
    Some((status.next_attempt_time.map(|at| at.0), status.consecutive_failures))
}
