//! `/healthz`, `/readyz` and `/metrics`.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;

use crate::core::error_chain::chain;
use crate::telemetry::metrics::Metrics;
pub use crate::telemetry::readiness::Readiness;

/// Serves until `stop` completes, with `/metrics` if `metrics` is given.
pub async fn serve(
    listener: TcpListener,
    readiness: Readiness,
    metrics: Option<Arc<Metrics>>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let mut router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz).with_state(readiness));
    if let Some(metrics) = metrics {
        router = router.route("/metrics", get(async move || metrics_response(&metrics)));
    }
    axum::serve(listener, router).with_graceful_shutdown(stop).await
}

async fn readyz(State(readiness): State<Readiness>) -> impl IntoResponse {
    let (ready, text) = readiness.report();
    (if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, text)
}

pub fn metrics_response(metrics: &Metrics) -> Response {
    match metrics.render() {
        Ok(text) => {
            let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            (StatusCode::OK, [(header::CONTENT_TYPE, content_type)], text).into_response()
        }
        Err(error) => {
            tracing::error!(error = chain(&error), "failed to encode the metrics");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
