//! Flags and environment of the credentials REST API.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::Args;
use thiserror::Error;

use super::{LeaseSettings, ObjectName, ProcessSettings, Timing, TimingError};

/// Where `serve` listens without being told.
const STANDARD_ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8443);

/// How the credentials REST API is served.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "REST API")]
pub struct RestSettings {
    /// Address that serves the credentials REST API. Without it `serve` listens on 127.0.0.1:8443, and `run` does not
    /// serve the API
    #[arg(id = "rest-listen", long = "rest-listen", env = "GCO_REST_LISTEN", value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,

    /// Name of the Secret, in the operator's namespace, that holds the API keys: an entry NAMESPACE.NAME for each,
    /// such as mail.ci. A key opens the credentials of its namespace
    #[arg(
        long = "rest-keys-secret",
        env = "GCO_REST_KEYS_SECRET",
        default_value = "graph-credential-operator-api-keys",
        value_name = "NAME"
    )]
    pub keys_secret: ObjectName,

    /// File with the certificate of the REST API and those that lead to its root, in PEM, its own first. It is read
    /// again every 30 seconds, with its key
    #[arg(long = "rest-tls-cert", env = "GCO_REST_TLS_CERT", requires = "tls_key", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,

    /// File with the private key of that certificate, in PEM
    #[arg(long = "rest-tls-key", env = "GCO_REST_TLS_KEY", requires = "tls_cert", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,

    /// Serve plain HTTP to other machines as well: something before the operator must end TLS, for API keys and client
    /// secrets come in
    #[arg(long = "rest-plain-http", env = "GCO_REST_PLAIN_HTTP")]
    pub plain_http: bool,

    /// Emulate the vendor's limits for each account, in this process: one request at a time, six more that wait for at
    /// most 15 seconds, and 429 for the others
    #[arg(long = "rest-emulate-limits", env = "GCO_REST_EMULATE_LIMITS")]
    pub emulate_limits: bool,

    /// Most connections at the same time; further ones wait
    #[arg(
        long = "rest-max-connections",
        env = "GCO_REST_MAX_CONNECTIONS",
        default_value_t = 256,
        value_parser = clap::value_parser!(u16).range(1..=10_000),
        value_name = "N"
    )]
    pub max_connections: u16,

    /// Most credentials of one account
    #[arg(
        long = "rest-max-credentials",
        env = "GCO_REST_MAX_CREDENTIALS",
        default_value_t = 1000,
        value_parser = clap::value_parser!(u16).range(1..=10_000),
        value_name = "N"
    )]
    pub max_credentials: u16,
}

/// Everything that `serve` can be told.
#[derive(Clone, Debug, Args)]
pub struct ServeSettings {
    /// Settings of the process.
    #[command(flatten)]
    pub process: ProcessSettings,

    /// Settings of the API.
    #[command(flatten)]
    pub rest: RestSettings,

    /// The operator's lease: while nobody holds it, one `serve` runs the record controller.
    #[command(flatten, next_help_heading = "Leader election")]
    pub lease: LeaseSettings,
}

/// An address at which API keys and secrets would come in unencrypted.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "--rest-listen {0} would take API keys and client secrets unencrypted from other machines: give \
     --rest-tls-cert and --rest-tls-key, listen on 127.0.0.1, or add --rest-plain-http where something before the operator ends TLS"
)]
pub struct PlainHttpError(SocketAddr);

// === impl RestSettings ===

impl RestSettings {
    /// Refuses an address at which secrets would come in unencrypted.
    pub fn check(&self, address: SocketAddr) -> Result<(), PlainHttpError> {
        let is_encrypted = self.tls_cert.is_some() && self.tls_key.is_some();
        if is_encrypted || self.plain_http || address.ip().is_loopback() {
            Ok(())
        } else {
            Err(PlainHttpError(address))
        }
    }
}

// === impl ServeSettings ===

impl ServeSettings {
    /// Where the API is served.
    pub fn address(&self) -> SocketAddr {
        self.rest.listen.unwrap_or(STANDARD_ADDRESS)
    }

    /// Every wait of the program, as the flags have it.
    pub fn timing(&self) -> Result<Timing, TimingError> {
        Timing::STANDARD.divided_by(self.process.time_scale).checked()
    }
}
