//! A watch that the API server accepts and ends at once seems to last a while, longer each time in a row: kube opens
//! the next one without any wait, some hundred times a second.
//!
//! That cannot be seen in kube's stream of events, which says nothing of it; so it is told from the answer's body.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, TryFutureExt};
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};
use tower::{Layer, Service};

use super::is_watch;

/// Puts [`BriefWatch`] around a client's service.
#[derive(Clone, Copy, Debug)]
pub struct BriefWatchLayer {
    /// A watch that ends sooner has ended at once; also the first wait after one.
    pub brief: Duration,
    /// The longest wait.
    pub longest: Duration,
}

/// A service whose brief watches end late.
#[derive(Clone, Debug)]
pub struct BriefWatch<S> {
    inner: S,
    waits: Waits,
}

/// The body of an answer, whose end may be held back.
#[derive(Debug)]
pub struct BriefWatchBody<B> {
    /// Gone after the end: its buffers may hold what came through.
    inner: Option<B>,
    /// Nothing for other requests.
    watch: Option<Opened>,
    hold: Option<Pin<Box<Sleep>>>,
}

/// A watch that was accepted.
#[derive(Debug)]
struct Opened {
    path: String,
    at: Instant,
    waits: Waits,
}

/// How long the last brief watch of each path was held; nothing for one whose last watch went on for a while.
#[derive(Clone, Debug)]
struct Waits {
    layer: BriefWatchLayer,
    last: Arc<Mutex<HashMap<String, Duration>>>,
}

// === impl BriefWatchLayer ===

impl<S> Layer<S> for BriefWatchLayer {
    type Service = BriefWatch<S>;

    fn layer(&self, inner: S) -> Self::Service {
        BriefWatch { inner, waits: Waits { layer: *self, last: Arc::default() } }
    }
}

// === impl BriefWatch ===

impl<S, Q, B> Service<Request<Q>> for BriefWatch<S>
where
    S: Service<Request<Q>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = Response<BriefWatchBody<B>>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        let watch = is_watch(request.uri()).then(|| (request.uri().path().to_owned(), self.waits.clone()));
        let answer = self.inner.call(request);
        answer
            .map_ok(move |answer| {
                // Of a refusal kube hears, and waits by its own back-off.
                let watch = watch.filter(|_| answer.status().is_success());
                let watch = watch.map(|(path, waits)| Opened { path, at: Instant::now(), waits });
                answer.map(|inner| BriefWatchBody { inner: Some(inner), watch, hold: None })
            })
            .boxed()
    }
}

// === impl BriefWatchBody ===

impl<B: Body + Unpin> Body for BriefWatchBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        if let Some(inner) = &mut self.inner {
            let frame = ready!(Pin::new(inner).poll_frame(cx));
            if frame.is_some() {
                return Poll::Ready(frame);
            }
            self.inner = None;
            self.hold = self.watch.take().and_then(Opened::ended).map(|wait| Box::pin(sleep(wait)));
        }
        if let Some(hold) = &mut self.hold {
            ready!(hold.as_mut().poll(cx));
            self.hold = None;
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Some(inner) => self.watch.is_none() && inner.is_end_stream(),
            None => self.hold.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map(Body::size_hint).unwrap_or_default()
    }
}

// === impl Opened ===

impl Opened {
    /// How long its end is to be held back, if at all.
    fn ended(self) -> Option<Duration> {
        let Waits { layer, last } = self.waits;
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        if self.at.elapsed() >= layer.brief {
            last.remove(&self.path);
            return None;
        }
        let wait = last.get(&self.path).map_or(layer.brief, |wait| wait.saturating_mul(2)).min(layer.longest);
        tracing::warn!(path = self.path, ?wait, "the API server ended a watch at once; the next one waits");
        last.insert(self.path, wait);
        Some(wait)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::StreamExt;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::runtime::{WatchStreamExt, watcher};
    use kube::{Api, Client};

    use super::*;

    /// An answer that ends after a time.
    struct Lasting(VecDeque<&'static [u8]>, Pin<Box<Sleep>>);

    impl Body for Lasting {
        type Data = axum::body::Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Self::Data>, Infallible>>> {
            if let Some(part) = self.0.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(part.into()))));
            }
            self.1.as_mut().poll(cx).map(|()| None)
        }
    }

    const LAYER: BriefWatchLayer =
        BriefWatchLayer { brief: Duration::from_secs(1), longest: Duration::from_secs(30) };

    /// An API server whose watches last for each of `millis` and then, for ever, the last of them; and how many it
    /// has accepted.
    fn server(millis: &'static [u64]) -> (Client, Arc<AtomicUsize>) {
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = accepted.clone();
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let list: &[u8] = br#"{"kind":"ConfigMapList","apiVersion":"v1","metadata":{"resourceVersion":"1"},"items":[]}"#;
            let (parts, lasts) = if is_watch(request.uri()) {
                let nth = count.fetch_add(1, Ordering::Relaxed);
                (None, millis.get(nth).or(millis.last()).copied().unwrap_or_default())
            } else {
                (Some(list), 0)
            };
            let body = Lasting(parts.into_iter().collect(), Box::pin(sleep(Duration::from_millis(lasts))));
            std::future::ready(Ok::<_, Infallible>(Response::new(body)))
        });
        (Client::new(LAYER.layer(service), "mail"), accepted)
    }

    /// How many watches kube opens in a time.
    async fn opened(millis: &'static [u64], time: Duration) -> usize {
        let (client, accepted) = server(millis);
        let maps: Api<ConfigMap> = Api::default_namespaced(client);
        let events = watcher(maps, watcher::Config::default()).default_backoff().for_each(async |_| ());
        let _time_over = tokio::time::timeout(time, events).await;
        accepted.load(Ordering::Relaxed)
    }

    #[tokio::test(start_paused = true)]
    async fn watches_that_end_at_once_are_opened_ever_more_rarely() {
        // After 0, 1, 3, 7, 15, 31, 61, 91 … seconds.
        assert_eq!(opened(&[5], Duration::from_millis(31_500)).await, 6);
        assert_eq!(opened(&[5], Duration::from_millis(91_500)).await, 8);
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_lived_a_while_is_followed_at_once() {
        assert_eq!(opened(&[10_000], Duration::from_millis(50_500)).await, 6);
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_watch_that_lived_the_waits_begin_anew() {
        // After 0, 1 and 3 seconds; the third lives to 13, and then as at the beginning: 13, 14, 16.
        assert_eq!(opened(&[5, 5, 10_000, 5], Duration::from_millis(16_500)).await, 6);
    }
}
