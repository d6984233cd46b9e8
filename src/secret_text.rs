//! Secret text: client secrets and API keys while they are in memory.
//!
//! The type has no `Display` and no `Serialize`, its `Debug` shows nothing, and its bytes are wiped on drop. Code that
//! needs the text calls [`SecretText::expose`], which is easy to find in a review.

use std::fmt;

use serde::Deserialize;
use zeroize::{Zeroize, Zeroizing};

/// A text that must never be shown: wiped on drop, `[redacted]` in `Debug`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub struct SecretText(Zeroizing<String>);

/// The raw bytes of one key of a Kubernetes Secret, decoded from base64; wiped on drop.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretBytes(Zeroizing<Vec<u8>>);

// === impl SecretText ===

impl SecretText {
    /// Takes ownership of the text.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text, only to send or to hash it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether the text is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<String> for SecretText {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

// === impl SecretBytes ===

impl SecretBytes {
    /// Takes ownership of the bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// From the base64 text that the API server sends in a Secret's `data`.
impl<'de> Deserialize<'de> for SecretBytes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use base64::Engine as _;
        let mut encoded = String::deserialize(deserializer)?;
        let decoded = base64::engine::general_purpose::STANDARD.decode(&encoded);
        encoded.zeroize();
        // The decoder's error would show the invalid byte.
        decoded.map(Self::new).map_err(|_| serde::de::Error::custom("a value of the Secret is not base64"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing() {
        let text = SecretText::new("canary".into());
        let bytes = SecretBytes::new(b"canary".to_vec());
        assert_eq!(format!("{text:?} {bytes:?}"), "[redacted] [redacted]");
    }

    #[test]
    fn bad_base64_is_rejected_without_showing_it() {
        let error = serde_json::from_str::<SecretBytes>("\"Y2FuYXJ5!\"").unwrap_err().to_string();
        assert!(!error.contains("Y2Fu"), "{error}");
        let read: SecretBytes = serde_json::from_str("\"Y2FuYXJ5\"").unwrap();
        assert_eq!(read.expose(), b"canary");
    }
}
