//! Envelope encryption: a client secret is encrypted for one record, and decrypts for no other. The secret is encrypted
//! with its own data key, and that with a key derived from a key of the keyring; both are bound to the record.
//! `docs/reference/envelope.md` documents the format.

mod cipher;
mod layout;
#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;

use std::fmt;

use thiserror::Error;
use zeroize::Zeroizing;

pub use layout::MalformedEnvelope;

use crate::api::{ClientId, RecordId, SealedGraphCredential, TenantId};
use crate::core::secret_value::ValueKind;
use crate::secret_text::SecretText;
use crate::store::keyring::{Key, KeyBytes, KeyId, Keyring};
use cipher::{DATA_KEY, NONCE_LENGTH, SECRET, Sealed, associated_data};

/// The format that is written, and the only one that is read.
const VERSION: u8 = 1;

/// Length of the longest secret, in bytes. In base64 its envelope fits into `spec.envelope`.
pub const MAX_SECRET_LENGTH: usize = ValueKind::ClientSecret.max_length();

/// The record that an envelope is bound to. It decrypts with no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AssociatedData<'a> {
    /// The record's namespace.
    pub namespace: &'a str,
    /// The record's id.
    pub record_id: &'a RecordId,
    /// Tenant of the app.
    pub tenant: &'a TenantId,
    /// Client id of the app.
    pub client: &'a ClientId,
}

/// An encrypted secret. As text it is base64, as in `spec.envelope`.
#[derive(Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The key of the keyring with which the data key is encrypted.
    key_id: KeyId,
    data_key: Sealed,
    secret: Sealed,
}

/// A secret that cannot be encrypted.
#[derive(Debug, Error)]
pub enum SealError {
    /// The secret is empty.
    #[error("the secret is empty")]
    Empty,
    /// The secret is too long.
    #[error("the secret is {0} bytes long, and at most {MAX_SECRET_LENGTH} are allowed")]
    TooLong(usize),
    /// The system has no randomness.
    #[error("failed to get random bytes for an envelope")]
    Random(#[from] getrandom::Error),
    /// The cipher rejects lengths that do not occur.
    #[error("failed to encrypt an envelope")]
    Cipher,
}

/// An envelope that cannot be decrypted.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum OpenError {
    /// It is not an envelope.
    #[error(transparent)]
    Malformed(#[from] MalformedEnvelope),
    /// The keyring does not have the key.
    #[error(
        "the envelope is encrypted with key {0}, which the keyring does not have: restore it from a backup \
         (keys import)"
    )]
    UnknownKey(KeyId),
    /// The data key cannot be decrypted.
    #[error(
        "the envelope cannot be decrypted with key {0}: it was changed, or it belongs to another record, \
         namespace, tenant or client"
    )]
    DataKey(KeyId),
    /// The data key can be decrypted, but not the secret.
    #[error("the envelope's secret cannot be decrypted with its data key: it was changed")]
    Secret,
    /// The secret is not UTF-8, although every encrypted text is.
    #[error("the envelope does not contain text")]
    NotText,
}

/// The random parts of an envelope.
struct KeyMaterial {
    data_key: KeyBytes,
    data_key_nonce: [u8; NONCE_LENGTH],
    secret_nonce: [u8; NONCE_LENGTH],
}

/// A random id for a new record.
pub fn generate_record_id() -> Result<RecordId, getrandom::Error> {
    let mut bits = [0; 16];
    getrandom::fill(&mut bits)?;
    Ok(RecordId::from(u128::from_be_bytes(bits)))
}

// === impl AssociatedData ===

impl<'a> AssociatedData<'a> {
    /// The associated data of a record.
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
    /// Encrypts a secret with the primary key and a new data key.
    pub fn seal(
        keyring: &Keyring,
        binding: AssociatedData<'_>,
        secret: &SecretText,
    ) -> Result<Self, SealError> {
        Self::seal_with(keyring.primary_key(), &KeyMaterial::random()?, binding, secret)
    }

    /// Decrypts the envelope of the record for which it was encrypted.
    pub fn open(&self, keyring: &Keyring, binding: AssociatedData<'_>) -> Result<SecretText, OpenError> {
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

    /// The key with which it is encrypted.
    pub fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// Parses an envelope from base64, strictly: each envelope has one spelling.
    pub fn from_base64(text: &str) -> Result<Self, MalformedEnvelope> {
        layout::decode(text)
    }

    /// The envelope in base64.
    pub fn to_base64(&self) -> String {
        layout::encode(self)
    }

    fn seal_with(
        key: &Key,
        material: &KeyMaterial,
        binding: AssociatedData<'_>,
        secret: &SecretText,
    ) -> Result<Self, SealError> {
        let text = secret.expose().as_bytes();
        if text.is_empty() {
            return Err(SealError::Empty);
        }
        if text.len() > MAX_SECRET_LENGTH {
            return Err(SealError::TooLong(text.len()));
        }
        let KeyMaterial { data_key, data_key_nonce, secret_nonce } = material;
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

// === impl KeyMaterial ===

impl KeyMaterial {
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
