//! Settings of `/metrics` at its own address.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

/// How `/metrics` is served. Without its own address, `--health-probe-bind-address` serves it, without authorization.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Metrics")]
pub struct MetricsSettings {
    /// Address that serves /metrics with TLS, instead of --health-probe-bind-address
    #[arg(
        id = "metrics-bind-address",
        long = "metrics-bind-address",
        env = "GCO_METRICS_BIND_ADDRESS",
        requires = "metrics-tls-cert",
        value_name = "ADDRESS:PORT"
    )]
    pub listen: Option<SocketAddr>,

    /// PEM file with the server certificate chain for /metrics, leaf first. Reloaded every 30 s, together with its key
    #[arg(
        id = "metrics-tls-cert",
        long = "metrics-tls-cert",
        env = "GCO_METRICS_TLS_CERT",
        requires = "metrics-tls-key",
        value_name = "FILE"
    )]
    pub tls_cert: Option<PathBuf>,

    /// PEM file with the private key of that certificate
    #[arg(
        id = "metrics-tls-key",
        long = "metrics-tls-key",
        env = "GCO_METRICS_TLS_KEY",
        requires = "metrics-tls-cert",
        value_name = "FILE"
    )]
    pub tls_key: Option<PathBuf>,

    /// Require a bearer token for metrics, of a user who can get the non-resource URL /metrics. The process then
    /// needs the right to create tokenreviews and subjectaccessreviews
    #[arg(
        id = "metrics-require-authorization",
        long = "metrics-require-authorization",
        env = "GCO_METRICS_REQUIRE_AUTHORIZATION",
        requires = "metrics-bind-address"
    )]
    pub authorize: bool,
}
