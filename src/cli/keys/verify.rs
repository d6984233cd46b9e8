//! `keys verify`: decrypts every record, and names those that cannot be decrypted.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use serde_json::{Value, json};

use crate::api::NamespacedName;
use crate::cli::keys::{NOT_LISTED, StoreArgs, Target};
use crate::cli::output::{Report, ReportFormat, Text};
use crate::store::key_usage::{self, ParsedRecord};
use crate::store::keyring::Keyring;
use crate::store::record;

/// Arguments of `keys verify`.
#[derive(Debug, Args)]
#[command(
    after_help = "If a record of a MicrosoftGraphCredential cannot be decrypted but its Secret exists, the operator \
    re-encrypts it from the Secret. Restore a missing key with `keys import`.\n\n\
    Exit codes: 0 every record can be decrypted; 3 some cannot; 1 failure; 2 invalid command line."
)]
pub(super) struct VerifyArgs {
    /// Output format
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: ReportFormat,

    #[command(flatten)]
    store: StoreArgs,
}

/// How many records there are, and which of them cannot be decrypted.
struct Decrypted {
    all: usize,
    faults: Vec<(NamespacedName, String)>,
}

/// Decrypts all records.
pub(super) async fn run(args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let target = Target::of(&args.store).await?;
    let mut pages = key_usage::pages(&target.cluster.client, &target.namespaces);
    let (mut all, mut faults) = (0, Vec::new());
    target.keyring().await?;
    while let Some(records) = pages.next().await.context(NOT_LISTED)? {
        // Read after the records, so that it contains all their keys.
        let keyring = target.keyring().await?;
        all += records.len();
        faults.extend(records.iter().filter_map(|record| fault(record, &keyring)));
    }
    let code = if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(3) };
    args.output.print(&Decrypted { all, faults })?;
    Ok(code)
}

/// The record and the problem, if it cannot be decrypted. The secret is wiped at once.
fn fault(parsed: &ParsedRecord, keyring: &Keyring) -> Option<(NamespacedName, String)> {
    let problem = match &parsed.0 {
        Ok(record) => record::open(record, keyring).err()?.to_string(),
        Err(_) => "it cannot be read as a record: another version of the operator or another client wrote it"
            .to_owned(),
    };
    Some((NamespacedName::of(parsed), problem))
}

// === impl Decrypted ===

impl Report for Decrypted {
    fn text(&self, _is_wide: bool) -> Text {
        let Self { all, faults } = self;
        let mut text = Text::default();
        for (record, problem) in faults {
            text.push(&format!("{record}: {problem}\n"));
        }
        text.push(&match faults.len() {
            0 => format!("all {all} records can be decrypted\n"),
            failed => format!("{failed} of {all} records cannot be decrypted\n"),
        });
        text
    }

    fn json(&self) -> Value {
        let fault = |(record, problem): &(NamespacedName, String)| json!({"record": record.to_string(), "problem": problem});
        json!({"records": self.all, "faults": self.faults.iter().map(fault).collect::<Value>()})
    }
}
