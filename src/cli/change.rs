//! `reconcile`, `rotate`, `suspend` and `resume`: changes of credentials whose result is waited for and shown.

mod gitops;
mod rotate;
mod wait;

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use jiff::Timestamp;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use self::gitops::managed_by;
pub(super) use self::rotate::RotateArgs;
use self::wait::{Awaited, Pending, Results};
use crate::api::duration::KubeDuration;
use crate::api::reasons::Kind;
use crate::api::{MicrosoftGraphCredential, NamespacedName, RECONCILE_REQUESTED_AT, REMOVE_UNKNOWN_SECRETS};
use crate::cli::cluster::{ClusterArgs, ConfirmArgs, NamespaceArgs};
use crate::cli::objects::ObjectState;
use crate::cli::output::{self, Format};
use crate::cli::{kubernetes, object_arg};
use crate::config::ObjectName;
use crate::core::timing::Timing;
use crate::k8s::client::Cluster;

/// Field manager of changes by a person with these commands. Flux undoes what a manager has changed whose name begins with
/// `kubectl`. Source: `DefaultFieldManagers` of kustomize-controller and `patch.go` of fluxcd/pkg/ssa.
const FIELD_MANAGER: &str = "graph-credentials-cli";

/// How many names a question lists.
const MAX_NAMES: usize = 10;

/// Arguments of `reconcile`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    graph-credential-operator reconcile sales-eu --namespace mail\n  \
    graph-credential-operator reconcile --all --all-namespaces --yes\n\n\
    Sets the annotation graph-credentials.io/reconcile-requested-at: the operator then reads the Secret, asks Microsoft \
    for a token, and checks the registration, whatever is planned. You can interrupt the command and run it again.\n\n\
    Exit codes: 0 the credentials are Ready; 3 some are not, or not yet; 1 failure, or the operator did not respond in time; 2 \
    invalid command line.")]
pub(super) struct ReconcileArgs {
    #[command(flatten)]
    change: ChangeArgs,
}

/// Arguments of `suspend`.
#[derive(Debug, Args)]
#[command(
    after_help = "Sets spec.suspend. The operator then leaves the credential and its registration as they are, until \
    `resume`. If you delete a suspended credential, its registration stays at Woodpecker, also with deletionPolicy \
    Delete. If Argo CD or Flux applies the object, it may set the field back: the command says how to suspend it \
    there.\n\n\
    Exit codes: 0 the credentials are suspended; 1 failure, or the field was set back, or the operator did not respond \
    in time; 2 invalid command line."
)]
pub(super) struct SuspendArgs {
    #[command(flatten)]
    change: ChangeArgs,
}

/// Arguments of `resume`.
#[derive(Debug, Args)]
#[command(
    after_help = "Removes spec.suspend, and waits until the operator has reconciled the credential.\n\n\
    Exit codes: 0 the credentials are Ready; 3 some are not, or not yet; 1 failure, or the operator did not respond in time; 2 \
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
    #[arg(
        value_name = "NAME",
        value_parser = object_arg::credential,
        required_unless_present = "all",
        conflicts_with = "all"
    )]
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
    Rotate {
        without_overlap: bool,
    },
    /// Removes the client secrets that nothing records.
    RemoveUnknown,
    Suspend,
    Resume,
}

pub(super) async fn reconcile(args: &ReconcileArgs) -> anyhow::Result<ExitCode> {
    run(&args.change, Change::Reconcile).await
}

pub(super) async fn rotate(args: &RotateArgs) -> anyhow::Result<ExitCode> {
    run(&args.change, args.change()).await
}

pub(super) async fn suspend(args: &SuspendArgs) -> anyhow::Result<ExitCode> {
    run(&args.change, Change::Suspend).await
}

pub(super) async fn resume(args: &ResumeArgs) -> anyhow::Result<ExitCode> {
    run(&args.change, Change::Resume).await
}

async fn run(args: &ChangeArgs, change: Change) -> anyhow::Result<ExitCode> {
    let cluster = args.cluster.connect(None, &Timing::STANDARD)?;
    let targets = change.applicable(selected(args, &cluster).await?, args.all)?;
    if targets.is_empty() {
        output::note("there is nothing to change");
        return Results::default().print(args.output, change);
    }
    args.confirm.confirm(&cluster, &change.question(&targets))?;
    let pending = apply(&cluster.client, targets, change).await?;
    if args.no_wait {
        return Results::unfinished(&pending).print(args.output, change);
    }
    let results = wait::until(&cluster.client, pending, change, args.timeout.get()).await?;
    results.print(args.output, change)
}

/// The credentials in words.
fn named(targets: &[ObjectState]) -> String {
    let names: Vec<String> = targets.iter().take(MAX_NAMES).map(|target| target.name.to_string()).collect();
    let more = match targets.len().saturating_sub(MAX_NAMES) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let kind = if targets.len() == 1 { "MicrosoftGraphCredential" } else { "MicrosoftGraphCredentials" };
    format!("{kind} {}{more}", names.join(", "))
}

/// The credentials that the command line names.
async fn selected(args: &ChangeArgs, cluster: &Cluster) -> anyhow::Result<Vec<ObjectState>> {
    let (client, now) = (&cluster.client, Timestamp::now());
    let mut selected = Vec::new();
    if args.all {
        let objects =
            kubernetes::list::<MicrosoftGraphCredential>(client, &args.namespace.list(cluster)).await?;
        selected.extend(objects.into_iter().map(|object| ObjectState::of(Kind::Credential, object, now)));
        return Ok(selected);
    }
    let namespace = args.namespace.require_single(cluster)?;
    for name in &args.names {
        let name = NamespacedName { namespace: namespace.to_owned(), name: name.to_string() };
        let object = kubernetes::get::<MicrosoftGraphCredential>(client, &name).await?;
        selected.push(ObjectState::of(Kind::Credential, object, now));
    }
    Ok(selected)
}

