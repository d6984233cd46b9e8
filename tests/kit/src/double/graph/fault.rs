//! Faults of Graph.

use std::time::Duration;

use serde_json::json;

use crate::double::http::{HttpResponse, ReplyKind};
use crate::double::{Delays, RetryAfter};

/// A fault of Graph. Durations are divided by the double's time scale.
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
}

impl Fault {
    pub(crate) fn reply(self, delays: &Delays) -> ReplyKind {
        match self {
            Self::InvalidToken => {
                error(401, "InvalidAuthenticationToken", "Access token has expired or is not yet valid.")
            }
            Self::Forbidden => denied(),
            Self::NotFound => not_found("00000000-0000-0000-0000-000000000000"),
            Self::Throttled(retry_after) => error(429, "TooManyRequests", "Please retry again later.")
                .with_header("retry-after", retry_after.header_value()),
            Self::Status(status, body) => HttpResponse::new(status, "application/json", body),
            Self::Html503 => HttpResponse::html(503, "Service Unavailable"),
            Self::TruncatedJson => {
                HttpResponse::new(200, "application/json", r#"{"id": "x", "passwordCredentials": [{"key"#)
            }
            Self::Hang(time) => return ReplyKind::Hang(delays.scaled(time)),
            Self::Reset => return ReplyKind::Reset,
        }
        .into()
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

/// An error in Graph's format.
pub(super) fn error(status: u16, code: &str, message: &str) -> HttpResponse {
    let inner = json!({
        "date": "2026-11-24T08:00:00", "request-id": "93b6f17e-c05d-4f45-ad2a-6665c708d8a0",
        "client-request-id": "e70c5c1b-8b47-68c0-3171-3d22f5e0bd54"
    });
    let body = json!({"error": {"code": code, "message": message, "innerError": inner}});
    HttpResponse::json(status, &body).with_header("request-id", "93b6f17e-c05d-4f45-ad2a-6665c708d8a0")
}
