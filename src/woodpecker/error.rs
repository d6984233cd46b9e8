//! What a failed request to Woodpecker means. At least four shapes of error bodies exist; all are read with
//! care and none is guessed.

use std::time::Duration;

use serde_json::Value;
use thiserror::Error;

use super::lane::LaneClosed;
use crate::leadership::NotLeading;

/// A request that did not do what it should, or may not have.
#[derive(Debug, Error)]
pub enum ApiError {
    /// The account's lane did not let it in.
    #[error(transparent)]
    Lane(#[from] LaneClosed),
    /// It is the leader's to send it.
    #[error(transparent)]
    NotLeading(#[from] NotLeading),
    /// No connection could be made.
    #[error("failed to connect to Woodpecker")]
    NotSent(#[source] reqwest::Error),
    /// It was sent, and no whole answer came back.
    #[error("Woodpecker's answer was lost")]
    Lost(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("Woodpecker refuses the API key (HTTP {0})")]
    Unauthorized(u16),
    #[error("Woodpecker knows no such resource (HTTP 404)")]
    NotFound,
    /// Too many requests; this one was dropped.
    #[error("Woodpecker asks to slow down")]
    Throttled(Option<Duration>),
    /// It was refused for what it said.
    #[error("Woodpecker refused the request (HTTP {status}{})", .word.as_deref().map(|word| format!(", {word}")).unwrap_or_default())]
    Refused {
        status: u16,
        /// The answer's constant, such as `INVALID_CLIENT_SECRET`, where it has one.
        word: Option<String>,
    },
    /// Woodpecker, or something before it, had a failure.
    #[error("Woodpecker had a failure (HTTP {0})")]
    Failed(u16),
    /// The answer says success and is not what it should be.
    #[error("Woodpecker's answer (HTTP {0}) could not be understood")]
    Malformed(u16),
    /// The request could not be written.
    #[error("failed to write the request's body")]
    Body(#[source] serde_json::Error),
}

/// Whether a failed request may have taken effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certainty {
    NotProcessed,
    Unknown,
}

/// Version 1's word for throttling, which comes under several statuses. Source: the vendor's error codes.
const TOO_MANY_REQUESTS: &str = "E_TOO_MANY_REQUESTS";

// === impl ApiError ===

impl ApiError {
    /// Reads an answer outside 2xx.
    pub(super) fn from_answer(status: u16, body: &[u8], retry_after: Option<Duration>) -> Self {
        let word = word(body);
        match status {
            429 => Self::Throttled(retry_after),
            400 | 409 if word.as_deref() == Some(TOO_MANY_REQUESTS) => Self::Throttled(retry_after),
            401 | 403 => Self::Unauthorized(status),
            404 => Self::NotFound,
            408 => Self::Failed(status),
            400..=499 => Self::Refused { status, word },
            _ => Self::Failed(status),
        }
    }

    /// The error that an answer holds although its status says success, as version 1 of the API does it.
    pub(super) fn hidden_in(status: u16, body: &[u8]) -> Option<Self> {
        let json: Value = serde_json::from_slice(body).ok()?;
        if json.pointer("/status/status")? != "ERROR" {
            return None;
        }
        let word = word(body);
        Some(match word.as_deref() {
            Some(TOO_MANY_REQUESTS) => Self::Throttled(None),
            _ => Self::Refused { status, word },
        })
    }

    /// Whether the request may have taken effect.
    pub fn certainty(&self) -> Certainty {
        match self {
            Self::Lane(_)
            | Self::NotLeading(_)
            | Self::NotSent(_)
            | Self::Unauthorized(_)
            | Self::NotFound
            | Self::Throttled(_)
            | Self::Refused { .. }
            | Self::Body(_) => Certainty::NotProcessed,
            Self::Lost(_) | Self::Failed(_) | Self::Malformed(_) => Certainty::Unknown,
        }
    }

    /// As metrics name it.
    pub fn outcome(&self) -> &'static str {
        match self {
            Self::Lane(_) => "not_admitted",
            Self::NotLeading(_) => "not_leading",
            Self::NotSent(_) => "not_sent",
            Self::Lost(_) => "lost",
            Self::Unauthorized(_) => "unauthorized",
            Self::NotFound => "not_found",
            Self::Throttled(_) => "throttled",
            Self::Refused { .. } => "refused",
            Self::Failed(_) => "failed",
            Self::Malformed(_) => "malformed",
            Self::Body(_) => "not_written",
        }
    }
}

/// The constant in an error body: `message` of the Microsoft endpoints, `code` of the other v2 ones,
/// `status.code` of v1. Only what looks like a constant is taken: it goes into conditions, where free text
/// with ids in it would change the object on each try.
fn word(body: &[u8]) -> Option<String> {
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

    fn answer(status: u16, body: &str) -> ApiError {
        ApiError::from_answer(status, body.as_bytes(), None)
    }

    #[test]
    fn every_shape_of_error_is_read() {
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
            let ApiError::Refused { status: 422, word } = answer(422, body) else { unreachable!("{body}") };
            assert_eq!(word.as_deref(), expected, "{body}");
        }
    }

    #[test]
    fn only_an_answer_that_says_so_counts_as_not_processed() {
        for status in [400, 401, 403, 404, 409, 415, 422, 429] {
            assert_eq!(answer(status, "").certainty(), Certainty::NotProcessed, "{status}");
        }
        for status in [301, 307, 408, 500, 502, 503, 504, 599] {
            assert_eq!(answer(status, "").certainty(), Certainty::Unknown, "{status}");
        }
        assert_eq!(ApiError::Malformed(201).certainty(), Certainty::Unknown);
    }

    #[test]
    fn an_error_under_a_status_of_success_is_found() {
        let body = br#"{"status":{"status":"ERROR","code":"E_LIMIT","msg":"x"}}"#;
        assert!(
            matches!(ApiError::hidden_in(200, body), Some(ApiError::Refused { word: Some(word), .. }) if word == "E_LIMIT")
        );
        let throttled = br#"{"status":{"status":"ERROR","code":"E_TOO_MANY_REQUESTS","msg":"x"}}"#;
        assert!(matches!(ApiError::hidden_in(200, throttled), Some(ApiError::Throttled(None))));
        for fine in
            [&br#"{"credential_id":1,"status":"ok"}"#[..], b"", b"{}", br#"{"status":{"status":"OK"}}"#]
        {
            assert!(ApiError::hidden_in(200, fine).is_none());
        }
    }

    #[test]
    fn throttling_is_seen_in_both_dialects_and_a_bare_conflict_is_not_throttling() {
        assert!(matches!(answer(429, ""), ApiError::Throttled(None)));
        assert!(matches!(answer(409, r#"{"code":"E_TOO_MANY_REQUESTS"}"#), ApiError::Throttled(None)));
        assert!(matches!(answer(409, "{}"), ApiError::Refused { status: 409, word: None }));
    }
}
