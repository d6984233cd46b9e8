//! Settings from flags and environment variables, and the [`Timing`] that they result in.

mod base_url;
mod identity;
mod metrics;
mod object_name;
mod rest;

use crate::core::timing::{Timing, TimingError};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, ValueEnum};
use thiserror::Error;

pub use self::base_url::BaseUrl;
pub use self::identity::{FederatedTokenSettings, GraphSettings, IdentitySettings};
pub use self::metrics::MetricsSettings;
pub use self::object_name::ObjectName;
pub use self::rest::{RestSettings, ServeSettings};
use crate::api::VENDOR_BASE_URL;
use crate::api::duration::{KubeDuration, ParseDurationError};

/// The format of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object per line, for log collectors.
    #[default]
    Json,
    /// Human-readable text.
    Text,
}

/// Where and how the program logs.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Logging")]
#[expect(clippy::struct_field_names, reason = "the fields are named like their flags")]
pub struct LogSettings {
    /// Log format
    #[arg(long, env = "GCO_LOG_FORMAT", value_enum, default_value_t, value_name = "FORMAT")]
    pub log_format: LogFormat,

    /// Log level (error, warn, info, debug, trace) or filter directives such as
    /// `info,graph_credential_operator=debug`. Bodies of Kubernetes responses are never logged
    #[arg(long, env = "GCO_LOG_LEVEL", default_value = "info", value_name = "FILTER")]
    pub log_level: String,

    /// File with a log level or filter directives. Overrides --log-level as soon as the file exists. Reloaded every few
    /// seconds, so that changes need no restart
    #[arg(long, env = "GCO_LOG_FILTER_FILE", value_name = "FILE")]
    pub log_filter_file: Option<PathBuf>,
}

/// Outbound connections to Microsoft and Woodpecker. Proxies come from the environment: `HTTPS_PROXY`, `NO_PROXY`.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Network")]
pub struct NetworkSettings {
    /// Authority that verifies secrets of the Global cloud, instead of Microsoft's own
    #[arg(
        long,
        env = "GCO_MICROSOFT_AUTHORITY",
        default_value = "https://login.microsoftonline.com",
        value_name = "URL"
    )]
    pub microsoft_authority: BaseUrl,

    /// Name servers and CA certificates.
    #[command(flatten)]
    pub egress: EgressConfig,
}

/// Name resolution and trust for addresses outside the cluster.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Network")]
pub struct EgressConfig {
    /// Name server for Microsoft's and Woodpecker's addresses. Repeatable, or a comma-separated list. Defaults to the
    /// name servers in /etc/resolv.conf, without any other fallback. A name with a dot is looked up as it is first
    #[arg(long = "dns-server", env = "GCO_DNS_SERVERS", value_delimiter = ',', value_name = "ADDRESS:PORT")]
    pub dns_servers: Vec<SocketAddr>,

    /// PEM file with additional CA certificates to trust for Microsoft and Woodpecker, such as those of a
    /// TLS-inspecting proxy. The system's CA certificates stay trusted. Read again when it changes
    #[arg(long, env = "GCO_CA_BUNDLE", value_name = "FILE")]
    pub ca_bundle: Option<PathBuf>,
}

/// The URLs that API keys may be sent to.
#[derive(Clone, Debug, Args)]
pub struct WoodpeckerSettings {
    /// Base URL that a WoodpeckerAccount can use. Repeatable, or a comma-separated list. API keys are sent to no other
    /// URL
    #[arg(
        long = "allowed-woodpecker-url",
        env = "GCO_ALLOWED_WOODPECKER_URLS",
        value_delimiter = ',',
        default_value = VENDOR_BASE_URL,
        value_name = "URL"
    )]
    pub allowed_urls: Vec<BaseUrl>,
}

/// The Lease of leader election.
#[derive(Clone, Debug, Args)]
pub struct LeaseSettings {
    /// Name of the leader election Lease, in the operator's namespace
    #[arg(
        long,
        env = "GCO_LEADER_ELECTION_LEASE",
        default_value = "graph-credential-operator",
        value_name = "NAME"
    )]
    pub leader_election_lease: ObjectName,
}

/// Leader election.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Leader election")]
pub struct LeaderSettings {
    /// Reconcile only while holding the Lease, so that one replica works and the others stand by. Use
    /// `--leader-elect=false` only if there is never more than one process
    #[arg(
        long,
        env = "GCO_LEADER_ELECT",
        action = ArgAction::Set,
        default_value_t = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_name = "BOOL"
    )]
    pub leader_elect: bool,

    /// The lease.
    #[command(flatten)]
    pub lease: LeaseSettings,
}

/// Finalizers.
#[derive(Clone, Debug, Args)]
pub struct FinalizerSettings {
    /// Set finalizers, so that deletions wait until `deletionPolicy: Delete` is carried out. Use
    /// `--enable-finalizers=false` for operators with namespaced rights only: objects are then deleted immediately, and
    /// their registrations remain
    #[arg(
        long,
        env = "GCO_ENABLE_FINALIZERS",
        action = ArgAction::Set,
        default_value_t = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_name = "BOOL"
    )]
    pub enable_finalizers: bool,
}

/// Settings of `run` and `serve`.
#[derive(Clone, Debug, Args)]
pub struct ProcessSettings {
    /// Log settings.
    #[command(flatten)]
    pub logging: LogSettings,

    /// Network settings.
    #[command(flatten)]
    pub network: NetworkSettings,

