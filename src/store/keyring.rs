//! The keyring: encryption keys and fingerprint keys. One encryption key is primary and encrypts; the others only
//! decrypt, until nothing is encrypted with them. A key ends in two steps: it is retired once it is unused, and deleted
//! after it has stayed unused for a while.

mod cache;
pub(crate) mod dependents;
mod format;
mod import;
mod secret;
#[cfg(test)]
mod tests;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use thiserror::Error;

pub use crate::store::key::KeyId;
pub(super) use crate::store::key::{KEY_LENGTH, Key, KeyBytes};
pub(crate) use cache::KeyringCache;
pub(crate) use format::KeyringFormatError;
pub(crate) use import::ImportSummary;
pub(crate) use secret::{EditError, KeyringError, create, load, load_or_create};
pub use secret::{KeyringRef, edit};

use crate::api::conditions::whole_second;
use crate::secret_text::SecretBytes;
use crate::store::fingerprint::FingerprintKeys;

/// Encryption keys, one of them primary, and fingerprint keys.
#[derive(Clone, Debug)]
pub struct Keyring {
    primary: Key,
    decrypt_only: Vec<DecryptOnlyKey>,
    fingerprint_keys: FingerprintKeys,
}

/// A key that only decrypts.
#[derive(Clone, Debug)]
struct DecryptOnlyKey {
    key: Key,
    retired_at: Option<Timestamp>,
}

/// What may be shown of an encryption key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyInfo {
    /// Its id.
    pub id: KeyId,
    /// When it was created.
    pub created: Timestamp,
    /// What it is used for.
    pub state: KeyState,
}

/// What an encryption key is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// It encrypts and decrypts; there is one such key.
    Primary,
    /// It only decrypts.
    DecryptOnly,
    /// It was unused at the given time. It still decrypts, never encrypts again, and may be deleted later.
    Retired(Timestamp),
}

/// A change of the keyring that is not allowed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum KeyChangeError {
    /// There is no such key.
    #[error("the keyring holds no key {0}")]
    Unknown(KeyId),
    /// The key is primary.
    #[error("key {0} is primary: rotate the keyring first")]
    Primary(KeyId),
    /// Records are encrypted with the key.
    #[error(
        "key {key} still decrypts {records} records: they must be re-encrypted with the primary key first"
    )]
    InUse {
        /// The key.
        key: KeyId,
        /// How many records are encrypted with it.
        records: usize,
    },
    /// Only a retired key can be deleted.
    #[error("key {0} is not retired: retire it first")]
    NotRetired(KeyId),
    /// The key was retired too recently.
    #[error("key {key} is kept until {until:.0}, in case a record appears that is encrypted with it")]
    TooEarly {
        /// The key.
        key: KeyId,
        /// When it may be deleted.
        until: Timestamp,
    },
}

// === impl Keyring ===

impl Keyring {
    /// A new keyring with one key for each purpose.
    pub fn random(now: Timestamp) -> Result<Self, getrandom::Error> {
        let now = whole_second(now);
        let fingerprint_keys = FingerprintKeys::new(Key::random(now)?, Vec::new());
        Ok(Self { primary: Key::random(now)?, decrypt_only: Vec::new(), fingerprint_keys })
    }

    /// Parses a keyring from JSON, as in its Secret and as [`Keyring::to_json`] writes it.
    pub fn from_json(json: &[u8]) -> Result<Self, KeyringFormatError> {
        format::read(json)
    }

    /// The keyring as JSON, including all key bytes.
    pub fn to_json(&self) -> Result<SecretBytes, serde_json::Error> {
        format::write(self)
    }

    /// The fingerprint keys, which no change of the encryption keys affects.
    pub fn fingerprint_keys(&self) -> &FingerprintKeys {
        &self.fingerprint_keys
    }

    /// The id of the primary key.
    pub fn primary(&self) -> KeyId {
        self.primary.id
    }

    /// All encryption keys, the primary one first.
    pub fn keys(&self) -> impl Iterator<Item = KeyInfo> {
        let info = |key: &Key, state| KeyInfo { id: key.id, created: key.created, state };
        let decrypt_only = self.decrypt_only.iter().map(move |other| {
            info(&other.key, other.retired_at.map_or(KeyState::DecryptOnly, KeyState::Retired))
        });
        std::iter::once(info(&self.primary, KeyState::Primary)).chain(decrypt_only)
    }

    /// Adds a new primary key; the previous one only decrypts from then on. Returns the new id.
    pub fn rotate(&mut self, now: Timestamp) -> Result<KeyId, getrandom::Error> {
        let mut key = Key::random(whole_second(now))?;
        while self.key(key.id).is_some() {
            key = Key::random(key.created)?;
        }
        let id = key.id;
        let earlier = std::mem::replace(&mut self.primary, key);
        self.decrypt_only.push(DecryptOnlyKey { key: earlier, retired_at: None });
        Ok(id)
    }

    /// Retires a key with which `records` records are encrypted, which must be 0. A key that is already retired keeps
    /// its date, unless that is ahead.
    pub fn retire(&mut self, id: KeyId, records: usize, now: Timestamp) -> Result<(), KeyChangeError> {
        let other = self.unused(id, records)?;
        let now = whole_second(now);
        other.retired_at = Some(other.retired_at.map_or(now, |at| at.min(now)));
        Ok(())
    }

    /// Deletes a key that was retired at least `kept` ago and with which `records` records, which must be 0, are
    /// encrypted.
    pub fn delete(
        &mut self,
        id: KeyId,
        records: usize,
        now: Timestamp,
        kept: Duration,
    ) -> Result<(), KeyChangeError> {
        let retired_at = self.unused(id, records)?.retired_at.ok_or(KeyChangeError::NotRetired(id))?;
        let kept = SignedDuration::try_from(kept).unwrap_or(SignedDuration::MAX);
        if now.duration_since(retired_at) < kept {
            let until = retired_at.checked_add(kept).unwrap_or(Timestamp::MAX);
            return Err(KeyChangeError::TooEarly { key: id, until });
        }
        self.decrypt_only.retain(|other| other.key.id != id);
        Ok(())
    }

    /// The key that encrypts.
    pub(super) fn primary_key(&self) -> &Key {
        &self.primary
    }

    /// The key of that id, for decryption.
    pub(super) fn key(&self, id: KeyId) -> Option<&Key> {
        std::iter::once(&self.primary)
            .chain(self.decrypt_only.iter().map(|other| &other.key))
            .find(|key| key.id == id)
    }

    /// A key other than the primary one that no record is encrypted with.
    fn unused(&mut self, id: KeyId, records: usize) -> Result<&mut DecryptOnlyKey, KeyChangeError> {
        if self.primary.id == id {
            return Err(KeyChangeError::Primary(id));
        }
        let mut decrypt_only = self.decrypt_only.iter_mut();
        let other = decrypt_only.find(|other| other.key.id == id).ok_or(KeyChangeError::Unknown(id))?;
        if records > 0 {
            return Err(KeyChangeError::InUse { key: id, records });
        }
        Ok(other)
    }
}
