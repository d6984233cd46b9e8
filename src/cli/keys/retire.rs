//! `keys retire`: retires a key, and later deletes it, each only if it encrypts no record.

use std::process::ExitCode;

use anyhow::ensure;
use clap::Args;
use jiff::Timestamp;

use crate::cli::cluster::ConfirmArgs;
use crate::cli::keys::{StoreArgs, Target, count, wait_for_rollout};
use crate::cli::output;
use crate::store::key_usage::KeyUsage;
use crate::store::keyring::{self, KeyChangeError, KeyId, KeyState, Keyring};

/// Arguments of `keys retire`.
#[derive(Debug, Args)]
#[command(
    after_help = "The command waits 90 seconds, until no replica encrypts with the key. It retires the key if no \
    record is encrypted with it. A retired key decrypts for 7 more days, in case such a record appears, for example \
    from a backup; the operator re-encrypts that record. After that the operator deletes the key if it serves all \
    namespaces; otherwise another `keys retire` does. The command always counts the records of all namespaces, so you \
    need the right to list them all. Objects that cannot be read as records also prevent the retirement; --namespace \
    limits only which of these count.\n\n\
    Exit codes: 0 the key is retired or deleted; 1 failure, or records are encrypted with the key; 2 invalid command \
    line."
)]
pub(super) struct RetireArgs {
    /// Id of the key, as `keys list` shows it
    #[arg(value_name = "KEY")]
    key: KeyId,

    #[command(flatten)]
    confirm: ConfirmArgs,

    #[command(flatten)]
    store: StoreArgs,
}

/// Retires or deletes the key.
pub(super) async fn run(args: &RetireArgs) -> anyhow::Result<ExitCode> {
    let target = Target::of(&args.store).await?;
    let key = args.key;
    let mut keyring = target.keyring().await?;
    let state = key_state(&keyring, key)?;
    let delete = |keyring: &mut Keyring, records| {
        keyring.delete(key, records, Timestamp::now(), target.timing.key_retirement)
    };
    if let KeyState::Retired(since) = state
        && let Err(KeyChangeError::TooEarly { until, .. }) = delete(&mut keyring, 0)
    {
        output::print(&format!(
            "key {key} has been retired since {since:.0} and decrypts until {until:.0}: nothing was changed\n"
        ))?;
        return Ok(ExitCode::SUCCESS);
    }
    let action = match state {
        KeyState::Primary | KeyState::DecryptOnly => {
            format!("retire key {key} if no record is encrypted with it")
        }
        KeyState::Retired(_) => format!("delete the retired key {key} if no record is encrypted with it"),
    };
    target.confirm(args.confirm, &action)?;
    wait_for_rollout(&target).await;
    let usage = count_all(&target, key).await?;
    match state {
        KeyState::Primary | KeyState::DecryptOnly => retire(&target, key, &usage).await,
        KeyState::Retired(since) => {
            let change = |keyring: &mut Keyring| delete(keyring, usage.under(key));
            keyring::edit(&target.cluster.client, &target.secret, change).await?;
            output::print(&format!("key {key} was retired at {since:.0}, and is deleted\n"))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// The state of the key, unless it is primary or unknown.
fn key_state(keyring: &Keyring, key: KeyId) -> Result<KeyState, KeyChangeError> {
    let found = keyring.keys().find(|known| known.id == key).ok_or(KeyChangeError::Unknown(key))?;
    match found.state {
        KeyState::Primary => Err(KeyChangeError::Primary(key)),
        state @ (KeyState::DecryptOnly | KeyState::Retired(_)) => Ok(state),
    }
}

/// Counts the records of all namespaces, because namespaces that are no longer served may contain some. Records with an
/// unreadable key prevent the retirement; with `--namespace`, only those in these namespaces.
async fn count_all(target: &Target, key: KeyId) -> anyhow::Result<KeyUsage> {
    let usage = count(target, &[]).await?;
    let unreadable = match target.namespaces.as_slice() {
        [] => usage.unreadable(),
        namespaces => count(target, namespaces).await?.unreadable(),
    };
    ensure!(
        unreadable == 0,
        "the key of {unreadable} records cannot be read, so they may need key {key}: fix or delete them first (keys verify names them)"
    );
    Ok(usage)
}

async fn retire(target: &Target, key: KeyId, usage: &KeyUsage) -> anyhow::Result<ExitCode> {
    let records = usage.under(key);
    let change = |keyring: &mut Keyring| keyring.retire(key, records, Timestamp::now());
    keyring::edit(&target.cluster.client, &target.secret, change).await?;
    output::print(&format!(
        "key {key} is retired: it no longer encrypts, decrypts for 7 more days, and is then deleted\n"
    ))?;
    // The key stays retired, whatever the result.
    match count_all(target, key).await.map(|usage| usage.under(key)) {
        Ok(0) => {}
        Ok(late) => output::print(&format!(
            "{late} records encrypted with it appeared meanwhile: the operator re-encrypts them\n"
        ))?,
        Err(error) => output::note(&format!("the records could not be counted again: {error}")),
    }
    Ok(ExitCode::SUCCESS)
}
