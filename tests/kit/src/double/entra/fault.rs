//! Faults of the token endpoint other than a rejection.

use std::time::Duration;

use super::rejection::Cause;
use crate::double::http::{DeliveryMode, HttpResponse, ReplyKind};
use crate::double::{Delays, RetryAfter};

/// A fault of the token endpoint. Durations are divided by the double's time scale.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// This status, body and headers. The headers include the content type, or there is none.
    Status(u16, String, Vec<(String, String)>),
    /// 503 with an HTML page.
    Html503,
    /// 504 without a body.
    Empty504,
    /// 429 with `Retry-After`.
    Throttled {
        /// The value of the header.
        retry_after: RetryAfter,
    },
    /// 307 to this location. A careless client would send the secret there.
    Redirect307(String),
    /// 200 with JSON that ends in the middle, and a matching `Content-Length`.
    TruncatedJson,
    /// 200 with an HTML page, like captive portals.
    NotJson,
    /// No response for this long, then a reset.
    Hang(Duration),
    /// The actual response, its second half this much later than the first.
    SlowBody(Duration),
    /// TCP reset instead of a response.
    Reset,
    /// The actual rejection without `error_codes`; 7000215 if a token would have been issued.
    MissingErrorCodes,
    /// A rejection with this code and `error`; 401 for `invalid_client`, otherwise 400.
    UnknownCode(u32, String),
}

/// The effect of a fault on the response.
pub(crate) enum Effect {
    /// This instead, without reading the state.
    Instead(ReplyKind),
    /// The actual response, sent in this way.
    Sent(DeliveryMode),
    /// This rejection.
    Rejected(Cause),
    /// The actual rejection without its codes.
    WithoutCodes,
}

impl Fault {
    /// For records and messages.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Status(..) => "Status",
            Self::Html503 => "Html503",
            Self::Empty504 => "Empty504",
            Self::Throttled { .. } => "Throttled",
            Self::Redirect307(_) => "Redirect307",
            Self::TruncatedJson => "TruncatedJson",
            Self::NotJson => "NotJson",
            Self::Hang(_) => "Hang",
            Self::SlowBody(_) => "SlowBody",
            Self::Reset => "Reset",
            Self::MissingErrorCodes => "MissingErrorCodes",
            Self::UnknownCode(..) => "UnknownCode",
        }
    }

    pub(crate) fn effect(self, delays: &Delays) -> Effect {
        let response = match self {
            Self::Status(status, body, headers) => {
                HttpResponse { status, headers, body: body.into(), delivery: DeliveryMode::Whole }
            }
            Self::Html503 => HttpResponse::html(503, "Service Unavailable"),
            Self::Empty504 => HttpResponse::empty(504),
            Self::Throttled { retry_after } => {
                HttpResponse::json(429, &serde_json::json!({ "error": "temporarily_unavailable" }))
                    .with_header("retry-after", retry_after.header_value())
            }
            Self::Redirect307(to) => HttpResponse::empty(307).with_header("location", to),
            Self::TruncatedJson => HttpResponse::new(
                200,
                "application/json; charset=utf-8",
                r#"{"token_type":"Bearer","expires_in":3599,"access_tok"#,
            ),
            Self::NotJson => HttpResponse::html(200, "Please sign in to the network"),
            Self::Hang(time) => return Effect::Instead(ReplyKind::Hang(delays.scaled(time))),
            Self::Reset => return Effect::Instead(ReplyKind::Reset),
            Self::SlowBody(time) => return Effect::Sent(DeliveryMode::PauseInHalf(delays.scaled(time))),
            Self::MissingErrorCodes => return Effect::WithoutCodes,
            Self::UnknownCode(code, error) => {
                return Effect::Rejected(Cause::Unknown(code, error));
            }
        };
        Effect::Instead(response.into())
    }
}
