//! The meaning of an error response of Microsoft Graph.
//!
//! Decided by HTTP status and `code`, never by the message. Source: Microsoft Graph, "Microsoft Graph error responses and
//! resource types".

use serde::{Deserialize, Deserializer};

use crate::core::lenient::{Lenient, readable};

/// Why Graph did not answer a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GraphError {
    /// The object does not exist in this tenant, or was created some minutes ago.
    NotFound,
    /// The token is expired, or for another audience.
    InvalidToken,
    /// The identity lacks a role, or consent in this tenant; a token from before the consent lacks it as well.
    Forbidden,
    Throttled,
    /// Graph has a failure of its own, or the response is not from Graph.
    Unavailable,
    /// Graph rejects the request for another reason.
    Rejected(u16),
}

/// The body of an error response; every field may be missing or of another type.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ErrorBody {
    #[serde(deserialize_with = "readable", alias = "odata.error")]
    pub(crate) error: ErrorDetail,
}

/// `error` in such a body.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ErrorDetail {
    #[serde(deserialize_with = "readable")]
    pub(crate) code: String,
    /// In any of its forms; empty if there is none.
    #[serde(deserialize_with = "message")]
    pub(crate) message: String,
}

/// `message` as a text, or with its language.
#[derive(Deserialize)]
#[serde(untagged)]
enum Message {
    Plain(String),
    Localized { value: String },
}

fn message<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    Ok(match Lenient::deserialize(from)?.value() {
        Some(Message::Plain(text) | Message::Localized { value: text }) => text,
        None => String::new(),
    })
}

/// The meaning of a response with that status, which is not 200. `body` is `None` if it is not JSON.
pub(crate) fn classify(status: u16, body: Option<&ErrorBody>) -> GraphError {
    let code = body.map(|body| body.error.code.as_str()).unwrap_or_default();
    match (status, code) {
        (429, _) | (_, "TooManyRequests" | "Request_ThrottledTemporarily" | "activityLimitReached") => {
            GraphError::Throttled
        }
        (401, _) | (_, "InvalidAuthenticationToken") => GraphError::InvalidToken,
        (403, _) | (_, "Authorization_RequestDenied") => GraphError::Forbidden,
        // A 404 without Graph's body is from a proxy, or from another server.
        (404, "") => GraphError::Unavailable,
        (404, _) | (_, "Request_ResourceNotFound") => GraphError::NotFound,
        (408 | 409, _) => GraphError::Unavailable,
        (400..=499, _) => GraphError::Rejected(status),
        _ => GraphError::Unavailable,
    }
}

// === impl GraphError ===

impl GraphError {
    /// The value of the metric label.
    pub fn outcome(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::InvalidToken | Self::Forbidden => "denied",
            Self::Throttled => "throttled",
            Self::Unavailable => "unavailable",
            Self::Rejected(_) => "rejected",
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn classified(status: u16, body: serde_json::Value) -> GraphError {
        let body: ErrorBody = serde_json::from_value(body).unwrap();
        classify(status, Some(&body))
    }

    #[test]
    fn documented_responses_are_recognized() {
        let body = |code: &str| json!({"error": {"code": code, "message": "m", "innerError": {"date": "x"}}});
        for (status, code, meaning) in [
            (401, "InvalidAuthenticationToken", GraphError::InvalidToken),
            (403, "Authorization_RequestDenied", GraphError::Forbidden),
            (404, "Request_ResourceNotFound", GraphError::NotFound),
            (429, "TooManyRequests", GraphError::Throttled),
            (429, "UnknownError", GraphError::Throttled),
            (400, "Request_BadRequest", GraphError::Rejected(400)),
            (500, "InternalServerError", GraphError::Unavailable),
            (503, "serviceNotAvailable", GraphError::Unavailable),
        ] {
            assert_eq!(classified(status, body(code)), meaning, "{status} {code}");
        }
    }

    #[test]
    fn bodies_in_other_forms_are_read_as_far_as_possible() {
        for odd in [
            json!({}),
            json!({"error": "invalid_request"}),
            json!({"error": {"code": 7, "message": {"lang": "en", "value": "v"}, "details": {}}}),
        ] {
            assert_eq!(classified(503, odd.clone()), GraphError::Unavailable, "{odd}");
            assert_eq!(classified(403, odd), GraphError::Forbidden);
        }
        let old = json!({"odata.error": {"code": "Request_ResourceNotFound", "message": {"lang": "en"}}});
        assert_eq!(classified(404, old), GraphError::NotFound);
    }

    #[test]
    fn a_page_of_a_proxy_says_nothing_about_the_app() {
        assert_eq!(classify(404, None), GraphError::Unavailable);
        assert_eq!(classify(502, None), GraphError::Unavailable);
        assert_eq!(classify(307, None), GraphError::Unavailable);
    }
}
