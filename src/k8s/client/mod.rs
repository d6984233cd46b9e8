//! Client of the Kubernetes API, with the time limits and metrics that kube does not have.

pub mod bounds;
mod config;
pub mod connector;
mod proxy;

use std::sync::Arc;

use http::Uri;
use kube::Client;
use thiserror::Error;

use self::bounds::BoundedLayer;
pub use self::config::ClusterSelection;
use self::config::{ConfigError, Found};
use crate::core::timing::Timing;
use crate::telemetry::metrics::Metrics;

/// A client and what is known about its cluster.
pub struct Cluster {
    pub client: Client,
    /// The operator's own namespace.
    pub namespace: String,
    /// Name of this instance in events: the pod's name, or the host's.
    pub instance: String,
    /// URL of the API server.
    pub url: String,
    /// The context of the kubeconfig.
    pub context: Option<String>,
    /// Whether the client uses the pod's ServiceAccount, not a kubeconfig.
    pub runs_in_pod: bool,
}

/// Why no client could be created.
#[derive(Debug, Error)]
pub enum ConnectError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(
        "failed to set up the connection to the Kubernetes API: check the kubeconfig's server and certificates"
    )]
    Setup(#[from] kube::Error),
}

/// Finds the cluster and creates the client, whose requests are counted in `metrics`. Without an explicit name, the
/// operator's namespace is that of the pod or of the kubeconfig's context.
///
/// kube's own retries are off, because the work queue retries, and kube's would block a call for minutes. Every
/// response must begin within a time limit, which kube does not enforce since version 4, and end within it unless it is
/// a watch.
pub fn connect_with_metrics(
    selection: &ClusterSelection,
    operator_namespace: Option<&str>,
    timing: &Timing,
    metrics: &Arc<Metrics>,
) -> Result<Cluster, ConnectError> {
    let Found { mut config, context } = config::find(selection)?;
    config.default_retry = false;
    config.connect_timeout = Some(timing.connect);
    let namespace = operator_namespace.unwrap_or(&config.default_namespace).to_owned();
    let host = config.cluster_url.authority().map(ToString::to_string).unwrap_or_default();
    // Without user and password, which a URL may contain.
    let scheme = config.cluster_url.scheme_str().unwrap_or("https");
    let url = format!("{scheme}://{}", host.rsplit('@').next().unwrap_or_default());
    let bounded = BoundedLayer {
        metrics: metrics.clone(),
        host: host.into(),
        within: timing.kube_headers,
        secret_watch: timing.secret_watch,
    };
    let client = connector::transport(config, timing.secret_connection)?.with_layer(&bounded).build();
    tracing::info!(namespace, "the operator uses this namespace for its own objects");
    Ok(Cluster { client, namespace, instance: instance(), url, runs_in_pod: context.is_none(), context })
}

/// The same for commands, which expose no metrics.
pub fn connect(
    selection: &ClusterSelection,
    operator_namespace: Option<&str>,
    timing: &Timing,
) -> Result<Cluster, ConnectError> {
    connect_with_metrics(selection, operator_namespace, timing, &Arc::default())
}

fn is_watch(uri: &Uri) -> bool {
    uri.query().is_some_and(|query| query.split('&').any(|pair| pair == "watch=true" || pair == "watch=1"))
}

fn instance() -> String {
    ["POD_NAME", "HOSTNAME"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
        .unwrap_or_else(|| env!("CARGO_PKG_NAME").to_owned())
}
