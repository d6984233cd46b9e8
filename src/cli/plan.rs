//! `plan`: what the API server and the operator would do with the objects of a file. Nothing is changed.

mod account;
mod dry_run;
mod manifests;
mod observe;
mod report;
mod sentences;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;
use kube::Resource;
use kube::api::DynamicObject;

use self::account::Accounts;
use self::dry_run::{Change, Rejection, dry_run};
use self::manifests::Manifests;
use self::observe::Planner;
use self::report::{Planned, PlannedObject, PlannedResult};
use crate::api::{MicrosoftGraphCredential, NamespacedName, WoodpeckerAccount};
use crate::cli::cluster::{NamespaceArgs, ServedArgs};
use crate::cli::output::{self, ReportFormat};
use crate::cli::woodpecker::{Remote, RemoteArgs};
use crate::config::FinalizerSettings;
use crate::core::model::OperatorPolicy;
use crate::core::timing::Timing;

/// Arguments of `plan`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    graph-credential-operator plan -f sales-eu.yaml --namespace mail\n  \
    kustomize build . | graph-credential-operator plan -f -\n\n\
    Changes nothing. The API server applies each object in a dry run, for which you need the right to create or update \
    it. Each account is listed at Woodpecker with the API key in its Secret. Nothing is sent to Microsoft, so the plan \
    assumes that Microsoft issues a token for the secret (`verify` checks that). Secrets, accounts and credentials are \
    read with your rights; the plan says what it assumes about those that you may not read. Accounts and Secrets in \
    FILE are used instead of those in the cluster. If the operator does not run with the default flags, add the same \
    ones.\n\n\
    Exit codes: 0 every object would become Ready, as far as the plan can see; 3 the API server rejects an object, or the \
    operator would not make it Ready; 1 failure; 2 invalid command line.")]
pub(super) struct PlanArgs {
    /// File with the objects, as YAML or JSON; - is standard input
    #[arg(short = 'f', long = "filename", value_name = "FILE")]
    file: PathBuf,

    /// Plan for an operator that runs with --allow-unverified
    #[arg(long)]
    allow_unverified: bool,

    /// Output format
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: ReportFormat,

    #[command(flatten)]
    finalizers: FinalizerSettings,

    #[command(flatten)]
    served: ServedArgs,

    #[command(flatten)]
    namespace: NamespaceArgs,

    #[command(flatten)]
    remote: RemoteArgs,
}

/// Prints the plan.
pub(super) async fn run(args: &PlanArgs) -> anyhow::Result<ExitCode> {
    let remote = Remote::connect(&args.remote)?;
    let namespace = args.namespace.require_single(&remote.cluster)?;
    let manifests = Manifests::read(&args.file, namespace)?;
    for other in &manifests.others {
        output::note(&format!("not part of the plan: {other}"));
    }
    let policy = OperatorPolicy {
        allow_unverified: args.allow_unverified,
        sets_finalizers: args.finalizers.enable_finalizers,
        timing: Timing::STANDARD,
    };
    let mut report = Planned::default();
    let mut accounts = Accounts::new(&remote, &manifests, args.served.list());
    for manifest in &manifests.accounts {
        let name = NamespacedName::of(manifest);
        let (change, object) = checked::<WoodpeckerAccount>(&remote, &manifests, manifest).await?;
        let result = match object {
            Checked::Accepted(object) => accounts.add(&object).await,
            Checked::Rejected(rejection) => {
                accounts.add_rejected(name.clone());
                PlannedResult::rejected(rejection)
            }
        };
        report.add(PlannedObject { kind: "WoodpeckerAccount", name, change, result });
    }
    let now = Timestamp::now();
    let (remote, manifests, policy) = (&remote, &manifests, &policy);
    let mut planner = Planner { remote, manifests, policy, now, accounts, earlier: Vec::new() };
    for manifest in &manifests.credentials {
        let name = NamespacedName::of(manifest);
        let (change, object) = checked::<MicrosoftGraphCredential>(remote, manifests, manifest).await?;
        let result = match object {
            Checked::Accepted(_) if !is_served(args, &name.namespace) => PlannedResult::not_served(),
            Checked::Accepted(object) => match object.try_parse() {
                Ok(object) => Box::pin(planner.plan(object)).await?,
                Err(error) => PlannedResult::unreadable(&error),
            },
            Checked::Rejected(rejection) => PlannedResult::rejected(rejection),
        };
        report.add(PlannedObject { kind: "MicrosoftGraphCredential", name, change, result });
    }
    args.output.print(&report)?;
    Ok(report.exit_code())
}

/// What the API server says of an object.
enum Checked {
    /// The object as it would be, with its current status.
    Accepted(Box<DynamicObject>),
    Rejected(String),
}

/// Checks the object in a dry run. One whose namespace is in the file too is accepted unchecked, because the API server
/// knows no such namespace yet.
async fn checked<K>(
    remote: &Remote,
    manifests: &Manifests,
    manifest: &DynamicObject,
) -> anyhow::Result<(Change, Checked)>
where
    K: Resource<DynamicType = ()>,
{
    let dry_run = dry_run::<K>(remote, manifest).await?;
    let namespace = manifest.metadata.namespace.as_deref().unwrap_or_default();
    let checked = match dry_run.object {
        Ok(object) => Checked::Accepted(Box::new(object)),
        Err(Rejection { code: 404, .. }) if manifests.creates_namespace(namespace) => {
            output::note(&format!(
                "not checked by the API server, because namespace {namespace} does not exist yet: {}",
                NamespacedName::of(manifest)
            ));
            Checked::Accepted(Box::new(manifest.clone()))
        }
        Err(rejection) => Checked::Rejected(rejection.message),
    };
    Ok((dry_run.change, checked))
}

fn is_served(args: &PlanArgs, namespace: &str) -> bool {
    let served = args.served.list();
    served.is_empty() || served.iter().any(|name| name == namespace)
}
