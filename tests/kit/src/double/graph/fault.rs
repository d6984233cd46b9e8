//! Faults of Graph.

use std::time::Duration;

use serde_json::json;

use crate::double::http::{DeliveryMode, HttpResponse, ReplyKind};
use crate::double::{Delays, RetryAfter};

/// A fault of Graph. Durations are divided by the double's time scale. A write takes effect only where that is said.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// 401 `InvalidAuthenticationToken`.
    InvalidToken,
    /// 403 `Authorization_RequestDenied`.
    Forbidden,
    /// 404 `Request_ResourceNotFound`.
    NotFound,
    /// 429 with `Retry-After`.
    Throttled(RetryAfter),
    /// The response to two writes close together, with this status: 400, 409 or 500.
    Concurrent(u16),
    /// This status and body, as JSON.
    Status(u16, String),
    /// 503 with an HTML page.
    Html503,
    /// 200 with JSON that ends in the middle.
    TruncatedJson,
    /// No response for this long, then a reset.
    Hang(Duration),
    /// TCP reset instead of a response.
    Reset,
    /// Takes effect; then a TCP reset without a response.
    ProcessedThenReset,
    /// Takes effect; then half of the actual response and a closed connection. A reset if the response has no body.
    ProcessedThenTruncated,
    /// Takes effect at once; then no response for this long and a reset.
    ProcessedThenHang(Duration),
    /// Takes effect; then this status from 500 on.
    ProcessedThenStatus(u16),
    /// A reset at once; takes effect this much later.
    ProcessedLate(Duration),
    /// Takes effect and is answered after this long, even if the client has disconnected by then.
    Slow(Duration),
}

/// When the request takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Never,
    Now,
    After(Duration),
    /// Now, with the response after this wait.
    AfterWaiting(Duration),
}

impl Fault {
    /// Its name without its values.
    pub fn kind(&self) -> String {
        format!("{self:?}").chars().take_while(char::is_ascii_alphanumeric).collect()
    }

    pub(super) fn effect(&self) -> Effect {
        match self {
            Self::InvalidToken
            | Self::Forbidden
            | Self::NotFound
            | Self::Throttled(_)
            | Self::Concurrent(_)
            | Self::Status(..)
            | Self::Html503
            | Self::TruncatedJson
            | Self::Hang(_)
            | Self::Reset => Effect::Never,
            Self::ProcessedThenReset
            | Self::ProcessedThenTruncated
            | Self::ProcessedThenHang(_)
            | Self::ProcessedThenStatus(_) => Effect::Now,
            Self::ProcessedLate(time) => Effect::After(*time),
            Self::Slow(time) => Effect::AfterWaiting(*time),
        }
    }

    /// What the client gets if the request did not take effect, or not yet.
    pub(super) fn response_without_effect(self, delays: &Delays) -> ReplyKind {
        match self {
            Self::InvalidToken => {
                error(401, "InvalidAuthenticationToken", "Access token has expired or is not yet valid.")
            }
            Self::Forbidden => denied(),
            Self::NotFound => not_found("00000000-0000-0000-0000-000000000000"),
            Self::Throttled(retry_after) => error(429, "TooManyRequests", "Please retry again later.")
                .with_header("retry-after", retry_after.header_value()),
            Self::Concurrent(status) => concurrent(status),
            Self::Status(status, body) => HttpResponse::new(status, "application/json", body),
            Self::Html503 => HttpResponse::html(503, "Service Unavailable"),
            Self::TruncatedJson => {
                HttpResponse::new(200, "application/json", r#"{"id": "x", "passwordCredentials": [{"key"#)
            }
            Self::Hang(time) => return ReplyKind::Hang(delays.scaled(time)),
            _ => return ReplyKind::Reset,
        }
        .into()
    }

    /// What the client gets after the request took effect.
    pub(super) fn response_after_effect(self, actual: HttpResponse, delays: &Delays) -> ReplyKind {
        match self {
            Self::ProcessedThenReset => ReplyKind::Reset,
            Self::ProcessedThenTruncated if actual.body.is_empty() => ReplyKind::Reset,
            Self::ProcessedThenTruncated => actual.sent(DeliveryMode::CutInHalf).into(),
            Self::ProcessedThenHang(time) => ReplyKind::Hang(delays.scaled(time)),
            Self::ProcessedThenStatus(status) => {
                error(status, "serviceNotAvailable", "The service is temporarily unavailable.").into()
            }
            _ => actual.into(),
        }
    }
}

pub(super) fn denied() -> HttpResponse {
    error(403, "Authorization_RequestDenied", "Insufficient privileges to complete the operation.")
}

pub(super) fn not_found(id: &str) -> HttpResponse {
    let message = format!(
        "Resource '{id}' does not exist or one of its queried reference-property objects are not present."
    );
    error(404, "Request_ResourceNotFound", &message)
}

/// Two writes close together. Status and code vary, the message does not.
pub(super) fn concurrent(status: u16) -> HttpResponse {
    let message = "Error due to concurrent requests being made to the tenant. Please wait briefly and retry.";
    let code = match status {
        409 => "Directory_ConcurrencyViolation",
        400 => "Request_BadRequest",
        _ => "InternalServerError",
    };
    error(status, code, message)
}

/// An error in Graph's format.
pub(super) fn error(status: u16, code: &str, message: &str) -> HttpResponse {
    let inner = json!({
        "date": "2026-11-24T08:00:00", "request-id": "93b6f17e-c05d-4f45-ad2a-6665c708d8a0",
        "client-request-id": "e70c5c1b-8b47-68c0-3171-3d22f5e0bd54"
    });
    let body = json!({"error": {"code": code, "message": message, "innerError": inner}});
    HttpResponse::json(status, &body).with_header("request-id", "93b6f17e-c05d-4f45-ad2a-6665c708d8a0")
}
