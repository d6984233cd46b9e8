//! Envelope encryption: a client secret is encrypted for one record, and decrypts for no other. The secret is encrypted
//! with its own data key, and that with a key derived from a key of the keyring; both are bound to the fields of the
//! record. `docs/reference/envelope.md` documents the formats.

mod cipher;
mod layout;
#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;

use std::fmt;

use jiff::Timestamp;
use thiserror::Error;
use zeroize::Zeroizing;

pub use layout::MalformedEnvelope;

use crate::api::{ClientId, Cloud, RecordId, SealedGraphCredential, TenantId};
use crate::core::secret_value::ValueKind;
use crate::secret_text::SecretText;
use crate::store::keyring::{Key, KeyBytes, KeyId, Keyring};
use cipher::{DATA_KEY, NONCE_LENGTH, PENDING_SECRET, SECRET, Sealed, associated_data};

/// Length of the longest secret, in bytes, or of both together. In base64 their envelope fits into `spec.envelope`.
pub const MAX_SECRET_LENGTH: usize = ValueKind::ClientSecret.max_length();

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// Of earlier versions: it is read, but never written. Binds neither cloud, credential id, expiry nor name.
    One,
    Two {
        has_pending: bool,
    },
}

/// The fields of the record that an envelope is bound to. It decrypts with no others.
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
    /// Cloud of the tenant.
    pub cloud: Cloud,
    /// The credential's id.
    pub credential_id: i64,
    /// When the secret expires; whole seconds count.
    pub expires_at: Timestamp,
    /// The credential's name.
    pub name: &'a str,
}

/// What an envelope contains.
#[derive(Clone, Copy, Debug)]
pub struct Secrets<'a> {
    /// The secret that is in use.
    pub current: &'a SecretText,
    /// A new secret that is to replace the current one.
    pub pending: Option<&'a SecretText>,
}

/// An encrypted secret. As text it is base64, as in `spec.envelope`.
#[derive(Clone, PartialEq, Eq)]
pub struct Envelope {
    format: Format,
    /// The key of the keyring with which the data key is encrypted.
    key_id: KeyId,
    data_key: Sealed,
    secret: Sealed,
    pending: Option<Sealed>,
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
        "the envelope cannot be decrypted with key {0}: it was changed, or it belongs to a record of another \
         namespace, recordId, credentialId, tenantId, clientId, cloud, secretExpiresAt or name"
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
    pending_nonce: [u8; NONCE_LENGTH],
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
            cloud: spec.cloud.unwrap_or_default(),
            credential_id: spec.credential_id,
            expires_at: spec.secret_expires_at.0,
            name: &spec.name,
        }
    }
}

// === impl Secrets ===

impl<'a> From<&'a SecretText> for Secrets<'a> {
    fn from(current: &'a SecretText) -> Self {
        Self { current, pending: None }
    }
}

// === impl Envelope ===

impl Envelope {
    /// Encrypts with the primary key and a new data key.
    pub fn seal<'a>(
        keyring: &Keyring,
        binding: AssociatedData<'_>,
        secrets: impl Into<Secrets<'a>>,
    ) -> Result<Self, SealError> {
        Self::seal_with(keyring.primary_key(), &KeyMaterial::random()?, binding, secrets.into())
    }

    /// Decrypts the secret for the record for which it was encrypted.
    pub fn open(&self, keyring: &Keyring, binding: AssociatedData<'_>) -> Result<SecretText, OpenError> {
        self.open_all(keyring, binding).map(|(current, _)| current)
    }

    /// Decrypts the secret, and the pending one if there is one.
    pub fn open_all(
        &self,
        keyring: &Keyring,
        binding: AssociatedData<'_>,
    ) -> Result<(SecretText, Option<SecretText>), OpenError> {
        let key = keyring.key(self.key_id).ok_or(OpenError::UnknownKey(self.key_id))?;
        let refused = OpenError::DataKey(self.key_id);
        let kek = cipher::key_encryption_key(key).ok_or(refused.clone())?;
        let bound = |layer| associated_data(layer, self.format, self.key_id, binding);
        let data_key = cipher::open(&kek, &self.data_key, &bound(DATA_KEY))
            .and_then(|bytes| KeyBytes::copy_of(&bytes))
            .ok_or(refused)?;
        let open = |sealed, layer| {
            let text = cipher::open(&data_key, sealed, &bound(layer)).ok_or(OpenError::Secret)?;
            secret_text(text)
        };
        let pending = self.pending.as_ref().map(|pending| open(pending, PENDING_SECRET)).transpose()?;
        Ok((open(&self.secret, SECRET)?, pending))
    }

    /// The key with which it is encrypted.
    pub fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// Whether its format is one of an earlier version, so that it should be encrypted again.
    pub fn has_earlier_format(&self) -> bool {
        match self.format {
            Format::One => true,
            Format::Two { .. } => false,
        }
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
        secrets: Secrets<'_>,
    ) -> Result<Self, SealError> {
        let Secrets { current, pending } = secrets;
        if current.is_empty() || pending.is_some_and(SecretText::is_empty) {
            return Err(SealError::Empty);
        }
        let length = current.expose().len() + pending.map_or(0, |pending| pending.expose().len());
        if length > MAX_SECRET_LENGTH {
            return Err(SealError::TooLong(length));
        }
        let KeyMaterial { data_key, data_key_nonce, secret_nonce, pending_nonce } = material;
        let kek = cipher::key_encryption_key(key).ok_or(SealError::Cipher)?;
        let format = Format::Two { has_pending: pending.is_some() };
        let seal = |key_encrypting, nonce: &_, text, layer| {
            cipher::seal(key_encrypting, *nonce, text, &associated_data(layer, format, key.id, binding))
                .ok_or(SealError::Cipher)
        };
        let pending = match pending {
            Some(text) => Some(seal(data_key, pending_nonce, text.expose().as_bytes(), PENDING_SECRET)?),
            None => None,
        };
        Ok(Self {
            format,
            key_id: key.id,
            data_key: seal(&kek, data_key_nonce, &data_key.expose()[..], DATA_KEY)?,
            secret: seal(data_key, secret_nonce, current.expose().as_bytes(), SECRET)?,
            pending,
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
            pending_nonce: [0; NONCE_LENGTH],
        };
        getrandom::fill(&mut material.data_key_nonce)?;
        getrandom::fill(&mut material.secret_nonce)?;
        getrandom::fill(&mut material.pending_nonce)?;
        Ok(material)
    }
}

fn secret_text(mut bytes: Zeroizing<Vec<u8>>) -> Result<SecretText, OpenError> {
    match String::from_utf8(std::mem::take(&mut *bytes)) {
        Ok(text) => Ok(SecretText::new(text)),
        Err(error) => {
            drop(Zeroizing::new(error.into_bytes()));
            Err(OpenError::NotText)
        }
    }
}
