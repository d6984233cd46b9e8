//! The vendor's mailbox routes: the list, and the bulk connection of Microsoft mailboxes.
//!
//! Documented are the paths, the fields of the requests and the response if everything succeeds. All failures are ours, and
//! so is how a Microsoft mailbox looks in the list. Magic addresses provoke them.

use std::sync::Arc;

use axum::extract::Request;
use axum::{Extension, Json};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::answer;
use super::backend::Sandbox;
use super::data::Data;
use super::error::SandboxError;
use super::magic;
use crate::rest::{Account, Backend, ErrorCode, RestError, SharedState, UnknownFields, json_body};

pub(super) const MAILBOXES: &str = "/rest/v2/mailboxes";
pub(super) const BULK: &str = "/rest/v2/mailboxes/microsoft/bulk";

/// Most mailboxes of a request. Of the vendor's other bulk connection.
const MAX_ACCOUNTS: usize = 200;

/// Most mailboxes of an account. Ours.
const MAX_MAILBOXES: usize = 10_000;

/// Longest address or display name, in characters. Ours.
const MAX_TEXT: usize = 320;

/// The `error` of a mailbox that is connected. Ours.
const ALREADY_CONNECTED: &str = "MAILBOX_ALREADY_CONNECTED";

/// What is before the `@` of a magic address, and what it provokes. An address such as `sandbox-bad-gateway-saved@example.com`
/// provokes the answer of that name to the whole request.
pub(super) const ADDRESSES: [(&str, &str); 7] = [
    ("rejected", "The mailbox is not connected: `success` is false, with an `error`."),
    ("rejected-without-error", "The same, with null as `error`."),
    ("already-connected", "The mailbox is not connected, because it is already connected."),
    ("left-out", "The mailbox is connected, but has no element in the response."),
    ("no-slot", "The mailbox is connected, but `in_slot` is false in the list."),
    ("conditionally", "The mailbox is connected, but the list has an `error`."),
    ("created", "The response has status 201 instead of 200."),
];

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Mailbox {
    pub id: i64,
    pub email: String,
    pub name: String,
    pub credential: i64,
    pub in_slot: bool,
    pub error: Option<String>,
}

#[derive(Deserialize)]
struct Bulk {
    auth_type: Option<String>,
    credential_id: Option<i64>,
    accounts: Vec<Entry>,
    #[serde(flatten)]
    unknown: serde_json::Map<String, Value>,
}

#[derive(Deserialize)]
struct Entry {
    mailbox_email: String,
    display_name: Option<String>,
    #[serde(flatten)]
    unknown: serde_json::Map<String, Value>,
}

pub(super) async fn list(
    state: SharedState<Arc<Sandbox>>,
    Extension(account): Extension<Arc<Account>>,
) -> Json<Value> {
    let _permit = state.credentials.list_limit.acquire(&account.namespace).await;
    state.credentials.backend.view(|data| {
        let mailboxes = data.mailboxes.get(&account.namespace).map(Vec::as_slice).unwrap_or_default();
        Json(mailboxes.iter().map(Mailbox::to_json).collect())
    })
}

pub(super) async fn connect(
    state: SharedState<Arc<Sandbox>>,
    Extension(account): Extension<Arc<Account>>,
    request: Request,
) -> Result<(StatusCode, Json<Vec<Value>>), SandboxError> {
    let sandbox = &state.credentials.backend;
    let body = json_body(request, state.timing.rest_body).await?;
    let bulk: Bulk = serde_json::from_slice(&body).map_err(|_| ErrorCode::MalformedRequest)?;
    bulk.check(sandbox.unknown_fields())?;
    if let Some(magic) = bulk.local_parts().find_map(magic::by_secret) {
        answer::choose(magic);
        if !magic.is_saved {
            // Replaced by the answer.
            return Err(RestError::Internal.into());
        }
    }
    let results = sandbox.change(|data| connect_all(data, &account.namespace, &bulk))?;
    let is_created = bulk.local_parts().any(|it| it == "created");
    Ok((if is_created { StatusCode::CREATED } else { StatusCode::OK }, Json(results)))
}

/// Addresses that provoke failures of single mailboxes.
pub(super) fn magic_addresses() -> impl Iterator<Item = (String, &'static str)> {
    ADDRESSES.iter().map(|(local, meaning)| (format!("{local}@example.com"), *meaning))
}

fn local_part(address: &str) -> &str {
    address.split('@').next().unwrap_or_default()
}