/// Changes each object, and returns what to wait for.
async fn apply(client: &Client, targets: Vec<ObjectState>, change: Change) -> anyhow::Result<Vec<Pending>> {
    let kind = ApiResource::erase::<MicrosoftGraphCredential>(&());
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let value = Timestamp::now().to_string();
    let mut changed = Vec::new();
    for target in targets {
        let name = target.name.clone();
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &name.namespace, &kind);
        let patch = Patch::Merge(change.patch(&value, &target));
        let patched = api.patch(&name.name, &params, &patch).await;
        let object = patched.map_err(|error| {
            let advice = kubernetes::advice(&error, &format!("patch MicrosoftGraphCredential {name}"));
            let before = match changed.len() {
                0 => "nothing was changed".to_owned(),
                before => format!("{before} others are changed, so run the command again for the rest"),
            };
            anyhow::Error::from(error).context(format!("{advice}; {before}"))
        })?;
        if change.is_of_spec()
            && let Some(advice) = managed_by(&object)
        {
            output::note(&format!("MicrosoftGraphCredential {name}: {advice}"));
        }
        changed.push(Pending::new(object, change.awaited(&value, &target)));
    }
    Ok(changed)
}

// === impl Change ===

impl Change {
    /// What is done to credentials.
    fn as_str(self) -> &'static str {
        match self {
            Self::Reconcile => "reconcile",
            Self::Rotate { .. } => "create a new client secret at Microsoft Entra for",
            Self::RemoveUnknown => "remove",
            Self::Suspend => "suspend",
            Self::Resume => "resume",
        }
    }

    /// What was done, of several credentials.
    fn participle(self) -> &'static str {
        match self {
            Self::Reconcile => "reconciled",
            Self::Rotate { .. } => "rotated",
            Self::RemoveUnknown => "cleaned up",
            Self::Suspend => "suspended",
            Self::Resume => "resumed",
        }
    }

    /// Whether it changes the spec, which a GitOps tool may put back.
    fn is_of_spec(self) -> bool {
        match self {
            Self::Reconcile | Self::Rotate { .. } | Self::RemoveUnknown => false,
            Self::Suspend | Self::Resume => true,
        }
    }

    /// What is to be confirmed.
    fn question(self, targets: &[ObjectState]) -> String {
        let without_overlap = self == Self::Rotate { without_overlap: true };
        match self {
            Self::RemoveUnknown => format!("{} {}", self.as_str(), rotate::named_unknown(targets)),
            _ if without_overlap => format!(
                "{} {}, and remove the one in use as soon as the new one is registered",
                self.as_str(),
                named(targets)
            ),
            _ => format!("{} {}", self.as_str(), named(targets)),
        }
    }

    /// The objects that the change is for. With `--all`, others are skipped.
    fn applicable(self, found: Vec<ObjectState>, is_all: bool) -> anyhow::Result<Vec<ObjectState>> {
        let mut targets = Vec::new();
        for state in found {
            let Some(problem) = self.problem(&state) else {
                targets.push(state);
                continue;
            };
            let text = format!("MicrosoftGraphCredential {} {problem}", state.name);
            // An object in which nothing is to be removed is as wanted.
            let is_done = self == Self::RemoveUnknown && rotate::unknown_keys(&state).is_empty();
            match (is_all, is_done) {
                (false, false) => bail!("{text}"),
                (true, true) => {}
                (false, true) | (true, false) => output::note(&text),
            }
        }
        Ok(targets)
    }

    /// Why the change is not for that object.
    fn problem(self, state: &ObjectState) -> Option<&'static str> {
        match self {
            Self::RemoveUnknown if rotate::unknown_keys(state).is_empty() => Some(rotate::NOTHING_UNKNOWN),
            Self::Reconcile | Self::Rotate { .. } | Self::RemoveUnknown if state.is_suspended() => {
                Some("is suspended, so the operator does not reconcile it: resume it first")
            }
            Self::Rotate { .. } => rotate::problem(state),
            Self::Suspend if state.is_deleted() => Some(
                "is being deleted, and its registration would stay at Woodpecker if it were suspended now",
            ),
            Self::Reconcile | Self::RemoveUnknown | Self::Suspend | Self::Resume => None,
        }
    }

    /// What is waited for after the change of that object.
    fn awaited(self, value: &str, before: &ObjectState) -> Awaited {
        match self {
            Self::Reconcile => Awaited::Reconcile(value.to_owned()),
            Self::Rotate { .. } => Awaited::Rotation(rotate::Request::new(value, before)),
            Self::RemoveUnknown => Awaited::Removal(rotate::Removal::new(before)),
            Self::Suspend | Self::Resume => Awaited::Spec,
        }
    }

    /// The uid makes the API server refuse a patch of an object that was re-created meanwhile.
    fn patch(self, value: &str, state: &ObjectState) -> Value {
        let uid = state.object.metadata.uid.as_deref();
        let annotate = |annotations: Value| json!({"metadata": {"uid": uid, "annotations": annotations}});
        match self {
            Self::Reconcile => annotate(json!({RECONCILE_REQUESTED_AT: value})),
            Self::Rotate { without_overlap } => annotate(rotate::annotations(value, without_overlap)),
            Self::RemoveUnknown => {
                annotate(json!({REMOVE_UNKNOWN_SECRETS: rotate::unknown_keys(state).join(",")}))
            }
            Self::Suspend => json!({"metadata": {"uid": uid}, "spec": {"suspend": true}}),
            Self::Resume => json!({"metadata": {"uid": uid}, "spec": {"suspend": null}}),
        }
    }
}
