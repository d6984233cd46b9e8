//! Serialization of the keyring, in its Secret and for export and import: JSON, parsed strictly.
//!
//! ```json
//! {
//!   "primary": "0a1b2c3d",
//!   "keys": [{"id": "0a1b2c3d", "created": "2026-01-02T03:04:05Z", "bytes": "<32 bytes in base64>"}],
//!   "fingerprintKeys": [{"id": "4e5f6071", "created": "2026-01-02T03:04:05Z", "bytes": "<32 bytes in base64>"}]
//! }
//! ```
//!
//! Both lists are sorted by age, newest first. A retired encryption key also has `retiredAt`.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::secret_text::{SecretBytes, SecretText};
use crate::store::fingerprint::FingerprintKeys;
use crate::store::keyring::secret::DATA_KEY;
use crate::store::keyring::{DecryptOnlyKey, Key, KeyBytes, KeyId, Keyring};

/// A text that is not a keyring. No part of the text is ever shown.
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

/// The fields of the encryption keys and of the fingerprint keys.
const KEYS: &str = "keys";
const FINGERPRINT_KEYS: &str = "fingerprintKeys";

const RETIRED: &str = "retiredAt is set, and neither the primary key nor one of fingerprints can be retired";

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct KeyringDocument {
    primary: String,
    /// In keyrings of earlier versions the key that a rotation was to make primary. It only decrypts.
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

pub(super) fn read(json: &[u8]) -> Result<Keyring, KeyringFormatError> {
    let stored: KeyringDocument = serde_json::from_slice(json).map_err(|error| describe(&error))?;
    let primary = stored.primary.parse::<KeyId>().map_err(|_| KeyringFormatError::Primary)?;
    let fingerprint_keys = fingerprint_keys(&stored.fingerprint_keys)?;
    let mut decrypt_only = keys(KEYS, &stored.keys)?;
    let index =
        decrypt_only.iter().position(|other| other.key.id == primary).ok_or(KeyringFormatError::Primary)?;
    let primary = decrypt_only.remove(index);
    if primary.retired_at.is_some() {
        return Err(KeyringFormatError::Key { list: KEYS, index, problem: RETIRED });
    }
    Ok(Keyring { primary: primary.key, decrypt_only, fingerprint_keys })
}

pub(super) fn write(keyring: &Keyring) -> Result<SecretBytes, serde_json::Error> {
    let mut keys: Vec<StoredKey> = std::iter::once(stored(&keyring.primary, None))
        .chain(keyring.decrypt_only.iter().map(|other| stored(&other.key, other.retired_at)))
        .collect();
    // Stable: of two that were created in the same second the primary comes first.
    keys.sort_by_key(|key| std::cmp::Reverse(key.created));
    let fingerprint_keys: Vec<StoredKey> =
        keyring.fingerprint_keys.newest_first().map(|key| stored(key, None)).collect();
    // Large enough never to grow: growing would leave a copy behind.
    let size = 256 + 256 * (keys.len() + fingerprint_keys.len());
    let mut json = Zeroizing::new(Vec::with_capacity(size));
    let stored =
        KeyringDocument { primary: keyring.primary.id.to_string(), _next: None, keys, fingerprint_keys };
    serde_json::to_writer(&mut *json, &stored)?;
    Ok(SecretBytes::new(std::mem::take(&mut *json)))
}

fn fingerprint_keys(stored: &[StoredKey]) -> Result<FingerprintKeys, KeyringFormatError> {
    let list = FINGERPRINT_KEYS;
    let keys = keys(list, stored)?;
    if let Some(index) = keys.iter().position(|other| other.retired_at.is_some()) {
        return Err(KeyringFormatError::Key { list, index, problem: RETIRED });
    }
    let mut keys = keys.into_iter().map(|other| other.key);
    let newest = keys.next().ok_or(KeyringFormatError::Empty(list))?;
    Ok(FingerprintKeys::new(newest, keys.collect()))
}

/// The keys of one list, which must not be empty and must have unique ids.
fn keys(list: &'static str, stored: &[StoredKey]) -> Result<Vec<DecryptOnlyKey>, KeyringFormatError> {
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
        Ok(DecryptOnlyKey { key, retired_at: stored.retired_at })
    };
    stored.iter().enumerate().map(read).collect()
}

fn stored(key: &Key, retired_at: Option<Timestamp>) -> StoredKey {
    StoredKey { id: key.id.to_string(), created: key.created, bytes: key.bytes.to_base64(), retired_at }
}

/// The position of the error only; serde's message could show a part of the text.
fn describe(error: &serde_json::Error) -> KeyringFormatError {
    let what =
        if error.is_data() { "a field is missing, unknown or not of its type" } else { "it is not JSON" };
    KeyringFormatError::Json { what, line: error.line(), column: error.column() }
}

fn expose<S: Serializer>(text: &SecretText, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text.expose())
}
