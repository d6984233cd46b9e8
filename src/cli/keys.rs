//! `keys`: the keyring that seals the store and keys fingerprints, looked at, backed up, rotated and mended.

mod backup;
mod check;
mod create;
mod follow;
mod list;
mod retire;
mod rotate;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};

use super::keyring::{StoreArgs, Target};
use super::output;
use crate::store::census::{self, Census};
use crate::store::keyring::{KeyId, Keyring};

/// Why records cannot be counted.
const NOT_LISTED: &str = "failed to list the SealedGraphCredentials";

/// What `keys` can be told.
#[derive(Debug, Args)]
#[command(after_help = "Runs with the rights of your kubeconfig (KUBECONFIG), or in the operator's pod \
    (kubectl exec) with those of its ServiceAccount. Whoever can read the keyring's Secret can open the store.\n\n\
    Exit codes: 0 done; 3 something is left, as each command's help says; 1 a failure; 2 a bad command line.")]
pub(super) struct KeysArgs {
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// Show the keys, what they are good for, and how many records are sealed under each
    List(list::ListArgs),
    /// Open every record of the store and name those that do not open; no secret is shown
    Check(check::CheckArgs),
    /// Write the keyring, all keys in clear, into a file or to standard output
    Export(backup::ExportArgs),
    /// Bring the keyring back from what `export` wrote, or add the keys of a backup to the one that is there
    Import(backup::ImportArgs),
    /// Make a new keyring where the old one is lost
    Create(create::CreateArgs),
    /// Seal everything under a fresh key: add it as the primary one, wait until every replica uses it, and follow the
    /// operator while it re-encrypts the records
    Rotate(rotate::RotateArgs),
    /// End a key that nothing is sealed under any more: it opens for 7 more days, and then is deleted
    Retire(retire::RetireArgs),
}

/// Waits until every replica seals under the primary key of the keyring as it is now.
async fn wait_for_rollout(target: &Target) {
    let rollout = target.timing.key_rollout();
    output::note(&format!("waiting {rollout:?}, until every replica seals under the primary key"));
    tokio::time::sleep(rollout).await;
}

/// Counts the records of these namespaces, or of all where none is named.
async fn count(target: &Target, namespaces: &[String]) -> anyhow::Result<Census> {
    census::count(&target.cluster.client, namespaces).await.context(NOT_LISTED)
}

/// Keys that records are sealed under and that the keyring lacks, each with the number of these records.
fn missing_keys(keyring: &Keyring, census: &Census) -> Vec<(KeyId, usize)> {
    census.by_key().filter(|(key, _)| keyring.keys().all(|known| known.id != *key)).collect()
}

/// Carries out one of them.
pub(super) async fn run(args: &KeysArgs) -> anyhow::Result<ExitCode> {
    match &args.command {
        KeysCommand::List(args) => list::run(args).await,
        KeysCommand::Check(args) => check::run(args).await,
        KeysCommand::Export(args) => backup::export(args).await,
        KeysCommand::Import(args) => backup::import(args).await,
        KeysCommand::Create(args) => create::run(args).await,
        KeysCommand::Rotate(args) => rotate::run(args).await,
        KeysCommand::Retire(args) => retire::run(args).await,
    }
}
