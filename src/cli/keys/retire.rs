//! `keys retire`: the end of a key, in two steps, each only while nothing is sealed under it.

use std::process::ExitCode;

use anyhow::ensure;
use clap::Args;
use jiff::Timestamp;

use super::{StoreArgs, Target, count, wait_for_rollout};
use crate::cli::output;
use crate::store::census::Census;
use crate::store::keyring::{self, KeyChangeError, KeyId, Keyring, Standing};

/// What `keys retire` can be told.
#[derive(Debug, Args)]
#[command(
    after_help = "A key is retired once no replica seals under it any more, which is waited for 90 seconds, and no record is \
    sealed under it. It goes on opening for 7 days, in case one turns up after all, such as from a backup of the records; the operator \
    seals that anew. After that the operator deletes the key, if it serves all namespaces, or another `keys retire` does. \
    The records of all namespaces are counted, whatever --namespace says: it needs the right to list them all. What \
    cannot be read as a record stands in the way as well; with --namespace, in these namespaces alone.\n\n\
    Exit codes: 0 the key is retired, or deleted; 1 a failure, also where records are sealed under it; 2 a bad command \
    line."
)]
pub(super) struct RetireArgs {
    /// Id of the key, as `keys list` shows it
    #[arg(value_name = "KEY")]
    key: KeyId,

    #[command(flatten)]
    store: StoreArgs,
}

/// Retires or deletes the key.
pub(super) async fn run(args: &RetireArgs) -> anyhow::Result<ExitCode> {
    let target = Target::of(&args.store).await?;
    let key = args.key;
    let mut keyring = target.keyring().await?;
    let standing = standing(&keyring, key)?;
    let delete = |keyring: &mut Keyring, records| {
        keyring.delete(key, records, Timestamp::now(), target.timing.key_retirement)
    };
    if let Standing::Retired(since) = standing
        && let Err(KeyChangeError::TooEarly { until, .. }) = delete(&mut keyring, 0)
    {
        output::print(&format!(
            "key {key} is retired since {since:.0}, and opens until {until:.0}: nothing was changed\n"
        ))?;
        return Ok(ExitCode::SUCCESS);
    }
    wait_for_rollout(&target).await;
    let census = count_all(&target, key).await?;
    match standing {
        Standing::Primary | Standing::DecryptOnly => retire(&target, key, &census).await,
        Standing::Retired(since) => {
            let change = |keyring: &mut Keyring| delete(keyring, census.under(key));
            keyring::edit(&target.cluster.client, &target.place, change).await?;
            output::print(&format!("key {key} was retired at {since:.0}, and is deleted\n"))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// What the key is good for, unless it is primary or unknown.
fn standing(keyring: &Keyring, key: KeyId) -> Result<Standing, KeyChangeError> {
    let found = keyring.keys().find(|known| known.id == key).ok_or(KeyChangeError::Unknown(key))?;
    match found.standing {
        Standing::Primary => Err(KeyChangeError::Primary(key)),
        standing @ (Standing::DecryptOnly | Standing::Retired(_)) => Ok(standing),
    }
}

/// Counts the records of all namespaces: one that is served no more may hold some. Those of which the key cannot be told
/// stand in the way, but for those of namespaces that are none of ours.
async fn count_all(target: &Target, key: KeyId) -> anyhow::Result<Census> {
    let census = count(target, &[]).await?;
    let unreadable = match target.namespaces.as_slice() {
        [] => census.unreadable(),
        ours => count(target, ours).await?.unreadable(),
    };
    ensure!(
        unreadable == 0,
        "{unreadable} records cannot be read as to their key, and may need key {key}: mend or delete them first (keys check names them)"
    );
    Ok(census)
}

async fn retire(target: &Target, key: KeyId, census: &Census) -> anyhow::Result<ExitCode> {
    let records = census.under(key);
    let change = |keyring: &mut Keyring| keyring.retire(key, records, Timestamp::now());
    keyring::edit(&target.cluster.client, &target.place, change).await?;
    output::print(&format!(
        "key {key} is retired: it never seals again, opens for 7 more days, and is deleted after that\n"
    ))?;
    // The key is retired whatever this finds.
    match count_all(target, key).await.map(|census| census.under(key)) {
        Ok(0) => {}
        Ok(late) => output::print(&format!(
            "{late} records turned up under it meanwhile: the operator seals them anew\n"
        ))?,
        Err(error) => output::note(&format!("the records could not be counted once more: {error}")),
    }
    Ok(ExitCode::SUCCESS)
}
