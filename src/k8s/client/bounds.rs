//! Layer for all requests to the Kubernetes API: counts them, limits how long responses take, and closes connections
//! that carried Secrets.
//!
//! A response whose body stalls after its headers would block its reader forever. The buffers of a long-lived
//! connection or watch keep what was sent through them. That applies to metadata of Secrets too, because `kubectl
//! apply` writes a Secret's values into an annotation. (`connector` lets requests within a few seconds share
//! connections.)

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use http::header::{CONNECTION, HeaderValue};
use http::{Request, Response, Uri};
use http_body::{Body, Frame, SizeHint};
use thiserror::Error;
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout_at};
use tower::timeout::error::Elapsed;
use tower::{BoxError, Layer, Service};

use crate::k8s::client::is_watch;
use crate::telemetry::metrics::Metrics;

/// Wraps a client's service in [`Bounded`].
#[derive(Clone, Debug)]
pub struct BoundedLayer {
    /// Counts requests and accepted watches.
    pub metrics: Arc<Metrics>,
    /// Host and port of the API server.
    pub host: Arc<str>,
    /// The longest time from a request to the last byte of its response, or of a watch to the response headers.
    pub within: Duration,
    /// How long a watch of Secrets continues after its first event. The next watch continues from there and misses
    /// nothing.
    pub secret_watch: Duration,
}

/// A service that counts requests and limits how long responses take.
#[derive(Clone, Debug)]
pub struct Bounded<S> {
    inner: S,
    layer: BoundedLayer,
}

/// A body with a time limit. A watch ends there as if it were complete; any other body fails.
#[derive(Debug)]
pub struct BoundedBody<B> {
    /// `None` after the end of a watch: the rest is not read, so its connection is closed.
    inner: Option<B>,
    is_watch: bool,
    /// The time limit from the first frame on, if only that applies.
    after_first: Option<Duration>,
    end: Option<Pin<Box<Sleep>>>,
}

/// A response that did not end in time.
#[derive(Debug, Error)]
#[error("the API server began a response and did not end it in time")]
pub struct BodyTimedOut;

/// Whether the path is of one or more Secrets, in one namespace or in all.
fn is_about_secrets(uri: &Uri) -> bool {
    let mut parts = uri.path().split('/').skip(1);
    let is_core = parts.next() == Some("api") && parts.next() == Some("v1");
    let kind = match parts.next() {
        Some("namespaces") => parts.nth(1),
        kind => kind,
    };
    is_core && kind == Some("secrets")
}

/// The kind that a path lists, as in the metrics of watches.
fn kind_of(uri: &Uri) -> &'static str {
    match uri.path().rsplit('/').next() {
        Some("microsoftgraphcredentials") => "MicrosoftGraphCredential",
        Some("woodpeckeraccounts") => "WoodpeckerAccount",
        Some("entraidentities") => "EntraIdentity",
        Some("woodpeckermailboxes") => "WoodpeckerMailboxes",
        Some("sealedgraphcredentials") => "SealedGraphCredential",
        Some("secrets") => "Secret",
        _ => "other",
    }
}

// === impl BoundedLayer ===

impl<S> Layer<S> for BoundedLayer {
    type Service = Bounded<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Bounded { inner, layer: self.clone() }
    }
}

// === impl Bounded ===

impl<S, Q, B> Service<Request<Q>> for Bounded<S>
where
    S: Service<Request<Q>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: Into<BoxError> + Send,
    B: Send,
{
    type Response = Response<BoundedBody<B>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut request: Request<Q>) -> Self::Future {
        let BoundedLayer { metrics, host, within, secret_watch } = self.layer.clone();
        let method = request.method().clone();
        let watched_kind = is_watch(request.uri()).then(|| kind_of(request.uri()));
        let mut after_first = None;
        if is_about_secrets(request.uri()) {
            request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            after_first = watched_kind.map(|_| secret_watch);
        }
        let end = Instant::now() + within;
        let response = timeout_at(end, self.inner.call(request));
        async move {
            let response = match response.await {
                Ok(response) => response.map_err(Into::into),
                Err(_) => Err(Elapsed::new().into()),
            };
            let status = response.as_ref().ok().map(Response::status);
            metrics.kubernetes.responded(&host, method.as_str(), status.map(|status| status.as_u16()));
            if let (Some(kind), true) = (watched_kind, status.is_some_and(|status| status.is_success())) {
                metrics.kubernetes.watch_opened(kind);
            }
            let end = watched_kind.is_none().then(|| Box::pin(sleep_until(end)));
            let is_watch = watched_kind.is_some();
            response.map(|response| {
                response.map(|inner| BoundedBody { inner: Some(inner), is_watch, after_first, end })
            })
        }
        .boxed()
    }
}

// === impl BoundedBody ===

impl<B> Body for BoundedBody<B>
where
    B: Body + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        if self.end.as_mut().is_some_and(|end| end.as_mut().poll(cx).is_ready()) {
            if !self.is_watch {
                return Poll::Ready(Some(Err(BodyTimedOut.into())));
            }
            self.inner = None;
        }
        let Some(inner) = &mut self.inner else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(inner).poll_frame(cx));
        if self.end.is_none() {
            self.end = self.after_first.map(|after| Box::pin(sleep(after)));
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map(Body::size_hint).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
