//! Listing the mailboxes of an account. Source: the vendor's pages on listing and getting mailboxes.
//!
//! A listing also shows mailboxes that have nothing to do with the operator, with logins and signatures. It is read
//! object by object, and only the ID, the address and what the state depends on are kept.

use std::ops::Deref;
use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::strtime;
use reqwest::{Method, Response};
use serde::Deserialize;
use serde_json::Value;

use crate::core::lenient::readable;
use crate::core::mailboxes::{Mailboxes, Signals};
use crate::woodpecker::account::RemoteAccount;
use crate::woodpecker::array_elements::{ArrayElements, NotAnArray};
use crate::woodpecker::client::{self, Client};
use crate::woodpecker::error::ApiError;
use crate::woodpecker::queue::{Permit, ResponseSignal};

const PATH: &str = "/v2/mailboxes";

/// Most objects that are read, which bounds the memory.
const MAX_OBJECTS: usize = 100_000;

/// Longest listing, in bytes. It does not have to fit into memory: a piece is dropped once it is read. mimalloc reuses what
/// another thread has freed only after a hundred slow allocations of the first thread. Over TLS each record is one, so
/// that is soon.
const MAX_LISTING: usize = 64 << 20;

/// Longest response that may be an error although its status says success, in bytes.
const MAX_ERROR: usize = 64 << 10;

/// An object of the listing. Only its ID must have the known form, and `type` may be anything.
#[derive(Deserialize)]
struct ListedMailbox {
    id: i64,
    #[serde(default, deserialize_with = "readable")]
    details: Details,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Details {
    email: Value,
    /// `null`, empty, or a text.
    error: Value,
    reconnect_required: Value,
    in_slot: Value,
    /// A list of `{from, to}`, or an empty text.
    freeze_account: Value,
}

/// Why an object was not read.
struct Unreadable;

// === impl RemoteAccount ===

impl RemoteAccount {
    /// Lists the mailboxes. Gives up if a more urgent request waits after `grace`, and does not pause the queue if it
    /// fails, because credentials do not depend on it.
    pub async fn list_mailboxes(&self, permit: &Permit, grace: Duration) -> Result<Mailboxes, ApiError> {
        let _slot = permit.slot().await?;
        let outranked = async {
            tokio::time::sleep(grace).await;
            permit.outranked().await;
        };
        let result = self.client.list_mailboxes(outranked).await;
        match &result {
            Ok(_) => self.queue.record_response(ResponseSignal::Responded),
            Err(ApiError::Throttled(retry_after)) => {
                self.queue.record_response(ResponseSignal::Throttled(*retry_after));
            }
            Err(_) => {}
        }
        result
    }
}

// === impl Client ===

impl Client {
    /// All mailboxes of the account, unless `outranked` ends first.
    async fn list_mailboxes(&self, outranked: impl Future<Output = ()>) -> Result<Mailboxes, ApiError> {
        let request = self.request_to(Method::GET, PATH)?;
        let listed = async {
            tokio::select! {
                listed = async { read(client::start(request).await?, Timestamp::now()).await } => listed,
                () = outranked => Err(ApiError::GivenUp),
            }
        };
        self.measured("list_mailboxes", listed).await
    }
}

/// Reads a listing as it arrives.
async fn read(mut response: Response, now: Timestamp) -> Result<Mailboxes, ApiError> {
    let status = response.status().as_u16();
    if !(200..300).contains(&status) {
        return Err(client::read(response).await.err().unwrap_or(ApiError::Malformed(status)));
    }
    let (mut mailboxes, mut elements, mut objects) =
        (Mailboxes::default(), ArrayElements::default(), 0_usize);
    let mut length = 0_usize;
    while let Some(piece) = next_piece(&mut response).await? {
        length = length.saturating_add(piece.len());
        if length > MAX_LISTING {
            return Err(ApiError::Malformed(status));
        }
        if !elements.has_begun() && !piece.trim_ascii_start().starts_with(b"[") {
            return Err(error_with_success(response, piece.to_vec()).await);
        }
        let pushed = elements.push(&piece, |element| {
            objects += 1;
            if objects > MAX_OBJECTS {
                return Err(Unreadable);
            }
            add(&mut mailboxes, element, now)
        });
        pushed.map_err(|Unreadable| ApiError::Malformed(status))?;
    }
    if elements.is_complete() { Ok(mailboxes) } else { Err(ApiError::Malformed(status)) }
}

async fn next_piece(response: &mut Response) -> Result<Option<impl Deref<Target = [u8]> + use<>>, ApiError> {
    response.chunk().await.map_err(|error| ApiError::Lost(Box::new(error.without_url())))
}

/// The error in a response that is no listing although its status says success.
async fn error_with_success(mut response: Response, mut body: Vec<u8>) -> ApiError {
    let status = response.status().as_u16();
    while let Ok(Some(piece)) = next_piece(&mut response).await {
        if body.len() + piece.len() > MAX_ERROR {
            return ApiError::Malformed(status);
        }
        body.extend_from_slice(&piece);
    }
    ApiError::in_success_body(status, &body).unwrap_or(ApiError::Malformed(status))
}

fn add(mailboxes: &mut Mailboxes, element: &[u8], now: Timestamp) -> Result<(), Unreadable> {
    let ListedMailbox { id, details } = serde_json::from_slice(element).map_err(|_| Unreadable)?;
    if id <= 0 {
        return Err(Unreadable);
    }
    let state = details.signals(now).state();
    mailboxes.add(id, details.email.as_str(), state);
    Ok(())
}

/// Whether one of the periods contains that time. Periods that cannot be read do not count.
fn is_frozen(periods: &Value, now: Timestamp) -> bool {
    let at = |period: &Value, name: &str| time(period.get(name)?.as_str()?);
    let contains = |period: &Value| {
        at(period, "from").zip(at(period, "to")).is_some_and(|(from, to)| (from..=to).contains(&now))
    };
    periods.as_array().is_some_and(|periods| periods.iter().any(contains))
}

/// A time such as `2022-07-06T00:00:00+0200`.
fn time(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    let basic_offset = || strtime::parse("%Y-%m-%dT%H:%M:%S%z", text).ok()?.to_timestamp().ok();
    text.parse().ok().or_else(basic_offset)
}

// === impl Details ===

impl Details {
    fn signals(&self, now: Timestamp) -> Signals<'_> {
        Signals {
            error: match &self.error {
                Value::String(text) => Some(text),
                Value::Null | Value::Bool(false) => None,
                Value::Array(all) if all.is_empty() => None,
                Value::Object(fields) if fields.is_empty() => None,
                _ => Some("an error that is not a text"),
            },
            reconnect_required: self.reconnect_required.as_bool().unwrap_or(false),
            in_slot: self.in_slot.as_bool(),
            is_frozen: is_frozen(&self.freeze_account, now),
        }
    }
}

