//! Errors of requests to Woodpecker. At least four shapes of error bodies exist; each is parsed, none is guessed.

use std::time::Duration;

use serde_json::Value;
use thiserror::Error;

use crate::core::failure::QueueError;
use crate::k8s::leadership::NotLeading;
use crate::woodpecker::missing_plan::MissingPlan;

/// A request that did not do what it should, or may not have.
#[derive(Debug, Error)]
pub enum ApiError {
    /// The account's queue gave no permit.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// Only the leader sends requests.
    #[error(transparent)]
    NotLeading(#[from] NotLeading),
    /// No connection could be made.
    #[error("failed to connect to Woodpecker")]
    NotSent(#[source] reqwest::Error),
    /// It was sent, and no complete response came back.
    #[error("Woodpecker's response was lost")]
    Lost(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Woodpecker's API itself rejects the key.
    #[error("Woodpecker rejects the API key (HTTP {0})")]
    Unauthorized(u16),
    /// Woodpecker's API refuses the key because of the account's plan, so the key itself may be right.
    #[error("Woodpecker refuses the API key because of the account's plan (HTTP {status}, {missing})")]
    NotInPlan { status: u16, missing: MissingPlan },
    #[error("Woodpecker knows no such resource (HTTP 404)")]
    NotFound,
    /// Too many requests; this one was dropped.
    #[error("Woodpecker asks to slow down")]
    Throttled(Option<Duration>),
    /// Woodpecker rejected its content.
    #[error("Woodpecker rejected the request (HTTP {status}{})", .error_code.as_deref().map(|code| format!(", {code}")).unwrap_or_default())]
    Rejected {
        status: u16,
        /// Such as `INVALID_CLIENT_SECRET`, if the response has one.
        error_code: Option<String>,
    },
    /// Woodpecker, or a proxy in front of it, failed. Also a 401 or 403 that is not from Woodpecker's API.
    #[error("Woodpecker failed (HTTP {status})")]
    Failed {
        status: u16,
        /// From a 503.
        retry_after: Option<Duration>,
    },
    /// The status says success, but the body is not as expected.
    #[error("Woodpecker's response (HTTP {0}) could not be understood")]
    Malformed(u16),
    /// A listing was given up because a more urgent request waits.
    #[error("the request was given up for a more urgent one")]
    GivenUp,
    /// The request could not be serialized.
    #[error("failed to serialize the request's body")]
    Body(#[source] serde_json::Error),
}

/// Whether a failed request may have taken effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    NotApplied,
    Unknown,
}

/// Version 1's error code for throttling, which comes with several statuses. Source: the vendor's error codes.
const TOO_MANY_REQUESTS: &str = "E_TOO_MANY_REQUESTS";

// === impl ApiError ===

impl ApiError {
    /// Reads a response outside 2xx.
    pub(super) fn from_response(status: u16, body: &[u8], retry_after: Option<Duration>) -> Self {
        let error_code = error_code(body);
        match status {
            429 => Self::Throttled(retry_after),
            400 | 409 if error_code.as_deref() == Some(TOO_MANY_REQUESTS) => Self::Throttled(retry_after),
            401 | 403 if is_of_api(body) => match MissingPlan::in_body(body) {
                Some(missing) => Self::NotInPlan { status, missing },
                None => Self::Unauthorized(status),
            },
            404 => Self::NotFound,
            401 | 403 | 408 => Self::Failed { status, retry_after: None },
            400..=499 => Self::Rejected { status, error_code },
            503 => Self::Failed { status, retry_after },
            _ => Self::Failed { status, retry_after: None },
        }
    }

    /// The error in a body whose status says success, as version 1 of the API sends it.
    pub(super) fn in_success_body(status: u16, body: &[u8]) -> Option<Self> {
        let json: Value = serde_json::from_slice(body).ok()?;
        if json.pointer("/status/status")? != "ERROR" {
            return None;
        }
        let error_code = error_code(body);
        Some(match error_code.as_deref() {
            Some(TOO_MANY_REQUESTS) => Self::Throttled(None),
            _ => Self::Rejected { status, error_code },
        })
    }

    pub fn effect(&self) -> Effect {
        match self {
            Self::Queue(_)
            | Self::NotLeading(_)
            | Self::NotSent(_)
            | Self::Unauthorized(_)
            | Self::NotInPlan { .. }
            | Self::NotFound
            | Self::Throttled(_)
            | Self::Rejected { .. }
            | Self::GivenUp
            | Self::Body(_) => Effect::NotApplied,
            Self::Lost(_) | Self::Failed { .. } | Self::Malformed(_) => Effect::Unknown,
        }
    }

    /// The label value of metrics.
    pub fn outcome(&self) -> &'static str {
        match self {
            Self::Queue(_) => "not_admitted",
            Self::NotLeading(_) => "not_leading",
            Self::NotSent(_) => "not_sent",
            Self::Lost(_) => "lost",
            Self::Unauthorized(_) => "unauthorized",
            Self::NotInPlan { .. } => "not_in_plan",
            Self::NotFound => "not_found",
            Self::Throttled(_) => "throttled",
            Self::Rejected { .. } => "rejected",
            Self::Failed { .. } => "failed",
            Self::Malformed(_) => "malformed",
            Self::GivenUp => "given_up",
            Self::Body(_) => "not_written",
        }
    }
}

/// Whether an error body has the form that Woodpecker's API sends. A proxy or a firewall sends a page instead, or nothing.
fn is_of_api(body: &[u8]) -> bool {
    const FIELDS: [&str; 5] = ["title", "status", "detail", "message", "code"];
    serde_json::from_slice::<Value>(body)
        .is_ok_and(|body| FIELDS.iter().any(|field| body.get(field).is_some()))
}

/// The error code in a body: `message` of the Microsoft endpoints, `code` of the other v2 ones, `status.code` of v1.
/// Only what looks like a constant is used, because it is shown in conditions: free text with ids would change the
/// object on each attempt.
fn error_code(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let candidates = [body.get("message"), body.get("code"), body.pointer("/status/code")];
    candidates
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .find(|text| is_constant(text))
        .map(str::to_owned)
}

fn is_constant(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(status: u16, body: &str) -> ApiError {
        ApiError::from_response(status, body.as_bytes(), None)
    }

    #[test]
    fn every_shape_of_error_body_is_read() {
        for (body, expected) in [
            (r#"{"message":"INVALID_CLIENT_SECRET"}"#, Some("INVALID_CLIENT_SECRET")),
            (
                r#"{"code":"CAMPAIGN_NOT_EXIST","message":"Campaign 77 does not exist","details":[]}"#,
                Some("CAMPAIGN_NOT_EXIST"),
            ),
            (r#"{"status":{"status":"ERROR","code":"E_LIMIT","msg":"x"}}"#, Some("E_LIMIT")),
            (r#"{"message":"tenant 4711 is odd"}"#, None),
            (r#"{"message":5}"#, None),
            ("{}", None),
            ("<html>", None),
            ("", None),
        ] {
            let ApiError::Rejected { status: 422, error_code } = response(422, body) else {
                unreachable!("{body}")
            };
            assert_eq!(error_code.as_deref(), expected, "{body}");
        }
    }

    #[test]
    fn only_a_response_that_says_so_counts_as_not_applied() {
        for status in [400, 404, 409, 415, 422, 429] {
            assert_eq!(response(status, "").effect(), Effect::NotApplied, "{status}");
        }
        for status in [401, 403] {
            assert_eq!(response(status, r#"{"title":"Unauthorized"}"#).effect(), Effect::NotApplied);
        }
        for status in [301, 307, 408, 500, 502, 503, 504, 599] {
            assert_eq!(response(status, "").effect(), Effect::Unknown, "{status}");
        }
        assert_eq!(ApiError::Malformed(201).effect(), Effect::Unknown);
    }

    #[test]
    fn only_the_api_itself_rejects_a_key() {
        for status in [401, 403] {
            for body in [
                r#"{"title":"Unauthorized","status":401,"detail":"Invalid api key","timestamp":"x"}"#,
                r#"{"status":{"status":"ERROR","code":"E_NO_PERMISSION","msg":"x"}}"#,
            ] {
                assert!(matches!(response(status, body), ApiError::Unauthorized(_)), "{status} {body}");
            }
            for body in ["", "<html>", "{}", r#""blocked""#, r#"["title"]"#, r#"{"error":"blocked"}"#] {
                assert!(matches!(response(status, body), ApiError::Failed { .. }), "{status} {body}");
            }
        }
    }

    #[test]
    fn a_missing_plan_is_never_taken_for_a_wrong_key() {
        for (status, body) in [
            (401, r#"{"title":"Unauthorized","status":401,"detail":"No API addon"}"#),
            (401, r#"{"title":"Unauthorized","status":401,"detail":"Upgrade your plan"}"#),
            (403, r#"{"message":"No Agency addon"}"#),
        ] {
            let error = response(status, body);
            assert!(matches!(error, ApiError::NotInPlan { status: of, .. } if of == status), "{body}");
            assert_eq!(error.effect(), Effect::NotApplied);
        }
    }

    #[test]
    fn an_error_under_a_status_of_success_is_found() {
        let body = br#"{"status":{"status":"ERROR","code":"E_LIMIT","msg":"x"}}"#;
        assert!(
            matches!(ApiError::in_success_body(200, body), Some(ApiError::Rejected { error_code: Some(code), .. }) if code == "E_LIMIT")
        );
        let throttled = br#"{"status":{"status":"ERROR","code":"E_TOO_MANY_REQUESTS","msg":"x"}}"#;
        assert!(matches!(ApiError::in_success_body(200, throttled), Some(ApiError::Throttled(None))));
        for fine in
            [&br#"{"credential_id":1,"status":"ok"}"#[..], b"", b"{}", br#"{"status":{"status":"OK"}}"#]
        {
            assert!(ApiError::in_success_body(200, fine).is_none());
        }
    }

    #[test]
    fn throttling_is_recognized_in_both_api_versions_and_a_plain_conflict_is_not() {
        assert!(matches!(response(429, ""), ApiError::Throttled(None)));
        assert!(matches!(response(409, r#"{"code":"E_TOO_MANY_REQUESTS"}"#), ApiError::Throttled(None)));
        assert!(matches!(response(409, "{}"), ApiError::Rejected { status: 409, error_code: None }));
    }
}
