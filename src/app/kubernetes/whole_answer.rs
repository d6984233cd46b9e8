//! Every answer but a watch's must end within a bound. One whose headers came and whose body stalls would hold
//! whoever reads it for ever: the loops around the passes, and the lists that watches begin with.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, TryFutureExt};
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use thiserror::Error;
use tokio::time::{Instant, Sleep, sleep_until};
use tower::{BoxError, Layer, Service};

use super::is_watch;

/// Puts [`WholeAnswer`] around a client's service.
#[derive(Clone, Copy, Debug)]
pub struct WholeAnswerLayer {
    /// From the request to the last byte of its answer.
    pub within: Duration,
}

/// A service whose answers end in time, or fail.
#[derive(Clone, Debug)]
pub struct WholeAnswer<S> {
    inner: S,
    within: Duration,
}

/// The body of an answer, which fails at its time.
#[derive(Debug)]
pub struct WholeBody<B> {
    inner: B,
    /// Nothing for a watch.
    end: Option<Pin<Box<Sleep>>>,
}

/// An answer that did not end in time.
#[derive(Debug, Error)]
#[error("the API server began an answer and did not end it in time")]
pub struct Unfinished;

// === impl WholeAnswerLayer ===

impl<S> Layer<S> for WholeAnswerLayer {
    type Service = WholeAnswer<S>;

    fn layer(&self, inner: S) -> Self::Service {
        WholeAnswer { inner, within: self.within }
    }
}

// === impl WholeAnswer ===

impl<S, Q, B> Service<Request<Q>> for WholeAnswer<S>
where
    S: Service<Request<Q>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = Response<WholeBody<B>>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        let end = (!is_watch(request.uri())).then(|| Instant::now() + self.within);
        let answer = self.inner.call(request);
        answer
            .map_ok(move |answer| {
                answer.map(|inner| WholeBody { inner, end: end.map(|end| Box::pin(sleep_until(end))) })
            })
            .boxed()
    }
}

// === impl WholeBody ===

impl<B> Body for WholeBody<B>
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
            return Poll::Ready(Some(Err(Unfinished.into())));
        }
        Pin::new(&mut self.inner).poll_frame(cx).map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::api::{ListParams, WatchParams};
    use kube::{Api, Client};

    use super::*;

    /// Sends a part of an answer and then nothing for ever.
    struct Stalled(Option<&'static [u8]>);

    impl Body for Stalled {
        type Data = axum::body::Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Self::Data>, Infallible>>> {
            match self.0.take() {
                Some(part) => Poll::Ready(Some(Ok(Frame::data(part.into())))),
                None => Poll::Pending,
            }
        }
    }

    fn client() -> Client {
        let layer = WholeAnswerLayer { within: Duration::from_secs(30) };
        let service = tower::service_fn(async |_: Request<kube::client::Body>| {
            Ok::<_, Infallible>(Response::new(Stalled(Some(b"{\"kind\":"))))
        });
        Client::new(layer.layer(service), "mail")
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_stalls_fails_in_time() {
        let start = Instant::now();
        let maps: Api<ConfigMap> = Api::default_namespaced(client());
        for answer in [maps.get("x").await.map(drop), maps.list(&ListParams::default()).await.map(drop)] {
            let error = crate::telemetry::logs::chain(&answer.unwrap_err());
            assert!(error.contains("did not end it in time"), "{error}");
        }
        assert_eq!(start.elapsed().as_secs(), 60);
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_has_all_the_time_it_needs() {
        let maps: Api<ConfigMap> = Api::default_namespaced(client());
        let mut events = Box::pin(maps.watch(&WatchParams::default(), "0").await.unwrap());
        let next = tokio::time::timeout(Duration::from_hours(1), futures::StreamExt::next(&mut events)).await;
        assert!(next.is_err(), "it goes on");
    }
}
