//! Keyed fingerprints: whether a secret is the one that is registered, without keeping the secret.
//!
//! A fingerprint reads `<key id>:<hex>`, where hex is an HMAC-SHA-256 over the object's uid, the secret and
//! its expiry, each preceded by its length in eight bytes (big endian). Who sees one can neither turn it
//! back nor compare the secrets of two objects.

use hmac::{HmacReset, KeyInit, Mac};
use jiff::Timestamp;
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::key::{Key, KeyId};
use crate::secret::SecretText;
use crate::woodpecker::rfc3339;

/// The keys of fingerprints, newest first; older ones stay while any fingerprint names them.
#[derive(Clone)]
pub struct FingerprintKeys {
    newest: Key,
    older: Vec<Key>,
}

/// What a fingerprint is taken of.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub uid: &'a str,
    pub secret: &'a SecretText,
    /// When it expires; whole seconds count.
    pub expires_at: Timestamp,
}

// === impl FingerprintKeys ===

impl FingerprintKeys {
    pub(super) fn new(newest: Key, older: Vec<Key>) -> Self {
        Self { newest, older }
    }

    /// Adds one under which nothing new is taken.
    pub(super) fn add_older(&mut self, key: Key) {
        self.older.push(key);
    }

    /// Their ids, the newest first.
    pub fn ids(&self) -> impl Iterator<Item = KeyId> {
        self.newest_first().map(|key| key.id)
    }

    /// All of them, for writing them down.
    pub(super) fn newest_first(&self) -> impl Iterator<Item = &Key> {
        std::iter::once(&self.newest).chain(&self.older)
    }

    /// The fingerprint under the newest key.
    pub fn fingerprint(&self, subject: Subject<'_>) -> String {
        format!("{}:{}", self.newest.id, hex::encode(code(&self.newest, subject)))
    }

    /// Whether a fingerprint, under whichever key that we have, is the subject's.
    pub fn matches(&self, fingerprint: &str, subject: Subject<'_>) -> bool {
        let Some((id, hex)) = fingerprint.split_once(':') else { return false };
        let Some(key) = id.parse().ok().and_then(|id| self.newest_first().find(|key| key.id == id)) else {
            return false;
        };
        hex::decode(hex).is_ok_and(|bytes| code(key, subject).as_slice().ct_eq(&bytes).into())
    }
}

impl std::fmt::Debug for FingerprintKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FingerprintKeys").field("newest", &self.newest.id).finish_non_exhaustive()
    }
}

fn code(key: &Key, subject: Subject<'_>) -> [u8; 32] {
    // An HMAC takes a key of any length; the fall-back is never reached.
    let mut mac = HmacReset::<Sha256>::new_from_slice(key.bytes.expose())
        .unwrap_or_else(|_| HmacReset::new(&[0; 64].into()));
    let expires_at = rfc3339(subject.expires_at);
    for part in [subject.uid.as_bytes(), subject.secret.expose().as_bytes(), expires_at.as_bytes()] {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part);
    }
    // In place: a move leaves a copy of the secret on the stack, which nothing wipes.
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
        let subject = Subject { uid: "u", secret: &secret, expires_at };
        let fingerprint = keys.fingerprint(subject);
        assert!(keys.matches(&fingerprint, subject));
        assert!(fingerprint.starts_with("0000000a:") && fingerprint.len() == 73, "{fingerprint}");
        assert!(!keys.matches(&fingerprint, Subject { uid: "v", ..subject }));
        assert!(!keys.matches(&fingerprint, Subject { secret: &other, ..subject }));
        assert!(!keys.matches(&fingerprint, Subject { expires_at: at("2027-11-29T00:00:00Z"), ..subject }));
    }

    #[test]
    fn lengths_keep_the_parts_apart() {
        let keys = FingerprintKeys::new(key("0000000a", 1), vec![]);
        let (one, other) = (SecretText::new("bc".into()), SecretText::new("c".into()));
        let expires_at = at("2027-11-28T23:59:59Z");
        let first = keys.fingerprint(Subject { uid: "a", secret: &one, expires_at });
        assert_ne!(first, keys.fingerprint(Subject { uid: "ab", secret: &other, expires_at }));
    }

    #[test]
    fn a_fingerprint_under_an_older_key_still_matches() {
        let secret = SecretText::new("s".into());
        let subject = Subject { uid: "u", secret: &secret, expires_at: at("2027-11-28T23:59:59Z") };
        let old = FingerprintKeys::new(key("0000000a", 1), vec![]).fingerprint(subject);
        let keys = FingerprintKeys::new(key("0000000b", 2), vec![key("0000000a", 1)]);
        assert!(keys.matches(&old, subject));
        assert!(!FingerprintKeys::new(key("0000000b", 2), vec![]).matches(&old, subject));
        for odd in ["", "a", "0000000a", "0000000a:", "0000000a:zz", "0000000a:abc", ":", "0000000a:ü0"] {
            assert!(!keys.matches(odd, subject), "{odd}");
        }
    }
}
