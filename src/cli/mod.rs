//! The command line.

mod access;
mod change;
mod check;
mod cluster;
mod companies;
mod completion;
mod describe;
mod explain;
mod import;
mod input;
mod keyring;
mod keys;
mod kubernetes;
mod object_arg;
mod objects;
mod orphans;
mod output;
mod ownership;
mod plan;
mod progress;
mod release;
mod remove_finalizers;
mod sandbox;
mod slug;
mod status;
mod verify;
mod woodpecker;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::api::{NamespacedName, crds};
use crate::config::{EgressConfig, ObjectName, ProcessSettings, RunSettings, ServeSettings};
use crate::core::timing::Timing;
use crate::http::client::{ClientError, DnsServers, HttpClients};
use crate::runtime::{self, core_dumps};
use crate::telemetry::logs::{self, LogFilter};
use crate::telemetry::otlp::Otlp;

/// File name of the program as a plugin of kubectl.
const PLUGIN: &str = "kubectl-graph_credentials";

/// Keeps Microsoft Graph app-only credentials registered at Woodpecker, as declared in Kubernetes resources
#[derive(Debug, Parser)]
#[command(name = "graph-credential-operator", version, about, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the operator, with the pod's ServiceAccount or with KUBECONFIG
    Run(Box<RunSettings>),
    /// Serve only the credentials REST API: Woodpecker's paths, bodies and codes, backed by the encrypted store
    Serve(Box<ServeSettings>),
    /// Serve the credentials API in memory, to try and test its clients: without a cluster, Microsoft and Woodpecker. Magic
    /// values provoke each answer
    #[command(mut_arg("log_format", |arg| arg.default_value("text")))]
    Sandbox(sandbox::SandboxArgs),
    /// Check an installation, or whether one is possible: CRDs, policies, rights, leader, keyring, network and clock
    Check(Box<check::CheckArgs>),
    /// Show all credentials and accounts: what needs attention first, who must act, and how many days are left
    Status(Box<status::StatusArgs>),
    /// Describe a credential or an account: why it is in its state, what happens next, and its events
    Describe(Box<describe::DescribeArgs>),
    /// Show what the API server and the operator would do with the objects of a file. Changes nothing
    Plan(Box<plan::PlanArgs>),
    /// Reconcile credentials now, and wait for the result
    Reconcile(Box<change::ReconcileArgs>),
    /// Create new client secrets at Microsoft Entra now, for credentials with `spec.rotation`, and wait until they are
    /// registered
    Rotate(Box<change::RotateArgs>),
    /// Suspend credentials: the operator leaves them as they are
    Suspend(Box<change::SuspendArgs>),
    /// Resume suspended credentials, and wait for the result
    Resume(Box<change::ResumeArgs>),
    /// Verify a tenant id, client id and secret at Microsoft, as the operator does, and print what is wrong and what
    /// to do
    Verify(Box<verify::VerifyArgs>),
    /// Explain an AADSTS code or a condition reason; without an argument, list all
    Explain(explain::ExplainArgs),
    /// List credentials at Woodpecker that no object has registered, by owner
    Orphans(Box<orphans::OrphansArgs>),
    /// List credentials that a user could not apply now, and accounts that allow a namespace that is newer or missing
    Access(Box<access::AccessArgs>),
    /// Print manifests for the existing credentials of a Woodpecker account, so that the operator adopts them
    Import(Box<import::ImportArgs>),
    /// List the client companies of an agency, and print manifests that give each of them an account
    Companies(Box<companies::CompaniesArgs>),
    /// List, back up, rotate and retire the keys that encrypt the store
    Keys(Box<keys::KeysArgs>),
    /// Remove the operator's finalizers from all objects, so that they can be deleted without it. Changes nothing at
    /// Woodpecker
    RemoveFinalizers(Box<remove_finalizers::RemoveFinalizersArgs>),
    /// Print the CustomResourceDefinitions as YAML, for `kubectl apply --server-side -f -`
    Crd,
    /// Print a completion script for a shell
    Completion(completion::CompletionArgs),
    /// Write the man pages of all commands into a directory
    Man(completion::ManArgs),
}

// === impl Cli ===

