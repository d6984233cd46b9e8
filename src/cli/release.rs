//! `release`: takes our finalizers off, so that everything can be deleted without the operator. Nothing is sent to
//! Woodpecker or the store; what stays there is named.

mod finalizers;
mod holdings;
mod standstill;

use std::process::ExitCode;

use clap::Args;
use kube::Client;
use kube::api::DynamicObject;

use self::finalizers::Finalized;
use self::holdings::left_behind;
use super::cluster;
use super::keyring::PaceArgs;
use super::output;
use crate::app::kubernetes;
use crate::resources::{MicrosoftGraphCredential, WoodpeckerAccount};
use crate::settings::{LeaseSettings, ObjectName};

/// What `release` can be told.
#[derive(Debug, Args)]
#[command(
    after_help = "For the end of the operator: afterwards its objects, its CRDs and their namespaces can be \
    deleted without it. Credentials stay at Woodpecker and in the store, also with deletionPolicy Delete, and each is named with its \
    account and id. Stop the operator first: it would put its finalizers on again.\n\n\
    Exit codes: 0 no object has a finalizer of the operator any more; 3 some have, and --yes was not given; 1 a failure; \
    2 a bad command line."
)]
pub(super) struct ReleaseArgs {
    /// Namespace whose objects are released; may be repeated or hold a comma-separated list. Without it, all namespaces
    #[arg(long = "namespace", env = "GCO_WATCH_NAMESPACES", value_delimiter = ',', value_name = "NAMESPACE")]
    namespaces: Vec<ObjectName>,

    /// Do it. Without it, what would be done is shown
    #[arg(long)]
    yes: bool,

    /// Do it although an operator leads, or although that cannot be told
    #[arg(long)]
    force: bool,

    /// Deployment of the operator, in its namespace: with --yes it is first scaled to zero, and its end is awaited
    #[arg(long, value_name = "NAME")]
    stop_deployment: Option<ObjectName>,

    /// Namespace of the operator's Lease. Without it, the namespace of the pod or of the kubeconfig's context
    #[arg(long, env = "GCO_OPERATOR_NAMESPACE", value_name = "NAMESPACE")]
    operator_namespace: Option<String>,

    #[command(flatten)]
    lease: LeaseSettings,

    #[command(flatten)]
    pace: PaceArgs,
}

/// Releases the objects and prints what became of each.
pub(super) async fn run(args: &ReleaseArgs) -> anyhow::Result<ExitCode> {
    let timing = args.pace.timing();
    let cluster = kubernetes::connect(args.operator_namespace.as_deref(), &timing).await?;
    if args.yes {
        standstill::ensure(args, &cluster, &timing).await?;
    }
    let namespaces: Vec<String> = args.namespaces.iter().map(ToString::to_string).collect();
    let client = &cluster.client;
    let (credentials, finalized) = look(client, &namespaces).await?;
    if !args.yes {
        return show(&finalized, &credentials);
    }
    // Told first: whoever is released may be gone at once, and what it held with it.
    output::print(&left_behind(&credentials))?;
    let mut has_failed = false;
    for object in &finalized {
        let released = object.release(client, timing.lease_retry).await;
        has_failed |= released.is_err();
        output::print(&match released {
            Ok(()) => format!("released {object}\n"),
            Err(problem) => format!("not released {object}: {problem}\n"),
        })?;
    }
    if has_failed {
        return Ok(ExitCode::FAILURE);
    }
    check(client, &namespaces).await
}

/// Whoever runs beside us may have put a finalizer on again.
async fn check(client: &Client, namespaces: &[String]) -> anyhow::Result<ExitCode> {
    let (_, again) = look(client, namespaces).await?;
    for object in &again {
        output::print(&format!(
            "not released {object}: it has a finalizer again; stop the operator first\n"
        ))?;
    }
    if !again.is_empty() {
        return Ok(ExitCode::FAILURE);
    }
    output::print("all are released\n")?;
    Ok(ExitCode::SUCCESS)
}

/// Shows what would be done.
fn show(finalized: &[Finalized], credentials: &[DynamicObject]) -> anyhow::Result<ExitCode> {
    let mut lines: Vec<String> = finalized.iter().map(|it| format!("would release {it}\n")).collect();
    lines.push(left_behind(credentials));
    let (end, code) = if finalized.is_empty() {
        ("nothing is to be released\n", ExitCode::SUCCESS)
    } else {
        ("nothing was changed: add --yes to release them\n", ExitCode::from(3))
    };
    lines.push(end.to_owned());
    output::print(&lines.concat())?;
    Ok(code)
}

/// All credentials, and everything with a finalizer of ours; none where the cluster does not know their kinds any more. An
/// account comes last: its credentials are reached through it.
async fn look(
    client: &Client,
    namespaces: &[String],
) -> anyhow::Result<(Vec<DynamicObject>, Vec<Finalized>)> {
    let credentials = cluster::list_if_known::<MicrosoftGraphCredential>(client, namespaces).await?;
    let credentials = credentials.unwrap_or_default();
    let accounts = cluster::list_if_known::<WoodpeckerAccount>(client, namespaces).await?;
    let mut finalized = Finalized::among::<MicrosoftGraphCredential>(&credentials);
    finalized.extend(Finalized::among::<WoodpeckerAccount>(&accounts.unwrap_or_default()));
    Ok((credentials, finalized))
}
