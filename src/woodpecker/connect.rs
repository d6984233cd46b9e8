//! Connecting mailboxes with a credential. Source: the vendor's page on bulk-adding Microsoft mailboxes. It documents
//! only a complete success; everything else is read as far as it can be, and counts as unknown otherwise.

use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, RequestBuilder};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::core::mailbox_connection::{ConnectOutcome, ConnectResult};
use crate::woodpecker::account::RemoteAccount;
use crate::woodpecker::client::{self, Client};
use crate::woodpecker::error::ApiError;
use crate::woodpecker::queue::{RequestSlot, ResponseSignal};

const PATH: &str = "/v2/mailboxes/microsoft/bulk";

/// Longest text of Woodpecker that is kept, in bytes.
const MAX_TEXT: usize = 256;

/// A mailbox to connect.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct NewMailbox<'a> {
    #[serde(rename = "mailbox_email")]
    pub email: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_name: Option<&'a str>,
}

/// A request that failed, with the text of Woodpecker's response if it has one.
#[derive(Debug)]
pub struct ConnectError {
    pub error: ApiError,
    pub text: Option<String>,
}

#[derive(Serialize)]
struct Body<'a> {
    auth_type: &'static str,
    credential_id: i64,
    accounts: &'a [NewMailbox<'a>],
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Element {
    success: Value,
    id: Value,
    email: Value,
    error: Value,
}

// === impl RemoteAccount ===

