//! `orphans`: the credentials of accounts that no object has registered, by owner.

mod report;

use std::process::ExitCode;

use clap::Args;

use self::report::Report;
use crate::api::AccountName;
use crate::cli::cluster::NamespacesArgs;
use crate::cli::output::Format;
use crate::cli::ownership::Inventory;
use crate::cli::progress::Progress;
use crate::cli::woodpecker::{self, Remote, RemoteArgs};

/// Arguments of `orphans`.
#[derive(Debug, Args)]
#[command(
    after_help = "Changes nothing. It reads the API key of each account from its Secret with the rights of your \
    kubeconfig (KUBECONFIG), and sends one list request to each account. You can run it beside a running operator: \
    Woodpecker processes one request of an account at a time and queues the others.\n\n\
    orphaned: created for an object of this cluster that has not registered it (its name contains an idempotency \
    token of the object, or the object's status says so). other-operator: the name ends with another token, so an \
    operator created it, possibly in another cluster, or a deleted object left it. adoptable: for the tenant and \
    client of an object that has not registered it. unmanaged: all others.\n\n\
    Exit codes: 0 no credential is orphaned; 3 some are; 1 failure, or an account could not be listed; 2 invalid \
    command line."
)]
pub(super) struct OrphansArgs {
    /// Account to list. Defaults to all accounts of the namespaces
    #[arg(
        long,
        value_name = "NAMESPACE/NAME",
        value_parser = woodpecker::account_name,
        conflicts_with_all = ["namespaces", "all_namespaces"]
    )]
    account: Option<AccountName>,

    #[command(flatten)]
    namespaces: NamespacesArgs,

    /// Output format
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Format,

    #[command(flatten)]
    remote: RemoteArgs,
}

/// Prints the credentials of each account.
pub(super) async fn run(args: &OrphansArgs) -> anyhow::Result<ExitCode> {
    let remote = Remote::connect(&args.remote)?;
    let accounts = remote.accounts(args.account.as_ref(), &args.namespaces.list()).await?;
    let mut progress = Progress::new(accounts.len(), "accounts", "listed");
    let mut lists = Vec::new();
    // Sequentially, because several objects may be the same account at Woodpecker.
    for account in accounts {
        let listed = remote.list(&account).await;
        lists.push((woodpecker::name_of(&account), listed));
        progress.update(lists.len());
    }
    progress.finish();
    // After the lists, because the operator persists the pending create before the credential can appear in a listing.
    let inventory = Inventory::read(&remote.cluster.client).await?;
    let report = Report::new(lists, &inventory);
    args.output.print(&report)?;
    Ok(report.exit_code())
}
