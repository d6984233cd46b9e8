//! `remove-finalizers`: removes the operator's finalizers, so that all objects can be deleted without it. It changes nothing at
//! Woodpecker or in the store, and lists what remains there.

mod finalizers;
pub mod leftovers;
pub mod stop_operator;

use std::process::ExitCode;

use clap::Args;
use kube::Client;
use kube::api::DynamicObject;

use self::finalizers::FinalizedObject;
use self::leftovers::left_behind;
use crate::api::{MicrosoftGraphCredential, WoodpeckerAccount};
use crate::cli::cluster::{self, ClusterArgs, ConfirmArgs, NamespacesArgs};
use crate::cli::keyring::TimingArgs;
use crate::cli::{kubernetes, output};
use crate::config::{LeaseSettings, ObjectName};

/// Arguments of `remove-finalizers`.
#[derive(Debug, Args)]
#[command(
    after_help = "Run this before you remove the operator: afterwards its objects, its CRDs and their namespaces can \
    be deleted without it. Credentials remain at Woodpecker and in the store, even with deletionPolicy Delete; the \
    command lists each of them with its account and id. Stop the operator first, because it would set its finalizers \
    again.\n\n\
    Exit codes: 0 no object has a finalizer of the operator; 3 some have, and --yes was not given; 1 failure; 2 \
    invalid command line."
)]
pub(super) struct RemoveFinalizersArgs {
    #[command(flatten)]
    namespaces: NamespacesArgs,

    /// Remove the finalizers without a question. Without this flag and without a terminal, the command only shows what
    /// it would remove
    #[arg(short, long)]
    yes: bool,

    /// Remove the finalizers even if an operator leads, or if that cannot be determined
    #[arg(long)]
    force: bool,

    /// Deployment of the operator, in its namespace. With --yes, the command first scales it to zero and waits until
    /// the operator has stopped
    #[arg(long, value_name = "NAME")]
    stop_deployment: Option<ObjectName>,

    /// Do nothing, with exit code 0, unless helm installed the Deployment of --stop-deployment as this release. For the
    /// chart's hook: tools that only render the chart run it when they install the operator
    #[arg(long, value_name = "NAME", requires = "stop_deployment")]
    only_if_release: Option<String>,

    /// Namespace of the operator's Lease. Defaults to the namespace of the pod or of the kubeconfig's context
    #[arg(long, env = "GCO_OPERATOR_NAMESPACE", value_name = "NAMESPACE")]
    operator_namespace: Option<String>,

    #[command(flatten)]
    cluster: ClusterArgs,

    #[command(flatten)]
    lease: LeaseSettings,

    #[command(flatten)]
    timing: TimingArgs,
}

/// Removes the finalizers and prints the result for each object.
pub(super) async fn run(args: &RemoveFinalizersArgs) -> anyhow::Result<ExitCode> {
    let timing = args.timing.timing();
    let cluster = args.cluster.connect(args.operator_namespace.as_deref(), &timing)?;
    if let (Some(release), Some(deployment)) = (&args.only_if_release, &args.stop_deployment)
        && !stop_operator::is_of_release(release, deployment, &cluster).await?
    {
        return Ok(ExitCode::SUCCESS);
    }
    let namespaces = args.namespaces.list();
    let client = &cluster.client;
    if !args.yes {
        let (credentials, finalized) = find(client, &namespaces).await?;
        let code = show(&finalized, &credentials)?;
        if finalized.is_empty() || !cluster::is_interactive() {
            return Ok(code);
        }
    }
    let action = format!("remove the finalizers of the operator in {}", args.namespaces.shown());
    ConfirmArgs { yes: args.yes }.confirm(&cluster, &action)?;
    stop_operator::ensure(args, &cluster, &timing).await?;
    let (credentials, finalized) = find(client, &namespaces).await?;
    // Printed first, because objects may be deleted as soon as their finalizers are removed.
    left_behind(&credentials).print()?;
    let mut has_failed = false;
    for object in &finalized {
        let removed = object.remove_finalizers(client, timing.lease_retry).await;
        has_failed |= removed.is_err();
        output::print(&match removed {
            Ok(()) => format!("removed the finalizers of {object}\n"),
            Err(problem) => format!("failed to remove the finalizers of {object}: {problem}\n"),
        })?;
    }
    if has_failed {
        return Ok(ExitCode::FAILURE);
    }
    check(client, &namespaces).await
}

/// Checks that no running operator has set a finalizer again.
async fn check(client: &Client, namespaces: &[String]) -> anyhow::Result<ExitCode> {
    let (_, again) = find(client, namespaces).await?;
    for object in &again {
        output::print(&format!(
            "failed to remove the finalizers of {object}: it has a finalizer again; stop the operator first\n"
        ))?;
    }
    if !again.is_empty() {
        return Ok(ExitCode::FAILURE);
    }
    output::print("no object has a finalizer of the operator\n")?;
    Ok(ExitCode::SUCCESS)
}

/// Prints what the command would do.
fn show(finalized: &[FinalizedObject], credentials: &[DynamicObject]) -> anyhow::Result<ExitCode> {
    for object in finalized {
        output::print(&format!("would remove the finalizers of {object}\n"))?;
    }
    left_behind(credentials).print()?;
    let (end, code) = if finalized.is_empty() {
        ("there are no finalizers to remove\n", ExitCode::SUCCESS)
    } else {
        ("nothing was changed: add --yes to remove them\n", ExitCode::from(3))
    };
    output::print(end)?;
    Ok(code)
}

/// All credentials, and all objects with a finalizer of the operator; none if the cluster no longer knows their kinds.
/// Accounts come last, because their credentials need them.
async fn find(
    client: &Client,
    namespaces: &[String],
) -> anyhow::Result<(Vec<DynamicObject>, Vec<FinalizedObject>)> {
    let credentials = kubernetes::list_if_known::<MicrosoftGraphCredential>(client, namespaces).await?;
    let credentials = credentials.unwrap_or_default();
    let accounts = kubernetes::list_if_known::<WoodpeckerAccount>(client, namespaces).await?;
    let mut finalized = FinalizedObject::among::<MicrosoftGraphCredential>(&credentials);
    finalized.extend(FinalizedObject::among::<WoodpeckerAccount>(&accounts.unwrap_or_default()));
    Ok((credentials, finalized))
}
