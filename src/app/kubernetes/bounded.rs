//! What every request to the Kubernetes API goes through: it is counted, its answer has to begin and to end in time, and
//! one about Secrets asks for its connection to be closed.
//!
//! An answer whose headers came and whose body stalls would hold its reader forever. The buffers of a connection
//! that lives on, or of a watch that goes on for minutes, keep what came through them; that holds for metadata of Secrets as
//! well, because `kubectl apply` writes a Secret's values into an annotation of it. (`direct` lets the requests of a few
//! seconds share connections.)

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

use super::is_watch;
use crate::telemetry::metrics::Metrics;

/// Puts [`Bounded`] around a client's service.
#[derive(Clone, Debug)]
pub struct BoundedLayer {
    /// Where requests, and the watches that the API server accepts, are counted.
    pub metrics: Arc<Metrics>,
    /// Host and port of the API server.
    pub host: Arc<str>,
    /// The longest time from a request to the last byte of its answer; of a watch, to the first.
    pub within: Duration,
    /// How long a watch of Secrets goes on after the first thing that came through it. Who watches goes on from there with
    /// the next request, and misses nothing.
    pub secret_watch: Duration,
}

/// A service whose requests are counted and whose answers end in time.
#[derive(Clone, Debug)]
pub struct Bounded<S> {
    inner: S,
    layer: BoundedLayer,
}

/// The body of an answer, which ends at its time: that of a watch as if it were complete, another one by failing.
#[derive(Debug)]
pub struct BoundedBody<B> {
    /// Gone after the end of a watch: what is left of it is not read, and so its connection is closed.
    inner: Option<B>,
    is_watch: bool,
    /// How long it goes on after the first frame, where that alone bounds it.
    after_first: Option<Duration>,
    end: Option<Pin<Box<Sleep>>>,
}

/// An answer that did not end in time.
#[derive(Debug, Error)]
#[error("the API server began an answer and did not end it in time")]
pub struct Unfinished;

/// Whether the path names Secrets, one of them or all, in a namespace or in all.
fn is_of_secrets(uri: &Uri) -> bool {
    let mut parts = uri.path().split('/').skip(1);
    let is_core = parts.next() == Some("api") && parts.next() == Some("v1");
    let kind = match parts.next() {
        Some("namespaces") => parts.nth(1),
        kind => kind,
    };
    is_core && kind == Some("secrets")
}

/// The kind that a path lists, as the errors of watches name it.
fn watched_kind(uri: &Uri) -> &'static str {
    match uri.path().rsplit('/').next() {
        Some("microsoftgraphcredentials") => "MicrosoftGraphCredential",
        Some("woodpeckeraccounts") => "WoodpeckerAccount",
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
        let watched = is_watch(request.uri()).then(|| watched_kind(request.uri()));
        let mut after_first = None;
        if is_of_secrets(request.uri()) {
            request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            after_first = watched.map(|_| secret_watch);
        }
        let end = Instant::now() + within;
        let answer = timeout_at(end, self.inner.call(request));
        async move {
            let answer = match answer.await {
                Ok(answer) => answer.map_err(Into::into),
                Err(_) => Err(Elapsed::new().into()),
            };
            let status = answer.as_ref().ok().map(Response::status);
            metrics.kubernetes.answered(&host, method.as_str(), status.map(|status| status.as_u16()));
            if let (Some(kind), true) = (watched, status.is_some_and(|status| status.is_success())) {
                metrics.kubernetes.watch_opened(kind);
            }
            let end = watched.is_none().then(|| Box::pin(sleep_until(end)));
            let is_watch = watched.is_some();
            answer.map(|answer| {
                answer.map(|inner| BoundedBody { inner: Some(inner), is_watch, after_first, end })
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
                return Poll::Ready(Some(Err(Unfinished.into())));
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
