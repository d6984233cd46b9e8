//! Whether an account's listing agrees with what objects hold there. PURE.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::resources::AccountName;
use crate::woodpecker::RemoteIdentity;

/// Fewer missing credentials than this are looked for one by one.
const MANY: usize = 4;

/// What is known of an account beside its listing.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Ids that the listing lacks and a request has shown to be there, and when.
    present: HashMap<i64, Instant>,
    /// Ids that the operator has removed, or that a person has acknowledged to be gone.
    gone: HashSet<i64>,
    /// Whether the key is another one than that with which the account was last found to be the right one.
    is_key_new: bool,
    /// The account that is known to be the same remote one, and comes first; as long as both are what they were.
    pub one_with: Option<OneWith>,
    /// The account that shows the same credentials although it is for another company.
    pub confused_with: Option<AccountName>,
    /// For which identity the vendor is known to tell the companies behind its key apart.
    pub company_honoured: Option<RemoteIdentity>,
}

/// What was found to be one with another account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OneWith {
    /// By its own address, company and key.
    pub own: RemoteIdentity,
    /// The other account.
    pub other: AccountName,
    /// By its address, company and key.
    pub others: RemoteIdentity,
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
        held: usize,
    },
}

// === impl Ledger ===

impl Ledger {
    /// Notes that a credential is there although the listing lacks it.
    pub fn note_present(&mut self, id: i64) {
        self.present.insert(id, Instant::now());
    }

    /// Notes that the operator has removed a credential. Its object may hold it for a while yet.
    pub fn note_removed(&mut self, id: i64) {
        self.gone.insert(id);
    }

    /// Whether a credential was noted as present less than `lasts` ago. It has to be shown again from time to time.
    pub fn is_present(&self, id: i64, lasts: Duration) -> bool {
        self.present.get(&id).is_some_and(|shown| shown.elapsed() < lasts)
    }

    /// Whether the listing is known to lack something that is there.
    pub fn is_incomplete(&self) -> bool {
        !self.present.is_empty()
    }

    /// Takes in a new listing, made with a new key or not. What is
    /// held by nobody any more need not be there.
    pub fn take_in(&mut self, is_listed: impl Fn(i64) -> bool, held: &[i64], is_key_new: bool) {
        let held: HashSet<i64> = held.iter().copied().collect();
        let is_missing = |id: i64| !is_listed(id) && held.contains(&id);
        self.present.retain(|id, _| is_missing(*id));
        self.gone.retain(|id| is_missing(*id));
        self.is_key_new = is_key_new;
    }

    /// A person says that what is missing now is gone indeed, and that the key is the right one.
    pub fn acknowledge(&mut self, is_listed: impl Fn(i64) -> bool, held: &[i64]) {
        let missing: Vec<i64> = self.missing(is_listed, held).collect();
        self.gone.extend(missing);
        self.is_key_new = false;
    }

    /// Why the account cannot be the one that it was; nothing where the listing may be believed.
    pub fn divergence(&self, is_listed: impl Fn(i64) -> bool, held: &[i64]) -> Option<Divergence> {
        let there = held.iter().filter(|id| !self.gone.contains(id)).count();
        let (missing, held) = (self.missing(is_listed, held).count(), held.len());
        if self.is_key_new && there > 0 && missing == there {
            Some(Divergence::AnotherAccount)
        } else if missing >= MANY && missing * 5 > held {
            Some(Divergence::ManyMissing { missing, held })
        } else {
            None
        }
    }