impl Cli {
    /// Parses the command line. As a plugin of kubectl, usage and help name the program as kubectl does.
    fn parse_as_called() -> Self {
        let program = std::env::args_os().next().map(PathBuf::from);
        let stem = program.as_deref().and_then(Path::file_stem);
        let command = match stem {
            Some(stem) if stem == PLUGIN => Self::command().bin_name("kubectl graph-credentials"),
            _ => Self::command(),
        };
        Self::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit())
    }

    /// Runs the command and returns its exit code: 0, 1 for a failure, 2 for an invalid command line. `verify`, `orphans`,
    /// `access`, `companies`, `check`, `plan`, `status`, `reconcile`, `rotate`, `resume`, `keys` and `remove-finalizers` have more.
    pub fn run() -> ExitCode {
        let result = match Self::parse_as_called().command {
            Command::Run(settings) => {
                let process = settings.process.clone();
                run_until_stopped(&process, |filter| runtime::run(*settings, filter))
            }
            Command::Serve(settings) => {
                let process = settings.process.clone();
                run_until_stopped(&process, |filter| runtime::serve(*settings, filter))
            }
            Command::Sandbox(args) => sandbox::run(args),
            Command::Check(args) => run_once(check::run(&args)),
            Command::Status(args) => run_once(status::run(&args)),
            Command::Describe(args) => run_once(describe::run(&args)),
            Command::Plan(args) => run_once(plan::run(&args)),
            Command::Reconcile(args) => run_once(change::reconcile(&args)),
            Command::Rotate(args) => run_once(change::rotate(&args)),
            Command::Suspend(args) => run_once(change::suspend(&args)),
            Command::Resume(args) => run_once(change::resume(&args)),
            Command::Verify(args) => run_once(verify::run(&args)),
            Command::Explain(args) => explain::run(&args),
            Command::Orphans(args) => run_once(orphans::run(&args)),
            Command::Access(args) => run_once(access::run(&args)),
            Command::Import(args) => run_once(import::run(&args)),
            Command::Companies(args) => run_once(companies::run(&args)),
            Command::Keys(args) => run_once(keys::run(&args)),
            Command::RemoveFinalizers(args) => run_once(remove_finalizers::run(&args)),
            Command::Crd => print_crds(),
            Command::Completion(args) => completion::print(&args, Self::command()),
            Command::Man(args) => completion::write_man_pages(&args, Self::command()),
        };
        result.unwrap_or_else(|error| {
            print_error(&error);
            ExitCode::FAILURE
        })
    }
}

/// Runs `run` or `serve`. Once logging is set up, a failure is logged too.
fn run_until_stopped<W: Future<Output = anyhow::Result<()>>>(
    process: &ProcessSettings,
    work: impl FnOnce(LogFilter) -> W,
) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("failed to start the runtime")?;
    let http = || -> Result<_, Box<dyn std::error::Error + Send + Sync>> {
        Ok(http_clients(&process.network.egress)?.current().map_err(ClientError::Setup)?)
    };
    let otlp = Otlp::from_env(runtime.handle(), http)?;
    let log_filter = logs::install(&process.logging, &otlp)?;
    logs::log_panics();
    let ended = runtime.block_on(work(log_filter));
    if let Err(error) = &ended {
        tracing::error!(error = logs::chain(error.as_ref()), "exiting because of an error");
    }
    otlp.shutdown();
    // Remaining tasks must not keep the process running.
    runtime.shutdown_background();
    Ok(if ended.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs another command, on this thread.
fn run_once(work: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    // Keys and secrets may be in memory from now on.
    core_dumps::disable();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("failed to start the runtime")?.block_on(work)
}

/// Reads `NAMESPACE/NAME`.
fn parse_namespaced_name(text: &str) -> Option<NamespacedName> {
    let part = |part: &str| part.parse::<ObjectName>().ok().map(|name| name.to_string());
    let (namespace, name) = text.split_once('/')?;
    Some(NamespacedName { namespace: part(namespace)?, name: part(name)? })
}

/// The clients for requests outside the cluster.
fn http_clients(egress: &EgressConfig) -> Result<HttpClients, ClientError> {
    let servers = DnsServers::listed_or_system(&egress.dns_servers);
    let http = HttpClients::new(&Timing::STANDARD, &servers, egress.ca_bundle.as_deref())?;
    http.check_dns()?;
    Ok(http)
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

/// Prints the error and its causes, one on each line.
fn print_error(error: &anyhow::Error) {
    output::note(&format!("error: {error}"));
    for cause in error.chain().skip(1) {
        output::note(&format!("  because: {cause}"));
    }
}
