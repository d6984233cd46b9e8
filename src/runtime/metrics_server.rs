//! The addresses of probes and metrics: `/metrics` at the address of the probes, or at its own with TLS and optional
//! authorization.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use crate::core::timing::Timing;
use crate::http::server::{ConnectionSlot, Limits, Listen, ReloadingTls, Server, TlsFiles};
use crate::k8s::client::{self, ClusterSelection};
use crate::runtime::process::Process;
use crate::telemetry::health::metrics_response;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::metrics_auth::{Decision, MetricsAuthorizer};

/// Most concurrent connections. Usually one or two servers scrape.
const MAX_CONNECTIONS: usize = 16;

/// Most concurrent connections for probes. Anyone in the cluster can open them.
const MAX_PROBE_CONNECTIONS: usize = 64;

/// How much sooner than others a connection for probes can be closed for another one: a probe ends at once.
const PROBE_HASTE: u32 = 10;

/// Binds the address of the probes.
pub(super) async fn bind_probes(process: &Process<'_>) -> anyhow::Result<Server> {
    let (address, flag) = (process.settings.health_probe_bind_address, "--health-probe-bind-address");
    let unauthenticated_grace = process.timing.unauthenticated_grace / PROBE_HASTE;
    let timing = Timing { unauthenticated_grace, ..process.timing };
    let limits = Limits { connections: MAX_PROBE_CONNECTIONS, timing };
    Ok(Server::bind(Listen { address, flag, tls: None }, &limits, Arc::new(|_| ())).await?)
}

/// `/metrics` for everyone.
pub(super) fn metrics(metrics: Arc<Metrics>) -> Router {
    let state = AppState { metrics, authorizer: None };
    Router::new().route("/metrics", get(scrape)).with_state(state)
}

/// The share of the connections that scrapes may keep.
const SCRAPER: &str = "metrics";

#[derive(Clone)]
struct AppState {
    metrics: Arc<Metrics>,
    /// `None` without authorization.
    authorizer: Option<Arc<MetricsAuthorizer>>,
}

/// Reads the certificate and binds the address, if one is set. The returned future serves until `stop`.
pub(super) async fn open(
    process: &Process<'_>,
    stop: CancellationToken,
) -> anyhow::Result<Option<BoxFuture<'static, ()>>> {
    let (settings, timing) = (&process.settings.metrics, process.timing);
    let files = settings.tls_cert.clone().zip(settings.tls_key.clone());
    let (Some(address), Some((certificate, key))) = (settings.listen, files) else { return Ok(None) };
    let tls = ReloadingTls::open(TlsFiles { certificate, key, of: "metrics" })?;
    let listen = Listen { address, flag: "--metrics-bind-address", tls: Some(tls.acceptor()) };
    let limits = Limits { connections: MAX_CONNECTIONS, timing };
    let server = Server::bind(listen, &limits, Arc::new(|_| ())).await?;
    tracing::info!(address = %server.address(), authorize = settings.authorize, "serving metrics under TLS");
    let authorizer = if settings.authorize {
        let namespace = process.settings.operator_namespace.as_deref();
        let selection = ClusterSelection::default();
        let cluster = client::connect_with_metrics(&selection, namespace, &timing, &process.metrics)?;
        Some(Arc::new(MetricsAuthorizer::new(cluster.client, timing.metrics_auth_cache)))
    } else {
        None
    };
    let state = AppState { metrics: process.metrics.clone(), authorizer };
    let router = Router::new().route("/metrics", get(scrape)).with_state(state);
    let readiness = process.readiness.clone();
    Ok(Some(Box::pin(async move {
        tokio::join!(tls.watch(&timing, &readiness, &stop), server.serve(router, stop.clone()));
    })))
}

async fn scrape(
    State(state): State<AppState>,
    Extension(slot): Extension<Arc<ConnectionSlot>>,
    headers: HeaderMap,
) -> Response {
    let authorization = headers.get(header::AUTHORIZATION).and_then(|header| header.to_str().ok());
    let decision = match &state.authorizer {
        Some(authorizer) => authorizer.authorize(authorization).await,
        None => Decision::Allowed,
    };
    match decision {
        Decision::Allowed => {
            // A few slow clients are not evicted.
            let _is_kept = slot.assign_account(SCRAPER);
            metrics_response(&state.metrics)
        }
        Decision::Unauthenticated => (
            StatusCode::UNAUTHORIZED,
            [(header::WWW_AUTHENTICATE, "Bearer")],
            "send the token of a ServiceAccount\n",
        )
            .into_response(),
        Decision::Forbidden => {
            (StatusCode::FORBIDDEN, "grant get on the nonResourceURL /metrics\n").into_response()
        }
        Decision::Unavailable => (
            StatusCode::SERVICE_UNAVAILABLE,
            "the Kubernetes API cannot authorize the request: see the operator's log\n",
        )
            .into_response(),
    }
}
