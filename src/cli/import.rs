//! `import`: manifests for what an account holds already, so that the operator takes it over.

mod manifest;
mod names;

use std::io;
use std::process::ExitCode;

use clap::Args;
use thiserror::Error;

use self::manifest::Import;
use self::names::SecretNames;
use super::cluster::{self, ListError};
use super::inventory::Inventory;
use super::output::{self, OutputError};
use super::remote::{self, Remote, RemoteArgs, RemoteError};
use crate::app::memory;
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
    #[arg(long, default_value = "{name}-graph", value_name = "TEMPLATE")]
    secret_name_template: SecretNames,

    #[command(flatten)]
    remote: RemoteArgs,
}

/// Why nothing is printed.
#[derive(Debug, Error)]
pub(super) enum ImportError {
    #[error("failed to start the runtime")]
    Runtime(#[source] io::Error),
    #[error(transparent)]
    Remote(#[from] RemoteError),
    #[error("WoodpeckerAccount {0} could not be listed: {1}")]
    NotListed(AccountName, String),
    #[error(transparent)]
    List(#[from] ListError),
    #[error(transparent)]
    Output(#[from] OutputError),
}

/// Prints the manifests.
pub(super) fn run(args: &ImportArgs) -> Result<ExitCode, ImportError> {
    memory::close(false);
    let text = cluster::block_on(manifests(args)).map_err(ImportError::Runtime)??;
    output::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

async fn manifests(args: &ImportArgs) -> Result<String, ImportError> {
    let remote = Remote::connect(&args.remote).await?;
    let mut accounts = remote.accounts(Some(&args.account)).await?;
    let account = accounts.pop().ok_or_else(|| RemoteError::NoAccount(args.account.clone()))?;
    let listed = remote
        .list(&account)
        .await
        .map_err(|problem| ImportError::NotListed(args.account.clone(), problem))?;
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
    Ok(import.text())
}
