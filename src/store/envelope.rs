//! The envelope: a client secret sealed for one record, so that it opens for no other. PURE.
//!
//! The secret is encrypted under a data key of its own, and that under a key which is derived from a key of the
//! keyring; both are bound to the record. The format, byte for byte, stands in `docs/envelope.md`.

mod cipher;
mod layout;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;

use std::fmt;

use thiserror::Error;
use zeroize::Zeroizing;

pub use layout::MalformedEnvelope;

use super::keyring::{Key, KeyBytes, KeyId, Keyring};
use crate::resources::{ClientId, RecordId, SealedGraphCredential, TenantId};
use crate::secret::SecretText;
use cipher::{DATA_KEY, NONCE_LENGTH, SECRET, Sealed, associated_data};

/// The format that is written, and the only one that is read.
const VERSION: u8 = 1;

/// Length of the longest secret that is sealed, in bytes. In base64 its envelope fits into `spec.envelope`.
pub const MAX_SECRET_LENGTH: usize = 8192;

/// The record that an envelope is bound to. With any other it does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding<'a> {
    /// The record's namespace.
    pub namespace: &'a str,
    /// The record's id.
    pub record_id: &'a RecordId,
    /// Tenant of the app.
    pub tenant: &'a TenantId,
    /// Client id of the app.
    pub client: &'a ClientId,
}

/// A sealed secret. As text it is base64, as it stands in `spec.envelope`.
#[derive(Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The key of the keyring under which the data key is sealed.
    key_id: KeyId,
    data_key: Sealed,
    secret: Sealed,
}

/// A secret that cannot be sealed.
#[derive(Debug, Error)]
pub enum SealError {
    /// There is nothing to seal.
    #[error("the secret is empty")]
    Empty,
    /// The secret is too long.
    #[error("the secret is {0} bytes long, and at most {MAX_SECRET_LENGTH} can be sealed")]
    TooLong(usize),
    /// The system gives no randomness.
    #[error("failed to draw random bytes for an envelope")]
    Random(#[from] getrandom::Error),
    /// The cipher refuses lengths that do not occur.
    #[error("failed to encrypt an envelope")]
    Cipher,
}

/// An envelope that does not open.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum OpenError {
    /// It is not an envelope.
    #[error(transparent)]
    Malformed(#[from] MalformedEnvelope),
    /// The keyring lacks the key.
    #[error(
        "the envelope is sealed under key {0}, which the keyring does not hold: bring it back from a backup (keys import)"
    )]
    UnknownKey(KeyId),
    /// The data key does not open.
    #[error(
        "the envelope does not open under key {0}: it was changed, or it belongs to another record, namespace, tenant \
         or client"
    )]
    DataKey(KeyId),
    /// The data key opens, the secret does not.
    #[error("the envelope's secret does not open under its data key: it was changed")]
    Secret,
    /// The secret is not UTF-8, which no text that was sealed is.
    #[error("the envelope holds no text")]
    NotText,
}

/// All that is random about an envelope.
struct Material {
    data_key: KeyBytes,
    data_key_nonce: [u8; NONCE_LENGTH],
    secret_nonce: [u8; NONCE_LENGTH],
}

/// A fresh id for a new record.
pub fn fresh_record_id() -> Result<RecordId, getrandom::Error> {
    let mut bits = [0; 16];
    getrandom::fill(&mut bits)?;
    Ok(RecordId::from(u128::from_be_bytes(bits)))
}

// === impl Binding ===

impl<'a> Binding<'a> {
    /// That of a record.
    pub fn of(record: &'a SealedGraphCredential) -> Self {
        let spec = &record.spec;
        Self {
            namespace: record.metadata.namespace.as_deref().unwrap_or_default(),
            record_id: &spec.record_id,
            tenant: &spec.tenant_id,
            client: &spec.client_id,
        }
    }
}

// === impl Envelope ===

impl Envelope {
    /// Seals a secret under the primary key, with a fresh data key.
    pub fn seal(keyring: &Keyring, binding: Binding<'_>, secret: &SecretText) -> Result<Self, SealError> {
        Self::seal_with(keyring.sealing_key(), &Material::random()?, binding, secret)
    }

    /// Opens the envelope of the very record that it was sealed for.
    pub fn open(&self, keyring: &Keyring, binding: Binding<'_>) -> Result<SecretText, OpenError> {
        let key = keyring.key(self.key_id).ok_or(OpenError::UnknownKey(self.key_id))?;
        let refused = OpenError::DataKey(self.key_id);
        let kek = cipher::key_encryption_key(key).ok_or(refused.clone())?;
        let data_key = cipher::open(&kek, &self.data_key, &associated_data(DATA_KEY, self.key_id, binding))
            .and_then(|bytes| KeyBytes::copy_of(&bytes))
            .ok_or(refused)?;
        let mut secret =
            cipher::open(&data_key, &self.secret, &associated_data(SECRET, self.key_id, binding))
                .ok_or(OpenError::Secret)?;
        match String::from_utf8(std::mem::take(&mut *secret)) {
            Ok(text) => Ok(SecretText::new(text)),
            Err(error) => {
                drop(Zeroizing::new(error.into_bytes()));
                Err(OpenError::NotText)
            }
        }
    }

    /// The key under which it is sealed.
    pub fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// Reads an envelope from base64, strictly: each envelope has one spelling.
    pub fn from_base64(text: &str) -> Result<Self, MalformedEnvelope> {
        layout::decode(text)
    }

    /// The envelope in base64.
    pub fn to_base64(&self) -> String {
        layout::encode(self)
    }

    fn seal_with(
        key: &Key,
        material: &Material,
        binding: Binding<'_>,
        secret: &SecretText,
    ) -> Result<Self, SealError> {
        let text = secret.expose().as_bytes();
        if text.is_empty() {
            return Err(SealError::Empty);
        }
        if text.len() > MAX_SECRET_LENGTH {
            return Err(SealError::TooLong(text.len()));
        }
        let Material { data_key, data_key_nonce, secret_nonce } = material;
        let kek = cipher::key_encryption_key(key).ok_or(SealError::Cipher)?;
        let seal = |key_encrypting, nonce, text, layer| {
            cipher::seal(key_encrypting, nonce, text, &associated_data(layer, key.id, binding))
                .ok_or(SealError::Cipher)
        };
        Ok(Self {
            key_id: key.id,
            data_key: seal(&kek, *data_key_nonce, &data_key.expose()[..], DATA_KEY)?,
            secret: seal(data_key, *secret_nonce, text, SECRET)?,
        })
    }
}

impl fmt::Debug for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Envelope").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

// === impl Material ===

impl Material {
    fn random() -> Result<Self, getrandom::Error> {
        let mut material = Self {
            data_key: KeyBytes::random()?,
            data_key_nonce: [0; NONCE_LENGTH],
            secret_nonce: [0; NONCE_LENGTH],
        };
        getrandom::fill(&mut material.data_key_nonce)?;
        getrandom::fill(&mut material.secret_nonce)?;
        Ok(material)
    }
}
