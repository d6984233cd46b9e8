//! Flags and environment of `/metrics` at an address of its own.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

/// How `/metrics` is served. Without an address of its own it is at `--listen`, for everybody who reaches that.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Metrics")]
pub struct MetricsSettings {
    /// Address that serves /metrics under TLS, in place of --listen
    #[arg(
        id = "metrics-listen",
        long = "metrics-listen",
        env = "GCO_METRICS_LISTEN",
        requires = "metrics-tls-cert",
        value_name = "ADDRESS:PORT"
    )]
    pub listen: Option<SocketAddr>,

    /// File with the certificate of /metrics and those that lead to its root, in PEM, its own first. It is read again every
    /// 30 seconds, with its key
    #[arg(
        id = "metrics-tls-cert",
        long = "metrics-tls-cert",
        env = "GCO_METRICS_TLS_CERT",
        requires = "metrics-tls-key",
        value_name = "FILE"
    )]
    pub tls_cert: Option<PathBuf>,

    /// File with the private key of that certificate, in PEM
    #[arg(
        id = "metrics-tls-key",
        long = "metrics-tls-key",
        env = "GCO_METRICS_TLS_KEY",
        requires = "metrics-tls-cert",
        value_name = "FILE"
    )]
    pub tls_key: Option<PathBuf>,

    /// Show metrics only to whoever sends the token of somebody who may get the non-resource URL /metrics. The operator
    /// then needs create on tokenreviews and subjectaccessreviews
    #[arg(
        id = "metrics-authorize",
        long = "metrics-authorize",
        env = "GCO_METRICS_AUTHORIZE",
        requires = "metrics-listen"
    )]
    pub authorize: bool,
}
