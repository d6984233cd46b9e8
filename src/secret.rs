//! Secret text: client secrets and API keys while they are in memory.
//!
//! The type has no `Display` and no `Serialize`, its `Debug` shows nothing, and its bytes are wiped when it
//! goes. Whoever needs the text says so with [`SecretText::expose`], which is easy to find in a review.

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
    /// Takes the text over.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text itself, for the one place that sends or hashes it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is no text at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether white space or a control character stands before, after or (a line break, a NUL) inside the
    /// text: nearly always an editor's or `echo`'s newline, which Microsoft and Woodpecker refuse with an
    /// answer that does not name the cause.
    pub fn has_stray_whitespace(&self) -> bool {
        self.0.trim().len() != self.0.len() || self.0.contains(char::is_control)
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
    /// Takes the bytes over.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes themselves.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The bytes as text, or nothing where they are not UTF-8.
    pub fn to_text(&self) -> Option<SecretText> {
        std::str::from_utf8(&self.0).ok().map(|text| SecretText::new(text.to_owned()))
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
        // The decoder's own error would show the offending byte.
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
    fn stray_whitespace_is_found_wherever_an_editor_leaves_it() {
        for stray in [" a", "a ", "a\n", "\ta", "a\nb", "a\0b"] {
            assert!(SecretText::new(stray.into()).has_stray_whitespace(), "{stray:?}");
        }
        for fine in ["a", "a b", "6gyXA5S20@MN+WRXAJ]I-TO7g1:h2P8", "ü"] {
            assert!(!SecretText::new(fine.into()).has_stray_whitespace(), "{fine:?}");
        }
    }

    #[test]
    fn bad_base64_is_refused_without_showing_it() {
        let refused = serde_json::from_str::<SecretBytes>("\"Y2FuYXJ5!\"").unwrap_err().to_string();
        assert!(!refused.contains("Y2Fu"), "{refused}");
        let read: SecretBytes = serde_json::from_str("\"Y2FuYXJ5\"").unwrap();
        assert_eq!(read.expose(), b"canary");
    }
}
