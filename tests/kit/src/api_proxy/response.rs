//! The responses of the proxy.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use hyper::body::{Body, Bytes, Frame};
use tokio::sync::mpsc;

/// The part of a response that is forwarded.
pub(super) struct ForwardedBody(mpsc::Receiver<Result<Frame<Bytes>, io::Error>>);

/// What an API server answers if the object has changed (409), or if etcd does not answer (500).
pub(super) fn rejection(code: StatusCode) -> Response<ForwardedBody> {
    let (reason, message) = match code {
        StatusCode::CONFLICT => ("Conflict", "the object has been modified"),
        _ => ("InternalError", "Internal error occurred: etcdserver: request timed out"),
    };
    let status = serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": message,
        "code": code.as_u16(),
    });
    let (sender, receiver) = mpsc::channel(1);
    // There is room for one.
    let _ = sender.try_send(Ok(Frame::data(Bytes::from(status.to_string()))));
    let mut response = Response::new(ForwardedBody(receiver));
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

// === impl ForwardedBody ===

impl ForwardedBody {
    pub(super) fn new(frames: mpsc::Receiver<Result<Frame<Bytes>, io::Error>>) -> Self {
        Self(frames)
    }
}

impl Body for ForwardedBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.0.poll_recv(cx)
    }
}
