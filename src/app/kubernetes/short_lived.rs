//! Every request for Secrets asks for its connection to be closed, because the buffers of one that lives on, or of a
//! watch that goes on for minutes, keep what came through them. (`direct` lets the requests of a few seconds share
//! connections.)
//!
//! That holds for metadata as well: `kubectl apply` writes a Secret's values into an annotation of it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, TryFutureExt};
use http::header::{CONNECTION, HeaderValue};
use http::{Request, Response, Uri};
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};
use tower::{Layer, Service};

use super::is_watch;

/// Puts [`ShortLived`] around a client's service.
#[derive(Clone, Copy, Debug)]
pub struct ShortLivedLayer {
    /// How long a watch of Secrets goes on after the first thing that came through it.
    pub watch: Duration,
}

/// A service whose connections for Secrets are closed: after the answer, and where that is a watch, soon after
/// something came through it. Who watches goes on from there with the next request, and misses nothing.
#[derive(Clone, Debug)]
pub struct ShortLived<S> {
    inner: S,
    watch: Duration,
}

/// The body of an answer, which may end before its time.
#[derive(Debug)]
pub struct ShortLivedBody<B> {
    /// Gone after the end.
    inner: Option<B>,
    /// How long it goes on after the first frame; nothing where it has all the time it needs.
    watch: Option<Duration>,
    end: Option<Pin<Box<Sleep>>>,
}

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

// === impl ShortLivedLayer ===

impl<S> Layer<S> for ShortLivedLayer {
    type Service = ShortLived<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ShortLived { inner, watch: self.watch }
    }
}

// === impl ShortLived ===

impl<S, Q, B> Service<Request<Q>> for ShortLived<S>
where
    S: Service<Request<Q>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = Response<ShortLivedBody<B>>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Q>) -> Self::Future {
        let mut watch = None;
        if is_of_secrets(request.uri()) {
            request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            watch = is_watch(request.uri()).then_some(self.watch);
        }
        let answer = self.inner.call(request);
        answer
            .map_ok(move |answer| answer.map(|inner| ShortLivedBody { inner: Some(inner), watch, end: None }))
            .boxed()
    }
}

// === impl ShortLivedBody ===

impl<B: Body + Unpin> Body for ShortLivedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        if self.end.as_mut().is_some_and(|end| end.as_mut().poll(cx).is_ready()) {
            // What is left of the answer is not read, and so its connection is closed.
            self.inner = None;
        }
        let Some(inner) = &mut self.inner else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(inner).poll_frame(cx));
        if self.end.is_none() {
            self.end = self.watch.map(|watch| Box::pin(sleep(watch)));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map(Body::size_hint).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::poll_fn;

    use tokio::time::Instant;

    use super::*;

    /// Sends a frame every two seconds, for ever.
    struct Ticks(tokio::time::Interval);

    impl Body for Ticks {
        type Data = &'static [u8];
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Self::Data>, Infallible>>> {
            self.0.poll_tick(cx).map(|_| Some(Ok(Frame::data(&b"event"[..]))))
        }
    }

    /// Asks for a path, and tells the `Connection` header sent and how long the answer went on, at most a minute.
    async fn ask(path: &str) -> (Option<HeaderValue>, Duration) {
        let layer = ShortLivedLayer { watch: Duration::from_secs(5) };
        let mut service = layer.layer(tower::service_fn(async |request: Request<()>| {
            let mut answer =
                Response::new(Ticks(tokio::time::interval_at(Instant::now() + TWO_SECONDS, TWO_SECONDS)));
            *answer.headers_mut() = request.headers().clone();
            Ok::<_, Infallible>(answer)
        }));
        let answer = service.call(Request::get(path).body(()).unwrap()).await.unwrap();
        let header = answer.headers().get(CONNECTION).cloned();
        let start = Instant::now();
        let mut body = answer.into_body();
        let all = async { while poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await.is_some() {} };
        let _minute_over = tokio::time::timeout(Duration::from_mins(1), all).await;
        (header, start.elapsed())
    }

    const TWO_SECONDS: Duration = Duration::from_secs(2);

    #[tokio::test(start_paused = true)]
    async fn a_watch_of_secrets_ends_soon_after_its_first_event_on_a_connection_that_is_closed() {
        for path in ["/api/v1/secrets?watch=true", "/api/v1/namespaces/mail/secrets?limit=1&watch=true"] {
            let (header, time) = ask(path).await;
            assert_eq!(header, Some(HeaderValue::from_static("close")), "{path}");
            assert!((7..8).contains(&time.as_secs()), "{path}: {time:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn another_request_for_secrets_has_all_the_time_it_needs() {
        for path in ["/api/v1/secrets?limit=500", "/api/v1/namespaces/mail/secrets/sales-eu-graph"] {
            let (header, time) = ask(path).await;
            assert_eq!(header, Some(HeaderValue::from_static("close")), "{path}");
            assert!(time.as_secs() >= 60, "{path}: {time:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn other_requests_are_left_alone() {
        for path in [
            "/api/v1/namespaces/secrets",
            "/api/v1/namespaces/secrets/events?watch=true",
            "/apis/graph-credentials.io/v1alpha1/secrets?watch=true",
            "/readyz",
        ] {
            let (header, time) = ask(path).await;
            assert_eq!(header, None, "{path}");
            assert!(time.as_secs() >= 60, "{path}: {time:?}");
        }
    }
}
