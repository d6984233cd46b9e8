//! Requests and replies of a double, including those that HTTP servers do not usually send: no response, a
//! reset, a cut in the middle.

use std::any::Any;
use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::Value;

use super::body::{Step, Steps};

/// Larger than anything the operator sends; a longer body counts as empty.
const MAX_BODY: usize = 1024 * 1024;

/// A request, read to its end. No Debug, because it contains secrets.
pub struct Request {
    pub(crate) method: String,
    /// Path and query, as sent.
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
}

/// The reply to a request, and what is dropped when it is complete.
pub struct Reply {
    pub(crate) what: ReplyKind,
    pub(crate) held: Vec<Box<dyn Any + Send>>,
}

pub enum ReplyKind {
    Response(HttpResponse),
    /// TCP reset without a response.
    Reset,
    /// Nothing for this long, then a reset.
    Hang(Duration),
}

/// A response; `Content-Length` is that of `body` even if `delivery` sends less.
pub struct HttpResponse {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
    pub(crate) delivery: DeliveryMode,
}

/// How the body is sent.
pub enum DeliveryMode {
    Whole,
    /// Half of it, then the connection is closed.
    CutInHalf,
    /// Half of it, this pause, then the rest.
    PauseInHalf(Duration),
}

// === impl Request ===

impl Request {
    /// The first header of that name (lower case), if it is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find_map(|(key, value)| (key == name).then_some(value.as_str()))
    }

    /// Whether the content type is `essence`, with or without parameters.
    pub(crate) fn has_content_type(&self, essence: &str) -> bool {
        self.header("content-type")
            .and_then(|value| value.split(';').next())
            .is_some_and(|value| value.trim().eq_ignore_ascii_case(essence))
    }

    pub(crate) async fn read(request: hyper::Request<Incoming>) -> Self {
        let (head, body) = request.into_parts();
        let headers = head.headers.iter();
        let headers =
            headers.filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())));
        let path = head.uri.path_and_query();
        Self {
            method: head.method.to_string(),
            path: path.map_or_else(String::new, ToString::to_string),
            headers: headers.collect(),
            body: Limited::new(body, MAX_BODY)
                .collect()
                .await
                .map(http_body_util::Collected::to_bytes)
                .unwrap_or_default(),
        }
    }
}

// === impl HttpResponse ===

impl HttpResponse {
    pub(crate) fn new(status: u16, content_type: &str, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            headers: vec![("content-type".to_owned(), content_type.to_owned())],
            body: body.into(),
            delivery: DeliveryMode::Whole,
        }
    }

    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Self::new(status, "application/json; charset=utf-8", body.to_string())
    }

    pub(crate) fn html(status: u16, title: &str) -> Self {
        let page = format!(
            "<!DOCTYPE html>\r\n<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>\r\n"
        );
        Self::new(status, "text/html; charset=utf-8", page)
    }

    pub(crate) fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Bytes::new(), delivery: DeliveryMode::Whole }
    }

    pub(crate) fn with_header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn sent(mut self, delivery: DeliveryMode) -> Self {
        self.delivery = delivery;
        self
    }

    pub(crate) fn into_response(self, held: Vec<Box<dyn Any + Send>>) -> Response<Steps> {
        let length = self.body.len();
        let steps = self.delivery.steps(self.body);
        let mut response = Response::new(Steps::new(steps, held));
        // A status or header that HTTP does not allow is a mistake in a test's fault; the response is a 500
        // that reports it.
        let status = StatusCode::from_u16(self.status);
        *response.status_mut() = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        for (name, value) in &self.headers {
            match (HeaderName::try_from(name.as_str()), HeaderValue::try_from(value.as_str())) {
                (Ok(name), Ok(value)) => {
                    response.headers_mut().append(name, value);
                }
                _ => *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR,
            }
        }
        if response.status() != StatusCode::NO_CONTENT {
            let headers = response.headers_mut();
            headers.insert("content-length", HeaderValue::from(length));
        }
        response
    }
}

impl From<HttpResponse> for ReplyKind {
    fn from(response: HttpResponse) -> Self {
        Self::Response(response)
    }
}

// === impl ReplyKind ===

impl ReplyKind {
    /// The status that the client sees; none if it gets no response.
    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            Self::Response(response) => Some(response.status),
            Self::Reset | Self::Hang(_) => None,
        }
    }
}

// === impl DeliveryMode ===

impl DeliveryMode {
    fn steps(self, body: Bytes) -> Vec<Step> {
        let half = body.len() / 2;
        let (first, rest) = (body.slice(..half), body.slice(half..));
        match self {
            Self::Whole if body.is_empty() => Vec::new(),
            Self::Whole => vec![Step::Bytes(body)],
            Self::CutInHalf => vec![Step::Bytes(first), Step::Cut],
            Self::PauseInHalf(delay) => {
                vec![Step::Bytes(first), Step::Pause(delay), Step::Bytes(rest)]
            }
        }
    }
}
