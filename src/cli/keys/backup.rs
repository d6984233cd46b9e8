//! `keys export` and `keys import`: backup and restore of the keyring.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use jiff::Timestamp;

use crate::cli::cluster::ConfirmArgs;
use crate::cli::keys::{StoreArgs, Target, count, missing_keys};
use crate::cli::{input, output};
use crate::platform;
use crate::store::keyring::{self, ImportSummary, KeyId, Keyring};

/// Longest backup, in bytes.
const MAX_INPUT: u64 = 1024 * 1024;

/// Arguments of `keys export`.
#[derive(Debug, Args)]
#[command(
    after_help = "Anyone who has the file can decrypt every record of the store, and its backups. Protect it like the \
    secrets themselves, and keep it apart from backups of the cluster. Export again after each rotation."
)]
pub(super) struct ExportArgs {
    /// File to create, with access for its owner only; on Windows with the access rights of its folder. It must not exist
    #[arg(long, value_name = "FILE", required_unless_present = "stdout", conflicts_with = "stdout")]
    file: Option<PathBuf>,

    /// Write to standard output, for example to a program that encrypts it
    #[arg(long)]
    stdout: bool,

    #[command(flatten)]
    store: StoreArgs,
}

/// Arguments of `keys import`.
#[derive(Debug, Args)]
#[command(
    after_help = "If there is no keyring, the backup becomes the keyring. If there is one, the keys that it lacks are \
    added: they decrypt records and match fingerprints, but never encrypt. A key that was retired decrypts for 7 days \
    from now on. A running operator loads the change within a minute, without a restart.\n\n\
    Exit codes: 0 success; 3 success, but records are encrypted with keys that are still missing; 1 failure; 2 invalid \
    command line."
)]
pub(super) struct ImportArgs {
    /// File written by `keys export`
    #[arg(long, value_name = "FILE", required_unless_present = "stdin", conflicts_with = "stdin")]
    file: Option<PathBuf>,

    /// Read from standard input
    #[arg(long)]
    stdin: bool,

    #[command(flatten)]
    confirm: ConfirmArgs,

    #[command(flatten)]
    store: StoreArgs,
}

/// Writes the keyring.
pub(super) async fn export(args: &ExportArgs) -> anyhow::Result<ExitCode> {
    let target = Target::of(&args.store).await?;
    let json = target.keyring().await?.to_json().context("failed to serialize the keyring")?;
    if let Some(path) = &args.file {
        write_file(path, json.expose())?;
        output::print(&format!("wrote the keyring {} to {}\n", target.secret, path.display()))?;
    } else {
        let mut stdout = io::stdout();
        if stdout.is_terminal() {
            bail!(
                "standard output is a terminal, and keys are not shown there: specify --file, or pipe the output to a program"
            );
        }
        // A partial keyring is worse than none, so a closed pipe is a failure here.
        let written = stdout.write_all(json.expose()).and_then(|()| stdout.write_all(b"\n"));
        written
            .and_then(|()| stdout.flush())
            .context("failed to write the keyring to standard output: the output is incomplete")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn write_file(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let shown = path.display();
    let write_error =
        || format!("failed to write {shown}: specify a file in a directory that you may write to");
    let mut file = match platform::create_private_file(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            bail!("file {shown} already exists, and keys never overwrite a file: specify another one")
        }
        opened => opened.with_context(write_error)?,
    };
    let written = file.write_all(bytes).and_then(|()| file.write_all(b"\n")).and_then(|()| file.sync_all());
    if written.is_err() {
        // A partial file could be mistaken for a backup, and would block another attempt.
        let _best_effort = std::fs::remove_file(path);
    }
    written.with_context(write_error)
}

/// Imports a keyring.
pub(super) async fn import(args: &ImportArgs) -> anyhow::Result<ExitCode> {
    let backup = read(args)?;
    let target = Target::of(&args.store).await?;
    let client = &target.cluster.client;
    // Before any change, because a client that cannot count could not see which keys are still missing.
    count(&target, &target.namespaces).await?;
    let is_missing = target.keyring_if_any().await?.is_none();
    if is_missing {
        target.ensure_explicit_namespace()?;
    }
    let action = if is_missing {
        "create the keyring from the backup"
    } else {
        "add the keys of the backup that it lacks"
    };
    target.confirm(args.confirm, action)?;
    let report = if is_missing
        && keyring::create(client, &target.secret, &backup.as_restored(Timestamp::now())).await?
    {
        format!("created the keyring Secret {} from the backup\n", target.secret)
    } else {
        let change = |keyring: &mut Keyring| keyring.import(&backup, Timestamp::now());
        let (added, _) = keyring::edit(client, &target.secret, change).await?;
        summary(&added)
    };
    output::print(&report)?;
    let usage = count(&target, &target.namespaces).await?;
    let missing = missing_keys(&target.keyring().await?, &usage);
    for (key, records) in &missing {
        output::print(&format!(
            "{records} records are encrypted with key {key}, which neither the keyring nor this backup contains\n"
        ))?;
    }
    Ok(if missing.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(3) })
}

fn read(args: &ImportArgs) -> anyhow::Result<Keyring> {
    let from = match &args.file {
        Some(path) => path.display().to_string(),
        None => "standard input".to_owned(),
    };
    let bytes = input::read(args.file.as_deref(), MAX_INPUT)
        .with_context(|| format!("failed to read {from}"))?
        .with_context(|| {
            format!(
                "{from} is longer than 1 MiB, so it is not a keyring: specify a file written by `keys export`"
            )
        })?;
    Keyring::from_json(&bytes).map_err(|what| {
        anyhow!("{from} contains no keyring ({what}): specify a file written by `keys export`")
    })
}

fn summary(added: &ImportSummary) -> String {
    let ids = |keys: &[KeyId]| keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let lines = [
        (&added.keys, "were added for decryption"),
        (&added.kept, "are retired, and stay for 7 more days"),
        (&added.fingerprint_keys, "were added for fingerprints"),
    ];
    let lines: Vec<String> = lines
        .into_iter()
        .filter(|(keys, _)| !keys.is_empty())
        .map(|(keys, what)| format!("keys {} {what}\n", ids(keys)))
        .collect();
    if lines.is_empty() {
        return "the keyring already contains all keys of the backup: nothing was changed\n".to_owned();
    }
    lines.concat()
}
