//! Flags and environment of the program, and [`Timing`]: every wait of the program in one place.

mod base_url;
mod metrics;
mod object_name;
mod rest;
mod timing;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, ValueEnum};
use thiserror::Error;

pub use self::base_url::BaseUrl;
pub use self::metrics::MetricsSettings;
pub use self::object_name::ObjectName;
pub use self::rest::{RestSettings, ServeSettings};
pub use self::timing::{Timing, TimingError};
use crate::resources::VENDOR_BASE_URL;
use crate::resources::duration::{KubeDuration, NotADuration};

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line, for log collectors.
    #[default]
    Json,
    /// Text for people.
    Text,
}

/// Where and how the program logs.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Logging")]
pub struct LogSettings {
    /// Form of the log lines
    #[arg(long, env = "GCO_LOG_FORMAT", value_enum, default_value_t, value_name = "FORMAT")]
    pub log_format: LogFormat,

    /// What is logged: a level (error, warn, info, debug, trace) or filter directives such as
    /// `info,graph_credential_operator=debug`. Bodies of Kubernetes answers are never logged
    #[arg(long, env = "GCO_LOG", default_value = "info", value_name = "FILTER")]
    pub log: String,

    /// File that says what is logged, in place of --log, as soon as it is there; read again every few seconds, so that
    /// the level can be changed without a restart
    #[arg(long, env = "GCO_LOG_FILTER_FILE", value_name = "FILE")]
    pub log_filter_file: Option<PathBuf>,
}

/// The way out to Microsoft and Woodpecker. Proxies come from the environment: `HTTPS_PROXY`, `NO_PROXY`.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Network")]
pub struct NetworkSettings {
    /// Authority that proves secrets of the Global cloud, in place of Microsoft's own
    #[arg(
        long,
        env = "GCO_MICROSOFT_AUTHORITY",
        default_value = "https://login.microsoftonline.com",
        value_name = "URL"
    )]
    pub microsoft_authority: BaseUrl,

    /// Resolving and trusting.
    #[command(flatten)]
    pub way_out: WayOutSettings,
}

/// How addresses outside the cluster are resolved and trusted.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Network")]
pub struct WayOutSettings {
    /// Name server for Microsoft's and Woodpecker's addresses; may be repeated or hold a comma-separated
    /// list. Without it, those of /etc/resolv.conf; there is no other fall-back
    #[arg(long = "dns-server", env = "GCO_DNS_SERVERS", value_delimiter = ',', value_name = "ADDRESS:PORT")]
    pub dns_servers: Vec<SocketAddr>,

    /// File with further CA certificates in PEM to trust for Microsoft and Woodpecker, such as those of a
    /// proxy that opens TLS. The system's stay trusted
    #[arg(long, env = "GCO_EXTRA_CA", value_name = "FILE")]
    pub extra_ca: Option<PathBuf>,
}

/// Where API keys may go.
#[derive(Clone, Debug, Args)]
pub struct WoodpeckerSettings {
    /// Base URL that a WoodpeckerAccount may name; may be repeated or hold a comma-separated list. API keys
    /// are sent nowhere else
    #[arg(
        long = "woodpecker-base-url",
        env = "GCO_WOODPECKER_BASE_URLS",
        value_delimiter = ',',
        default_value = VENDOR_BASE_URL,
        value_name = "URL"
    )]
    pub base_urls: Vec<BaseUrl>,
}

/// Which Lease a leader holds.
#[derive(Clone, Debug, Args)]
pub struct LeaseSettings {
    /// Name of the Lease, in the operator's namespace, that the leader holds
    #[arg(
        long,
        env = "GCO_LEADER_ELECTION_LEASE",
        default_value = "graph-credential-operator",
        value_name = "NAME"
    )]
    pub leader_election_lease: ObjectName,
}

/// Which of several replicas works.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Leader election")]
pub struct LeaderSettings {
    /// Work only while holding the lease, so that of several replicas one works and the others stand by.
    /// `--leader-elect=false` is for a process that can have no rival
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

/// What every command that goes on running is told.
#[derive(Clone, Debug, Args)]
pub struct ProcessSettings {
    /// Log settings.
    #[command(flatten)]
    pub logging: LogSettings,

    /// Network settings.
    #[command(flatten)]
    pub network: NetworkSettings,

