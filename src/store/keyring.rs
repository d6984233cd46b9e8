//! The keyring: the keys of the encrypted store and of fingerprints, as a pure value; `secret` keeps it in Kubernetes.
//!
//! One key of the store is primary and encrypts; the others only decrypt, until nothing is encrypted under them. A key
//! ends in two steps: retired once it is unused, deleted once it has stayed so for a while.

pub(crate) mod dependants;
mod live;
mod merge;
mod secret;
mod stored;
#[cfg(test)]
mod tests;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use thiserror::Error;

pub use super::key::KeyId;
pub(super) use super::key::{KEY_LENGTH, Key, KeyBytes};
pub(crate) use live::LiveKeyring;
pub(crate) use merge::Added;
pub(crate) use secret::{EditError, KeyringError, create, load, load_or_create};
pub use secret::{KeyringPlace, edit};
pub(crate) use stored::KeyringFormatError;

use super::fingerprint::FingerprintKeys;
use crate::resources::conditions::whole_second;
use crate::secret::SecretBytes;

/// The keys of the store, one of them primary, and those of fingerprints.
#[derive(Clone, Debug)]
pub struct Keyring {
    primary: Key,
    spares: Vec<SpareKey>,
    fingerprint_keys: FingerprintKeys,
}

/// A key that only opens.
#[derive(Clone, Debug)]
struct SpareKey {
    key: Key,
    retired_at: Option<Timestamp>,
}

/// A key of the store as it may be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyInfo {
    /// Its id.
    pub id: KeyId,
    /// When it was made.
    pub created: Timestamp,
    /// What it is good for.
    pub standing: Standing,
}

/// What a key of the store is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It seals and opens; there is one such key.
    Primary,
    /// It only opens.
    DecryptOnly,
    /// It was unused at the given time. It opens what turns up late, never seals again, and may be deleted later.
    Retired(Timestamp),
}

/// A change of the keyring that must not be.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum KeyChangeError {
    /// There is no such key.
    #[error("the keyring holds no key {0}")]
    Unknown(KeyId),
    /// The key seals.
    #[error("key {0} is primary: make another one primary first")]
    Primary(KeyId),
    /// Something is sealed under the key.
    #[error(
        "key {key} still opens {records} sealed records: they must be sealed under the primary key first"
    )]
    InUse {
        /// The key.
        key: KeyId,
        /// How many records are sealed under it.
        records: usize,
    },
    /// Only a retired key can be deleted.
    #[error("key {0} is not retired: retire it first")]
    NotRetired(KeyId),
    /// The key was retired not long ago.
    #[error("key {key} is kept until {until:.0}, in case a record under it turns up")]
    TooEarly {
        /// The key.
        key: KeyId,
        /// When it may be deleted.
        until: Timestamp,
    },
}

// === impl Keyring ===

impl Keyring {
    /// A new one, with one fresh key for each purpose.
    pub fn random(now: Timestamp) -> Result<Self, getrandom::Error> {
        let now = whole_second(now);
        let fingerprint_keys = FingerprintKeys::new(Key::random(now)?, Vec::new());
        Ok(Self { primary: Key::random(now)?, spares: Vec::new(), fingerprint_keys })
    }

    /// Reads a keyring from JSON, as it stands in its Secret and as [`Keyring::to_json`] writes it.
    pub fn from_json(json: &[u8]) -> Result<Self, KeyringFormatError> {
        stored::read(json)
    }

    /// The keyring as JSON, all key bytes included.
    pub fn to_json(&self) -> Result<SecretBytes, serde_json::Error> {
        stored::write(self)
    }

    /// The keys of fingerprints, which no change of the store's keys touches.
    pub fn fingerprint_keys(&self) -> &FingerprintKeys {
        &self.fingerprint_keys
    }

    /// The id of the key that seals.
    pub fn primary(&self) -> KeyId {
        self.primary.id
    }

    /// All keys of the store, the primary one first.
    pub fn keys(&self) -> impl Iterator<Item = KeyInfo> {
        let info = |key: &Key, standing| KeyInfo { id: key.id, created: key.created, standing };
        let spares = self.spares.iter().map(move |spare| {
            info(&spare.key, spare.retired_at.map_or(Standing::DecryptOnly, Standing::Retired))
        });
        std::iter::once(info(&self.primary, Standing::Primary)).chain(spares)
    }

    /// Adds a fresh primary key; the one before it only opens from then on. Returns the id of the fresh one.
    pub fn rotate(&mut self, now: Timestamp) -> Result<KeyId, getrandom::Error> {
        let mut key = Key::random(whole_second(now))?;
        while self.key(key.id).is_some() {
            key = Key::random(key.created)?;
        }
        let id = key.id;
        let earlier = std::mem::replace(&mut self.primary, key);
        self.spares.push(SpareKey { key: earlier, retired_at: None });
        Ok(id)
    }

    /// Retires a key under which `records` records are sealed, which must be none. A key that is retired already
    /// keeps its date.
    pub fn retire(&mut self, id: KeyId, records: usize, now: Timestamp) -> Result<(), KeyChangeError> {
        let spare = self.unused(id, records)?;
        spare.retired_at.get_or_insert(whole_second(now));
        Ok(())
    }

    /// Deletes a key that was retired at least `kept` ago and under which `records` records, none, are sealed.
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
        self.spares.retain(|spare| spare.key.id != id);
        Ok(())
    }

    /// The key that seals.
    pub(super) fn sealing_key(&self) -> &Key {
        &self.primary
    }

    /// The key of that id, for opening.
    pub(super) fn key(&self, id: KeyId) -> Option<&Key> {
        std::iter::once(&self.primary)
            .chain(self.spares.iter().map(|spare| &spare.key))
            .find(|key| key.id == id)
    }

    /// A key that does not seal and under which nothing is sealed.
    fn unused(&mut self, id: KeyId, records: usize) -> Result<&mut SpareKey, KeyChangeError> {
        if self.primary.id == id {
            return Err(KeyChangeError::Primary(id));
        }
        let mut spares = self.spares.iter_mut();
        let spare = spares.find(|spare| spare.key.id == id).ok_or(KeyChangeError::Unknown(id))?;
        if records > 0 {
            return Err(KeyChangeError::InUse { key: id, records });
        }
        Ok(spare)
    }
}