impl RemoteAccount {
    /// Connects mailboxes. Not idempotent: a second request may connect them twice. A failure does not pause the queue,
    /// because credentials do not depend on it.
    pub async fn connect_mailboxes(
        &self,
        _slot: &RequestSlot,
        credential_id: i64,
        mailboxes: &[NewMailbox<'_>],
    ) -> Result<Vec<ConnectResult>, ConnectError> {
        let result = self.client.connect_mailboxes(credential_id, mailboxes).await;
        match &result {
            Ok(_) => self.queue.record_response(ResponseSignal::Responded),
            Err(ConnectError { error: ApiError::Throttled(retry_after), .. }) => {
                self.queue.record_response(ResponseSignal::Throttled(*retry_after));
            }
            Err(_) => {}
        }
        result
    }
}

// === impl Client ===

impl Client {
    async fn connect_mailboxes(
        &self,
        credential_id: i64,
        mailboxes: &[NewMailbox<'_>],
    ) -> Result<Vec<ConnectResult>, ConnectError> {
        let body = Body { auth_type: "APP_ONLY", credential_id, accounts: mailboxes };
        let request = serde_json::to_vec(&body).map_err(ApiError::Body)?;
        let request =
            self.request_to(Method::POST, PATH)?.header(CONTENT_TYPE, "application/json").body(request);
        let mut text = None;
        let result = self.measured("connect_mailboxes", send(request, &mut text)).await;
        result.map_err(|error| ConnectError { error, text })
    }
}

/// Sends a request, and sets the text of a response that is not a success.
async fn send(request: RequestBuilder, text: &mut Option<String>) -> Result<Vec<ConnectResult>, ApiError> {
    let response = client::start(request).await?;
    let received = client::receive(response).await?;
    let status = received.status;
    if let Some(results) = results(status, &received.body) {
        return Ok(results);
    }
    *text = refusal_text(status, &received.body);
    if (200..300).contains(&status) {
        return Err(ApiError::in_success_body(status, &received.body).unwrap_or(ApiError::Malformed(status)));
    }
    Err(ApiError::from_response(status, &received.body, received.retry_after))
}

/// The results in a response. An array is an answer about each mailbox, whatever the status, but one with 429 was not
/// processed, and with a failure of the server only what was connected is certain.
fn results(status: u16, body: &[u8]) -> Option<Vec<ConnectResult>> {
    let mut results = read_results(body).filter(|_| status != 429)?;
    results.retain(|result| status < 500 || matches!(result.outcome, ConnectOutcome::Connected(_)));
    Some(results).filter(|results| (200..300).contains(&status) || !results.is_empty())
}

/// The results that can be read; `None` if the body is no array. An element without an address is left out, and so is
/// one that neither has the ID of a connected mailbox nor says that it was refused.
fn read_results(body: &[u8]) -> Option<Vec<ConnectResult>> {
    let elements: Vec<Value> = serde_json::from_slice(body).ok()?;
    let read = elements.into_iter().filter_map(|element| {
        let Element { success, id, email, error } = serde_json::from_value(element).ok()?;
        let outcome = match (success.as_bool()?, id.as_i64().filter(|id| *id > 0)) {
            (true, Some(id)) => ConnectOutcome::Connected(id),
            (true, None) => return None,
            (false, id) => ConnectOutcome::Refused(shortened(&text_of(&error)), id),
        };
        Some(ConnectResult { email: email.as_str()?.to_owned(), outcome })
    });
    Some(read.collect())
}

/// The address of each result in a body, with the ID of the mailbox or Woodpecker's text, for `fuzz/`; `None` if it is no array.
pub fn read_connected(body: &[u8]) -> Option<Vec<(String, Result<i64, String>)>> {
    let read = read_results(body)?.into_iter().map(|ConnectResult { email, outcome }| match outcome {
        ConnectOutcome::Connected(id) => (email, Ok(id)),
        ConnectOutcome::Refused(text, _) => (email, Err(text)),
    });
    Some(read.collect())
}

/// The status and what the body says, such as `HTTP 422: INVALID_CLIENT_SECRET`.
fn refusal_text(status: u16, body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let fields =
        ["/message", "/detail", "/details/0", "/title", "/code", "/status/msg", "/status/code", "/0/error"];
    let text = fields.iter().find_map(|field| body.pointer(field)?.as_str());
    Some(shortened(&format!("HTTP {status}: {}", text?)))
}

fn text_of(error: &Value) -> String {
    match error {
        Value::Null => "no error is given".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A text without control characters, cut after [`MAX_TEXT`] bytes.
fn shortened(text: &str) -> String {
    let kept = &text[..text.floor_char_boundary(MAX_TEXT)];
    kept.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

// === impl ConnectError ===

impl From<ApiError> for ConnectError {
    fn from(error: ApiError) -> Self {
        Self { error, text: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_is_as_the_vendor_shows_it() {
        let mailboxes = [
            NewMailbox { email: "jim@example.com", display_name: Some("Jimothy H") },
            NewMailbox { email: "michael@example.com", display_name: None },
        ];
        let body = Body { auth_type: "APP_ONLY", credential_id: 22_334_455, accounts: &mailboxes };
        assert_eq!(
            serde_json::to_value(&body).unwrap(),
            serde_json::json!({
                "auth_type": "APP_ONLY", "credential_id": 22_334_455,
                "accounts": [
                    {"mailbox_email": "jim@example.com", "display_name": "Jimothy H"},
                    {"mailbox_email": "michael@example.com"}
                ]
            })
        );
    }

    #[test]
    fn a_response_is_read_as_far_as_it_can_be() {
        let body = r#"[
            {"success": true, "id": 444444, "email": "jim@example.com", "name": "Jimothy H", "deliverability": {}, "error": null},
            {"success": false, "id": 7, "email": "pam@example.com", "error": "NO_LICENSE"},
            {"success": false, "email": "kevin@example.com", "error": {"code": 5}},
            {"success": true, "email": "without-id@example.com"}, {"success": "yes", "id": 1, "email": "x@example.com"},
            {"success": true, "id": 5}, 5, null
        ]"#;
        let read: Vec<(String, ConnectOutcome)> =
            read_results(body.as_bytes()).unwrap().into_iter().map(|it| (it.email, it.outcome)).collect();
        let refused = |text: &str, id| ConnectOutcome::Refused(text.to_owned(), id);
        assert_eq!(
            read,
            [
                ("jim@example.com".to_owned(), ConnectOutcome::Connected(444_444)),
                ("pam@example.com".to_owned(), refused("NO_LICENSE", Some(7))),
                ("kevin@example.com".to_owned(), refused("{\"code\":5}", None)),
            ]
        );
        for body in ["", "{}", "<html>", "null"] {
            assert!(read_results(body.as_bytes()).is_none(), "{body}");
        }
    }

    #[test]
    fn an_array_counts_as_far_as_its_status_allows() {
        let both =
            r#"[{"success": true, "id": 4, "email": "a@x.io"}, {"success": false, "email": "b@x.io"}]"#;
        let refused = r#"[{"success": false, "email": "b@x.io"}]"#;
        for (status, body, expected) in [
            (200, both, Some(2)),
            (200, "[]", Some(0)),
            (200, "{}", None),
            (422, refused, Some(1)),
            (422, "[]", None),
            (429, both, None),
            (500, both, Some(1)),
            (500, refused, None),
        ] {
            let found = results(status, body.as_bytes()).map(|results| results.len());
            assert_eq!(found, expected, "{status} {body}");
        }
    }

    #[test]
    fn a_refusal_is_shown_with_its_text_which_is_bounded() {
        for (body, expected) in [
            (r#"{"message":"INVALID_CLIENT_SECRET"}"#, Some("HTTP 422: INVALID_CLIENT_SECRET")),
            (r#"{"title":"Unauthorized","detail":"Upgrade your plan"}"#, Some("HTTP 422: Upgrade your plan")),
            (r#"{"code":"X","details":["No free\nslot"]}"#, Some("HTTP 422: No free slot")),
            ("<html>", None),
            (r#"{"message":5}"#, None),
        ] {
            assert_eq!(refusal_text(422, body.as_bytes()).as_deref(), expected, "{body}");
        }
        let long = format!(r#"{{"message":"{}"}}"#, "ä".repeat(1000));
        let text = refusal_text(422, long.as_bytes()).unwrap();
        assert!((MAX_TEXT - 1..=MAX_TEXT).contains(&text.len()) && text.ends_with('ä'), "{text}");
    }
}
