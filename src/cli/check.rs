//! `check`: whether an installation works, or could: one line for each requirement, with what to do.

mod installation;
mod network;
mod report;
mod rights;

use std::process::ExitCode;

use clap::{Args, ValueEnum};

use self::report::{Checks, Finding};
use self::rights::Subject;
use crate::api::NamespacedName;
use crate::cli::cluster::{ClusterArgs, OperatorArgs, ServedArgs};
use crate::cli::output::ReportFormat;
use crate::config::{
    FinalizerSettings, GraphSettings, LeaderSettings, NetworkSettings, ObjectName, WoodpeckerSettings,
};
use crate::core::timing::Timing;

/// Arguments of `check`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    graph-credential-operator check --pre\n  \
    graph-credential-operator check --operator-namespace graph-credentials\n  \
    kubectl exec -n graph-credentials deploy/graph-credential-operator -- /graph-credential-operator check\n\n\
    Changes nothing. It reads the cluster with your rights; what you may not read is reported as unknown. Addresses are \
    looked up and reached from where the command runs, so run it in the operator's pod to check the operator's network. \
    In the pod the command also checks the rights of the operator itself; elsewhere add --service-account. `helm test` \
    runs this command with the same chart values as the operator, except extraArgs.\n\n\
    Exit codes: 0 nothing failed; 3 something failed; 1 other failure; 2 invalid command line.")]
pub(super) struct CheckArgs {
    /// Check only what an installation needs: the API server, other installations, your rights to install, and the network
    #[arg(long)]
    pre: bool,

    #[command(flatten)]
    operator: OperatorArgs,

    /// Name of the Secret with the keyring, in the operator's namespace
    #[arg(
        long,
        env = "GCO_KEYRING_SECRET",
        default_value = "graph-credential-operator-keyring",
        value_name = "NAME"
    )]
    keyring_secret: ObjectName,

    /// ServiceAccount whose rights are checked. Requires the right to create subjectaccessreviews. Defaults to the pod's
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = service_account)]
    service_account: Option<NamespacedName>,

    /// How the operator reads Secrets, as the chart's value secretAccess says
    #[arg(long, value_enum, default_value_t, value_name = "ACCESS")]
    secret_access: SecretAccess,

    /// Secret with the API keys, if the operator serves the REST API. Its further rights are checked too
    #[arg(long, env = "GCO_REST_API_KEYS_SECRET", value_name = "NAME")]
    rest_api_keys_secret: Option<ObjectName>,

    /// Do nothing, with exit code 0, unless helm installed the Deployment of --deployment as this release. For the chart's
    /// test: tools that only render the chart run it when they install the operator
    #[arg(long, value_name = "NAME", requires = "deployment")]
    only_if_release: Option<String>,

    /// Deployment of the operator, in its namespace, for --only-if-release
    #[arg(long, value_name = "NAME", requires = "only_if_release")]
    deployment: Option<ObjectName>,

    /// Output format
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: ReportFormat,

    #[command(flatten)]
    served: ServedArgs,

    #[command(flatten)]
    finalizers: FinalizerSettings,

    #[command(flatten)]
    leader: LeaderSettings,

    #[command(flatten)]
    woodpecker: WoodpeckerSettings,

    #[command(flatten)]
    network: NetworkSettings,

    #[command(flatten)]
    graph: GraphSettings,

    /// Whether the operator connects mailboxes
    #[arg(long, env = "GCO_MAILBOXES")]
    mailboxes: bool,

    #[command(flatten)]
    cluster: ClusterArgs,
}

/// How the operator reads Secrets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum SecretAccess {
    /// By name.
    #[default]
    Get,
    /// By a watch.
    Watch,
    /// Only named ones, whose rights are not checked.
    Named,
}

fn service_account(text: &str) -> Result<NamespacedName, &'static str> {
    super::parse_namespaced_name(text)
        .ok_or("it must be NAMESPACE/NAME, such as graph-credentials/graph-credential-operator")
}

/// Prints the findings.
pub(super) async fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let cluster = args.cluster.connect(args.operator.name(), &Timing::STANDARD)?;
    let mut checks = Checks::default();
    let is_reachable = installation::api_server(&cluster, &mut checks).await;
    if is_reachable {
        if !installation::is_wanted(args, &cluster, &mut checks).await {
            return Ok(ExitCode::SUCCESS);
        }
        installation::crds(&cluster.client, args.pre, &mut checks).await;
        installation::other_operators(&cluster, &mut checks).await;
        if args.pre {
            rights::to_install(&cluster.client, &cluster.namespace, &mut checks).await;
        } else {
            installation::policies(&cluster.client, &mut checks).await;
            installation::leader(&cluster, &args.leader, &mut checks).await;
            installation::keyring(&cluster, args.keyring_secret.as_str(), &mut checks).await;
            match Subject::of(args.service_account.as_ref(), cluster.runs_in_pod) {
                Some(subject) => rights::of_operator(&cluster, &subject, args, &mut checks).await,
                None => checks.add(Finding::unknown(
                    "rights",
                    "the command does not run in the operator's pod".to_owned(),
                    "add --service-account NAMESPACE/NAME to check the operator's rights",
                )),
            }
        }
    }
    network::check(args, &mut checks).await;
    let code = if checks.has_failed() { ExitCode::from(3) } else { ExitCode::SUCCESS };
    args.output.print(&checks)?;
    Ok(code)
}
