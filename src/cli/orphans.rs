//! `orphans`: what accounts hold that no object has registered, told apart by whose it is.

mod report;

use std::process::ExitCode;

use clap::Args;

use self::report::Report;
use super::inventory::Inventory;
use super::output::Format;
use super::remote::{self, Remote, RemoteArgs};
use crate::resources::AccountName;

/// What `orphans` can be told.
#[derive(Debug, Args)]
#[command(
    after_help = "Changes nothing. It reads the API key of each account from its Secret with the rights of your \
    kubeconfig (KUBECONFIG), and sends one listing to each account, also beside a running operator: Woodpecker works on \
    one request of an account at a time and queues the others.\n\n\
    orphaned: made for an object of this cluster (its name carries the token of one of the object's creates, or the \
    object's status says so) that has not registered it. other-operator: the name ends with another token, so an operator \
    made it, perhaps of another cluster, or deletionPolicy Retain left it. unclaimed: for the tenant and client of an object that has not registered it. foreign: everything \
    else.\n\n\
    Exit codes: 0 nothing is orphaned; 3 something is; 1 a failure, also where an account could not be listed; 2 a bad \
    command line."
)]
pub(super) struct OrphansArgs {
    /// Account to look at; without it, all of all namespaces
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = remote::account_name)]
    account: Option<AccountName>,

    /// Form of the output
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Format,

    #[command(flatten)]
    remote: RemoteArgs,
}

/// Prints what each account holds.
pub(super) async fn run(args: &OrphansArgs) -> anyhow::Result<ExitCode> {
    let remote = Remote::connect(&args.remote).await?;
    let mut looks = Vec::new();
    // One after the other: several may be one account at Woodpecker.
    for account in remote.accounts(args.account.as_ref()).await? {
        let listed = remote.list(&account).await;
        looks.push((remote::name_of(&account), listed));
    }
    // After the listings: what the operator makes stands in a status before it stands in a listing.
    let inventory = Inventory::read(&remote.client).await?;
    let report = Report::new(looks, &inventory);
    args.output.print(|| report.text(), || report.json())?;
    Ok(report.exit_code())
}
