//! Taking the keys of a backup into a keyring that is there already. PURE.

use jiff::Timestamp;
use thiserror::Error;

use super::{Key, KeyId, Keyring, SpareKey};
use crate::resources::conditions::whole_second;

/// What a backup added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Added {
    /// Keys of the store. They open, and none of them seals.
    pub keys: Vec<KeyId>,
    /// Retired keys that were there already, and stay as long as if they were retired just now.
    pub kept: Vec<KeyId>,
    /// Keys of fingerprints, older than the one in use.
    pub fingerprint_keys: Vec<KeyId>,
}

/// A backup that contradicts the keyring.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the keyring holds another key under the id {0} than the backup: nothing was changed")]
pub struct Contradiction(KeyId);

// === impl Keyring ===

impl Keyring {
    /// This keyring as it comes back from a backup: a retired key counts as retired just now, so that what comes back
    /// beside it still opens.
    #[must_use]
    pub fn as_restored(&self, now: Timestamp) -> Self {
        let mut restored = self.clone();
        for retired_at in restored.spares.iter_mut().filter_map(|spare| spare.retired_at.as_mut()) {
            *retired_at = whole_second(now);
        }
        restored
    }

    /// Adds the keys of a backup that are missing here. None of them ever seals: the key that seals and the newest one of
    /// fingerprints stay what they are. One that was retired counts as retired just now, so that what comes back beside it
    /// still opens.
    pub fn add_from(&mut self, backup: &Self, now: Timestamp) -> Result<Added, Contradiction> {
        let mut added = Added::default();
        let mut merged = self.clone();
        let backup = backup.as_restored(now);
        let primary = SpareKey { key: backup.primary.clone(), retired_at: None };
        for spare in std::iter::once(&primary).chain(&backup.spares) {
            if let Some(known) = merged.key(spare.key.id) {
                same(known, &spare.key)?;
                let ours = merged.spares.iter_mut().find(|ours| ours.key.id == spare.key.id);
                if let Some(retired_at) = ours.and_then(|ours| ours.retired_at.as_mut()) {
                    *retired_at = whole_second(now);
                    added.kept.push(spare.key.id);
                }
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
    use super::*;
    use crate::secret::SecretText;
    use crate::store::fingerprint::Subject;
    use crate::store::keyring::{KeyBytes, Standing};

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
    fn what_a_lost_keyring_had_opens_and_matches_again_and_seals_no_more() {
        let lost = keyring();
        let mut new = keyring();
        let (primary, secret) = (new.primary(), SecretText::new("s".into()));
        let subject = Subject { uid: "u", secret: &secret, expires_at: at("2027-11-28T23:59:59Z") };
        let before = lost.fingerprint_keys().fingerprint(subject);
        let own = new.fingerprint_keys().fingerprint(subject);
        assert!(!new.fingerprint_keys().matches(&before, subject));
        let added = new.add_from(&lost, now()).unwrap();
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
        assert_eq!(whole.clone().add_from(&earlier, now()).unwrap(), Added::default());
        let mut restored = earlier;
        let expected = Added { keys: vec![added], ..Added::default() };
        assert_eq!(restored.add_from(&whole, now()).unwrap(), expected);
    }

    #[test]
    fn no_key_of_a_backup_becomes_primary() {
        let mut old = keyring();
        let mut backup = old.clone();
        let primary = old.primary();
        let newer = backup.rotate(at("2026-08-01T00:00:00Z")).unwrap();
        old.add_from(&backup, now()).unwrap();
        assert_eq!(old.primary(), primary);
        assert_ne!(old.rotate(now()).unwrap(), newer, "a rotation makes a fresh key");
    }

    #[test]
    fn a_retired_key_opens_for_a_while_from_its_return_on() {
        let mut backup = keyring();
        let old = backup.primary();
        backup.rotate(at("2026-08-01T00:00:00Z")).unwrap();
        backup.retire(old, 0, at("2026-08-02T00:00:00Z")).unwrap();
        let mut other = keyring();
        other.add_from(&backup, now()).unwrap();
        let standing = other.keys().find(|key| key.id == old).unwrap().standing;
        assert_eq!(standing, Standing::Retired(now()));
        let later = at("2026-09-08T11:00:00Z");
        assert_eq!(other.add_from(&backup, later).unwrap().kept, [old], "about to be deleted, it stays");
        let standing = other.keys().find(|key| key.id == old).unwrap().standing;
        assert_eq!(standing, Standing::Retired(later));
        let whole = backup.as_restored(later);
        let standing = whole.keys().find(|key| key.id == old).unwrap().standing;
        assert_eq!(standing, Standing::Retired(later));
    }

    #[test]
    fn one_id_with_two_keys_changes_nothing() {
        let mut keyring = keyring();
        let mut backup = keyring.clone();
        backup.rotate(at("2026-08-01T00:00:00Z")).unwrap();
        backup.spares[0].key.bytes = KeyBytes::zero();
        assert_eq!(keyring.add_from(&backup, now()), Err(Contradiction(keyring.primary())));
        assert_eq!(keyring.keys().count(), 1);
    }
}
