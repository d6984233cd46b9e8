//! `keys export` and `keys import`: the keyring as a file, and back.

use std::fs::OpenOptions;
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use jiff::Timestamp;

use super::{StoreArgs, Target, count, missing_keys};
use crate::cli::{input, output};
use crate::store::keyring::{self, Added, KeyId, Keyring};

/// Most that is read as a keyring, in bytes.
const LONGEST: u64 = 1024 * 1024;

/// What `keys export` can be told.
#[derive(Debug, Args)]
#[command(
    after_help = "Whoever has the file can open every record of the store, and its backups: keep it like the secrets \
    themselves, and apart from backups of the cluster. Export anew after each rotation."
)]
pub(super) struct ExportArgs {
    /// File to make, for its owner alone. It must not exist
    #[arg(long, value_name = "FILE", required_unless_present = "stdout", conflicts_with = "stdout")]
    file: Option<PathBuf>,

    /// Write to standard output, such as into a program that encrypts it
    #[arg(long)]
    stdout: bool,

    #[command(flatten)]
    store: StoreArgs,
}

/// What `keys import` can be told.
#[derive(Debug, Args)]
#[command(
    after_help = "Where there is no keyring, the backup becomes it. Where there is one, the keys that it lacks are added: \
    they open and match, none of them ever seals, and one that was retired opens for 7 days from now on. A running \
    operator takes that in within a minute, without a restart.\n\n\
    Exit codes: 0 done; 3 done, and records are sealed under keys that are still missing; 1 a failure; 2 a bad command \
    line."
)]
pub(super) struct ImportArgs {
    /// File that `keys export` wrote
    #[arg(long, value_name = "FILE", required_unless_present = "stdin", conflicts_with = "stdin")]
    file: Option<PathBuf>,

    /// Read from standard input
    #[arg(long)]
    stdin: bool,

    #[command(flatten)]
    store: StoreArgs,
}

/// Writes the keyring out.
pub(super) async fn export(args: &ExportArgs) -> anyhow::Result<ExitCode> {
    let target = Target::of(&args.store).await?;
    let json = target.keyring().await?.to_json().context("failed to put the keyring into JSON")?;
    if let Some(path) = &args.file {
        write_file(path, json.expose())?;
        output::print(&format!("the keyring {} is in {}\n", target.place, path.display()))?;
    } else {
        let mut stdout = io::stdout();
        if stdout.is_terminal() {
            bail!(
                "standard output is a terminal, and keys are not shown there: name a --file, or pipe it into a program"
            );
        }
        // Part of a keyring is worse than none: a reader that leaves early is a failure here.
        let written = stdout.write_all(json.expose()).and_then(|()| stdout.write_all(b"\n"));
        written
            .and_then(|()| stdout.flush())
            .context("failed to write the keyring to standard output: what was written is not whole")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn write_file(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let shown = path.display();
    let unwritten = || format!("failed to write {shown}: name a file in a directory that you may write to");
    let mut file = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            bail!("there is a file {shown} already: keys are written over nothing, so name another one")
        }
        opened => opened.with_context(unwritten)?,
    };
    let written = file.write_all(bytes).and_then(|()| file.write_all(b"\n")).and_then(|()| file.sync_all());
    if written.is_err() {
        // Half a keyring would be taken for one, and stand in the way of another try.
        let _left = std::fs::remove_file(path);
    }
    written.with_context(unwritten)
}

/// Takes a keyring in.
pub(super) async fn import(args: &ImportArgs) -> anyhow::Result<ExitCode> {
    let backup = read(args)?;
    let target = Target::of(&args.store).await?;
    let client = &target.cluster.client;
    // Before anything is changed: whoever may not count could not tell what is missing still.
    count(&target, &target.namespaces).await?;
    let is_missing = target.keyring_if_any().await?.is_none();
    if is_missing {
        target.check_placed()?;
    }
    let report = if is_missing
        && keyring::create(client, &target.place, &backup.as_restored(Timestamp::now())).await?
    {
        format!("the keyring Secret {} is made from the backup\n", target.place)
    } else {
        let change = |keyring: &mut Keyring| keyring.add_from(&backup, Timestamp::now());
        let (added, _) = keyring::edit(client, &target.place, change).await?;
        told(&added)
    };
    output::print(&report)?;
    let census = count(&target, &target.namespaces).await?;
    let missing = missing_keys(&target.keyring().await?, &census);
    for (key, records) in &missing {
        output::print(&format!(
            "{records} records are sealed under key {key}, which neither the keyring nor this backup holds\n"
        ))?;
    }
    Ok(if missing.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(3) })
}

fn read(args: &ImportArgs) -> anyhow::Result<Keyring> {
    let from = match &args.file {
        Some(path) => path.display().to_string(),
        None => "what comes from standard input".to_owned(),
    };
    let bytes = input::read(args.file.as_deref(), LONGEST)
        .with_context(|| format!("failed to read {from}"))?
        .with_context(|| {
            format!("{from} is longer than 1 MiB, which no keyring is: give what `keys export` wrote")
        })?;
    Keyring::from_json(&bytes)
        .map_err(|what| anyhow!("{from} holds no keyring ({what}): give what `keys export` wrote"))
}

fn told(added: &Added) -> String {
    let ids = |keys: &[KeyId]| keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let lines = [
        (&added.keys, "are added and open"),
        (&added.kept, "are retired, and stay for 7 more days"),
        (&added.fingerprint_keys, "are added, for fingerprints"),
    ];
    let lines: Vec<String> = lines
        .into_iter()
        .filter(|(keys, _)| !keys.is_empty())
        .map(|(keys, what)| format!("keys {} {what}\n", ids(keys)))
        .collect();
    if lines.is_empty() {
        return "the keyring holds all keys of the backup already: nothing was changed\n".to_owned();
    }
    lines.concat()
}
