//! What every command stands on that goes on running: signals, readiness, metrics and probes, and the ways to Microsoft and
//! to the cluster.

use std::sync::Arc;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{crds, kubernetes, memory, scraping};
use crate::http::{DnsServers, HttpClients};
use crate::k8s::relist::Relist;
use crate::leader::ElectionParts;
use crate::leadership::{Leadership, since_boot};
use crate::listening::listen;
use crate::microsoft::{Authorities, EndpointParts, TokenEndpoint};
use crate::settings::{ProcessSettings, Timing, TimingError};
use crate::telemetry::logs::{LogFilter, chain};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::probes::{self, Readiness};

/// What every command that goes on running has.
pub(super) struct Frame<'a> {
    pub(super) process: &'a ProcessSettings,
    pub(super) timing: Timing,
    pub(super) readiness: Readiness,
    pub(super) metrics: Arc<Metrics>,
    pub(super) stop: CancellationToken,
}

/// What all work stands on.
pub(super) struct Base {
    pub(super) http: HttpClients,
    pub(super) cluster: kubernetes::Cluster,
    /// Proves secrets for whoever needs no leadership for it.
    pub(super) token_endpoint: TokenEndpoint,
}

// === impl Frame ===

impl<'a> Frame<'a> {
    /// Of the command of that name.
    pub(super) fn open(
        command: &'static str,
        process: &'a ProcessSettings,
        timing: Result<Timing, TimingError>,
        log_filter: LogFilter,
    ) -> anyhow::Result<Self> {
        memory::close(process.allow_core_dumps);
        let timing = timing.context("the timing cannot be used")?;
        tokio::spawn(log_filter.follow(timing.log_filter));
        let stop = CancellationToken::new();
        stop_on_signals(stop.clone())?;
        let readiness = Readiness::default();
        note_time_scale(process, &readiness);
        let metrics = Arc::new(Metrics::of(command, readiness.clone()));
        Ok(Self { process, timing, readiness, metrics, stop })
    }

    /// Serves probes and metrics while the work goes on.
    pub(super) async fn probed(&self, work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
        let (listener, address) = listen(self.process.listen, "--listen").await?;
        let over = CancellationToken::new();
        let scraping = scraping::open(self, over.clone()).await?;
        let message = if scraping.is_some() { "serving probes" } else { "serving probes and metrics" };
        tracing::info!(%address, "{message}");
        let shown = scraping.is_none().then(|| self.metrics.clone());
        let served = probes::serve(listener, self.readiness.clone(), shown, over.clone().cancelled_owned());
        let probes = tokio::spawn(served);
        let scraping = scraping.map(tokio::spawn);
        let ended = work.await;
        over.cancel();
        if let Some(scraping) = scraping {
            // Where a scrape takes longer, it is cut off.
            let _cut_off = tokio::time::timeout(self.timing.connect, scraping).await;
        }
        // A slow scraper must not hold up a program that must end.
        if let Ok(Ok(Err(error))) = tokio::time::timeout(self.timing.connect, probes).await {
            tracing::warn!(error = chain(&error), "serving probes and metrics ended badly");
        }
        ended
    }
}

// === impl Base ===

impl Base {
    /// Finds the ways to Microsoft and to the cluster, and waits for the CRDs; nothing where the end came first.
    pub(super) async fn find(frame: &Frame<'_>) -> anyhow::Result<Option<Self>> {
        let Frame { process, timing, readiness, metrics, stop } = frame;
        let way_out = &process.network.way_out;
        let servers = DnsServers::listed_or_system(&way_out.dns_servers);
        let http = HttpClients::new(timing, &servers, way_out.extra_ca.as_deref())?;
        let namespace = process.operator_namespace.as_deref();
        let cluster = kubernetes::connect_counted(namespace, timing, metrics).await?;
        let crds = crds::wait(&cluster.client, timing, readiness);
        if stop.run_until_cancelled(crds).await.is_none() {
            return Ok(None);
        }
        let parts = EndpointParts {
            http: http.clone(),
            authorities: Authorities::new(process.network.microsoft_authority.clone()),
            leadership: Leadership::always(),
            metrics: metrics.clone(),
        };
        let token_endpoint = TokenEndpoint::new(parts, timing);
        token_endpoint.share_among(process.processes.into());
        Ok(Some(Self { http, cluster, token_endpoint }))
    }

    /// This replica's part in the election for that lease.
    pub(super) fn election(&self, frame: &Frame<'_>, lease: String, relist: &Relist) -> ElectionParts {
        ElectionParts {
            client: self.cluster.client.clone(),
            namespace: self.cluster.namespace.clone(),
            lease,
            instance: self.cluster.instance.clone(),
            clock: since_boot,
            timing: frame.timing,
            relist: relist.clone(),
            metrics: frame.metrics.clone(),
        }
    }
}

fn note_time_scale(process: &ProcessSettings, readiness: &Readiness) {
    if process.time_scale > 1 {
        let scale = process.time_scale;
        tracing::warn!(scale, "every wait is divided by --time-scale: for tests only");
        let note = format!("every wait is divided by {scale} (--time-scale): for tests only");
        readiness.note("time-scale", &note);
    }
}

/// SIGTERM and SIGINT ask to stop; a second one changes nothing, for the bound runs already.
fn stop_on_signals(stop: CancellationToken) -> anyhow::Result<()> {
    let listen = |kind| signal(kind).context("failed to listen for signals");
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM received"),
            _ = interrupt.recv() => tracing::info!("SIGINT received"),
        }
        stop.cancel();
    });
    Ok(())
}
