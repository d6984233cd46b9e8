//! Counts requests to the Kubernetes API, and the watches that it accepts.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Request, Response, Uri};
use tower::{Layer, Service};

use super::is_watch;
use crate::telemetry::metrics::Metrics;

/// Puts [`Counted`] around a client's service.
#[derive(Clone, Debug)]
pub struct CountedLayer {
    /// Where it is counted.
    pub metrics: Arc<Metrics>,
    /// Host and port of the API server.
    pub host: Arc<str>,
}

/// A service whose requests are counted.
#[derive(Clone, Debug)]
pub struct Counted<S> {
    inner: S,
    layer: CountedLayer,
}

// === impl CountedLayer ===

impl<S> Layer<S> for CountedLayer {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Counted { inner, layer: self.clone() }
    }
}

// === impl Counted ===

impl<S, Q, B> Service<Request<Q>> for Counted<S>
where
    S: Service<Request<Q>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        let CountedLayer { metrics, host } = self.layer.clone();
        let method = request.method().clone();
        let watched = is_watch(request.uri()).then(|| watched_kind(request.uri()));
        let answer = self.inner.call(request);
        async move {
            let answer = answer.await;
            let status = answer.as_ref().ok().map(Response::status);
            metrics.kubernetes.answered(&host, method.as_str(), status.map(|status| status.as_u16()));
            if let (Some(kind), true) = (watched, status.is_some_and(|status| status.is_success())) {
                metrics.kubernetes.watch_opened(kind);
            }
            answer
        }
        .boxed()
    }
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

#[cfg(test)]
mod tests {
    use tower::{ServiceExt, service_fn};

    use super::*;

    #[tokio::test]
    async fn answers_failures_and_watches_are_counted() {
        let metrics = Arc::new(Metrics::new());
        let layer = CountedLayer { metrics: metrics.clone(), host: "api:443".into() };
        let service = layer.layer(service_fn(async |request: Request<()>| match request.uri().path() {
            "/lost" => Err("no answer"),
            "/refused/secrets" => Ok(Response::builder().status(403).body(()).unwrap()),
            _ => Ok(Response::new(())),
        }));
        let ask = async |path: &str| {
            let request = Request::builder().uri(path).body(()).unwrap();
            let _answer = service.clone().oneshot(request).await;
        };
        ask("/api/v1/namespaces/mail/secrets?watch=true").await;
        ask("/refused/secrets?watch=true").await;
        ask("/lost").await;
        let text = metrics.render().unwrap();
        for line in [
            r#"rest_client_requests_total{code="200",method="GET",host="api:443"} 1"#,
            r#"rest_client_requests_total{code="403",method="GET",host="api:443"} 1"#,
            r#"rest_client_requests_total{code="<error>",method="GET",host="api:443"} 1"#,
            r#"mgc_watch_opens_total{kind="Secret"} 1"#,
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
}
