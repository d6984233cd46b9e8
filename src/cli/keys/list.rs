//! `keys list`: the keys, what they are good for, and what is sealed under each.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::{StoreArgs, Target, count, missing_keys};
use crate::cli::output::{Format, table};
use crate::store::census::Census;
use crate::store::keyring::{KeyInfo, Keyring, Standing};

/// What `keys list` can be told.
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Format,

    #[command(flatten)]
    store: StoreArgs,
}

/// How things stand.
struct Overview {
    place: String,
    keyring: Keyring,
    census: Census,
}

/// Shows the keys.
pub(super) async fn run(args: &ListArgs) -> anyhow::Result<ExitCode> {
    let target = Target::of(&args.store).await?;
    let overview = Overview {
        census: count(&target, &target.namespaces).await?,
        // After the count: it holds every key that records were sealed under.
        keyring: target.keyring().await?,
        place: target.place.to_string(),
    };
    args.output.print(|| overview.text(), || overview.json())?;
    Ok(ExitCode::SUCCESS)
}

// === impl Overview ===

impl Overview {
    fn text(&self) -> String {
        let keys: Vec<Vec<String>> = self.keyring.keys().map(|key| self.row(key)).collect();
        let prints: Vec<Vec<String>> =
            self.keyring.fingerprint_keys().ids().map(|id| vec![id.to_string()]).collect();
        let mut parts = vec![
            format!("keyring Secret {}\n", self.place),
            table("", &["KEY", "STANDING", "CREATED", "RECORDS"], &keys),
            table("", &["FINGERPRINT KEY"], &prints),
        ];
        parts.extend(missing_keys(&self.keyring, &self.census).into_iter().map(|(key, records)| {
            format!(
                "{records} records are sealed under key {key}, which the keyring lacks: bring it back with `keys import`\n"
            )
        }));
        let unreadable = self.census.unreadable();
        if unreadable > 0 {
            parts.push(format!("{unreadable} objects cannot be read as records: `keys check` names them\n"));
        }
        parts.join("\n")
    }

    fn row(&self, key: KeyInfo) -> Vec<String> {
        vec![
            key.id.to_string(),
            standing(key.standing),
            format!("{:.0}", key.created),
            self.census.under(key.id).to_string(),
        ]
    }

    fn json(&self) -> Value {
        let key = |key: KeyInfo| {
            let retired_at = match key.standing {
                Standing::Retired(at) => Some(at),
                Standing::Primary | Standing::DecryptOnly => None,
            };
            json!({
                "id": key.id.to_string(),
                "standing": name(key.standing),
                "created": key.created,
                "retiredAt": retired_at,
                "records": self.census.under(key.id),
            })
        };
        let unknown = missing_keys(&self.keyring, &self.census).into_iter();
        json!({
            "secret": self.place,
            "keys": self.keyring.keys().map(key).collect::<Vec<_>>(),
            "fingerprintKeys": self.keyring.fingerprint_keys().ids().map(|id| id.to_string()).collect::<Vec<_>>(),
            "missingKeys": unknown.map(|(key, records)| json!({"id": key.to_string(), "records": records})).collect::<Vec<_>>(),
            "unreadableRecords": self.census.unreadable(),
        })
    }
}

fn standing(standing: Standing) -> String {
    match standing {
        Standing::Retired(at) => format!("retired {at:.0}"),
        Standing::Primary | Standing::DecryptOnly => name(standing).to_owned(),
    }
}

fn name(standing: Standing) -> &'static str {
    match standing {
        Standing::Primary => "primary",
        Standing::DecryptOnly => "opens only",
        Standing::Retired(_) => "retired",
    }
}
