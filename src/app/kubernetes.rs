//! The client of the Kubernetes API, with the bounds that kube leaves to its user.

mod bounded;
mod direct;

use std::sync::Arc;

use http::Uri;
use kube::Client;
use kube::config::{Config, InferConfigError, KubeConfigOptions};
use thiserror::Error;

use self::bounded::BoundedLayer;
use crate::settings::Timing;
use crate::telemetry::metrics::Metrics;

/// The cluster that the operator works in.
pub struct Cluster {
    pub client: Client,
    /// The operator's own namespace.
    pub namespace: String,
    /// Name of this instance, for events: the pod's name, or the host's.
    pub instance: String,
    /// Whether it is that of the pod's own ServiceAccount, and not of a kubeconfig.
    pub is_own: bool,
}

/// Why there is no way to the Kubernetes API.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// Neither a pod's ServiceAccount nor a kubeconfig can be used.
    #[error("failed to find a cluster: run in a pod with a ServiceAccount, or set KUBECONFIG")]
    Infer(#[from] InferConfigError),
    /// The settings found cannot be used.
    #[error(
        "failed to set up the connection to the Kubernetes API: check the kubeconfig's server and certificates"
    )]
    Setup(#[from] kube::Error),
}

/// Finds the cluster and prepares the client. Without a name of its own, the operator's namespace is that of the
/// pod or of the kubeconfig's context.
///
/// Requests are counted in `metrics`.
///
/// kube's own retries are off: the queue retries, and they would hold a call for minutes. Every answer must
/// begin within a bound, which kube does not ask for since version 4, and end within it unless it is a watch.
pub async fn connect_counted(
    operator_namespace: Option<&str>,
    timing: &Timing,
    metrics: &Arc<Metrics>,
) -> Result<Cluster, ConnectError> {
    let mut config = Config::infer().await?;
    // As `infer` has it: a kubeconfig comes first.
    let is_own = Config::from_kubeconfig(&KubeConfigOptions::default()).await.is_err();
    config.default_retry = false;
    config.connect_timeout = Some(timing.connect);
    let namespace = operator_namespace.unwrap_or(&config.default_namespace).to_owned();
    let host = config.cluster_url.authority().map(ToString::to_string).unwrap_or_default();
    let bounded = BoundedLayer {
        metrics: metrics.clone(),
        host: host.into(),
        within: timing.kube_headers,
        secret_watch: timing.secret_watch,
    };
    let client = direct::transport(config, timing.secret_connection)?.with_layer(&bounded).build();
    tracing::info!(namespace, "the operator's own objects live in this namespace");
    Ok(Cluster { client, namespace, instance: instance(), is_own })
}

/// The same for a command, of which nobody reads metrics.
pub async fn connect(operator_namespace: Option<&str>, timing: &Timing) -> Result<Cluster, ConnectError> {
    connect_counted(operator_namespace, timing, &Arc::default()).await
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
