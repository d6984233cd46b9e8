//! `remove-finalizers`: removes the operator's finalizers, so that all objects can be deleted without it. It changes nothing at
//! Woodpecker or in the store, and lists what remains there.

mod finalizers;
pub mod leftovers;
pub mod stop_operator;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use kube::Client;
use kube::api::DynamicObject;

use self::finalizers::FinalizedObject;
use self::leftovers::left_behind;
use crate::api::{EntraIdentity, MicrosoftGraphCredential, WoodpeckerAccount};
use crate::cli::cluster::{self, ClusterArgs, OperatorArgs, ServedArgs};
use crate::cli::keyring::TimingArgs;
use crate::cli::{kubernetes, output, release};
use crate::config::{LeaseSettings, ObjectName};
use crate::k8s::client::Cluster;

/// Arguments of `remove-finalizers`.
#[derive(Debug, Args)]
#[command(
    after_help = "Run this before you remove the operator: afterwards its objects, its CRDs and their namespaces can \
    be deleted without it. Credentials remain at Woodpecker and in the store, even with deletionPolicy Delete; the \
    command lists each of them with its account and id. Stop the operator first, because it would set its finalizers \
    again.\n\n\
    Exit codes: 0 no object has a finalizer of the operator; 3 some have, and nothing was changed without --yes; 1 failure; 2 \
    invalid command line."
)]
pub(super) struct RemoveFinalizersArgs {
    #[command(flatten)]
    served: ServedArgs,

    /// Remove the finalizers without a question. Without this flag, the command shows what it would remove, and asks if
    /// there is a terminal
    #[arg(short, long)]
    yes: bool,

    /// Remove the finalizers even if an operator leads, or if that cannot be determined
    #[arg(long)]
    force: bool,

    /// Deployment of the operator, in its namespace. Before it removes finalizers, the command scales it to zero and
    /// waits until the operator has stopped
    #[arg(long, value_name = "NAME")]
    stop_deployment: Option<ObjectName>,

    /// Do nothing, with exit code 0, unless helm installed the Deployment of --stop-deployment as this release. For the
    /// chart's hook: tools that only render the chart run it when they install the operator
    #[arg(long, value_name = "NAME", requires = "stop_deployment")]
    only_if_release: Option<String>,

    #[command(flatten)]
    operator: OperatorArgs,

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
    let cluster = args.cluster.connect(args.operator.name(), &timing)?;
    if !is_wanted(args, &cluster).await? {
        return Ok(ExitCode::SUCCESS);
    }
    let namespaces = args.served.list();
    let client = &cluster.client;
    let mut action = format!("remove the finalizers of the operator in {}", args.served.shown());
    if let Some(deployment) = &args.stop_deployment {
        action = format!("scale Deployment {}/{deployment} to zero, and {action}", cluster.namespace);
    }
    if !args.yes {
        let (credentials, finalized) = find(client, &namespaces).await?;
        if !show(&finalized, &credentials)? {
            return Ok(ExitCode::SUCCESS);
        }
        if !cluster::is_interactive() || !cluster::ask(&cluster, &action)? {
            output::print("nothing was changed: add --yes to remove them\n")?;
            return Ok(ExitCode::from(3));
        }
    }
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

/// Whether helm installed the Deployment as the release of `--only-if-release`, if that is given.
async fn is_wanted(args: &RemoveFinalizersArgs, cluster: &Cluster) -> anyhow::Result<bool> {
    const CONSEQUENCE: &str =
        "nothing was changed; before you remove the operator, run this command without --only-if-release";
    let (Some(release), Some(deployment)) = (&args.only_if_release, &args.stop_deployment) else {
        return Ok(true);
    };
    release::is_of_release(release, deployment, cluster, CONSEQUENCE).await.with_context(|| {
        format!(
            "failed to read Deployment {}/{deployment}: ask for the right to get it, or omit --only-if-release",
            cluster.namespace
        )
    })
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

/// Prints what the command would do. Returns whether there is anything to do.
fn show(finalized: &[FinalizedObject], credentials: &[DynamicObject]) -> anyhow::Result<bool> {
    for object in finalized {
        output::print(&format!("would remove the finalizers of {object}\n"))?;
    }
    left_behind(credentials).print()?;
    if finalized.is_empty() {
        output::print("there are no finalizers to remove\n")?;
    }
    Ok(!finalized.is_empty())
}

/// All credentials, and all objects with a finalizer of the operator; none if the cluster no longer knows their kinds.
/// Accounts and identities come last, because their credentials need them.
async fn find(
    client: &Client,
    namespaces: &[String],
) -> anyhow::Result<(Vec<DynamicObject>, Vec<FinalizedObject>)> {
    let credentials = kubernetes::list_if_known::<MicrosoftGraphCredential>(client, namespaces).await?;
    let credentials = credentials.unwrap_or_default();
    let accounts = kubernetes::list_if_known::<WoodpeckerAccount>(client, namespaces).await?;
    let mut finalized = FinalizedObject::among::<MicrosoftGraphCredential>(&credentials);
    finalized.extend(FinalizedObject::among::<WoodpeckerAccount>(&accounts.unwrap_or_default()));
    // Only credentials whose client secrets rotate put a finalizer on an identity.
    let rotates = |object: &DynamicObject| {
        ["/spec/rotation", "/status/rotation"].iter().any(|path| object.data.pointer(path).is_some())
    };
    if credentials.iter().any(rotates) {
        let identities = kubernetes::list_if_known::<EntraIdentity>(client, namespaces).await?;
        finalized.extend(FinalizedObject::among::<EntraIdentity>(&identities.unwrap_or_default()));
    }
    Ok((credentials, finalized))
}
