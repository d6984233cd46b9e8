//! What objects have registered at an account, and whether its listing agrees with that. PURE.

use std::collections::{HashMap, HashSet};

use crate::woodpecker::Entry;

/// Fewer missing credentials than this are looked for one by one.
const MANY: usize = 4;

/// What objects have registered at one account.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Registered ids by the objects' uids.
    managed: HashMap<String, i64>,
    /// Ids that the listing lacks and a request has shown to be there.
    present: HashSet<i64>,
    /// Ids that a person has acknowledged to be gone.
    acknowledged: HashSet<i64>,
    /// Whether the key is another one than that with which the account was last found to be the right one.
    is_key_new: bool,
}

/// Why an account cannot be the one that it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Divergence {
    /// With a new key, nothing that was registered is there.
    AnotherAccount,
    /// So many of so many registered credentials are missing at once.
    ManyMissing {
        /// Missing ones.
        missing: usize,
        /// Registered ones.
        managed: usize,
    },
}

// === impl Ledger ===

impl Ledger {
    /// Notes a registration; says whether it is news.
    pub fn note(&mut self, uid: String, id: i64) -> bool {
        self.managed.insert(uid, id) != Some(id)
    }

    /// Forgets a registration; says whether there was one.
    pub fn forget(&mut self, uid: &str) -> bool {
        let Some(id) = self.managed.remove(uid) else { return false };
        self.present.remove(&id);
        self.acknowledged.remove(&id);
        true
    }

    /// The registered ids.
    pub fn managed(&self) -> Vec<i64> {
        self.managed.values().copied().collect()
    }

    /// Notes that a credential is there although the listing lacks it.
    pub fn note_present(&mut self, id: i64) {
        self.present.insert(id);
    }

    /// Whether that was noted.
    pub fn is_present(&self, id: i64) -> bool {
        self.present.contains(&id)
    }

    /// Whether the listing is known to lack something that is there.
    pub fn is_incomplete(&self) -> bool {
        !self.present.is_empty()
    }

    /// Takes in a new listing, made with a new key or not.
    pub fn take_in(&mut self, entries: &[Entry], is_key_new: bool) {
        let listed: HashSet<i64> = entries.iter().map(|entry| entry.id).collect();
        self.present.retain(|id| !listed.contains(id));
        self.acknowledged.retain(|id| !listed.contains(id));
        self.is_key_new = is_key_new;
    }

    /// A person says that what is missing now is gone indeed, and that the key is the right one.
    pub fn acknowledge(&mut self, entries: &[Entry]) {
        self.acknowledged.extend(self.missing(entries));
        self.is_key_new = false;
    }

    /// Why the account cannot be the one that it was; nothing where the listing may be believed.
    pub fn divergence(&self, entries: &[Entry]) -> Option<Divergence> {
        let (missing, managed) = (self.missing(entries).len(), self.managed.len());
        if self.is_key_new && managed > 0 && missing == managed {
            Some(Divergence::AnotherAccount)
        } else if missing >= MANY && missing * 5 > managed {
            Some(Divergence::ManyMissing { missing, managed })
        } else {
            None
        }
    }

    fn missing(&self, entries: &[Entry]) -> Vec<i64> {
        let listed: HashSet<i64> = entries.iter().map(|entry| entry.id).collect();
        let is_missing =
            |id: &&i64| !listed.contains(id) && !self.present.contains(id) && !self.acknowledged.contains(id);
        self.managed.values().filter(is_missing).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(ids: std::ops::Range<i64>) -> Ledger {
        let mut ledger = Ledger::default();
        for id in ids {
            ledger.note(format!("uid-{id}"), id);
        }
        ledger
    }

    fn entries(ids: std::ops::Range<i64>) -> Vec<Entry> {
        ids.map(|id| Entry {
            id,
            tenant: String::new(),
            client: String::new(),
            name: String::new(),
            expires_at: None,
        })
        .collect()
    }

    #[test]
    fn many_missing_at_once_are_not_believed_and_a_few_are() {
        let ledger = ledger(0..100);
        assert_eq!(ledger.divergence(&entries(0..100)), None);
        assert_eq!(ledger.divergence(&entries(20..100)), None, "a fifth");
        let many = Divergence::ManyMissing { missing: 21, managed: 100 };
        assert_eq!(ledger.divergence(&entries(21..100)), Some(many));
        assert_eq!(super::tests::ledger(0..3).divergence(&[]), None, "three are looked for one by one");
        let all = Divergence::ManyMissing { missing: 4, managed: 4 };
        assert_eq!(super::tests::ledger(0..4).divergence(&[]), Some(all));
    }

    #[test]
    fn a_new_key_must_show_something_that_was_registered() {
        let mut ledger = ledger(0..1);
        ledger.take_in(&[], false);
        assert_eq!(ledger.divergence(&[]), None);
        ledger.take_in(&[], true);
        assert_eq!(ledger.divergence(&[]), Some(Divergence::AnotherAccount));
        assert_eq!(ledger.divergence(&entries(0..1)), None);
        ledger.acknowledge(&[]);
        assert_eq!(ledger.divergence(&[]), None);
    }

    #[test]
    fn what_a_person_acknowledges_counts_as_gone_until_it_comes_back() {
        let mut ledger = ledger(0..10);
        ledger.acknowledge(&entries(0..2));
        assert_eq!(ledger.divergence(&entries(0..2)), None);
        ledger.take_in(&entries(0..10), false);
        assert!(ledger.divergence(&entries(0..2)).is_some());
    }

    #[test]
    fn what_was_shown_to_be_there_is_not_missing() {
        let mut ledger = ledger(0..4);
        ledger.note_present(0);
        assert!(ledger.is_incomplete());
        assert_eq!(ledger.divergence(&[]), None);
        ledger.take_in(&entries(0..1), false);
        assert!(!ledger.is_incomplete(), "the listing shows it again");
    }
}
