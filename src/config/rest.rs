//! Settings of the credentials REST API.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::Args;
use thiserror::Error;

use crate::config::{LeaseSettings, ObjectName, ProcessSettings};
use crate::core::timing::{Timing, TimingError};

/// The default address of `serve`.
const DEFAULT_ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8443);

/// How the credentials REST API is served.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "REST API")]
pub struct RestSettings {
    /// Address that serves the credentials REST API. By default, `serve` listens on 127.0.0.1:8443, and `run` does not
    /// serve the API
    #[arg(
        id = "rest-bind-address",
        long = "rest-bind-address",
        env = "GCO_REST_BIND_ADDRESS",
        value_name = "ADDRESS:PORT"
    )]
    pub listen: Option<SocketAddr>,

    /// Name of the Secret with the API keys, in the operator's namespace. Each entry is named NAMESPACE.NAME, such as
    /// mail.ci. A key grants access to the credentials of its namespace
    #[arg(
        long = "rest-api-keys-secret",
        env = "GCO_REST_API_KEYS_SECRET",
        default_value = "graph-credential-operator-api-keys",
        value_name = "NAME"
    )]
    pub api_keys_secret: ObjectName,

    /// PEM file with the server certificate chain for the REST API, leaf first. Reloaded every 30 s, together with
    /// its key
    #[arg(long = "rest-tls-cert", env = "GCO_REST_TLS_CERT", requires = "tls_key", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,

    /// PEM file with the private key of that certificate
    #[arg(long = "rest-tls-key", env = "GCO_REST_TLS_KEY", requires = "tls_cert", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,

    /// Serve plain HTTP to other hosts. A proxy in front must terminate TLS, because requests contain API keys and
    /// client secrets
    #[arg(long = "rest-insecure-http", env = "GCO_REST_INSECURE_HTTP")]
    pub insecure_http: bool,

    /// Emulate Woodpecker's rate limits for each account, in this process: one request at a time, six more queued for
    /// at most 15 s, and 429 for all others
    #[arg(long = "rest-emulate-rate-limits", env = "GCO_REST_EMULATE_RATE_LIMITS")]
    pub emulate_rate_limits: bool,

    /// Maximum concurrent connections. A further one closes the oldest one without an API key, or waits
    #[arg(
        long = "rest-max-connections",
        env = "GCO_REST_MAX_CONNECTIONS",
        default_value_t = 256,
        value_parser = clap::value_parser!(u16).range(1..=10_000),
        value_name = "N"
    )]
    pub max_connections: u16,

    /// Maximum credentials per account
    #[arg(
        long = "rest-max-credentials",
        env = "GCO_REST_MAX_CREDENTIALS",
        default_value_t = 1000,
        value_parser = clap::value_parser!(u16).range(1..=10_000),
        value_name = "N"
    )]
    pub max_credentials: u16,
}

/// Arguments of `serve`.
#[derive(Clone, Debug, Args)]
pub struct ServeSettings {
    /// Settings of the process.
    #[command(flatten)]
    pub process: ProcessSettings,

    /// Settings of the API.
    #[command(flatten)]
    pub rest: RestSettings,

    /// The operator's lease: while no operator holds it, one `serve` process runs the record controller.
    #[command(flatten, next_help_heading = "Leader election")]
    pub lease: LeaseSettings,
}

/// The address would accept API keys and secrets unencrypted.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "--rest-bind-address {0} would accept API keys and client secrets unencrypted from other hosts: set \
     --rest-tls-cert and --rest-tls-key, listen on 127.0.0.1, or add --rest-insecure-http if a proxy in front \
     terminates TLS"
)]
pub struct PlainHttpError(SocketAddr);

// === impl RestSettings ===

impl RestSettings {
    /// Rejects an address that would accept secrets unencrypted.
    pub fn check(&self, address: SocketAddr) -> Result<(), PlainHttpError> {
        let is_encrypted = self.tls_cert.is_some() && self.tls_key.is_some();
        if is_encrypted || self.insecure_http || address.ip().is_loopback() {
            Ok(())
        } else {
            Err(PlainHttpError(address))
        }
    }
}

// === impl ServeSettings ===

impl ServeSettings {
    pub fn address(&self) -> SocketAddr {
        self.rest.listen.unwrap_or(DEFAULT_ADDRESS)
    }

    /// All durations of the program, according to the flags.
    pub fn timing(&self) -> Result<Timing, TimingError> {
        Timing::STANDARD.divided_by(self.process.time_scale).checked()
    }
}
