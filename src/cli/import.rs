//! `import`: manifests for existing credentials of an account, so that the operator adopts them.

mod manifest;
mod names;

use std::process::ExitCode;

use anyhow::anyhow;
use clap::Args;

use self::manifest::Import;
use self::names::SecretNames;
use crate::api::AccountName;
use crate::cli::kubernetes;
use crate::cli::output;
use crate::cli::ownership::Inventory;
use crate::cli::woodpecker::{self, Remote, RemoteArgs};
use crate::config::ObjectName;

/// Arguments of `import`.
#[derive(Debug, Args)]
#[command(
    after_help = "Changes nothing and applies nothing. It reads the account's API key from its Secret with the rights \
    of your kubeconfig (KUBECONFIG), and sends one list request to the account. You can run it beside a running \
    operator: Woodpecker processes one request of an account at a time and queues the others.\n\n\
    Woodpecker never returns a client secret, so each object comes with a template of its Secret, as a comment. Fill \
    it in: the operator adopts the credential once Microsoft has issued a token for the secret. It never creates a \
    credential for these objects (adoption.policy AdoptOnly).\n\n\
    Exit codes: 0 success; 1 failure; 2 invalid command line."
)]
pub(super) struct ImportArgs {
    /// Account whose credentials are printed
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = woodpecker::account_name)]
    account: AccountName,

    /// Namespace of the objects and their Secrets. Defaults to the namespace of the account. The account must allow it
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<ObjectName>,

    /// Name of each object's Secret. {name} is replaced by the name of the object
    #[arg(long, default_value = "{name}-graph", value_parser = names::secret_names, value_name = "TEMPLATE")]
    secret_name_template: SecretNames,

    #[command(flatten)]
    remote: RemoteArgs,
}

/// Prints the manifests.
pub(super) async fn run(args: &ImportArgs) -> anyhow::Result<ExitCode> {
    let remote = Remote::connect(&args.remote)?;
    let account = remote.account(&args.account).await?;
    let listed = remote.list(&account).await;
    let listed = listed
        .map_err(|problem| anyhow!("WoodpeckerAccount {} could not be listed: {problem}", args.account))?;
    // After the list, because the operator persists the pending create before the credential can appear in a listing.
    let inventory = Inventory::read(&remote.cluster.client).await?;
    for object in &inventory.unreadable {
        output::note(&format!(
            "warning: the status of MicrosoftGraphCredential {object} cannot be read: compare its credential id before you apply the manifests"
        ));
    }
    let namespace = args.namespace.as_ref().map_or(args.account.namespace.as_str(), ObjectName::as_str);
    let labels = match listed.object.spec.namespace_selector() {
        Some(_) => kubernetes::namespace_labels(&remote.cluster.client, namespace).await?,
        None => None,
    };
    let secrets = &args.secret_name_template;
    let import = Import { listed: &listed, inventory: &inventory, namespace, secrets, labels };
    output::print(&import.text())?;
    Ok(ExitCode::SUCCESS)
}