/// The credential of a request, and whether its client secret is still valid.
fn credential(data: &Data, account: &str, id: Option<i64>) -> Result<(i64, bool), SandboxError> {
    let now = data.now();
    let records = data.records.get(account).into_iter().flat_map(|records| records.values());
    let mut known = records.map(|it| (it.spec.credential_id, it.spec.secret_expires_at.0 > now));
    if let Some(id) = id {
        return known.find(|(known, _)| *known == id).ok_or(SandboxError::Rejected("CREDENTIAL_NOT_FOUND"));
    }
    let mut valid = known.filter(|(_, is_valid)| *is_valid);
    match (valid.next(), valid.next()) {
        (Some(only), None) => Ok(only),
        _ => Err(SandboxError::Rejected("CREDENTIAL_ID_REQUIRED")),
    }
}

/// Connects the mailboxes; returns the elements of the response.
fn connect_all(data: &mut Data, account: &str, bulk: &Bulk) -> Result<Vec<Value>, SandboxError> {
    let (credential, is_valid) = credential(data, account, bulk.credential_id)?;
    let connected = data.mailboxes.entry(account.to_owned()).or_default();
    if connected.len() + bulk.accounts.len() > MAX_MAILBOXES {
        return Err(SandboxError::Rejected("TOO_MANY_MAILBOXES"));
    }
    let mut results = Vec::new();
    for entry in &bulk.accounts {
        let (email, local) = (&entry.mailbox_email, local_part(&entry.mailbox_email));
        let name = entry.display_name.as_ref().unwrap_or(email);
        let is_there = connected.iter().any(|it| it.email.eq_ignore_ascii_case(email));
        if let Some(error) = rejection(local, is_valid, is_there) {
            results.push(json!({
                "success": false, "id": null, "email": email, "name": name, "deliverability": null, "error": error
            }));
            continue;
        }
        data.last_mailbox += 1;
        connected.push(Mailbox {
            id: data.last_mailbox,
            email: email.clone(),
            name: name.clone(),
            credential,
            in_slot: local != "no-slot",
            error: (local == "conditionally").then(|| "Connected conditionally.".to_owned()),
        });
        if local != "left-out" {
            results.push(json!({
                "success": true, "id": data.last_mailbox, "email": email, "name": name,
                "deliverability": { "spf_correct": true, "dkim_correct": true }, "error": null
            }));
        }
    }
    Ok(results)
}

/// The `error` of a mailbox that is not connected.
fn rejection(local: &str, is_valid: bool, is_there: bool) -> Option<Value> {
    match local {
        "rejected" => Some("MAILBOX_REJECTED".into()),
        "rejected-without-error" => Some(Value::Null),
        _ if !is_valid => Some("INVALID_CLIENT_SECRET".into()),
        "already-connected" => Some(ALREADY_CONNECTED.into()),
        _ => is_there.then(|| ALREADY_CONNECTED.into()),
    }
}

/// Whether a mailbox in a slot uses the credential, so that it cannot be deleted.
pub(super) fn uses(data: &Data, account: &str, credential: i64) -> bool {
    let mailboxes = data.mailboxes.get(account).map(Vec::as_slice).unwrap_or_default();
    mailboxes.iter().any(|it| it.in_slot && it.credential == credential)
}

// === impl Bulk ===

impl Bulk {
    /// What is before the `@` of each address.
    fn local_parts(&self) -> impl Iterator<Item = &str> {
        self.accounts.iter().map(|it| local_part(&it.mailbox_email))
    }

    fn check(&self, unknown: UnknownFields) -> Result<(), ErrorCode> {
        let is_text = |text: &str| !text.is_empty() && text.chars().count() <= MAX_TEXT;
        let is_valid = |it: &Entry| {
            is_text(&it.mailbox_email)
                && it.mailbox_email.contains('@')
                && it.display_name.as_deref().is_none_or(is_text)
        };
        let is_supported = self.auth_type.as_deref().is_none_or(|it| it == "APP_ONLY");
        if !is_supported || self.accounts.len() > MAX_ACCOUNTS || !self.accounts.iter().all(is_valid) {
            return Err(ErrorCode::MalformedRequest);
        }
        let has_unknown = !self.unknown.is_empty() || self.accounts.iter().any(|it| !it.unknown.is_empty());
        if has_unknown && unknown == UnknownFields::Reject {
            return Err(ErrorCode::UnknownField);
        }
        Ok(())
    }
}

// === impl Mailbox ===

impl Mailbox {
    /// In the list: one object, which sends and receives.
    fn to_json(&self) -> Value {
        json!({ "id": self.id, "type": "SMTP", "details": {
            "email": self.email, "provider": "OFFICE365", "login": self.email, "server": null, "port": null,
            "from_name": self.name, "error": self.error, "daily_limit": 50, "sent_today": 0,
            "frequency_from": 150_000, "frequency_to": 600_000, "bcc_crm": "", "signature": "", "open_url": "",
            "click_url": "", "unsubscribe_url": "", "freeze_account": [], "in_slot": self.in_slot,
            "warmup_data": { "status": "PAUSED" }, "imap_id": self.id
        } })
    }
}