    fn missing(&self, is_listed: impl Fn(i64) -> bool, held: &[i64]) -> impl Iterator<Item = i64> {
        let is_missing =
            move |id: &i64| !is_listed(*id) && !self.present.contains_key(id) && !self.gone.contains(id);
        held.iter().copied().filter(is_missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LASTS: Duration = Duration::from_hours(24);

    fn listed(ids: std::ops::Range<i64>) -> impl Fn(i64) -> bool {
        move |id| ids.contains(&id)
    }

    fn held(ids: std::ops::Range<i64>) -> Vec<i64> {
        ids.collect()
    }

    #[test]
    fn many_missing_at_once_are_not_believed_and_a_few_are() {
        let ledger = Ledger::default();
        assert_eq!(ledger.divergence(listed(0..100), &held(0..100)), None);
        assert_eq!(ledger.divergence(listed(20..100), &held(0..100)), None, "a fifth");
        let many = Divergence::ManyMissing { missing: 21, held: 100 };
        assert_eq!(ledger.divergence(listed(21..100), &held(0..100)), Some(many));
        assert_eq!(ledger.divergence(listed(0..0), &held(0..3)), None, "three are looked for one by one");
        let all = Divergence::ManyMissing { missing: 4, held: 4 };
        assert_eq!(ledger.divergence(listed(0..0), &held(0..4)), Some(all));
    }

    #[test]
    fn a_new_key_must_show_something_that_was_registered() {
        let mut ledger = Ledger::default();
        let one = held(0..1);
        ledger.take_in(listed(0..0), &one, false);
        assert_eq!(ledger.divergence(listed(0..0), &one), None);
        ledger.take_in(listed(0..0), &one, true);
        assert_eq!(ledger.divergence(listed(0..0), &one), Some(Divergence::AnotherAccount));
        assert_eq!(ledger.divergence(listed(0..1), &one), None);
        assert_eq!(ledger.divergence(listed(0..0), &[]), None, "nothing is registered yet");
        ledger.acknowledge(listed(0..0), &one);
        assert_eq!(ledger.divergence(listed(0..0), &one), None);
    }

    #[test]
    fn what_a_person_acknowledges_counts_as_gone_until_it_comes_back() {
        let mut ledger = Ledger::default();
        let ten = held(0..10);
        ledger.acknowledge(listed(0..2), &ten);
        assert_eq!(ledger.divergence(listed(0..2), &ten), None);
        ledger.take_in(listed(0..10), &ten, false);
        assert!(ledger.divergence(listed(0..2), &ten).is_some());
    }

    #[test]
    fn what_the_operator_has_removed_is_not_missing() {
        let mut ledger = Ledger::default();
        let ten = held(0..10);
        (0..4).for_each(|id| ledger.note_removed(id));
        ledger.take_in(listed(4..10), &ten, false);
        assert_eq!(ledger.divergence(listed(4..10), &ten), None);
        assert!(ledger.divergence(listed(8..10), &ten).is_some(), "further ones are");
        ledger.take_in(listed(4..10), &held(4..10), false);
        assert!(ledger.divergence(listed(4..10), &ten).is_some(), "nothing is kept of what nobody holds");
    }

    #[test]
    fn a_new_key_must_show_something_of_what_was_not_removed() {
        let mut ledger = Ledger::default();
        let three = held(0..3);
        ledger.note_removed(0);
        ledger.take_in(listed(0..0), &three, true);
        assert_eq!(ledger.divergence(listed(0..0), &three), Some(Divergence::AnotherAccount));
        assert_eq!(ledger.divergence(listed(2..3), &three), None);
        ledger.note_removed(1);
        ledger.note_removed(2);
        assert_eq!(ledger.divergence(listed(0..0), &three), None, "nothing is left to be shown");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_shown_to_be_there_is_not_missing_for_a_day() {
        let mut ledger = Ledger::default();
        let four = held(0..4);
        ledger.note_present(0);
        assert!(ledger.is_incomplete());
        assert_eq!(ledger.divergence(listed(0..0), &four), None);
        ledger.take_in(listed(0..0), &four, false);
        assert!(ledger.is_present(0, LASTS));
        tokio::time::advance(LASTS).await;
        ledger.take_in(listed(0..0), &four, false);
        assert!(!ledger.is_present(0, LASTS), "it has to be shown anew");
        assert!(ledger.is_incomplete(), "and until then nothing is created");
        ledger.take_in(listed(0..1), &four, false);
        assert!(!ledger.is_incomplete(), "the listing shows it again");
    }
}
