//! What is told of each request: one line in the log and one count, without anything that it carried.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
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

/// Where a request goes, in a word that is safe to log and to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// All credentials.
    Collection,
    /// One of them.
    Item,
    /// The description of the API.
    Document,
    /// Nowhere.
    Other,
}

/// A request under way. One whose client leaves is dropped before its answer, as one is that the end of the program cuts off.
struct Followed {
    metrics: Arc<Metrics>,
    method: &'static str,
    route: Route,
    started: Instant,
    is_answered: bool,
}

/// Follows a request to its answer.
pub async fn follow(State(metrics): State<Arc<Metrics>>, request: Request, next: Next) -> Response {
    let mut followed = Followed {
        metrics,
        method: method(request.method()),
        route: Route::of(request.uri().path()),
        started: Instant::now(),
        is_answered: false,
    };
    let span = tracing::error_span!(
        parent: None,
        "request",
        otel.kind = "server",
        method = followed.method,
        route = followed.route.as_str(),
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
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}

// === impl Route ===

impl Route {
    /// Path of all credentials.
    pub const COLLECTION: &'static str = "/rest/v2/mailboxes/microsoft/credentials";

    /// Path of one of them.
    pub const ITEM: &'static str = "/rest/v2/mailboxes/microsoft/credentials/{credential_id}";

    /// Path of the description of the API.
    pub const DOCUMENT: &'static str = "/openapi.json";

    fn of(path: &str) -> Self {
        if path == Self::DOCUMENT {
            return Self::Document;
        }
        match path.strip_prefix(Self::COLLECTION) {
            Some("") => Self::Collection,
            Some(rest) if rest.len() > 1 && rest.starts_with('/') && !rest[1..].contains('/') => Self::Item,
            _ => Self::Other,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Collection => Self::COLLECTION,
            Self::Item => Self::ITEM,
            Self::Document => Self::DOCUMENT,
            Self::Other => "other",
        }
    }
}

// === impl Followed ===

impl Followed {
    fn took(&self) -> Duration {
        self.started.elapsed()
    }

    fn answered(&mut self, answer: &Response) {
        self.is_answered = true;
        let (status, took) = (answer.status().as_u16(), self.took());
        let account = answer.extensions().get::<Arc<Account>>();
        tracing::info!(
            method = self.method,
            route = self.route.as_str(),
            status,
            took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            namespace = account.map(|account| account.namespace.as_str()),
            key = account.map(|account| account.key.as_str()),
            "request"
        );
        self.metrics.rest.answered(self.method, self.route.as_str(), Some(status), took);
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        if !self.is_answered {
            let (method, route) = (self.method, self.route.as_str());
            tracing::info!(
                method,
                route,
                "a request ended without its answer: its client left, or the program ends"
            );
            self.metrics.rest.answered(method, route, None, self.took());
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::routing::get;
    use axum::{Router, middleware};
    use http::StatusCode;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn a_panic_is_answered_with_500_and_counted() {
        async fn panics() -> StatusCode {
            panic!("a defect")
        }
        let metrics = Arc::new(Metrics::new());
        let router = Router::new()
            .route(Route::DOCUMENT, get(panics))
            .layer(middleware::from_fn_with_state(metrics.clone(), follow));
        let request = Request::get(Route::DOCUMENT).body(Body::empty()).unwrap();
        let answer = router.oneshot(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert!(metrics.render().unwrap().contains("route=\"/openapi.json\",code=\"500\"} 1"));
    }

    #[test]
    fn a_route_is_told_by_its_shape_and_shows_nothing_of_the_path() {
        let collection = Route::COLLECTION;
        for (path, expected) in [
            (collection.to_owned(), Route::Collection),
            (format!("{collection}/22334455"), Route::Item),
            (format!("{collection}/my-secret"), Route::Item),
            (format!("{collection}/"), Route::Other),
            (format!("{collection}/1/2"), Route::Other),
            (format!("{collection}x"), Route::Other),
            ("/openapi.json".to_owned(), Route::Document),
            ("/".to_owned(), Route::Other),
        ] {
            assert_eq!(Route::of(&path), expected, "{path}");
            assert!(!Route::of(&path).as_str().contains("my-secret"));
        }
    }
}
