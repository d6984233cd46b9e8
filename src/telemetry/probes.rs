//! `/healthz`, `/readyz` and `/metrics`.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use thiserror::Error;
use tokio::net::TcpListener;

use super::logs::chain;
use super::metrics::Metrics;
pub use super::readiness::Readiness;
use crate::listening::listen;

/// An address that cannot be served.
#[derive(Debug, Error)]
#[error("failed to listen on {address}: choose a free address and port with --listen")]
pub struct ListenError {
    address: SocketAddr,
    source: std::io::Error,
}

/// A socket that is bound and not yet served.
#[derive(Debug)]
pub struct ProbeServer {
    listener: TcpListener,
    address: SocketAddr,
}

// === impl ProbeServer ===

impl ProbeServer {
    /// Binds the address; port 0 takes a free one.
    pub async fn bind(address: SocketAddr) -> Result<Self, ListenError> {
        let listen_error = |source| ListenError { address, source };
        let listener = listen(address).await.map_err(listen_error)?;
        let address = listener.local_addr().map_err(listen_error)?;
        Ok(Self { listener, address })
    }

    /// The address that was bound.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` completes; metrics, where they are shown here.
    pub async fn serve(
        self,
        readiness: Readiness,
        metrics: Option<Arc<Metrics>>,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> std::io::Result<()> {
        let mut router = Router::new()
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", get(readyz).with_state(readiness));
        if let Some(metrics) = metrics {
            router = router.route("/metrics", get(render).with_state(metrics));
        }
        axum::serve(self.listener, router).with_graceful_shutdown(stop).await
    }
}

async fn readyz(State(readiness): State<Readiness>) -> impl IntoResponse {
    let (ready, text) = readiness.report();
    (if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, text)
}

async fn render(State(metrics): State<Arc<Metrics>>) -> Response {
    exposition(&metrics)
}

/// The answer to a scrape.
pub fn exposition(metrics: &Metrics) -> Response {
    match metrics.render() {
        Ok(text) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            (StatusCode::OK, [(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => {
            tracing::error!(error = chain(&error), "failed to write the metrics");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
