//! `import`: manifests for what an account holds already, so that the operator takes it over.

mod manifest;
mod names;

use std::process::ExitCode;

use anyhow::anyhow;
use clap::Args;

use self::manifest::Import;
use self::names::SecretNames;
use super::inventory::Inventory;
use super::output;
use super::remote::{self, Remote, RemoteArgs};
use crate::resources::AccountName;
use crate::settings::ObjectName;

/// What `import` can be told.
#[derive(Debug, Args)]
#[command(
    after_help = "Changes nothing and applies nothing. It reads the account's API key from its Secret with the \
    rights of your kubeconfig (KUBECONFIG), and sends one listing to the account, also beside a running operator: \
    Woodpecker works on one request of an account at a time and queues the others.\n\n\
    Nobody can read a client secret back from Woodpecker, so each object comes with the skeleton of its Secret, as a \
    comment: fill it in, and the operator takes the credential over once Microsoft has issued a token for the secret. It \
    never creates one for these objects (adoption.policy AdoptOnly).\n\n\
    Exit codes: 0 printed; 1 a failure; 2 a bad command line."
)]
pub(super) struct ImportArgs {
    /// Account whose credentials are printed
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = remote::account_name)]
    account: AccountName,

    /// Namespace of the objects and their Secrets; without it, that of the account. The account must allow it
    #[arg(long, value_name = "NAMESPACE")]
    namespace: Option<ObjectName>,

    /// Name of each object's Secret; {name} stands for the object's own name
    #[arg(long, default_value = "{name}-graph", value_parser = names::secret_names, value_name = "TEMPLATE")]
    secret_name_template: SecretNames,

    #[command(flatten)]
    remote: RemoteArgs,
}

/// Prints the manifests.
pub(super) async fn run(args: &ImportArgs) -> anyhow::Result<ExitCode> {
    let remote = Remote::connect(&args.remote).await?;
    let account = remote.account(&args.account).await?;
    let listed = remote.list(&account).await;
    let listed = listed
        .map_err(|problem| anyhow!("WoodpeckerAccount {} could not be listed: {problem}", args.account))?;
    // After the listing: what the operator makes stands in a status before it stands in a listing.
    let inventory = Inventory::read(&remote.client).await?;
    for object in &inventory.unreadable {
        output::note(&format!(
            "warning: the status of MicrosoftGraphCredential {object} cannot be read: compare its id before you apply"
        ));
    }
    let namespace = args.namespace.as_ref().map_or(args.account.namespace.as_str(), ObjectName::as_str);
    let import =
        Import { listed: &listed, inventory: &inventory, namespace, secrets: &args.secret_name_template };
    output::print(&import.text())?;
    Ok(ExitCode::SUCCESS)
}
