//! `reconcile`, `suspend` and `resume`: changes of credentials whose result is waited for and shown.

mod gitops;
mod wait;

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use self::gitops::managed_by;
use self::wait::Goal;
use crate::api::duration::KubeDuration;
use crate::api::reasons::Kind;
use crate::api::{MicrosoftGraphCredential, NamespacedName, RECONCILE_REQUESTED_AT};
use crate::cli::cluster::{ClusterArgs, ConfirmArgs, NamespaceArgs};
use crate::cli::describe::get;
use crate::cli::kubernetes;
use crate::cli::objects::ObjectState;
use crate::cli::output::{self, Format};
use crate::config::ObjectName;
use crate::core::timing::Timing;
use crate::k8s::client::Cluster;

/// Field manager of changes by a person with this command.
const FIELD_MANAGER: &str = "kubectl-graph-credentials";

/// Arguments of `reconcile`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    graph-credential-operator reconcile sales-eu --namespace mail\n  \
    graph-credential-operator reconcile --all --all-namespaces --yes\n\n\
    Sets the annotation graph-credentials.io/reconcile-requested-at: the operator then reads the Secret, asks Microsoft \
    for a token, and checks the registration, whatever is planned. You can interrupt the command and run it again.\n\n\
    Exit codes: 0 the credentials are Ready; 3 some are not; 1 failure, or the operator did not finish in time; 2 \
    invalid command line.")]
pub(super) struct ReconcileArgs {
    #[command(flatten)]
    change: ChangeArgs,
}

/// Arguments of `suspend`.
#[derive(Debug, Args)]
#[command(
    after_help = "Sets spec.suspend. The operator then leaves the credential and its registration as they are, until \
    `resume`. If Argo CD or Flux applies the object, it may set the field back: the command says how to suspend it there.\n\n\
    Exit codes: 0 success; 1 failure, or the operator did not finish in time; 2 invalid command line."
)]
pub(super) struct SuspendArgs {
    #[command(flatten)]
    change: ChangeArgs,
}

/// Arguments of `resume`.
#[derive(Debug, Args)]
#[command(
    after_help = "Removes spec.suspend, and waits until the operator has reconciled the credential.\n\n\
    Exit codes: 0 the credentials are Ready; 3 some are not; 1 failure, or the operator did not finish in time; 2 \
    invalid command line."
)]
pub(super) struct ResumeArgs {
    #[command(flatten)]
    change: ChangeArgs,
}

/// Which credentials are changed, and how long to wait.
#[derive(Debug, Args)]
struct ChangeArgs {
    /// Name of a MicrosoftGraphCredential. Repeatable
    #[arg(value_name = "NAME", required_unless_present = "all", conflicts_with = "all")]
    names: Vec<ObjectName>,

    /// All credentials of the namespace
    #[arg(long)]
    all: bool,

    /// Do not wait for the operator
    #[arg(long)]
    no_wait: bool,

    /// How long to wait for the operator
    #[arg(long, default_value = "5m", value_name = "DURATION")]
    timeout: KubeDuration,

    /// Output format
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Format,

    #[command(flatten)]
    confirm: ConfirmArgs,

    #[command(flatten)]
    namespace: NamespaceArgs,

    #[command(flatten)]
    cluster: ClusterArgs,
}

/// What is done to each credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Reconcile,
    Suspend,
    Resume,
}

pub(super) async fn reconcile(args: &ReconcileArgs) -> anyhow::Result<ExitCode> {
    run(&args.change, Change::Reconcile).await
}

pub(super) async fn suspend(args: &SuspendArgs) -> anyhow::Result<ExitCode> {
    run(&args.change, Change::Suspend).await
}

pub(super) async fn resume(args: &ResumeArgs) -> anyhow::Result<ExitCode> {
    run(&args.change, Change::Resume).await
}