// === impl Unreadable ===

impl From<NotAnArray> for Unreadable {
    fn from(_: NotAnArray) -> Self {
        Self
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::core::mailboxes::MailboxState;

    fn state_at(details: &Value, now: &str) -> MailboxState {
        let details: Details = serde_json::from_value(details.clone()).unwrap();
        details.signals(now.parse().unwrap()).state()
    }

    fn state(details: &Value) -> MailboxState {
        state_at(details, "2026-11-30T12:00:00Z")
    }

    #[test]
    fn an_error_may_be_null_empty_absent_or_a_text() {
        for error in [json!(null), json!(""), json!(" "), json!(false), json!([]), json!({})] {
            assert_eq!(state(&json!({ "error": error })), MailboxState::Healthy, "{error}");
        }
        assert_eq!(state(&json!({})), MailboxState::Healthy);
        for error in [json!("Token refresh"), json!(5), json!({"code": "X"}), json!(true)] {
            assert_eq!(state(&json!({ "error": error })), MailboxState::Failing, "{error}");
        }
        assert_eq!(state(&json!({"error": "Connected conditionally."})), MailboxState::Degraded);
        assert_eq!(state(&json!({"error": "", "reconnect_required": true})), MailboxState::Failing);
        assert_eq!(state(&json!({"reconnect_required": "no"})), MailboxState::Healthy);
        assert_eq!(state(&json!({"in_slot": false})), MailboxState::Inactive);
    }

    #[test]
    fn a_pause_has_three_types() {
        let periods = json!({"freeze_account": [
            {"from": "2022-07-06T00:00:00+0200", "to": "2022-07-06T23:59:59+0200"},
            {"from": "2022-08-06T00:00:00Z", "to": "2022-08-06T23:59:59+02:00"},
            {"from": 5}, "x", {"from": "soon", "to": "later"}
        ]});
        for (now, expected) in [
            ("2022-07-05T21:59:59Z", MailboxState::Healthy),
            ("2022-07-05T22:00:00Z", MailboxState::Frozen),
            ("2022-07-06T22:00:00Z", MailboxState::Healthy),
            ("2022-08-06T12:00:00Z", MailboxState::Frozen),
        ] {
            assert_eq!(state_at(&periods, now), expected, "{now}");
        }
        for none in [json!([]), json!(""), json!(null), json!({"from": "2022-07-06T00:00:00Z"})] {
            assert_eq!(state(&json!({ "freeze_account": none })), MailboxState::Healthy, "{none}");
        }
    }

    #[test]
    fn only_the_id_must_have_the_known_form() {
        let mut mailboxes = Mailboxes::default();
        let now = Timestamp::UNIX_EPOCH;
        for object in [
            json!({"id": 7, "type": "CARRIER_PIGEON", "details": {"email": "a@example.com", "error": "x"}}),
            json!({"id": 8, "type": {}, "details": {"email": 5}}),
            json!({"id": 9}),
            json!({"id": 10, "details": "none"}),
        ] {
            assert!(add(&mut mailboxes, object.to_string().as_bytes(), now).is_ok(), "{object}");
        }
        assert_eq!((mailboxes.counts().healthy, mailboxes.failing()), (3, vec![7]));
        for object in ["{}", r#"{"id": "7"}"#, r#"{"id": 0}"#, "5", "null", r#"{"id": 1,}"#] {
            assert!(add(&mut mailboxes, object.as_bytes(), now).is_err(), "{object}");
        }
    }
}
