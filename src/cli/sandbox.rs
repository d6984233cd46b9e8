//! `sandbox`: serves the credentials API in memory, with magic values that provoke each answer.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;

use crate::config::LogSettings;
use crate::sandbox::{self, SandboxSettings};
use crate::telemetry::logs;
use crate::telemetry::otlp::Otlp;

const DEFAULT_ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8445);

#[derive(Debug, Args)]
pub(super) struct SandboxArgs {
    /// Address of the sandbox. Only programs on this machine reach the default one. Everybody who reaches the address
    /// can use the sandbox, because its API key is public
    #[arg(long, default_value_t = DEFAULT_ADDRESS, value_name = "ADDRESS:PORT")]
    address: SocketAddr,

    /// Further name of this machine in the Host header, such as the name of a container. Repeatable. Addresses and
    /// localhost are always allowed
    #[arg(long = "allowed-host", value_name = "NAME", value_parser = host_name)]
    allowed_hosts: Vec<String>,

    /// File that keeps the data, so that they survive a restart. Its key is written beside it, as FILE.key, and protects
    /// nothing there
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,

    /// Reject fields and headers that the API does not know, instead of ignoring them
    #[arg(long)]
    strict: bool,

    /// Do not emulate Woodpecker's limits: one request at a time, six more queued for at most 15 s, and 429 for all others
    #[arg(long)]
    no_limits: bool,

    #[command(flatten)]
    logging: LogSettings,
}

/// A name without a port: requests may use any.
fn host_name(text: &str) -> Result<String, String> {
    let is_name =
        !text.is_empty() && text.bytes().all(|it| it.is_ascii_alphanumeric() || b"-._".contains(&it));
    if is_name {
        Ok(text.to_owned())
    } else {
        Err("specify a name alone, without scheme and port".to_owned())
    }
}

/// Serves until a signal.
pub(super) fn run(args: SandboxArgs) -> anyhow::Result<ExitCode> {
    // Nothing that it does takes long, and threads that wake each other do.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("failed to start the runtime")?;
    logs::install(&args.logging, &Otlp::default())?;
    logs::log_panics();
    let settings = SandboxSettings {
        address: args.address,
        hosts: args.allowed_hosts,
        file: args.file,
        is_strict: args.strict,
        has_limits: !args.no_limits,
    };
    let ended = runtime.block_on(sandbox::serve(settings));
    runtime.shutdown_background();
    ended.map(|()| ExitCode::SUCCESS)
}
