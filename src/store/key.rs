//! One key of the keyring: 32 random bytes under an id of 32 random bits. Its bytes are never printed.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::secret_text::SecretText;

/// Length of every key, in bytes.
pub const KEY_LENGTH: usize = 32;

/// The id of a key, written as 8 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(u32);

/// A text that is not the id of a key.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("the id of a key is 8 lower-case hexadecimal digits")]
pub struct ParseKeyIdError;

/// The bytes of a key: on the heap, so that a move leaves no copy, and wiped on drop.
#[derive(Clone)]
pub(in crate::store) struct KeyBytes(Box<Zeroizing<[u8; KEY_LENGTH]>>);

#[derive(Clone, Debug)]
pub(in crate::store) struct Key {
    pub id: KeyId,
    pub created: Timestamp,
    pub bytes: KeyBytes,
}

// === impl KeyId ===

impl KeyId {
    /// The id as in an envelope.
    pub(in crate::store) fn to_bytes(self) -> [u8; 4] {
        self.0.to_be_bytes()
    }

    /// The id as in an envelope.
    pub(in crate::store) fn from_bytes(bytes: [u8; 4]) -> Self {
        Self(u32::from_be_bytes(bytes))
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

impl FromStr for KeyId {
    type Err = ParseKeyIdError;

    fn from_str(text: &str) -> Result<Self, ParseKeyIdError> {
        // An id has one spelling, but `from_str_radix` accepts a sign, capitals and fewer digits.
        let id = u32::from_str_radix(text, 16).ok().map(Self);
        id.filter(|id| id.to_string() == text).ok_or(ParseKeyIdError)
    }
}

// === impl KeyBytes ===

impl KeyBytes {
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = Self::zero();
        getrandom::fill(bytes.as_mut())?;
        Ok(bytes)
    }

    /// All zero, to be filled.
    pub fn zero() -> Self {
        Self(Box::new(Zeroizing::new([0; KEY_LENGTH])))
    }

    /// A copy of the bytes, or `None` if their number is not that of a key.
    pub fn copy_of(bytes: &[u8]) -> Option<Self> {
        let mut copy = Self::zero();
        (bytes.len() == KEY_LENGTH).then(|| {
            copy.as_mut().copy_from_slice(bytes);
            copy
        })
    }

    /// From base64, or `None` if it is invalid or has another length.
    pub fn from_base64(text: &SecretText) -> Option<Self> {
        // The decoder's own error would show the offending byte.
        let bytes = STANDARD.decode(text.expose()).ok().map(Zeroizing::new)?;
        Self::copy_of(&bytes)
    }

    pub fn to_base64(&self) -> SecretText {
        SecretText::new(STANDARD.encode(self.expose()))
    }

    /// The bytes, for cryptographic use only.
    pub fn expose(&self) -> &[u8; KEY_LENGTH] {
        &self.0
    }

    /// The bytes, to be filled.
    pub fn as_mut(&mut self) -> &mut [u8; KEY_LENGTH] {
        &mut self.0
    }
}

impl fmt::Debug for KeyBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

// === impl Key ===

impl Key {
    /// A random key with a random id.
    pub fn random(created: Timestamp) -> Result<Self, getrandom::Error> {
        Ok(Self { id: KeyId(getrandom::u32()?), created, bytes: KeyBytes::random()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_one_spelling() {
        for text in ["00000000", "0a1b2c3d", "ffffffff"] {
            assert_eq!(text.parse::<KeyId>().unwrap().to_string(), text);
        }
        for text in
            ["", "a", "0A1B2C3D", "0a1b2c3", "0a1b2c3d4", "+a1b2c3d", "0a1b2c3g", "0a1b2cü", " 0a1b2c3"]
        {
            assert_eq!(text.parse::<KeyId>(), Err(ParseKeyIdError), "{text:?}");
        }
    }

    #[test]
    fn a_key_is_32_bytes_in_base64() {
        let key = KeyBytes::random().unwrap();
        assert!(KeyBytes::from_base64(&key.to_base64()).unwrap().expose() == key.expose());
        for length in [0, 31, 33] {
            let text = SecretText::new(STANDARD.encode(vec![7; length]));
            assert!(KeyBytes::from_base64(&text).is_none(), "{length}");
        }
        assert!(KeyBytes::from_base64(&SecretText::new("?".repeat(44))).is_none());
    }
}
