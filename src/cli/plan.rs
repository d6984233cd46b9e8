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

use self::account::Accounts;
use self::dry_run::dry_run;
use self::manifests::Manifests;
use self::observe::Observer;
use self::report::{Planned, PlannedObject, PlannedResult};
use crate::api::{MicrosoftGraphCredential, NamespacedName, WoodpeckerAccount};
use crate::cli::cluster::NamespaceArgs;
use crate::cli::output::{self, ReportFormat};
use crate::cli::woodpecker::{Remote, RemoteArgs};
use crate::core::model::OperatorPolicy;
use crate::core::timing::Timing;

/// Arguments of `plan`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    graph-credential-operator plan -f sales-eu.yaml --namespace mail\n  \
    kustomize build . | graph-credential-operator plan -f -\n\n\
    Changes nothing: the API server checks each object in a dry run, and each account is listed at Woodpecker with the \
    API key in its Secret. Nothing is sent to Microsoft, so the plan assumes that Microsoft issues a token for the \
    secret (`verify` checks that). It reads Secrets, accounts and credentials with the rights of your kubeconfig; \
    accounts and Secrets in FILE are used instead of those in the cluster.\n\n\
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
        sets_finalizers: true,
        timing: Timing::STANDARD,
    };
    let mut planned = Planned::default();
    let mut accounts = Accounts::new(&remote, &manifests);
    for manifest in &manifests.accounts {
        let (name, dry_run) =
            (NamespacedName::of(manifest), dry_run::<WoodpeckerAccount>(&remote, manifest).await?);
        let result = match dry_run.object {
            Ok(object) => accounts.add(object).await,
            Err(rejection) => {
                accounts.add_rejected(name.clone());
                PlannedResult::rejected(rejection)
            }
        };
        planned.add(PlannedObject { kind: "WoodpeckerAccount", name, change: dry_run.change, result });
    }
    for manifest in &manifests.credentials {
        let name = NamespacedName::of(manifest);
        let dry_run = dry_run::<MicrosoftGraphCredential>(&remote, manifest).await?;
        let result = match dry_run.object {
            Ok(object) => {
                let observer = Observer {
                    remote: &remote,
                    manifests: &manifests,
                    policy: &policy,
                    now: Timestamp::now(),
                };
                observer.plan(object, &mut accounts).await?
            }
            Err(rejection) => PlannedResult::rejected(rejection),
        };
        planned.add(PlannedObject { kind: "MicrosoftGraphCredential", name, change: dry_run.change, result });
    }
    args.output.print(&planned)?;
    Ok(planned.exit_code())
}
