//! `/healthz`, `/readyz` and `/metrics`.

use super::logs::chain;
use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use thiserror::Error;
use tokio::net::TcpListener;

use super::metrics::Metrics;

/// An address that cannot be served.
#[derive(Debug, Error)]
#[error("failed to listen on {address}: choose a free address and port with --listen")]
pub struct ListenError {
    address: SocketAddr,
    source: std::io::Error,
}

/// What the program still waits for before it is ready, by name, each with a text for people.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    state: Arc<Mutex<ReadinessState>>,
}

#[derive(Debug, Default)]
struct ReadinessState {
    pending: BTreeMap<String, String>,
    notes: BTreeMap<String, String>,
}

/// A socket that is bound and not yet served.
#[derive(Debug)]
pub struct ProbeServer {
    listener: TcpListener,
    address: SocketAddr,
}

// === impl Readiness ===

impl Readiness {
    /// Says that `name` is waited for, and why.
    pub fn wait_for(&self, name: &str, why: impl Into<String>) {
        self.lock().pending.insert(name.to_owned(), why.into());
    }

    /// Says that `name` is there.
    pub fn arrived(&self, name: &str) {
        self.lock().pending.remove(name);
    }

    /// Shows a line whether ready or not, in place of the last one of that name.
    pub fn note(&self, name: &str, note: impl Into<String>) {
        self.lock().notes.insert(name.to_owned(), note.into());
    }

    /// Shows the line of that name no more.
    pub fn forget_note(&self, name: &str) {
        self.lock().notes.remove(name);
    }

    /// Whether nothing is waited for, and the text that `/readyz` shows.
    pub fn report(&self) -> (bool, String) {
        let state = self.lock();
        let ready = state.pending.is_empty();
        let first = if ready { "ready\n" } else { "not ready\n" }.to_owned();
        let pending = state.pending.iter().map(|(name, why)| format!("waiting for {name}: {why}\n"));
        let notes = state.notes.values().map(|note| format!("note: {note}\n"));
        (ready, std::iter::once(first).chain(pending).chain(notes).collect())
    }

    fn lock(&self) -> MutexGuard<'_, ReadinessState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl ProbeServer ===

impl ProbeServer {
    /// Binds the address; port 0 takes a free one.
    pub async fn bind(address: SocketAddr) -> Result<Self, ListenError> {
        let listen_error = |source| ListenError { address, source };
        let listener = TcpListener::bind(address).await.map_err(listen_error)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_names_what_is_pending() {
        let readiness = Readiness::default();
        readiness.wait_for("crds", "apply crds/ to the cluster");
        readiness.note("time", "time runs 30 times faster");
        readiness.note("time", "time runs 60 times faster");
        let (ready, text) = readiness.report();
        assert!(!ready);
        assert_eq!(
            text,
            "not ready\nwaiting for crds: apply crds/ to the cluster\nnote: time runs 60 times faster\n"
        );
        readiness.arrived("crds");
        assert_eq!(readiness.report(), (true, "ready\nnote: time runs 60 times faster\n".into()));
        readiness.forget_note("time");
        assert_eq!(readiness.report(), (true, "ready\n".into()));
    }
}
