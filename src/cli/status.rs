//! `status`: all credentials, accounts, identities and mailboxes, what needs attention first.

mod accounts;
mod report;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use kube::api::DynamicObject;
use kube::{Client, Resource};

use self::accounts::Fleet;
use self::report::Overview;
pub(super) use self::report::StatusReport;
use crate::api::duration::KubeDuration;
use crate::api::reasons::Kind;
use crate::api::{EntraIdentity, MicrosoftGraphCredential, WoodpeckerAccount, WoodpeckerMailboxes};
use crate::cli::cluster::{ClusterArgs, NamespaceArgs};
use crate::cli::kubernetes;
use crate::cli::objects::ObjectState;
use crate::cli::output::{self, Format, Report};
use crate::core::timing::Timing;
use crate::k8s::client::Cluster;

/// Arguments of `status`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    graph-credential-operator status --all-namespaces\n  \
    graph-credential-operator status -A --expiring 30d -o csv > expiring.csv\n  \
    graph-credential-operator status -A --by account\n  \
    graph-credential-operator status -A --accounts -o csv > accounts.csv\n\n\
    Changes nothing, and asks neither Microsoft nor Woodpecker: it shows what the operator last wrote.\n\n\
    Exit codes: 0 nothing needs attention; 3 something does: a person must act, or a secret expires soon, or with \
    --expiring there is such a credential; 1 failure; 2 invalid command line.")]
pub(super) struct StatusArgs {
    /// Only credentials whose secret has expired or expires within this time, such as 30d or 12h
    #[arg(long, value_parser = days_or_duration, value_name = "DURATION")]
    expiring: Option<Duration>,

    /// Count the credentials of each namespace or account instead
    #[arg(long, value_enum, value_name = "GROUP")]
    by: Option<Group>,

    /// One row for each account instead, with the states of its credentials in all namespaces
    #[arg(long, conflicts_with_all = ["expiring", "by"])]
    accounts: bool,

    /// Output format
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: StatusFormat,

    #[command(flatten)]
    namespace: NamespaceArgs,

    #[command(flatten)]
    cluster: ClusterArgs,
}

/// What credentials are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Group {
    /// Their namespace.
    Namespace,
    /// The account that they are registered at.
    Account,
}

/// Output format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum StatusFormat {
    /// A table for people.
    #[default]
    Table,
    /// The same with more columns.
    Wide,
    /// One JSON value.
    Json,
    /// One YAML document.
    Yaml,
    /// Only the names, one on each line.
    Name,
    /// Comma-separated values with a heading.
    Csv,
}

/// Prints the state of each object.
pub(super) async fn run(args: &StatusArgs) -> anyhow::Result<ExitCode> {
    let cluster = args.cluster.connect(None, &Timing::STANDARD)?;
    let namespaces = args.namespace.list(&cluster);
    let client = &cluster.client;
    let now = Timestamp::now();
    if args.accounts {
        return fleet(args, &cluster, now).await;
    }
    let of = |kind| move |object| ObjectState::of(kind, object, now);
    let credentials = kubernetes::list::<MicrosoftGraphCredential>(client, &namespaces).await?;
    let accounts = kubernetes::list::<WoodpeckerAccount>(client, &namespaces).await?;
    let identities = list_optional::<EntraIdentity>(client, &namespaces).await?;
    let mailboxes = list_optional::<WoodpeckerMailboxes>(client, &namespaces).await?;
    let mut report = StatusReport {
        credentials: credentials.into_iter().map(of(Kind::Credential)).collect(),
        accounts: accounts.into_iter().map(of(Kind::Account)).collect(),
        identities: identities.into_iter().map(of(Kind::Identity)).collect(),
        mailboxes: mailboxes.into_iter().map(of(Kind::Mailboxes)).collect(),
        now,
        shows_namespace: namespaces.is_empty(),
    };
    if args.by.is_some() {
        // They are counted nowhere.
        report.accounts.clear();
        report.identities.clear();
        report.mailboxes.clear();
    }
    if let Some(within) = args.expiring {
        report.keep_expiring(within);
    }
    report.sort();
    if report.is_empty() {
        output::note(&format!("nothing was found in {}", args.namespace.shown(&cluster)));
    }
    let is_found = args.expiring.is_some() && !report.is_empty() || report.needs_attention();
    let code = if is_found { ExitCode::from(3) } else { ExitCode::SUCCESS };
    match args.by {
        Some(group) => args.output.print(&Overview::of(&report, group))?,
        None => args.output.print(&report)?,
    }
    Ok(code)
}

