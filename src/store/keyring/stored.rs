//! The keyring's written form, in its Secret and for export and import alike: JSON, read strictly.
//!
//! ```json
//! {
//!   "primary": "0a1b2c3d",
//!   "keys": [{"id": "0a1b2c3d", "created": "2026-01-02T03:04:05Z", "bytes": "<32 bytes in base64>"}],
//!   "fingerprintKeys": [{"id": "4e5f6071", "created": "2026-01-02T03:04:05Z", "bytes": "<32 bytes in base64>"}]
//! }
//! ```
//!
//! Both lists have the newest key first. A key of the store that is on its way out has `retiredAt` beside `created`.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};
use thiserror::Error;
use zeroize::Zeroizing;

use super::secret::DATA_KEY;
use super::{Key, KeyBytes, KeyId, Keyring, SpareKey};
use crate::secret::{SecretBytes, SecretText};
use crate::store::fingerprint::FingerprintKeys;

/// A text that is no keyring. No part of the text is ever shown.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum KeyringFormatError {
    #[error("it has no key {DATA_KEY}")]
    Missing,
    #[error("{what} at line {line}, column {column}")]
    Json { what: &'static str, line: usize, column: usize },
    #[error("{0} is empty")]
    Empty(&'static str),
    /// An entry of a list, counted from 0, is not a key.
    #[error("{list}[{index}].{problem}")]
    Key { list: &'static str, index: usize, problem: &'static str },
    #[error("primary is not the id of one of keys")]
    Primary,
}

/// The list of the keys of the store, and that of the keys of fingerprints.
const KEYS: &str = "keys";
const FINGERPRINT_KEYS: &str = "fingerprintKeys";

/// What is wrong with a retired key that cannot be.
const RETIRED: &str = "retiredAt is set, and neither the primary key nor one of fingerprints can be retired";

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Stored {
    primary: String,
    /// In keyrings of earlier versions the key that a rotation was to make primary. It only opens.
    #[serde(default, rename = "next", skip_serializing)]
    _next: Option<String>,
    keys: Vec<StoredKey>,
    fingerprint_keys: Vec<StoredKey>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct StoredKey {
    id: String,
    created: Timestamp,
    #[serde(serialize_with = "expose")]
    bytes: SecretText,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retired_at: Option<Timestamp>,
}

/// Reads a keyring.
pub(super) fn read(json: &[u8]) -> Result<Keyring, KeyringFormatError> {
    let stored: Stored = serde_json::from_slice(json).map_err(|error| describe(&error))?;
    let primary = stored.primary.parse::<KeyId>().map_err(|_| KeyringFormatError::Primary)?;
    let fingerprint_keys = fingerprint_keys(&stored.fingerprint_keys)?;
    let mut spares = keys(KEYS, &stored.keys)?;
    let index = spares.iter().position(|spare| spare.key.id == primary).ok_or(KeyringFormatError::Primary)?;
    let primary = spares.remove(index);
    if primary.retired_at.is_some() {
        return Err(KeyringFormatError::Key { list: KEYS, index, problem: RETIRED });
    }
    Ok(Keyring { primary: primary.key, spares, fingerprint_keys })
}

/// Writes a keyring.
pub(super) fn write(keyring: &Keyring) -> Result<SecretBytes, serde_json::Error> {
    let mut keys: Vec<StoredKey> = std::iter::once(stored(&keyring.primary, None))
        .chain(keyring.spares.iter().map(|spare| stored(&spare.key, spare.retired_at)))
        .collect();
    // Stable: of two that were made in the same second the primary comes first.
    keys.sort_by_key(|key| std::cmp::Reverse(key.created));
    let fingerprint_keys: Vec<StoredKey> =
        keyring.fingerprint_keys.newest_first().map(|key| stored(key, None)).collect();
    // Large enough never to grow: growing would leave a copy behind.
    let size = 256 + 256 * (keys.len() + fingerprint_keys.len());
    let mut json = Zeroizing::new(Vec::with_capacity(size));
    let stored = Stored { primary: keyring.primary.id.to_string(), _next: None, keys, fingerprint_keys };
    serde_json::to_writer(&mut *json, &stored)?;
    Ok(SecretBytes::new(std::mem::take(&mut *json)))
}

fn fingerprint_keys(stored: &[StoredKey]) -> Result<FingerprintKeys, KeyringFormatError> {
    let list = FINGERPRINT_KEYS;
    let keys = keys(list, stored)?;
    if let Some(index) = keys.iter().position(|spare| spare.retired_at.is_some()) {
        return Err(KeyringFormatError::Key { list, index, problem: RETIRED });
    }
    let mut keys = keys.into_iter().map(|spare| spare.key);
    let newest = keys.next().ok_or(KeyringFormatError::Empty(list))?;
    Ok(FingerprintKeys::new(newest, keys.collect()))
}

/// The keys of one list, of which there is at least one and no two have the same id.
fn keys(list: &'static str, stored: &[StoredKey]) -> Result<Vec<SpareKey>, KeyringFormatError> {
    if stored.is_empty() {
        return Err(KeyringFormatError::Empty(list));
    }
    let mut seen = BTreeSet::new();
    let read = |(index, stored): (usize, &StoredKey)| {
        let wrong = |problem| KeyringFormatError::Key { list, index, problem };
        let id: KeyId = stored.id.parse().map_err(|_| wrong("id is not 8 lower-case hexadecimal digits"))?;
        let bytes = KeyBytes::from_base64(&stored.bytes).ok_or(wrong("bytes is not 32 bytes in base64"))?;
        if !seen.insert(id) {
            return Err(wrong("id is that of a key before it"));
        }
        let key = Key { id, created: stored.created, bytes };
        Ok(SpareKey { key, retired_at: stored.retired_at })
    };
    stored.iter().enumerate().map(read).collect()
}

fn stored(key: &Key, retired_at: Option<Timestamp>) -> StoredKey {
    StoredKey { id: key.id.to_string(), created: key.created, bytes: key.bytes.to_base64(), retired_at }
}

/// Where the JSON is wrong; serde's own text could show a part of it.
fn describe(error: &serde_json::Error) -> KeyringFormatError {
    let what =
        if error.is_data() { "a field is missing, unknown or not of its type" } else { "it is not JSON" };
    KeyringFormatError::Json { what, line: error.line(), column: error.column() }
}

fn expose<S: Serializer>(text: &SecretText, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text.expose())
}
