//! `keys rotate`: a fresh key is primary, and the operator re-encrypts all records under it.

use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;

use super::{StoreArgs, Target, count, follow, wait_for_rollout};
use crate::cli::output;
use crate::store::keyring::{self, Keyring, KeyringError};

/// What `keys rotate` can be told.
#[derive(Debug, Args)]
#[command(
    after_help = "The fresh key is added and made primary in one write. Replicas read the keyring again before they seal \
    with one that is a minute old, so the records are counted after 90 seconds. The operator re-encrypts them, so one has \
    to run; it needs no restart. While some are left under earlier keys no other rotation begins by mistake: --follow \
    follows the one under way, --fresh begins another. The key that was primary goes on opening: end it with \
    `keys retire` once nothing is sealed under it.\n\n\
    Exit codes: 0 all records are sealed under the fresh key (with --follow, under the primary one), or with --no-wait it \
    is primary; 3 records are left under earlier keys: none was sealed anew for a while, or nothing was begun; 1 a \
    failure; 2 a bad command line."
)]
pub(super) struct RotateArgs {
    /// End once the fresh key is primary: wait for no replica and follow no records
    #[arg(long)]
    no_wait: bool,

    /// Begin with a fresh key, although records are left under earlier keys
    #[arg(long)]
    fresh: bool,

    /// Begin nothing: follow the records that are being sealed under the primary key
    #[arg(long, conflicts_with_all = ["no_wait", "fresh"])]
    follow: bool,

    #[command(flatten)]
    store: StoreArgs,
}

pub(super) async fn run(args: &RotateArgs) -> anyhow::Result<ExitCode> {
    let target = Target::of(&args.store).await?;
    let keyring = target.keyring().await?;
    // Before anything is changed: whoever may not count could not follow.
    let census = count(&target, &target.namespaces).await?;
    let (primary, left) = (keyring.primary(), census.not_under(keyring.primary()));
    if args.follow {
        return follow::until_sealed(&target, primary).await;
    }
    if left > 0 && !args.fresh {
        output::print(&format!(
            "nothing was begun: {left} records are left under other keys than {primary}, the primary one; --follow \
             follows these, --fresh begins with another key all the same\n"
        ))?;
        return Ok(ExitCode::from(3));
    }
    let change = |keyring: &mut Keyring| keyring.rotate(Timestamp::now()).map_err(KeyringError::from);
    let (key, _) = keyring::edit(&target.cluster.client, &target.place, change).await?;
    output::print(&format!("key {key} is added as the primary one\n"))?;
    if args.no_wait {
        let rollout = target.timing.key_rollout();
        output::print(&format!(
            "every replica seals under it within {rollout:?}, and the operator re-encrypts the records in the background: \
             `keys list` counts them\n"
        ))?;
        return Ok(ExitCode::SUCCESS);
    }
    wait_for_rollout(&target).await;
    output::print(&format!("every replica seals under key {key}\n"))?;
    follow::until_sealed(&target, key).await
}
