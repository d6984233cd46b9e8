//! What is told of each request: one line in the log and one count, without anything that it carried.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use http::Method;
use tokio::time::Instant;
use tracing::Instrument;
use tracing::field::Empty;

use super::fault::Fault;
use super::keys::Account;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::otlp;

/// Path of all credentials.
pub const COLLECTION: &str = "/rest/v2/mailboxes/microsoft/credentials";

/// Path of one of them.
pub const ITEM: &str = "/rest/v2/mailboxes/microsoft/credentials/{credential_id}";

/// Path of the description of the API.
pub const DOCUMENT: &str = "/openapi.json";

/// A request under way. One whose client leaves is dropped before its answer, as one is that the end of the program cuts off.
struct Followed {
    metrics: Arc<Metrics>,
    method: &'static str,
    route: &'static str,
    started: Instant,
    is_answered: bool,
}

/// Follows a request to its answer.
pub async fn follow(State(metrics): State<Arc<Metrics>>, request: Request, next: Next) -> Response {
    let mut followed = Followed {
        metrics,
        method: method(request.method()),
        route: route(&request),
        started: Instant::now(),
        is_answered: false,
    };
    let span = tracing::error_span!(
        parent: None,
        "request",
        otel.kind = "server",
        method = followed.method,
        route = followed.route,
        trace_id = Empty,
    );
    otlp::note_trace_id(&span);
    let answered = async {
        // What panics is answered like everything else that fails, and leaves its line.
        let answer = AssertUnwindSafe(next.run(request)).catch_unwind().await.unwrap_or_else(|_| {
            tracing::error!("a request panicked: this is a defect of the operator");
            Fault::Internal.into_response()
        });
        followed.answered(&answer);
        answer
    };
    answered.instrument(span).await
}

/// The method, or one word for all that are not used here: anybody can make some up.
fn method(method: &Method) -> &'static str {
    ["GET", "HEAD", "POST", "PATCH", "DELETE"].into_iter().find(|it| method == it).unwrap_or("other")
}

/// Where a request goes, as it is routed: a word that is safe to log and to count.
fn route(request: &Request) -> &'static str {
    let matched = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    [COLLECTION, ITEM, DOCUMENT].into_iter().find(|path| Some(*path) == matched).unwrap_or("other")
}

// === impl Followed ===

impl Followed {
    fn answered(&mut self, answer: &Response) {
        self.is_answered = true;
        let (status, took) = (answer.status().as_u16(), self.started.elapsed());
        let account = answer.extensions().get::<Arc<Account>>();
        tracing::info!(
            method = self.method,
            route = self.route,
            status,
            took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            namespace = account.map(|account| account.namespace.as_str()),
            key = account.map(|account| account.key.as_str()),
            "request"
        );
        self.metrics.rest.answered(self.method, self.route, Some(status), took);
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        if !self.is_answered {
            let Self { metrics, method, route, started, .. } = self;
            tracing::info!(
                method,
                route,
                "a request ended without its answer: its client left, or the program ends"
            );
            metrics.rest.answered(method, route, None, started.elapsed());
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
    async fn a_panic_is_answered_with_500_and_counted() {
        async fn panics() -> StatusCode {
            panic!("a defect")
        }
        let metrics = Arc::new(Metrics::new());
        let router = Router::new()
            .route(DOCUMENT, get(panics))
            .layer(middleware::from_fn_with_state(metrics.clone(), follow));
        let request = Request::get(DOCUMENT).body(Body::empty()).unwrap();
        let answer = router.oneshot(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert!(metrics.render().unwrap().contains("route=\"/openapi.json\",code=\"500\"} 1"));
    }

    #[tokio::test]
    async fn a_route_is_told_by_its_shape_and_shows_nothing_of_the_path() {
        let told = async |request: Request, _: middleware::Next| route(&request);
        let router = [COLLECTION, ITEM, DOCUMENT]
            .into_iter()
            .fold(Router::new(), |router, path| router.route(path, get(async || ())))
            .layer(middleware::from_fn(told));
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
            let answer = router.clone().oneshot(request).await.unwrap();
            let told = answer.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(told, expected, "{path}");
        }
    }
}