    /// Namespace whose resources are served; may be repeated or hold a comma-separated list. Without it,
    /// those of all namespaces
    #[arg(
        long = "watch-namespace",
        env = "GCO_WATCH_NAMESPACES",
        value_delimiter = ',',
        value_name = "NAMESPACE"
    )]
    pub watch_namespaces: Vec<String>,

    /// Namespace of the operator's own objects, such as its keyring. Without it, the namespace of the pod
    /// or of the kubeconfig's context
    #[arg(long, env = "GCO_OPERATOR_NAMESPACE", value_name = "NAMESPACE")]
    pub operator_namespace: Option<String>,

    /// Name of the Secret, in the operator's namespace, that holds the keyring
    #[arg(
        long,
        env = "GCO_KEYRING_SECRET",
        default_value = "graph-credential-operator-keyring",
        value_name = "NAME"
    )]
    pub keyring_secret: String,

    /// How many processes verify secrets at Microsoft: all replicas of `run` and of `serve`. They share the tries of one
    /// secret of an app, of which Microsoft takes fifteen in five minutes
    #[arg(
        long,
        env = "GCO_PROCESSES",
        default_value_t = 2,
        value_parser = clap::value_parser!(u16).range(1..=1024),
        value_name = "N"
    )]
    pub processes: u16,

    /// Address that serves /healthz, /readyz and, where it has no address of its own, /metrics
    #[arg(long, env = "GCO_LISTEN", default_value = "0.0.0.0:8080", value_name = "ADDRESS:PORT")]
    pub listen: SocketAddr,

    /// Settings of /metrics.
    #[command(flatten)]
    pub metrics: MetricsSettings,

    /// Let the system write core files of the process, for profiling. They hold API keys and, during a
    /// pass, client secrets
    #[arg(long, env = "GCO_ALLOW_CORE_DUMPS")]
    pub allow_core_dumps: bool,

    /// For tests: divides every wait of the program by N, call time-outs included
    #[arg(
        long,
        env = "GCO_TIME_SCALE",
        default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=100_000),
        value_name = "N",
        hide_short_help = true
    )]
    pub time_scale: u32,
}

/// Everything that `run` can be told.
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

    /// Let resources with `verification.policy: Disabled` register secrets that nobody has proved
    #[arg(long, env = "GCO_ALLOW_UNVERIFIED")]
    pub allow_unverified: bool,

    /// Make deletions wait with finalizers until what `deletionPolicy: Delete` says is carried out. `--finalizers=false`
    /// is for operators whose rights end with a namespace: deleted objects then go at once, and what they registered stays
    #[arg(
        long,
        env = "GCO_FINALIZERS",
        action = ArgAction::Set,
        default_value_t = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_name = "BOOL"
    )]
    pub finalizers: bool,

    /// Name of the operator's Deployment in its own namespace, on which it tells by events what it had to leave behind
    #[arg(long, env = "GCO_OPERATOR_DEPLOYMENT", value_name = "NAME")]
    pub operator_deployment: Option<ObjectName>,

    /// How long refusals of a new secret count as its slow spreading through Entra, before they count as
    /// final; at most 24h
    #[arg(
        long,
        env = "GCO_PROPAGATION_WINDOW",
        default_value = "20m",
        value_parser = propagation_window,
        value_name = "DURATION"
    )]
    pub propagation_window: KubeDuration,

    /// How many resources of each kind are worked on at the same time, in all namespaces together
    #[arg(
        long,
        env = "GCO_MAX_CONCURRENT_PASSES",
        default_value_t = 16,
        value_parser = clap::value_parser!(u16).range(1..=1024),
        value_name = "N"
    )]
    pub max_concurrent_passes: u16,

    /// Settings of the REST API.
    #[command(flatten)]
    pub rest: RestSettings,
}

/// Longest `--propagation-window`: a secret that Entra has not spread in a day is wrong. And a time of an object plus
/// this must be a time.
const LONGEST_PROPAGATION: Duration = Duration::from_hours(24);

/// Why a text is no propagation window.
#[derive(Debug, Error)]
enum WindowError {
    #[error(transparent)]
    NotADuration(#[from] NotADuration),
    #[error("it must be at most 24h, such as 20m")]
    TooLong,
}

fn propagation_window(text: &str) -> Result<KubeDuration, WindowError> {
    let window: KubeDuration = text.parse()?;
    if window.get() > LONGEST_PROPAGATION { Err(WindowError::TooLong) } else { Ok(window) }
}

// === impl RunSettings ===

impl RunSettings {
    /// Every wait of the program, as the flags have it.
    pub fn timing(&self) -> Result<Timing, TimingError> {
        let standard = Timing { propagation_window: self.propagation_window.get(), ..Timing::STANDARD };
        standard.divided_by(self.process.time_scale).checked()
    }
}
