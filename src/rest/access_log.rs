//! The access log: one line and one count for each request, without its content. Requests without an API key are counted,
//! and one line stands for a hundred of them: outsiders must not fill the log.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use http::Method;
use tokio::time::Instant;
use tracing::Instrument;
use tracing::field::Empty;

use crate::rest::api_keys::Account;
use crate::rest::error::RestError;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::otlp;

pub const COLLECTION: &str = "/rest/v2/mailboxes/microsoft/credentials";

pub const ITEM: &str = "/rest/v2/mailboxes/microsoft/credentials/{credential_id}";

/// Path of the `OpenAPI` document.
pub const DOCUMENT: &str = "/openapi.json";

/// For so many requests without an API key there is one line.
const SAMPLE: u64 = 100;

/// State of the access log.
pub struct AccessLog {
    metrics: Arc<Metrics>,
    /// Requests without an API key so far.
    unauthenticated: AtomicU64,
}

/// A request in progress. It is dropped without a response if its client disconnects, or if the program ends.
struct RequestSpan {
    log: Arc<AccessLog>,
    method: &'static str,
    route: &'static str,
    started: Instant,
    is_complete: bool,
}

pub async fn access_log(State(log): State<Arc<AccessLog>>, request: Request, next: Next) -> Response {
    let mut log = RequestSpan {
        log,
        method: method(request.method()),
        route: route(&request),
        started: Instant::now(),
        is_complete: false,
    };
    let span = tracing::error_span!(
        parent: None,
        "request",
        otel.kind = "server",
        method = log.method,
        route = log.route,
        trace_id = Empty,
    );
    otlp::record_trace_id(&span);
    let handled = async {
        // A panic is answered and logged like other failures.
        let response = AssertUnwindSafe(next.run(request)).catch_unwind().await.unwrap_or_else(|_| {
            tracing::error!("a request panicked: this is a bug in the operator");
            RestError::Internal.into_response()
        });
        log.complete(&response);
        response
    };
    handled.instrument(span).await
}

/// The method, or `other`, because clients can make up methods.
fn method(method: &Method) -> &'static str {
    ["GET", "HEAD", "POST", "PATCH", "DELETE"].into_iter().find(|it| method == it).unwrap_or("other")
}

/// The matched route, or `other`: safe to log and to count.
fn route(request: &Request) -> &'static str {
    let matched = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    [COLLECTION, ITEM, DOCUMENT].into_iter().find(|path| Some(*path) == matched).unwrap_or("other")
}

// === impl AccessLog ===

impl AccessLog {
    pub fn new(metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { metrics, unauthenticated: AtomicU64::new(0) })
    }

    /// Counts a request without an API key, and returns how many there were.
    fn count_unauthenticated(&self) -> u64 {
        self.unauthenticated.fetch_add(1, Ordering::Relaxed) + 1
    }
}

// === impl RequestSpan ===

impl RequestSpan {
    fn complete(&mut self, response: &Response) {
        self.is_complete = true;
        let (status, took) = (response.status().as_u16(), self.started.elapsed());
        let account = response.extensions().get::<Arc<Account>>();
        self.log.metrics.rest.responded(self.method, self.route, Some(status), took);
        let unauthenticated = account.is_none().then(|| self.log.count_unauthenticated());
        if unauthenticated.is_some_and(|count| count % SAMPLE != 1) {
            return;
        }
        tracing::info!(
            method = self.method,
            route = self.route,
            status,
            took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            namespace = account.map(|account| account.namespace.as_str()),
            key = account.map(|account| account.key.as_str()),
            unauthenticated,
            "request"
        );
    }
}

impl Drop for RequestSpan {
    fn drop(&mut self) {
        if !self.is_complete {
            let Self { log, method, route, started, .. } = self;
            tracing::info!(
                method,
                route,
                "a request ended without a response: its client disconnected, or the program ends"
            );
            log.metrics.rest.responded(method, route, None, started.elapsed());
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::routing::get;
    use axum::{Router, middleware};
    use http::StatusCode;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn a_panic_is_complete_with_500_and_counted() {
        async fn panics() -> StatusCode {
            panic!("a defect")
        }
        let metrics = Arc::new(Metrics::new());
        let router = Router::new()
            .route(DOCUMENT, get(panics))
            .layer(middleware::from_fn_with_state(AccessLog::new(metrics.clone()), access_log));
        let request = Request::get(DOCUMENT).body(Body::empty()).unwrap();
        let response = router.oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert!(metrics.render().unwrap().contains("route=\"/openapi.json\",code=\"500\"} 1"));
    }

    #[tokio::test]
    async fn a_route_is_named_by_its_pattern_and_shows_nothing_of_the_path() {
        let show_route = async |request: Request, _: middleware::Next| route(&request);
        let router = [COLLECTION, ITEM, DOCUMENT]
            .into_iter()
            .fold(Router::new(), |router, path| router.route(path, get(async || ())))
            .layer(middleware::from_fn(show_route));
        for (path, expected) in [
            (COLLECTION.to_owned(), COLLECTION),
            (format!("{COLLECTION}/22334455"), ITEM),
            (format!("{COLLECTION}/my-secret"), ITEM),
            (format!("{COLLECTION}/"), "other"),
            (format!("{COLLECTION}/1/2"), "other"),
            (format!("{COLLECTION}x"), "other"),
            ("/openapi.json".to_owned(), DOCUMENT),
            ("/".to_owned(), "other"),
        ] {
            let request = Request::get(&path).body(Body::empty()).unwrap();
            let response = router.clone().oneshot(request).await.unwrap();
            let shown = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(shown, expected, "{path}");
        }
    }
}
