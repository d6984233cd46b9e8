//! `keys list`: the keys, their state, and how many records each of them encrypts.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use crate::cli::keys::{StoreArgs, Target, count, missing_keys};
use crate::cli::output::{Report, ReportFormat, Table, Text};
use crate::store::key_usage::KeyUsage;
use crate::store::keyring::{KeyInfo, KeyState, Keyring};

/// Arguments of `keys list`.
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Output format
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: ReportFormat,

    #[command(flatten)]
    store: StoreArgs,
}

/// The keyring and its usage.
struct KeyringSummary {
    secret: String,
    keyring: Keyring,
    usage: KeyUsage,
}

/// Shows the keys.
pub(super) async fn run(args: &ListArgs) -> anyhow::Result<ExitCode> {
    let target = Target::of(&args.store).await?;
    let summary = KeyringSummary {
        usage: count(&target, &target.namespaces).await?,
        // After the count, so that it contains every key of the counted records.
        keyring: target.keyring().await?,
        secret: target.secret.to_string(),
    };
    args.output.print(&summary)?;
    Ok(ExitCode::SUCCESS)
}

// === impl KeyringSummary ===

impl KeyringSummary {
    fn row(&self, key: KeyInfo) -> Vec<String> {
        vec![
            key.id.to_string(),
            state_text(key.state),
            format!("{:.0}", key.created),
            self.usage.under(key.id).to_string(),
        ]
    }
}

impl Report for KeyringSummary {
    fn text(&self, _is_wide: bool) -> Text {
        let keys = self.keyring.keys().map(|key| self.row(key));
        let fingerprint_keys = self.keyring.fingerprint_keys().ids().map(|id| vec![id.to_string()]);
        let mut text = Text::of(&format!("keyring Secret {}\n\n", self.secret));
        text.push_table("", &Table::of(&["KEY", "STATE", "CREATED", "RECORDS"], keys));
        text.push("\n");
        text.push_table("", &Table::of(&["FINGERPRINT KEY"], fingerprint_keys));
        for (key, records) in missing_keys(&self.keyring, &self.usage) {
            text.push(&format!(
                "\n{records} records are encrypted with key {key}, which the keyring lacks: restore it with `keys import`\n"
            ));
        }
        let unreadable = self.usage.unreadable();
        if unreadable > 0 {
            text.push(&format!(
                "\n{unreadable} objects cannot be read as records: `keys verify` names them\n"
            ));
        }
        text
    }

    fn json(&self) -> Value {
        let key = |key: KeyInfo| {
            let retired_at = match key.state {
                KeyState::Retired(at) => Some(at),
                KeyState::Primary | KeyState::DecryptOnly => None,
            };
            json!({
                "id": key.id.to_string(),
                "state": state_name(key.state),
                "created": key.created,
                "retiredAt": retired_at,
                "records": self.usage.under(key.id),
            })
        };
        let missing = missing_keys(&self.keyring, &self.usage).into_iter();
        json!({
            "secret": self.secret,
            "keys": self.keyring.keys().map(key).collect::<Vec<_>>(),
            "fingerprintKeys": self.keyring.fingerprint_keys().ids().map(|id| id.to_string()).collect::<Vec<_>>(),
            "missingKeys": missing.map(|(key, records)| json!({"id": key.to_string(), "records": records})).collect::<Vec<_>>(),
            "unreadableRecords": self.usage.unreadable(),
        })
    }
}

fn state_text(state: KeyState) -> String {
    match state {
        KeyState::Retired(at) => format!("retired {at:.0}"),
        KeyState::Primary | KeyState::DecryptOnly => state_name(state).to_owned(),
    }
}

fn state_name(state: KeyState) -> &'static str {
    match state {
        KeyState::Primary => "primary",
        KeyState::DecryptOnly => "decrypt only",
        KeyState::Retired(_) => "retired",
    }
}
