//! `keys`: commands on the keyring, which encrypts the store and keys fingerprints.

mod backup;
mod create;
mod list;
mod progress;
mod retire;
mod rotate;
mod verify;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};

use crate::cli::keyring::{StoreArgs, Target};
use crate::cli::output;
use crate::store::key_usage::{self, KeyUsage};
use crate::store::keyring::{KeyId, Keyring};

/// Why records cannot be counted.
const NOT_LISTED: &str = "failed to list the SealedGraphCredentials";

/// Arguments of `keys`.
#[derive(Debug, Args)]
#[command(
    after_help = "Runs with the rights of your kubeconfig (KUBECONFIG), or in the operator's pod (kubectl exec) \
    with those of its ServiceAccount. Anyone who can read the keyring's Secret can decrypt the store.\n\n\
    Exit codes: 0 success; 3 something is left to do, see the help of each command; 1 failure; 2 invalid command \
    line."
)]
pub(super) struct KeysArgs {
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// List the keys, their state, and how many records each of them encrypts
    List(list::ListArgs),
    /// Decrypt every record of the store, and name those that cannot be decrypted. Shows no secret
    Verify(verify::VerifyArgs),
    /// Write the keyring, with all keys unencrypted, to a file or to standard output
    Export(backup::ExportArgs),
    /// Restore the keyring from a backup made by `export`, or add the keys of the backup to the existing keyring
    Import(backup::ImportArgs),
    /// Create a new keyring if the old one is lost
    Create(create::CreateArgs),
    /// Encrypt everything with a new key: add it as the primary key, wait until every replica uses it, and follow the
    /// operator while it re-encrypts the records
    Rotate(rotate::RotateArgs),
    /// Retire a key that no longer encrypts any record: it decrypts for 7 more days, and is then deleted
    Retire(retire::RetireArgs),
}

/// Waits until every replica encrypts with the current primary key.
async fn wait_for_rollout(target: &Target) {
    let rollout = target.timing.key_rollout();
    output::note(&format!("waiting {rollout:?} until every replica encrypts with the primary key"));
    tokio::time::sleep(rollout).await;
}

/// Counts the records of these namespaces; of all if the list is empty.
async fn count(target: &Target, namespaces: &[String]) -> anyhow::Result<KeyUsage> {
    key_usage::count(&target.cluster.client, namespaces).await.context(NOT_LISTED)
}

/// Keys that encrypt records but are not in the keyring, each with the number of these records.
fn missing_keys(keyring: &Keyring, usage: &KeyUsage) -> Vec<(KeyId, usize)> {
    usage.by_key().filter(|(key, _)| keyring.keys().all(|known| known.id != *key)).collect()
}

pub(super) async fn run(args: &KeysArgs) -> anyhow::Result<ExitCode> {
    match &args.command {
        KeysCommand::List(args) => list::run(args).await,
        KeysCommand::Verify(args) => verify::run(args).await,
        KeysCommand::Export(args) => backup::export(args).await,
        KeysCommand::Import(args) => backup::import(args).await,
        KeysCommand::Create(args) => create::run(args).await,
        KeysCommand::Rotate(args) => rotate::run(args).await,
        KeysCommand::Retire(args) => retire::run(args).await,
    }
}
