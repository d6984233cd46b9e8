//! Taking the keys of a backup into a keyring that is there already. PURE.

use thiserror::Error;

use super::{Key, KeyId, Keyring, SpareKey};

/// What a backup added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Added {
    /// Keys of the store. They open, and none of them seals.
    pub keys: Vec<KeyId>,
    /// Keys of fingerprints, older than the one in use.
    pub fingerprint_keys: Vec<KeyId>,
}

/// A backup that contradicts the keyring.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the keyring holds another key under the id {0} than the backup: nothing was changed")]
pub struct Contradiction(KeyId);

// === impl Keyring ===

impl Keyring {
    /// Adds the keys of a backup that are missing here. The key that seals and the newest one of fingerprints stay what
    /// they are.
    pub fn add_from(&mut self, backup: &Self) -> Result<Added, Contradiction> {
        let mut added = Added::default();
        let mut merged = self.clone();
        let primary = SpareKey { key: backup.primary.clone(), retired_at: None };
        for spare in std::iter::once(&primary).chain(&backup.spares) {
            if let Some(known) = merged.key(spare.key.id) {
                same(known, &spare.key)?;
            } else {
                added.keys.push(spare.key.id);
                merged.spares.push(spare.clone());
            }
        }
        for key in backup.fingerprint_keys.newest_first() {
            let known = merged.fingerprint_keys.newest_first().find(|known| known.id == key.id);
            if let Some(known) = known {
                same(known, key)?;
            } else {
                added.fingerprint_keys.push(key.id);
                merged.fingerprint_keys.add_older(key.clone());
            }
        }
        *self = merged;
        Ok(added)
    }
}

fn same(known: &Key, other: &Key) -> Result<(), Contradiction> {
    if known.bytes.expose() == other.bytes.expose() { Ok(()) } else { Err(Contradiction(known.id)) }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::secret::SecretText;
    use crate::store::fingerprint::Subject;
    use crate::store::keyring::KeyBytes;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn keyring() -> Keyring {
        Keyring::random(at("2026-07-01T12:00:00Z")).unwrap()
    }

    #[test]
    fn what_a_lost_keyring_had_opens_and_matches_again_and_seals_no_more() {
        let lost = keyring();
        let mut new = keyring();
        let (primary, secret) = (new.primary(), SecretText::new("s".into()));
        let subject = Subject { uid: "u", secret: &secret, expires_at: at("2027-11-28T23:59:59Z") };
        let before = lost.fingerprint_keys().fingerprint(subject);
        let own = new.fingerprint_keys().fingerprint(subject);
        assert!(!new.fingerprint_keys().matches(&before, subject));
        let added = new.add_from(&lost).unwrap();
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
        let added = whole.add(at("2026-08-01T00:00:00Z")).unwrap();
        assert_eq!(whole.clone().add_from(&earlier).unwrap(), Added::default());
        let mut restored = earlier;
        assert_eq!(restored.add_from(&whole).unwrap(), Added { keys: vec![added], fingerprint_keys: vec![] });
    }

    #[test]
    fn a_retired_key_stays_retired() {
        let mut backup = keyring();
        let old = backup.primary();
        let new = backup.add(at("2026-08-01T00:00:00Z")).unwrap();
        backup.promote(new).unwrap();
        backup.retire(old, 0, at("2026-08-02T00:00:00Z")).unwrap();
        let mut other = keyring();
        other.add_from(&backup).unwrap();
        assert!(other.promote(old).is_err());
        assert!(other.promote(new).is_ok());
    }

    #[test]
    fn one_id_with_two_keys_changes_nothing() {
        let mut keyring = keyring();
        let mut backup = keyring.clone();
        backup.add(at("2026-08-01T00:00:00Z")).unwrap();
        backup.primary.bytes = KeyBytes::zero();
        assert_eq!(keyring.add_from(&backup), Err(Contradiction(backup.primary())));
        assert_eq!(keyring.keys().count(), 1);
    }
}
