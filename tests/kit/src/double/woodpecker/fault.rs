//! Faults at Woodpecker, distinguished by whether the request took effect.

use std::time::Duration;

use serde_json::{Value, json};

use super::api::Performed;
use super::response::problem;
use crate::double::http::{DeliveryMode, HttpResponse, ReplyKind};
use crate::double::{Delays, RetryAfter};

/// A fault of one operation. Durations are divided by the double's time scale.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// No effect; this status and JSON body.
    RefusedBefore(u16, Value),
    /// Takes effect; then a TCP reset without a response.
    ProcessedThenReset,
    /// Takes effect; then half of the actual response and a closed connection. A reset if the response has no
    /// body.
    ProcessedThenTruncated,
    /// Takes effect at once; then no response for this long and a reset.
    ProcessedThenHang(Duration),
    /// Takes effect; then the vendor's 500.
    ProcessedThen500,
    /// No effect; the vendor's 500.
    Http500Before,
    /// A reset at once; takes effect this much later.
    ProcessedLate(Duration),
    /// No effect; 429.
    Throttled {
        /// The `Retry-After` header; the vendor documents none.
        retry_after: Option<RetryAfter>,
    },
    /// No effect; 502 with an HTML page.
    Html502,
    /// Takes effect; the actual status with this body.
    WrongShape(Value),
    /// Takes effect; the actual status without a body.
    EmptyBody,
    /// No effect; the vendor's 401.
    Unauthorized,
    /// Takes effect and is answered after this long, even if the client has disconnected by then.
    Slow(Duration),
    /// No effect; no response for this long, then a reset.
    Hang(Duration),
    /// For listings: 200 with `{}`.
    ListingWithoutArray,
    /// For listings: 200 with an empty array.
    ListingEmpty,
    /// For listings: the actual one without these ids.
    ListingOmits(Vec<i64>),
    /// For listings: the actual one without any `name`.
    ListingWithoutNames,
    /// For the bulk connection: the actual response with only the first elements, so many.
    ResponseKeeps(usize),
    /// No effect; a TCP reset.
    ConnectionReset,
}

/// When the request takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Never,
    Now,
    After(Duration),
    /// Now, with the response after this wait.
    AfterWaiting(Duration),
}

impl Fault {
    /// For records and messages.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::RefusedBefore(..) => "RefusedBefore",
            Self::ProcessedThenReset => "ProcessedThenReset",
            Self::ProcessedThenTruncated => "ProcessedThenTruncated",
            Self::ProcessedThenHang(_) => "ProcessedThenHang",
            Self::ProcessedThen500 => "ProcessedThen500",
            Self::Http500Before => "Http500Before",
            Self::ProcessedLate(_) => "ProcessedLate",
            Self::Throttled { .. } => "Throttled",
            Self::Html502 => "Html502",
            Self::WrongShape(_) => "WrongShape",
            Self::EmptyBody => "EmptyBody",
            Self::Unauthorized => "Unauthorized",
            Self::Slow(_) => "Slow",
            Self::Hang(_) => "Hang",
            Self::ListingWithoutArray => "ListingWithoutArray",
            Self::ListingEmpty => "ListingEmpty",
            Self::ListingOmits(_) => "ListingOmits",
            Self::ListingWithoutNames => "ListingWithoutNames",
            Self::ResponseKeeps(_) => "ResponseKeeps",
            Self::ConnectionReset => "ConnectionReset",
        }
    }

    pub(crate) fn effect(&self) -> Effect {
        match self {
            Self::RefusedBefore(..)
            | Self::Http500Before
            | Self::Throttled { .. }
            | Self::Html502
            | Self::Unauthorized
            | Self::Hang(_)
            | Self::ConnectionReset => Effect::Never,
            Self::ProcessedLate(time) => Effect::After(*time),
            Self::Slow(time) => Effect::AfterWaiting(*time),
            Self::ProcessedThenReset
            | Self::ProcessedThenTruncated
            | Self::ProcessedThenHang(_)
            | Self::ProcessedThen500
            | Self::WrongShape(_)
            | Self::EmptyBody
            | Self::ListingWithoutArray
            | Self::ListingEmpty
            | Self::ListingOmits(_)
            | Self::ListingWithoutNames
            | Self::ResponseKeeps(_) => Effect::Now,
        }
    }

    /// What the client gets if the request did not take effect, or not yet.
    pub(crate) fn response_without_effect(self, delays: &Delays) -> ReplyKind {
        match self {
            Self::RefusedBefore(status, body) => HttpResponse::json(status, &body).into(),
            Self::Http500Before => problem(500).into(),
            Self::Html502 => HttpResponse::html(502, "Bad Gateway").into(),
            Self::Unauthorized => problem(401).into(),
            Self::Throttled { retry_after: None } => problem(429).into(),
            Self::Throttled { retry_after: Some(when) } => {
                problem(429).with_header("retry-after", when.header_value()).into()
            }
            Self::Hang(time) => ReplyKind::Hang(delays.scaled(time)),
            _ => ReplyKind::Reset,
        }
    }

    /// What the client gets after the request took effect.
    pub(crate) fn response_after_effect(self, performed: Performed, delays: &Delays) -> ReplyKind {
        let response = performed.response;
        match self {
            Self::ProcessedThenReset => ReplyKind::Reset,
            Self::ProcessedThenTruncated if response.body.is_empty() => ReplyKind::Reset,
            Self::ProcessedThenTruncated => response.sent(DeliveryMode::CutInHalf).into(),
            Self::ProcessedThenHang(time) => ReplyKind::Hang(delays.scaled(time)),
            Self::ProcessedThen500 => problem(500).into(),
            Self::WrongShape(body) => HttpResponse::json(response.status, &body).into(),
            Self::EmptyBody => HttpResponse::empty(response.status).into(),
            Self::ListingWithoutArray => HttpResponse::json(200, &json!({})).into(),
            Self::ListingEmpty => HttpResponse::json(200, &json!({ "credentials": [] })).into(),
            Self::ListingOmits(ids) => edit_list(response, |all| {
                all.retain(|it| !ids.iter().any(|id| it["credential_id"] == *id));
            }),
            Self::ListingWithoutNames => edit_list(response, |all| {
                for it in all.iter_mut().filter_map(Value::as_object_mut) {
                    it.remove("name");
                }
            }),
            Self::ResponseKeeps(count) => keep_first(&response, count),
            _ => response.into(),
        }
    }
}

fn keep_first(response: &HttpResponse, count: usize) -> ReplyKind {
    let mut body: Value = serde_json::from_slice(&response.body).unwrap_or_default();
    if let Some(all) = body.as_array_mut() {
        all.truncate(count);
    }
    HttpResponse::json(response.status, &body).into()
}

fn edit_list(response: HttpResponse, edit: impl FnOnce(&mut Vec<Value>)) -> ReplyKind {
    let mut body: Value = serde_json::from_slice(&response.body).unwrap_or_default();
    if let Some(all) = body.get_mut("credentials").and_then(Value::as_array_mut) {
        edit(all);
    }
    HttpResponse::json(response.status, &body).into()
}
