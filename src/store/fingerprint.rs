//! Keyed fingerprints: they show whether a secret is the registered one, without storing the secret. A fingerprint is
//! `<key id>:<hex>`, where hex is an HMAC-SHA-256 over the object's uid, the secret and its expiry, each preceded by
//! its length in eight bytes (big endian). From fingerprints nobody can recover a secret or compare the secrets of two
//! objects.

use hmac::{HmacReset, KeyInit, Mac};
use jiff::Timestamp;
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::api::timestamp::rfc3339;
use crate::secret_text::SecretText;
use crate::store::key::{Key, KeyId};

/// The fingerprint keys, newest first; older ones are kept while any fingerprint uses them.
#[derive(Clone)]
pub struct FingerprintKeys {
    newest: Key,
    older: Vec<Key>,
}

#[derive(Clone, Copy, Debug)]
pub struct FingerprintInput<'a> {
    pub uid: &'a str,
    pub secret: &'a SecretText,
    /// When it expires; whole seconds count.
    pub expires_at: Timestamp,
}

/// In place of an expiry, for a fingerprint of the secret alone.
pub const NO_EXPIRY: Timestamp = Timestamp::UNIX_EPOCH;

// === impl FingerprintKeys ===

impl FingerprintKeys {
    pub(super) fn new(newest: Key, older: Vec<Key>) -> Self {
        Self { newest, older }
    }

    /// Adds a key that is used for comparison only.
    pub(super) fn add_older(&mut self, key: Key) {
        self.older.push(key);
    }

    /// Their ids, the newest first.
    pub fn ids(&self) -> impl Iterator<Item = KeyId> {
        self.newest_first().map(|key| key.id)
    }

    pub(super) fn newest_first(&self) -> impl Iterator<Item = &Key> {
        std::iter::once(&self.newest).chain(&self.older)
    }

    /// The fingerprint with the newest key.
    pub fn fingerprint(&self, input: FingerprintInput<'_>) -> String {
        format!("{}:{}", self.newest.id, hex::encode(hmac(&self.newest, input)))
    }

    /// Whether a fingerprint, with any known key, is that of the input.
    pub fn matches(&self, fingerprint: &str, input: FingerprintInput<'_>) -> bool {
        let Some((id, hex)) = fingerprint.split_once(':') else { return false };
        let Some(key) = id.parse().ok().and_then(|id| self.newest_first().find(|key| key.id == id)) else {
            return false;
        };
        hex::decode(hex).is_ok_and(|bytes| hmac(key, input).as_slice().ct_eq(&bytes).into())
    }
}

impl std::fmt::Debug for FingerprintKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FingerprintKeys").field("newest", &self.newest.id).finish_non_exhaustive()
    }
}

fn hmac(key: &Key, input: FingerprintInput<'_>) -> [u8; 32] {
    // HMAC accepts a key of any length; the fallback is never used.
    let mut mac = HmacReset::<Sha256>::new_from_slice(key.bytes.expose())
        .unwrap_or_else(|_| HmacReset::new(&[0; 64].into()));
    let expires_at = rfc3339(input.expires_at);
    for part in [input.uid.as_bytes(), input.secret.expose().as_bytes(), expires_at.as_bytes()] {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part);
    }
    // In place: a move would leave a copy of the secret on the stack, which nothing wipes.
    mac.finalize_reset().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::key::KeyBytes;

    fn key(id: &str, byte: u8) -> Key {
        let bytes = KeyBytes::copy_of(&[byte; 32]).unwrap();
        Key { id: id.parse().unwrap(), created: at("2026-01-01T00:00:00Z"), bytes }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_fingerprint_depends_on_object_secret_and_expiry() {
        let keys = FingerprintKeys::new(key("0000000a", 1), vec![]);
        let (secret, other) = (SecretText::new("s".into()), SecretText::new("t".into()));
        let expires_at = at("2027-11-28T23:59:59Z");
        let input = FingerprintInput { uid: "u", secret: &secret, expires_at };
        let fingerprint = keys.fingerprint(input);
        assert!(keys.matches(&fingerprint, input));
        assert!(fingerprint.starts_with("0000000a:") && fingerprint.len() == 73, "{fingerprint}");
        assert!(!keys.matches(&fingerprint, FingerprintInput { uid: "v", ..input }));
        assert!(!keys.matches(&fingerprint, FingerprintInput { secret: &other, ..input }));
        assert!(
            !keys.matches(&fingerprint, FingerprintInput { expires_at: at("2027-11-29T00:00:00Z"), ..input })
        );
    }

    #[test]
    fn lengths_keep_the_parts_apart() {
        let keys = FingerprintKeys::new(key("0000000a", 1), vec![]);
        let (one, other) = (SecretText::new("bc".into()), SecretText::new("c".into()));
        let expires_at = at("2027-11-28T23:59:59Z");
        let first = keys.fingerprint(FingerprintInput { uid: "a", secret: &one, expires_at });
        assert_ne!(first, keys.fingerprint(FingerprintInput { uid: "ab", secret: &other, expires_at }));
    }

    #[test]
    fn a_fingerprint_under_an_older_key_still_matches() {
        let secret = SecretText::new("s".into());
        let input = FingerprintInput { uid: "u", secret: &secret, expires_at: at("2027-11-28T23:59:59Z") };
        let old = FingerprintKeys::new(key("0000000a", 1), vec![]).fingerprint(input);
        let keys = FingerprintKeys::new(key("0000000b", 2), vec![key("0000000a", 1)]);
        assert!(keys.matches(&old, input));
        assert!(!FingerprintKeys::new(key("0000000b", 2), vec![]).matches(&old, input));
        for odd in ["", "a", "0000000a", "0000000a:", "0000000a:zz", "0000000a:abc", ":", "0000000a:ü0"] {
            assert!(!keys.matches(odd, input), "{odd}");
        }
    }
}
