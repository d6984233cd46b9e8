//! `keys rotate`: makes a new key primary, with which the operator re-encrypts all records.

use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;

use crate::cli::cluster::ConfirmArgs;
use crate::cli::keys::{StoreArgs, Target, count, progress, wait_for_rollout};
use crate::cli::output;
use crate::store::keyring::{self, Keyring, KeyringError};

/// Arguments of `keys rotate`.
#[derive(Debug, Args)]
#[command(
    after_help = "The command adds the new key and makes it primary in one write. Replicas never encrypt with a \
    keyring that they read more than a minute ago, so the command counts the records after 90 seconds. A running \
    operator re-encrypts them; it needs no restart. While records are still encrypted with earlier keys, the \
    command starts no other rotation unless you pass --fresh; --follow follows the current one. The previous primary key \
    still decrypts: retire it with `keys retire` once no record is encrypted with it.\n\n\
    Exit codes: 0 all records are encrypted with the new key (with --follow, with the primary key), or with --no-wait \
    the new key is primary; 3 records are still encrypted with earlier keys: none was re-encrypted for a while, or no \
    rotation was started; 1 failure; 2 invalid command line."
)]
pub(super) struct RotateArgs {
    /// Exit once the new key is primary, without waiting for replicas or following the re-encryption
    #[arg(long)]
    no_wait: bool,

    /// Start with a new key even if records are still encrypted with earlier keys
    #[arg(long)]
    fresh: bool,

    /// Start no rotation: follow the re-encryption with the primary key
    #[arg(long, conflicts_with_all = ["no_wait", "fresh"])]
    follow: bool,

    #[command(flatten)]
    confirm: ConfirmArgs,

    #[command(flatten)]
    store: StoreArgs,
}

pub(super) async fn run(args: &RotateArgs) -> anyhow::Result<ExitCode> {
    let target = Target::of(&args.store).await?;
    let keyring = target.keyring().await?;
    // Before any change, because a client that cannot count could not follow the progress.
    let usage = count(&target, &target.namespaces).await?;
    let (primary, left) = (keyring.primary(), usage.stale(keyring.primary()));
    if args.follow {
        return progress::until_reencrypted(&target, primary).await;
    }
    if left > 0 && !args.fresh {
        output::print(&format!(
            "no rotation was started: {left} records are still encrypted with keys other than the primary key \
             {primary}; --follow follows their re-encryption, --fresh starts with another key anyway\n"
        ))?;
        return Ok(ExitCode::from(3));
    }
    target.confirm(args.confirm, "add a new primary key, with which the operator re-encrypts all records")?;
    let change = |keyring: &mut Keyring| keyring.rotate(Timestamp::now()).map_err(KeyringError::from);
    let (key, _) = keyring::edit(&target.cluster.client, &target.secret, change).await?;
    output::print(&format!("key {key} was added as the primary key\n"))?;
    if args.no_wait {
        let rollout = target.timing.key_rollout();
        output::print(&format!(
            "every replica encrypts with it within {rollout:?}, and the operator re-encrypts the records in the \
             background: `keys list` counts them\n"
        ))?;
        return Ok(ExitCode::SUCCESS);
    }
    wait_for_rollout(&target).await;
    output::print(&format!("every replica encrypts with key {key}\n"))?;
    progress::until_reencrypted(&target, key).await
}
