//! Import of keys from a backup into an existing keyring.

use jiff::Timestamp;
use thiserror::Error;

use crate::api::conditions::whole_second;
use crate::store::keyring::{DecryptOnlyKey, Key, KeyId, Keyring};

/// The keys that an import added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportSummary {
    /// Encryption keys, which only decrypt.
    pub keys: Vec<KeyId>,
    /// Retired keys that already existed, and are kept as long as if they were retired just now.
    pub kept: Vec<KeyId>,
    /// Fingerprint keys, older than the one in use.
    pub fingerprint_keys: Vec<KeyId>,
}

/// A backup that contradicts the keyring.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the key with the id {0} differs between the keyring and the backup; nothing was changed")]
pub struct ConflictingKey(KeyId);

// === impl Keyring ===

impl Keyring {
    /// This keyring as restored from a backup: a retired key counts as retired just now, so that records that are
    /// restored with it still decrypt.
    #[must_use]
    pub fn as_restored(&self, now: Timestamp) -> Self {
        let mut restored = self.clone();
        for retired_at in restored.decrypt_only.iter_mut().filter_map(|other| other.retired_at.as_mut()) {
            *retired_at = whole_second(now);
        }
        restored
    }

    /// Adds the keys of a backup that are missing. None of them ever encrypts: the primary key and the newest
    /// fingerprint key stay the same. A retired key counts as retired just now, so that records that are restored with
    /// it still decrypt.
    pub fn import(&mut self, backup: &Self, now: Timestamp) -> Result<ImportSummary, ConflictingKey> {
        let mut added = ImportSummary::default();
        let mut imported = self.clone();
        let backup = backup.as_restored(now);
        let primary = DecryptOnlyKey { key: backup.primary.clone(), retired_at: None };
        for other in std::iter::once(&primary).chain(&backup.decrypt_only) {
            if let Some(known) = imported.key(other.key.id) {
                same(known, &other.key)?;
                let own = imported.decrypt_only.iter_mut().find(|own| own.key.id == other.key.id);
                if let Some(retired_at) = own.and_then(|own| own.retired_at.as_mut()) {
                    *retired_at = whole_second(now);
                    added.kept.push(other.key.id);
                }
            } else {
                added.keys.push(other.key.id);
                imported.decrypt_only.push(other.clone());
            }
        }
        for key in backup.fingerprint_keys.newest_first() {
            let known = imported.fingerprint_keys.newest_first().find(|known| known.id == key.id);
            if let Some(known) = known {
                same(known, key)?;
            } else {
                added.fingerprint_keys.push(key.id);
                imported.fingerprint_keys.add_older(key.clone());
            }
        }
        *self = imported;
        Ok(added)
    }
}

fn same(known: &Key, other: &Key) -> Result<(), ConflictingKey> {
    if known.bytes.expose() == other.bytes.expose() { Ok(()) } else { Err(ConflictingKey(known.id)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret_text::SecretText;
    use crate::store::fingerprint::FingerprintInput;
    use crate::store::keyring::{KeyBytes, KeyState};

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn now() -> Timestamp {
        at("2026-09-01T12:00:00Z")
    }

    fn keyring() -> Keyring {
        Keyring::random(at("2026-07-01T12:00:00Z")).unwrap()
    }

    #[test]
    fn keys_of_a_lost_keyring_decrypt_and_match_again_but_never_encrypt() {
        let lost = keyring();
        let mut new = keyring();
        let (primary, secret) = (new.primary(), SecretText::new("s".into()));
        let subject = FingerprintInput { uid: "u", secret: &secret, expires_at: at("2027-11-28T23:59:59Z") };
        let before = lost.fingerprint_keys().fingerprint(subject);
        let own = new.fingerprint_keys().fingerprint(subject);
        assert!(!new.fingerprint_keys().matches(&before, subject));
        let added = new.import(&lost, now()).unwrap();
        assert_eq!((added.keys, added.fingerprint_keys.len()), (vec![lost.primary()], 1));
        assert_eq!(new.primary(), primary);
        assert!(new.key(lost.primary()).is_some());
        assert!(new.fingerprint_keys().matches(&before, subject));
        assert_eq!(new.fingerprint_keys().fingerprint(subject), own);
    }

    #[test]
    fn a_backup_of_the_same_keyring_adds_what_is_missing_only() {
        let mut whole = keyring();
        let earlier = whole.clone();
        let added = whole.rotate(at("2026-08-01T00:00:00Z")).unwrap();
        assert_eq!(whole.clone().import(&earlier, now()).unwrap(), ImportSummary::default());
        let mut restored = earlier;
        let expected = ImportSummary { keys: vec![added], ..ImportSummary::default() };
        assert_eq!(restored.import(&whole, now()).unwrap(), expected);
    }

    #[test]
    fn no_key_of_a_backup_becomes_primary() {
        let mut old = keyring();
        let mut backup = old.clone();
        let primary = old.primary();
        let newer = backup.rotate(at("2026-08-01T00:00:00Z")).unwrap();
        old.import(&backup, now()).unwrap();
        assert_eq!(old.primary(), primary);
        assert_ne!(old.rotate(now()).unwrap(), newer, "a rotation creates a new key");
    }

    #[test]
    fn an_imported_retired_key_is_kept_from_its_import_on() {
        let mut backup = keyring();
        let old = backup.primary();
        backup.rotate(at("2026-08-01T00:00:00Z")).unwrap();
        backup.retire(old, 0, at("2026-08-02T00:00:00Z")).unwrap();
        let mut other = keyring();
        other.import(&backup, now()).unwrap();
        let state = other.keys().find(|key| key.id == old).unwrap().state;
        assert_eq!(state, KeyState::Retired(now()));
        let later = at("2026-09-08T11:00:00Z");
        assert_eq!(other.import(&backup, later).unwrap().kept, [old], "it was about to be deleted");
        let state = other.keys().find(|key| key.id == old).unwrap().state;
        assert_eq!(state, KeyState::Retired(later));
        let whole = backup.as_restored(later);
        let state = whole.keys().find(|key| key.id == old).unwrap().state;
        assert_eq!(state, KeyState::Retired(later));
    }

    #[test]
    fn one_id_with_two_keys_changes_nothing() {
        let mut keyring = keyring();
        let mut backup = keyring.clone();
        backup.rotate(at("2026-08-01T00:00:00Z")).unwrap();
        backup.decrypt_only[0].key.bytes = KeyBytes::zero();
        assert_eq!(keyring.import(&backup, now()), Err(ConflictingKey(keyring.primary())));
        assert_eq!(keyring.keys().count(), 1);
    }
}