async fn run(args: &ChangeArgs, change: Change) -> anyhow::Result<ExitCode> {
    let cluster = args.cluster.connect(None, &Timing::STANDARD)?;
    let client = &cluster.client;
    let targets = change.applicable(selected(args, &cluster).await?)?;
    let Some(first) = targets.first() else {
        output::print("there is nothing to change\n")?;
        return Ok(ExitCode::SUCCESS);
    };
    let what = match targets.as_slice() {
        [_] => format!("MicrosoftGraphCredential {}", first.name),
        targets => {
            format!("{} MicrosoftGraphCredentials in {}", targets.len(), args.namespace.shown(&cluster))
        }
    };
    args.confirm.confirm(&cluster, &format!("{} {what}", change.as_str()))?;
    let value = jiff::Timestamp::now().to_string();
    for target in &targets {
        apply(client, target, change, &value).await?;
        if change != Change::Reconcile
            && let Some(advice) = managed_by(&target.object)
        {
            output::note(&format!("MicrosoftGraphCredential {}: {advice}", target.name));
        }
    }
    if args.no_wait {
        output::print(&format!("changed {what}; the operator continues in the background\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let goal = match change {
        Change::Reconcile => Goal::Handled(value),
        Change::Suspend | Change::Resume => Goal::Observed,
    };
    let names = targets.into_iter().map(|target| target.name).collect();
    let results = wait::until(client, names, &goal, args.timeout.get()).await?;
    let code = results.exit_code(change == Change::Suspend);
    results.print(args.output)?;
    Ok(code)
}

/// The credentials that the command line names.
async fn selected(args: &ChangeArgs, cluster: &Cluster) -> anyhow::Result<Vec<ObjectState>> {
    let client = &cluster.client;
    let mut selected = Vec::new();
    if args.all {
        let objects =
            kubernetes::list::<MicrosoftGraphCredential>(client, &args.namespace.list(cluster)).await?;
        selected.extend(objects.into_iter().map(|object| ObjectState::of(Kind::Credential, object)));
        return Ok(selected);
    }
    let namespace = args.namespace.one(cluster)?;
    for name in &args.names {
        let name = NamespacedName { namespace: namespace.to_owned(), name: name.to_string() };
        let object = get::<MicrosoftGraphCredential>(client, Kind::Credential, &name).await?;
        selected.push(ObjectState::of(Kind::Credential, object));
    }
    Ok(selected)
}

async fn apply(client: &Client, target: &ObjectState, change: Change, value: &str) -> anyhow::Result<()> {
    let kind = ApiResource::erase::<MicrosoftGraphCredential>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &target.name.namespace, &kind);
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let patched = api.patch(&target.name.name, &params, &Patch::Merge(change.patch(value))).await;
    let context = || {
        format!(
            "failed to change MicrosoftGraphCredential {}: you need the right to patch it. Those before it are changed: run the command again for the others",
            target.name
        )
    };
    patched.map(|_| ()).with_context(context)
}

// === impl Change ===

impl Change {
    fn as_str(self) -> &'static str {
        match self {
            Self::Reconcile => "reconcile",
            Self::Suspend => "suspend",
            Self::Resume => "resume",
        }
    }

    /// The objects that the change is for. A suspended object is not reconciled.
    fn applicable(self, found: Vec<ObjectState>) -> anyhow::Result<Vec<ObjectState>> {
        let is_single = found.len() == 1;
        let (targets, others): (Vec<_>, Vec<_>) = found.into_iter().partition(|state| match self {
            Self::Reconcile | Self::Suspend => !state.is_suspended(),
            Self::Resume => state.is_suspended(),
        });
        for state in &others {
            let problem = match self {
                Self::Reconcile => "is suspended, so the operator does not reconcile it: resume it first",
                Self::Suspend => "is already suspended",
                Self::Resume => "is not suspended",
            };
            let text = format!("MicrosoftGraphCredential {} {problem}", state.name);
            if is_single && self == Self::Reconcile {
                bail!("{text}");
            }
            output::note(&text);
        }
        Ok(targets)
    }

    fn patch(self, value: &str) -> Value {
        match self {
            Self::Reconcile => json!({"metadata": {"annotations": {RECONCILE_REQUESTED_AT: value}}}),
            Self::Suspend => json!({"spec": {"suspend": true}}),
            Self::Resume => json!({"spec": {"suspend": null}}),
        }
    }
}