/// Prints the accounts of the selected namespaces.
async fn fleet(args: &StatusArgs, cluster: &Cluster, now: Timestamp) -> anyhow::Result<ExitCode> {
    let (client, namespaces) = (&cluster.client, args.namespace.list(cluster));
    let of = |kind| move |object| ObjectState::of(kind, object, now);
    let accounts = kubernetes::list::<WoodpeckerAccount>(client, &namespaces).await?;
    // The clients' credentials are in other namespaces than the agency's accounts.
    let credentials = match kubernetes::list::<MicrosoftGraphCredential>(client, &[]).await {
        Err(error) if kubernetes::is_forbidden(&error) && !namespaces.is_empty() => {
            let shown = args.namespace.shown(cluster);
            output::note(&format!(
                "warning: you may not list credentials in all namespaces: only those in {shown} are counted"
            ));
            kubernetes::list::<MicrosoftGraphCredential>(client, &namespaces).await?
        }
        listed => listed?,
    };
    let credentials: Vec<ObjectState> = credentials.into_iter().map(of(Kind::Credential)).collect();
    let accounts = accounts.into_iter().map(of(Kind::Account)).collect();
    let fleet = Fleet::of(accounts, &credentials, now);
    if fleet.is_empty() {
        output::note(&format!("no account was found in {}", args.namespace.shown(cluster)));
    }
    args.output.print(&fleet)?;
    Ok(if fleet.needs_attention() { ExitCode::from(3) } else { ExitCode::SUCCESS })
}

/// The objects of a kind; none if the cluster does not know it, or for a user who may not list it.
async fn list_optional<K>(client: &Client, namespaces: &[String]) -> anyhow::Result<Vec<DynamicObject>>
where
    K: Resource<DynamicType = ()>,
{
    match kubernetes::list_if_known::<K>(client, namespaces).await {
        Ok(objects) => Ok(objects.unwrap_or_default()),
        Err(error) => match error.downcast_ref::<kube::Error>() {
            Some(kube::Error::Api(status)) if status.is_forbidden() => Ok(Vec::new()),
            _ => Err(error),
        },
    }
}

/// Days, as people count expiries, or a duration in Kubernetes' notation, which has no days.
fn days_or_duration(text: &str) -> Result<Duration, String> {
    let days = text.strip_suffix('d').and_then(|days| days.parse::<u16>().ok());
    match days {
        Some(days) => Ok(Duration::from_hours(24 * u64::from(days))),
        None => text
            .parse::<KubeDuration>()
            .map(|duration| duration.get())
            .map_err(|_| format!("{text:?} is not a duration such as 30d, 720h or 90m")),
    }
}

// === impl StatusFormat ===

impl StatusFormat {
    fn print(self, report: &(impl Report + CsvReport)) -> anyhow::Result<()> {
        let format = match self {
            Self::Table => Format::Table,
            Self::Wide => Format::Wide,
            Self::Json => Format::Json,
            Self::Yaml => Format::Yaml,
            Self::Name => Format::Name,
            Self::Csv => return output::print_csv(&report.csv()),
        };
        format.print(report)
    }
}

/// A report that can be printed as comma-separated values.
trait CsvReport {
    /// The heading and the rows.
    fn csv(&self) -> Vec<Vec<String>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expiry_is_given_in_days_or_as_a_duration() {
        let hours = |hours| Ok(Duration::from_hours(hours));
        for (text, duration) in
            [("30d", hours(720)), ("0d", hours(0)), ("12h", hours(12)), ("720h0m", hours(720))]
        {
            assert_eq!(days_or_duration(text), duration, "{text}");
        }
        for text in ["", "d", "soon", "30", "1.5d", "-1d", "99999d", "1d12h"] {
            assert!(days_or_duration(text).is_err(), "{text}");
        }
    }
}