    /// Namespace whose resources the process serves. Repeatable, or a comma-separated list. Defaults to all namespaces
    #[arg(
        long = "watch-namespace",
        env = "GCO_WATCH_NAMESPACES",
        value_delimiter = ',',
        value_name = "NAMESPACE"
    )]
    pub watch_namespaces: Vec<String>,

    /// Namespace of the operator's own objects, such as its keyring. Defaults to the namespace of the pod or of the
    /// kubeconfig's context
    #[arg(long, env = "GCO_OPERATOR_NAMESPACE", value_name = "NAMESPACE")]
    pub operator_namespace: Option<String>,

    /// Name of the Secret with the keyring, in the operator's namespace
    #[arg(
        long,
        env = "GCO_KEYRING_SECRET",
        default_value = "graph-credential-operator-keyring",
        value_name = "NAME"
    )]
    pub keyring_secret: String,

    /// Number of processes that verify secrets at Microsoft: all replicas of `run` and `serve` together. They share the
    /// attempts for one secret of an app, of which Microsoft accepts fifteen in five minutes
    #[arg(
        long,
        env = "GCO_PROCESSES",
        default_value_t = 2,
        value_parser = clap::value_parser!(u16).range(1..=1024),
        value_name = "N"
    )]
    pub processes: u16,

    /// Address that serves /healthz, /readyz and, without --metrics-bind-address, /metrics
    #[arg(
        long,
        env = "GCO_HEALTH_PROBE_BIND_ADDRESS",
        default_value = "0.0.0.0:8080",
        value_name = "ADDRESS:PORT"
    )]
    pub health_probe_bind_address: SocketAddr,

    /// Settings of /metrics.
    #[command(flatten)]
    pub metrics: MetricsSettings,

    /// Allow core dumps of the process, for profiling. They contain API keys and, during a reconcile, client secrets
    #[arg(long, env = "GCO_ALLOW_CORE_DUMPS")]
    pub allow_core_dumps: bool,

    /// For tests: divide every duration of the program by N, including request timeouts
    #[arg(
        long,
        env = "GCO_TIME_SCALE",
        default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=100_000),
        value_name = "N",
        hide = true
    )]
    pub time_scale: u32,
}

/// Arguments of `run`.
#[derive(Clone, Debug, Args)]
pub struct RunSettings {
    /// Settings of the process.
    #[command(flatten)]
    pub process: ProcessSettings,

    /// Leader election settings.
    #[command(flatten)]
    pub leader: LeaderSettings,

    /// Woodpecker settings.
    #[command(flatten)]
    pub woodpecker: WoodpeckerSettings,

    /// Allow `verification.policy: Disabled`, which registers secrets without verification
    #[arg(long, env = "GCO_ALLOW_UNVERIFIED")]
    pub allow_unverified: bool,

    /// Finalizer settings.
    #[command(flatten)]
    pub finalizers: FinalizerSettings,

    /// Name of the operator's Deployment, in its own namespace. The operator emits events on it about credentials
    /// that it had to leave behind
    #[arg(long, env = "GCO_EVENTS_DEPLOYMENT", value_name = "NAME")]
    pub events_deployment: Option<ObjectName>,

    /// How long rejections of a new secret count as slow propagation in Entra, before they count as final. At most 24h
    #[arg(
        long,
        env = "GCO_PROPAGATION_WINDOW",
        default_value = "20m",
        value_parser = propagation_window,
        value_name = "DURATION"
    )]
    pub propagation_window: KubeDuration,

    /// Maximum concurrent reconciles per kind, over all namespaces
    #[arg(
        long,
        env = "GCO_MAX_CONCURRENT_RECONCILES",
        default_value_t = 16,
        value_parser = clap::value_parser!(u16).range(1..=1024),
        value_name = "N"
    )]
    pub max_concurrent_reconciles: u16,

    /// Connect mailboxes at Woodpecker, as WoodpeckerMailboxes objects say. Needs the CRD
    /// `woodpeckermailboxes.graph-credentials.io`, and the right to list and watch these objects and to update their status
    #[arg(long, env = "GCO_MAILBOXES")]
    pub mailboxes: bool,

    /// Identities for Microsoft Graph.
    #[command(flatten)]
    pub identities: IdentitySettings,

    /// Settings of the REST API.
    #[command(flatten)]
    pub rest: RestSettings,
}

/// Longest `--propagation-window`: a secret that Entra has not propagated within a day is wrong. The bound also keeps sums of
/// times valid.
const MAX_PROPAGATION: Duration = Duration::from_hours(24);

/// Why a text is not a valid propagation window.
#[derive(Debug, Error)]
enum WindowError {
    #[error(transparent)]
    ParseDurationError(#[from] ParseDurationError),
    #[error("it must be at most 24h, such as 20m")]
    TooLong,
}

fn propagation_window(text: &str) -> Result<KubeDuration, WindowError> {
    let window: KubeDuration = text.parse()?;
    if window.get() > MAX_PROPAGATION { Err(WindowError::TooLong) } else { Ok(window) }
}

// === impl RunSettings ===

impl RunSettings {
    /// All durations of the program, according to the flags.
    pub fn timing(&self) -> Result<Timing, TimingError> {
        let standard = Timing { propagation_window: self.propagation_window.get(), ..Timing::STANDARD };
        standard.divided_by(self.process.time_scale).checked()
    }
}
