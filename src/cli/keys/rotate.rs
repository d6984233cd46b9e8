//! `keys rotate`: a fresh key seals once every replica can open what it seals; the operator then seals all records anew.

use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;

use super::{KeysError, StoreArgs, Target, follow, replicas};
use crate::cli::output;
use crate::store::census;
use crate::store::keyring::{self, KeyId, Keyring};

/// What `keys rotate` can be told.
#[derive(Debug, Args)]
#[command(
    after_help = "A rotation that was cut off before its key became primary goes on with that key. One whose records are \
    not all sealed yet is not followed by another by mistake: --follow follows it, --fresh begins another. The operator \
    seals the records, so one has to run; it needs no restart. The key that was primary goes on opening: end it with \
    `keys retire` once nothing is sealed under it.\n\n\
    Exit codes: 0 all records are sealed under the fresh key (with --follow, under the primary one), or with --no-wait it \
    is primary; 3 records are left under earlier keys: none was sealed anew for a while, or nothing was begun; 1 a \
    failure; 2 a bad command line."
)]
pub(super) struct RotateArgs {
    /// Do not follow the records: end once the fresh key is primary
    #[arg(long)]
    no_wait: bool,

    /// Begin with a fresh key, although records are left under earlier keys or another one is being brought in
    #[arg(long)]
    fresh: bool,

    /// Begin nothing: follow the records that are being sealed under the primary key
    #[arg(long, conflicts_with_all = ["no_wait", "fresh"])]
    follow: bool,

    #[command(flatten)]
    store: StoreArgs,
}

/// Rotates.
pub(super) async fn run(args: &RotateArgs) -> Result<ExitCode, KeysError> {
    let target = Target::of(&args.store).await?;
    let keyring = target.keyring().await?;
    // Before anything is changed: whoever may not count could not follow.
    let census = census::count(&target.cluster.client, &target.namespaces).await?;
    let (primary, left) = (keyring.primary(), census.not_under(keyring.primary()));
    if args.follow {
        return follow::until_sealed(&target, primary).await;
    }
    if left > 0 && keyring.next().is_none() && !args.fresh {
        output::print(&format!(
            "nothing was begun: {left} records are left under other keys than {primary}, the primary one; --follow \
             follows these, --fresh begins with another key all the same\n"
        ))?;
        return Ok(ExitCode::from(3));
    }
    let key = begin(&target, args.fresh).await?;
    replicas::wait(&target, &format!("acknowledge key {key}"), |known| known.opens(key)).await?;
    let change = |keyring: &mut Keyring| keyring.promote(key);
    keyring::edit(&target.cluster.client, &target.place, change).await?;
    output::print(&format!("key {key} is primary: what is sealed from now on is sealed under it\n"))?;
    if args.no_wait {
        output::print("the operator seals the records anew in the background: `keys list` counts them\n")?;
        return Ok(ExitCode::SUCCESS);
    }
    follow::until_sealed(&target, key).await
}

/// Adds a fresh key, or goes on with the one that an earlier rotation has added.
async fn begin(target: &Target, is_fresh: bool) -> Result<KeyId, KeysError> {
    let change = |keyring: &mut Keyring| {
        if is_fresh {
            keyring.abandon_rotation();
        }
        keyring.begin_rotation(Timestamp::now())
    };
    let ((key, is_fresh), _) = keyring::edit(&target.cluster.client, &target.place, change).await?;
    output::print(&if is_fresh {
        format!("key {key} is added: it opens, and does not seal before every replica knows it\n")
    } else {
        format!("key {key} was added by a rotation that did not end, which goes on\n")
    })?;
    Ok(key)
}
