//! The command line.

mod cluster;
mod explain;
mod import;
mod input;
mod inventory;
mod keyring;
mod keys;
mod orphans;
mod output;
mod release;
mod remote;
mod verify;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};

use crate::app::{self, memory};
use crate::controller::Named;
use crate::http::{ClientError, DnsServers, HttpClients};
use crate::resources::crds;
use crate::settings::{ObjectName, ProcessSettings, RunSettings, ServeSettings, Timing, WayOutSettings};
use crate::telemetry::logs::{self, LogFilter};
use crate::telemetry::otlp::Otlp;

/// Keeps Microsoft Graph app-only credentials registered at Woodpecker, as Kubernetes resources declare them
#[derive(Debug, Parser)]
#[command(name = "graph-credential-operator", version, about, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the operator in the cluster of the pod's ServiceAccount or of KUBECONFIG
    Run(Box<RunSettings>),
    /// Serve the credentials REST API alone: Woodpecker's addresses, bodies and codes over the encrypted store
    Serve(Box<ServeSettings>),
    /// Prove a tenant, client id and secret at Microsoft, as the operator would, and print what is wrong and
    /// what to do
    Verify(Box<verify::VerifyArgs>),
    /// Explain an AADSTS code or the reason of a condition; without one, list all
    Explain(explain::ExplainArgs),
    /// Show what accounts at Woodpecker hold that no object has registered, and whose it is
    Orphans(Box<orphans::OrphansArgs>),
    /// Print manifests for what an account at Woodpecker holds already, so that the operator takes it over
    Import(Box<import::ImportArgs>),
    /// Look at the keys that seal the store, back them up, rotate and end them
    Keys(Box<keys::KeysArgs>),
    /// Take the operator's finalizers off all objects, so that they can be deleted without it; nothing is changed
    /// at Woodpecker
    Release(Box<release::ReleaseArgs>),
    /// Print the CustomResourceDefinitions as YAML, ready for `kubectl apply --server-side -f -`
    Crd,
}

// === impl Cli ===

impl Cli {
    /// Reads the command line, carries it out, and turns its end into an exit code: 0, 1 for a failure, 2
    /// for a command line that cannot be understood; `verify`, `orphans`, `keys` and `release` have more.
    pub fn run() -> ExitCode {
        let ended = match Self::parse().command {
            Command::Run(settings) => {
                let process = settings.process.clone();
                go_on(&process, |filter| app::run(*settings, filter))
            }
            Command::Serve(settings) => {
                let process = settings.process.clone();
                go_on(&process, |filter| app::serve(*settings, filter))
            }
            Command::Verify(args) => once(verify::run(&args)),
            Command::Explain(args) => explain::run(&args),
            Command::Orphans(args) => once(orphans::run(&args)),
            Command::Import(args) => once(import::run(&args)),
            Command::Keys(args) => once(keys::run(&args)),
            Command::Release(args) => once(release::run(&args)),
            Command::Crd => print_crds(),
        };
        ended.unwrap_or_else(|error| {
            complain(&error);
            ExitCode::FAILURE
        })
    }
}

/// Runs what goes on until it is told to stop. Once there is a log, it holds how that ended too.
fn go_on<W: Future<Output = anyhow::Result<()>>>(
    process: &ProcessSettings,
    work: impl FnOnce(LogFilter) -> W,
) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("failed to start the runtime")?;
    let http = || http_clients(&process.network.way_out)?.current().map_err(ClientError::Setup);
    let otlp = Otlp::from_env(runtime.handle(), http)?;
    let log_filter = logs::install(&process.logging, &otlp)?;
    logs::log_panics();
    let ended = runtime.block_on(work(log_filter));
    if let Err(error) = &ended {
        tracing::error!(error = logs::chain(error.as_ref()), "the program ends by a failure");
    }
    otlp.end();
    // Nothing may hold the process after its work has ended.
    runtime.shutdown_background();
    Ok(if ended.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs a command that finishes without being stopped, on this thread.
fn once(work: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    // Keys and secrets may be in memory from here on.
    memory::close(false);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("failed to start the runtime")?.block_on(work)
}

/// Reads `NAMESPACE/NAME`.
fn named(text: &str) -> Option<Named> {
    let part = |part: &str| part.parse::<ObjectName>().ok().map(|name| name.to_string());
    let (namespace, name) = text.split_once('/')?;
    Some(Named { namespace: part(namespace)?, name: part(name)? })
}

/// The client for everything outside the cluster.
fn http_clients(way_out: &WayOutSettings) -> Result<HttpClients, ClientError> {
    let servers = DnsServers::listed_or_system(&way_out.dns_servers);
    HttpClients::new(&Timing::STANDARD, &servers, way_out.extra_ca.as_deref())
}

fn print_crds() -> anyhow::Result<ExitCode> {
    let mut text = String::new();
    for crd in crds::all() {
        text.push_str("---\n");
        text.push_str(&crds::to_yaml(&crd)?);
    }
    output::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// The error with its causes, one a line, on standard error.
fn complain(error: &anyhow::Error) {
    output::note(&format!("error: {error}"));
    for cause in error.chain().skip(1) {
        output::note(&format!("  because: {cause}"));
    }
}
