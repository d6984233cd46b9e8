//! What `run` and `serve` share: signals, readiness, metrics and probes, and the clients for Microsoft and the cluster.

use std::convert::Infallible;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use tokio_util::sync::CancellationToken;

use crate::config::ProcessSettings;
use crate::core::error_chain::chain;
use crate::core::timing::{Timing, TimingError};
use crate::entra::{Authorities, EndpointConfig, TokenEndpoint};
use crate::http::client::{DnsServers, HttpClients};
use crate::k8s::client::{self, ClusterSelection};
use crate::k8s::leader_election::ElectionConfig;
use crate::k8s::leadership::Leadership;
use crate::k8s::relist::Relist;
use crate::platform;
use crate::runtime::{core_dumps, crds, metrics_server, retry};
use crate::telemetry::health::{self, Readiness};
use crate::telemetry::logs::LogFilter;
use crate::telemetry::metrics::Metrics;

/// The settings and the state of the process.
pub(super) struct Process<'a> {
    pub(super) settings: &'a ProcessSettings,
    pub(super) timing: Timing,
    pub(super) readiness: Readiness,
    pub(super) metrics: Arc<Metrics>,
    pub(super) stop: CancellationToken,
}

/// The clients for the cluster, Microsoft and Woodpecker.
pub(super) struct Clients {
    pub(super) http: HttpClients,
    pub(super) cluster: client::Cluster,
    /// Verifies secrets without leadership.
    pub(super) token_endpoint: TokenEndpoint,
}

// === impl Process ===

impl<'a> Process<'a> {
    pub(super) fn open(
        command: &'static str,
        settings: &'a ProcessSettings,
        timing: Result<Timing, TimingError>,
        log_filter: LogFilter,
    ) -> anyhow::Result<Self> {
        if settings.allow_core_dumps {
            core_dumps::warn_allowed();
        } else {
            core_dumps::disable();
        }
        let timing = timing.context("failed to set the timing")?;
        tokio::spawn(log_filter.watch_file(timing.log_filter));
        let stop = CancellationToken::new();
        stop_on_signals(stop.clone())?;
        let readiness = Readiness::default();
        note_time_scale(settings, &readiness);
        let metrics = Arc::new(Metrics::of(command, readiness.clone()));
        Ok(Self { settings, timing, readiness, metrics, stop })
    }

    /// Serves probes and metrics while `work` runs.
    pub(super) async fn serve_admin_while(
        &self,
        work: impl Future<Output = anyhow::Result<()>>,
    ) -> anyhow::Result<()> {
        let probes = metrics_server::bind_probes(self).await?;
        let (address, stop) = (probes.address(), CancellationToken::new());
        let metrics_serving = metrics_server::open(self, stop.clone()).await?;
        let message = if metrics_serving.is_some() { "serving probes" } else { "serving probes and metrics" };
        tracing::info!(%address, "{message}");
        let mut router = health::probes(self.readiness.clone());
        if metrics_serving.is_none() {
            router = router.merge(metrics_server::metrics(self.metrics.clone()));
        }
        let probes = tokio::spawn(probes.serve(router, stop.clone()));
        let metrics_serving = metrics_serving.map(tokio::spawn);
        let ended = work.await;
        stop.cancel();
        if let Some(metrics_serving) = metrics_serving {
            // A longer scrape is cut off.
            let _cut_off = tokio::time::timeout(self.timing.connect, metrics_serving).await;
        }
        // A slow scrape must not delay the end of the process.
        let _cut_off = tokio::time::timeout(self.timing.connect, probes).await;
        ended
    }
}

// === impl Clients ===

impl Clients {
    /// Creates the clients, and waits for the CRDs. Returns `None` if the process is stopped first.
    pub(super) async fn connect(process: &Process<'_>) -> anyhow::Result<Option<Self>> {
        let Process { settings, timing, metrics, stop, .. } = process;
        let egress = &settings.network.egress;
        let servers = DnsServers::listed_or_system(&egress.dns_servers);
        let http = HttpClients::new(timing, &servers, egress.ca_bundle.as_deref())?;
        let namespace = settings.operator_namespace.as_deref();
        let cluster = client::connect_with_metrics(&ClusterSelection::default(), namespace, timing, metrics)?;
        let crds = crds::wait(&cluster.client, process);
        if stop.run_until_cancelled(crds).await.flatten().is_none() {
            return Ok(None);
        }
        let config = EndpointConfig {
            http: http.clone(),
            authorities: Authorities::new(settings.network.microsoft_authority.clone()),
            leadership: Leadership::always(),
            metrics: metrics.clone(),
        };
        let token_endpoint = TokenEndpoint::new(config, timing);
        token_endpoint.divide_quota_by(settings.processes.into());
        Ok(Some(Self { http, cluster, token_endpoint }))
    }

    /// Works while the DNS settings are checked: until they can be used, the process is not ready, and only what needs no
    /// names works.
    pub(super) async fn work_while_checking_dns<T>(
        &self,
        process: &Process<'_>,
        work: impl Future<Output = T>,
    ) -> T {
        let checking = async {
            let attempt = async || self.http.check_dns().map_err(|error| anyhow!(chain(&error)));
            if retry::until_success(process, "dns", attempt).await.is_some() {
                process.readiness.done("dns");
            }
            std::future::pending::<Infallible>().await
        };
        tokio::select! {
            // The first check comes before readiness.
            biased;
            never = checking => match never {},
            ended = work => ended,
        }
    }

    /// The configuration of leader election with that lease.
    pub(super) fn election(&self, process: &Process<'_>, lease: String, relist: &Relist) -> ElectionConfig {
        ElectionConfig {
            client: self.cluster.client.clone(),
            namespace: self.cluster.namespace.clone(),
            lease,
            instance: self.cluster.instance.clone(),
            clock: platform::clock,
            timing: process.timing,
            relist: relist.clone(),
            metrics: process.metrics.clone(),
        }
    }
}

fn note_time_scale(settings: &ProcessSettings, readiness: &Readiness) {
    if settings.time_scale > 1 {
        let scale = settings.time_scale;
        tracing::warn!(scale, "every duration is divided by --time-scale: for tests only");
        let note = format!("every duration is divided by {scale} (--time-scale): for tests only");
        readiness.set_note("time-scale", &note);
    }
}

/// Stops on the first signal to stop. A second one changes nothing, because the time limit runs already.
fn stop_on_signals(stop: CancellationToken) -> anyhow::Result<()> {
    let received = platform::stop_signal().context("failed to listen for signals")?;
    tokio::spawn(async move {
        tracing::info!("{} received", received.await);
        stop.cancel();
    });
    Ok(())
}
