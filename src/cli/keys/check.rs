//! `keys check`: opens every record, and names those that do not open.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use serde_json::{Value, json};

use super::{NOT_LISTED, StoreArgs, Target};
use crate::cli::output::Format;
use crate::controller::Named;
use crate::store::census::{self, GuardedRecord};
use crate::store::keyring::Keyring;
use crate::store::record;

/// What `keys check` can be told.
#[derive(Debug, Args)]
#[command(
    after_help = "A record that does not open, of a MicrosoftGraphCredential whose Secret is there, is sealed anew from \
    it by the operator; a key that is missing comes back with `keys import`.\n\n\
    Exit codes: 0 every record opens; 3 some do not; 1 a failure; 2 a bad command line."
)]
pub(super) struct CheckArgs {
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Format,

    #[command(flatten)]
    store: StoreArgs,
}

/// Opens all records.
pub(super) async fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let target = Target::of(&args.store).await?;
    let mut pages = census::pages(&target.cluster.client, &target.namespaces);
    let (mut all, mut faults) = (0, Vec::new());
    target.keyring().await?;
    while let Some(records) = pages.next().await.context(NOT_LISTED)? {
        // After the records: it holds every key that they were sealed under.
        let keyring = target.keyring().await?;
        all += records.len();
        faults.extend(records.iter().filter_map(|record| fault(record, &keyring)));
    }
    args.output.print(|| text(all, &faults), || as_json(all, &faults))?;
    Ok(if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(3) })
}

/// Which record does not open, and why. What opens is wiped at once.
fn fault(guarded: &GuardedRecord, keyring: &Keyring) -> Option<(Named, String)> {
    let problem = match &guarded.0 {
        Ok(record) => record::open(record, keyring).err()?.to_string(),
        Err(_) => {
            "it cannot be read as a record: it was made by another version of the operator, or by other hands"
                .to_owned()
        }
    };
    Some((Named::of(guarded), problem))
}

fn text(all: usize, faults: &[(Named, String)]) -> String {
    let mut lines: Vec<String> =
        faults.iter().map(|(record, problem)| format!("{record}: {problem}\n")).collect();
    lines.push(match faults.len() {
        0 => format!("all {all} records open\n"),
        failed => format!("{failed} of {all} records do not open\n"),
    });
    lines.concat()
}

fn as_json(all: usize, faults: &[(Named, String)]) -> Value {
    let fault =
        |(record, problem): &(Named, String)| json!({"record": record.to_string(), "problem": problem});
    json!({"records": all, "faults": faults.iter().map(fault).collect::<Value>()})
}
