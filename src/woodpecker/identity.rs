//! Identities of remote accounts.

use hmac::{HmacReset, KeyInit, Mac};
use sha2::Sha256;

use crate::config::BaseUrl;
use crate::secret_text::SecretText;

/// Two `WoodpeckerAccount`s with the same identity are one remote account.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RemoteIdentity {
    pub base_url: BaseUrl,
    pub company_id: Option<i64>,
    pub key: KeyDigest,
}

/// A keyed digest of an API key, to compare keys without keeping them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyDigest([u8; 32]);

/// Computes digests of API keys, with a random key that lives as long as the process.
pub struct KeyDigests(HmacReset<Sha256>);

// === impl KeyDigests ===

impl KeyDigests {
    /// Fails only if the system has no randomness.
    pub fn new() -> Result<Self, getrandom::Error> {
        let mut digest_key = [0; 64];
        getrandom::fill(&mut digest_key)?;
        Ok(Self(HmacReset::new(&digest_key.into())))
    }

    pub fn of(&self, api_key: &SecretText) -> KeyDigest {
        let mut mac = self.0.clone();
        mac.update(api_key.expose().as_bytes());
        // In place: a move leaves a copy of the key on the stack, which nothing wipes.
        KeyDigest(mac.finalize_reset().into_bytes().into())
    }
}

impl std::fmt::Debug for KeyDigests {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyDigests(..)")
    }
}

// === impl KeyDigest ===

impl std::fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyDigest(..)")
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! Identities for the tests of other modules.

    use super::{KeyDigest, RemoteIdentity};

    /// An identity with the key of that number.
    pub(crate) fn identity(key: u8, company_id: Option<i64>) -> RemoteIdentity {
        let base_url = "https://a.example".parse().unwrap();
        RemoteIdentity { base_url, company_id, key: KeyDigest([key; 32]) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_compared_without_being_kept() {
        let digests = KeyDigests::new().unwrap();
        let of = |key: &str| digests.of(&SecretText::new(key.into()));
        assert_eq!(of("1234.key"), of("1234.key"));
        assert_ne!(of("1234.key"), of("1234.other"));
        assert_eq!(format!("{:?} {digests:?}", of("1234.key")), "KeyDigest(..) KeyDigests(..)");
        let another_process = KeyDigests::new().unwrap();
        assert_ne!(of("1234.key"), another_process.of(&SecretText::new("1234.key".into())));
    }
}
