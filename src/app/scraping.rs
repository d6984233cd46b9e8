//! `/metrics` at an address of its own, under TLS, for those alone who may read it.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::frame::Frame;
use super::kubernetes;
use crate::serving::{Limits, Listen, Seat, Server, Tls, TlsFiles};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::probes::exposition;
use crate::telemetry::scrapers::{Admission, Scrapers};

/// Scrapers at the same time, of which there are mostly one or two.
const CONNECTIONS: usize = 16;

#[derive(Clone)]
struct Shared {
    metrics: Arc<Metrics>,
    /// Nothing where everybody may scrape.
    scrapers: Option<Arc<Scrapers>>,
}

/// Reads the certificate and binds the address; nothing where there is none. What is returned serves until `stop`.
pub(super) async fn open(
    frame: &Frame<'_>,
    stop: CancellationToken,
) -> anyhow::Result<Option<BoxFuture<'static, ()>>> {
    let (settings, timing) = (&frame.process.metrics, frame.timing);
    let files = settings.tls_cert.clone().zip(settings.tls_key.clone());
    let (Some(address), Some((certificate, key))) = (settings.listen, files) else { return Ok(None) };
    let tls = Tls::open(TlsFiles { certificate, key, of: "metrics" })?;
    let listen = Listen { address, flag: "--metrics-listen", tls: Some(tls.acceptor()) };
    let limits = Limits { connections: CONNECTIONS, timing };
    let server = Server::bind(listen, &limits, Arc::new(|_| ())).await?;
    tracing::info!(address = %server.address(), authorize = settings.authorize, "serving metrics under TLS");
    let scrapers = if settings.authorize {
        let namespace = frame.process.operator_namespace.as_deref();
        let cluster = kubernetes::connect_counted(namespace, &timing, &frame.metrics).await?;
        Some(Arc::new(Scrapers::new(cluster.client, timing.scraper_answer)))
    } else {
        None
    };
    let shared = Shared { metrics: frame.metrics.clone(), scrapers };
    let router = Router::new().route("/metrics", get(scrape)).with_state(shared);
    let readiness = frame.readiness.clone();
    Ok(Some(Box::pin(async move {
        tokio::join!(tls.watch(&timing, &readiness, &stop), server.serve(router, stop.clone()));
    })))
}

async fn scrape(
    State(shared): State<Shared>,
    Extension(seat): Extension<Arc<Seat>>,
    headers: HeaderMap,
) -> Response {
    let authorization = headers.get(header::AUTHORIZATION).and_then(|header| header.to_str().ok());
    let admission = match &shared.scrapers {
        Some(scrapers) => scrapers.admit(authorization).await,
        None => Admission::Granted,
    };
    match admission {
        Admission::Granted => {
            // However long it takes, nobody else takes its place.
            seat.keep();
            exposition(&shared.metrics)
        }
        Admission::Unknown => (
            StatusCode::UNAUTHORIZED,
            [(header::WWW_AUTHENTICATE, "Bearer")],
            "send the token of a ServiceAccount\n",
        )
            .into_response(),
        Admission::Forbidden => {
            (StatusCode::FORBIDDEN, "grant get on the nonResourceURL /metrics\n").into_response()
        }
        Admission::Unclear => (
            StatusCode::SERVICE_UNAVAILABLE,
            "the Kubernetes API does not say who you are: see the operator's log\n",
        )
            .into_response(),
    }
}
