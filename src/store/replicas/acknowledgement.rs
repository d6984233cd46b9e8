//! What a process knows of the keyring: which key seals, and which ones open. PURE.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::store::keyring::{KeyId, Keyring};

/// What a process knows of the keyring. As text: `seals=0a1b2c3d opens=11223344,55667788`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledgement {
    /// The key that it seals under.
    seals: KeyId,
    /// All keys that it opens with, the one that seals among them.
    opens: BTreeSet<KeyId>,
}

/// A text that is no acknowledgement.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("it says nothing of the keyring that can be read")]
pub struct NotAnAcknowledgement;

// === impl Acknowledgement ===

impl Acknowledgement {
    /// What whoever holds that keyring knows.
    pub fn of(keyring: &Keyring) -> Self {
        Self { seals: keyring.primary(), opens: keyring.keys().map(|key| key.id).collect() }
    }

    /// Whether what is sealed under that key can be opened there.
    pub fn opens(&self, key: KeyId) -> bool {
        self.opens.contains(&key)
    }

    /// Whether nothing is sealed under that key there any more.
    pub fn has_stopped_sealing_under(&self, key: KeyId) -> bool {
        self.seals != key
    }
}

impl fmt::Display for Acknowledgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seals={} opens={}", self.seals, list(&self.opens))
    }
}

impl FromStr for Acknowledgement {
    type Err = NotAnAcknowledgement;

    /// Words that are not known are passed over: a later version may say more.
    fn from_str(text: &str) -> Result<Self, NotAnAcknowledgement> {
        let (mut seals, mut opens) = (None, BTreeSet::new());
        for word in text.split_ascii_whitespace() {
            let (name, value) = word.split_once('=').ok_or(NotAnAcknowledgement)?;
            match name {
                "seals" => seals = Some(value.parse().map_err(|_| NotAnAcknowledgement)?),
                "opens" => opens = keys(value)?,
                _ => {}
            }
        }
        // Whoever seals under a key opens it.
        let seals = seals.filter(|key| opens.contains(key)).ok_or(NotAnAcknowledgement)?;
        Ok(Self { seals, opens })
    }
}

fn list(keys: &BTreeSet<KeyId>) -> String {
    keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn keys(text: &str) -> Result<BTreeSet<KeyId>, NotAnAcknowledgement> {
    text.split(',').map(|id| id.parse().map_err(|_| NotAnAcknowledgement)).collect()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn what_is_said_is_understood() {
        let now: Timestamp = "2026-11-24T08:00:00Z".parse().unwrap();
        let mut keyring = Keyring::random(now).unwrap();
        let first = keyring.primary();
        let second = keyring.begin_rotation(now).unwrap().0;
        let before = Acknowledgement::of(&keyring);
        assert!(before.opens(first) && before.opens(second));
        assert!(!before.has_stopped_sealing_under(first) && before.has_stopped_sealing_under(second));
        keyring.promote(second).unwrap();
        keyring.retire(first, 0, now).unwrap();
        let after = Acknowledgement::of(&keyring);
        assert!(after.opens(first) && after.has_stopped_sealing_under(first));
        for said in [before, after] {
            assert_eq!(said.to_string().parse(), Ok(said));
        }
    }

    #[test]
    fn what_cannot_be_understood_is_no_acknowledgement() {
        let odd = [
            "",
            "seals",
            "opens=0a1b2c3d",
            "seals=x opens=0a1b2c3d",
            "seals=0a1b2c3d opens=,",
            "seals=0a1b2c3d",
            "seals=0a1b2c3d opens=11223344",
        ];
        for text in odd {
            assert_eq!(text.parse::<Acknowledgement>(), Err(NotAnAcknowledgement), "{text:?}");
        }
        let later = "seals=0a1b2c3d opens=0a1b2c3d more=1".parse::<Acknowledgement>().unwrap();
        assert!(later.opens("0a1b2c3d".parse().unwrap()));
    }
}
