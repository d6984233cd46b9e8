//! The two layers of an envelope: XChaCha20-Poly1305, and the associated data of each layer.

use chacha20poly1305::{AeadInOut, KeyInit, XChaCha20Poly1305};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::api::timestamp::rfc3339;
use crate::store::envelope::{AssociatedData, Format};
use crate::store::keyring::{Key, KeyBytes, KeyId};

/// Length of a nonce, in bytes: long enough to be random.
pub(super) const NONCE_LENGTH: usize = 24;

/// Length of an authentication tag, in bytes.
pub(super) const TAG_LENGTH: usize = 16;

/// HKDF info: separates the key-encryption key from anything else that may ever be derived from a key of the keyring.
const KEY_ENCRYPTION_KEY: &[u8] = b"graph-credentials.io/SealedGraphCredential/key-encryption-key";

/// Layer of the data key, which is encrypted with the key-encryption key.
pub(super) const DATA_KEY: &[u8] = b"graph-credentials.io/SealedGraphCredential/data-key";

/// Layer of the secret, which is encrypted with the data key.
pub(super) const SECRET: &[u8] = b"graph-credentials.io/SealedGraphCredential/secret";

/// Layer of the pending secret, which is encrypted with the same data key.
pub(super) const PENDING_SECRET: &[u8] = b"graph-credentials.io/SealedGraphCredential/pending-secret";

/// A ciphertext, as long as its plaintext.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Sealed {
    pub nonce: [u8; NONCE_LENGTH],
    pub ciphertext: Vec<u8>,
    pub tag: [u8; TAG_LENGTH],
}

/// Derives the key that encrypts data keys. `None` for a length that does not occur.
pub(super) fn key_encryption_key(key: &Key) -> Option<KeyBytes> {
    let mut derived = KeyBytes::zero();
    Hkdf::<Sha256>::new(None, key.bytes.expose()).expand(KEY_ENCRYPTION_KEY, derived.as_mut()).ok()?;
    Some(derived)
}

/// The associated data of a layer: each part is preceded by its length in eight bytes (big endian), so that the
/// encoding is unambiguous.
pub(super) fn associated_data(
    layer: &[u8],
    format: Format,
    key_id: KeyId,
    binding: AssociatedData<'_>,
) -> Vec<u8> {
    let (key_id, credential_id) = (key_id.to_string(), binding.credential_id.to_string());
    let expires_at = rfc3339(binding.expires_at);
    let number = [format.number()];
    let mut parts = vec![
        layer,
        &number,
        key_id.as_bytes(),
        binding.namespace.as_bytes(),
        binding.record_id.as_str().as_bytes(),
        binding.tenant.as_str().as_bytes(),
        binding.client.as_str().as_bytes(),
    ];
    if let Format::Two { has_pending } = format {
        parts.extend([
            binding.cloud.as_str().as_bytes(),
            credential_id.as_bytes(),
            expires_at.as_bytes(),
            binding.name.as_bytes(),
            if has_pending { &[2] } else { &[1] },
        ]);
    }
    let mut data = Vec::with_capacity(parts.iter().map(|part| size_of::<u64>() + part.len()).sum());
    for part in parts {
        data.extend_from_slice(&(part.len() as u64).to_be_bytes());
        data.extend_from_slice(part);
    }
    data
}

/// Encrypts. `None` for a length that does not occur.
pub(super) fn seal(
    key: &KeyBytes,
    nonce: [u8; NONCE_LENGTH],
    plaintext: &[u8],
    associated_data: &[u8],
) -> Option<Sealed> {
    let cipher = XChaCha20Poly1305::new(key.expose().into());
    let mut buffer = Zeroizing::new(plaintext.to_vec());
    let tag =
        cipher.encrypt_inout_detached(&nonce.into(), associated_data, buffer.as_mut_slice().into()).ok()?;
    Some(Sealed { nonce, ciphertext: std::mem::take(&mut *buffer), tag: tag.into() })
}

/// Decrypts, or returns `None` if key, ciphertext or associated data differ.
pub(super) fn open(key: &KeyBytes, sealed: &Sealed, associated_data: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let Sealed { nonce, ciphertext, tag } = sealed;
    let cipher = XChaCha20Poly1305::new(key.expose().into());
    let mut buffer = Zeroizing::new(ciphertext.clone());
    cipher
        .decrypt_inout_detached(nonce.into(), associated_data, buffer.as_mut_slice().into(), tag.into())
        .ok()?;
    Some(buffer)
}
