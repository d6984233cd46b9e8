//! Consistency of an account's listing with what objects have registered there.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::api::AccountName;
use crate::woodpecker::RemoteIdentity;

/// Fewer missing credentials than this are checked one by one.
const MIN_MANY_MISSING: usize = 4;

/// What is known of an account in addition to its listing.
#[derive(Debug, Default)]
pub struct ListingConsistency {
    /// Ids that the listing lacks although a request has shown them, and when.
    present: HashMap<i64, Instant>,
    /// Ids that the operator has deleted.
    deleted: HashSet<i64>,
    /// Missing ids of which a user has confirmed the deletion.
    confirmed: BTreeSet<i64>,
    /// Whether the key differs from the one with which the account was last confirmed.
    is_key_new: bool,
    /// The account that is the same remote account and takes precedence, as long as both identities are unchanged.
    pub alias_of: Option<Alias>,
    /// The account that shows the same credentials although it is for another company.
    pub shares_credentials_with: Option<AccountName>,
    /// The identity for which Woodpecker is known to separate the companies of its key.
    pub separate_company: Option<RemoteIdentity>,
}

/// An account that is the same remote account as another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alias {
    /// Identity of the account itself.
    pub own: RemoteIdentity,
    /// The other account.
    pub other: AccountName,
    /// Identity of the other account.
    pub others: RemoteIdentity,
}

/// Why a listing cannot be of the known account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// With a new key, none of the registered credentials is listed.
    AnotherAccount,
    /// Many registered credentials are missing at once.
    ManyMissing { missing: usize, registered: usize },
}

// === impl ListingConsistency ===

impl ListingConsistency {
    /// Records that a credential exists although the listing lacks it.
    pub fn record_present(&mut self, id: i64) {
        self.present.insert(id, Instant::now());
    }

    /// Records that the operator has deleted a credential. The status of its object may name it for a while.
    pub fn record_deleted(&mut self, id: i64) {
        self.deleted.insert(id);
    }

    /// Whether a credential was recorded as present less than `lasts` ago.
    pub fn is_present(&self, id: i64, lasts: Duration) -> bool {
        self.present.get(&id).is_some_and(|shown| shown.elapsed() < lasts)
    }

    /// Whether the listing is known to lack something that exists.
    pub fn is_incomplete(&self) -> bool {
        !self.present.is_empty()
    }

    /// Updates the state for a new listing. Ids that are no longer registered are forgotten.
    pub fn update(&mut self, is_listed: impl Fn(i64) -> bool, registered: &[i64], is_key_new: bool) {
        let registered: HashSet<i64> = registered.iter().copied().collect();
        let is_missing = |id: i64| !is_listed(id) && registered.contains(&id);
        self.present.retain(|id, _| is_missing(*id));
        self.deleted.retain(|id| is_missing(*id));
        self.confirmed.retain(|id| is_missing(*id));
        self.is_key_new = is_key_new;
    }

    /// A user confirms that what is missing was deleted and that the key is the right one.
    pub fn confirm_deleted(&mut self, is_listed: impl Fn(i64) -> bool, registered: &[i64]) {
        let missing: Vec<i64> = self.missing(is_listed, registered).collect();
        self.confirmed.extend(missing);
        self.is_key_new = false;
    }

    /// Adds ids that were confirmed before, according to the status.
    pub fn restore_confirmed(&mut self, ids: &[i64]) {
        self.confirmed.extend(ids);
    }

    /// The missing ids of which the deletion is confirmed.
    pub fn confirmed(&self) -> Vec<i64> {
        self.confirmed.iter().copied().collect()
    }

    fn is_deleted(&self, id: i64) -> bool {
        self.deleted.contains(&id) || self.confirmed.contains(&id)
    }

    /// Why the listing cannot be of the known account; `None` if it can be trusted.
    pub fn mismatch(&self, is_listed: impl Fn(i64) -> bool, registered: &[i64]) -> Option<Mismatch> {
        let remaining = registered.iter().filter(|id| !self.is_deleted(**id)).count();
        let (missing, registered) = (self.missing(is_listed, registered).count(), registered.len());
        if self.is_key_new && remaining > 0 && missing == remaining {
            Some(Mismatch::AnotherAccount)
        } else if missing >= MIN_MANY_MISSING && missing * 5 > registered {
            Some(Mismatch::ManyMissing { missing, registered })
        } else {
            None
        }
    }

    fn missing(&self, is_listed: impl Fn(i64) -> bool, registered: &[i64]) -> impl Iterator<Item = i64> {
        let is_missing =
            move |id: &i64| !is_listed(*id) && !self.present.contains_key(id) && !self.is_deleted(*id);
        registered.iter().copied().filter(is_missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LASTS: Duration = Duration::from_hours(24);

    fn listed(ids: std::ops::Range<i64>) -> impl Fn(i64) -> bool {
        move |id| ids.contains(&id)
    }

    fn registered(ids: std::ops::Range<i64>) -> Vec<i64> {
        ids.collect()
    }

    #[test]
    fn many_missing_at_once_are_a_mismatch_and_a_few_are_not() {
        let consistency = ListingConsistency::default();
        assert_eq!(consistency.mismatch(listed(0..100), &registered(0..100)), None);
        assert_eq!(consistency.mismatch(listed(20..100), &registered(0..100)), None, "a fifth");
        let many = Mismatch::ManyMissing { missing: 21, registered: 100 };
        assert_eq!(consistency.mismatch(listed(21..100), &registered(0..100)), Some(many));
        assert_eq!(
            consistency.mismatch(listed(0..0), &registered(0..3)),
            None,
            "three are checked one by one"
        );
        let all = Mismatch::ManyMissing { missing: 4, registered: 4 };
        assert_eq!(consistency.mismatch(listed(0..0), &registered(0..4)), Some(all));
    }

    #[test]
    fn a_new_key_must_list_a_registered_credential() {
        let mut consistency = ListingConsistency::default();
        let one = registered(0..1);
        consistency.update(listed(0..0), &one, false);
        assert_eq!(consistency.mismatch(listed(0..0), &one), None);
        consistency.update(listed(0..0), &one, true);
        assert_eq!(consistency.mismatch(listed(0..0), &one), Some(Mismatch::AnotherAccount));
        assert_eq!(consistency.mismatch(listed(0..1), &one), None);
        assert_eq!(consistency.mismatch(listed(0..0), &[]), None, "nothing is registered yet");
        consistency.confirm_deleted(listed(0..0), &one);
        assert_eq!(consistency.mismatch(listed(0..0), &one), None);
    }

    #[test]
    fn confirmed_deletions_count_until_the_credential_is_listed_again() {
        let mut consistency = ListingConsistency::default();
        let ten = registered(0..10);
        consistency.confirm_deleted(listed(0..2), &ten);
        assert_eq!(consistency.mismatch(listed(0..2), &ten), None);
        consistency.update(listed(0..10), &ten, false);
        assert!(consistency.mismatch(listed(0..2), &ten).is_some());
    }

    #[test]
    fn credentials_deleted_by_the_operator_are_not_missing() {
        let mut consistency = ListingConsistency::default();
        let ten = registered(0..10);
        (0..4).for_each(|id| consistency.record_deleted(id));
        consistency.update(listed(4..10), &ten, false);
        assert_eq!(consistency.mismatch(listed(4..10), &ten), None);
        assert!(consistency.mismatch(listed(8..10), &ten).is_some(), "further ones are");
        consistency.update(listed(4..10), &registered(4..10), false);
        assert!(
            consistency.mismatch(listed(4..10), &ten).is_some(),
            "ids that are not registered are forgotten"
        );
    }

    #[test]
    fn a_new_key_must_list_a_credential_that_was_not_deleted() {
        let mut consistency = ListingConsistency::default();
        let three = registered(0..3);
        consistency.record_deleted(0);
        consistency.update(listed(0..0), &three, true);
        assert_eq!(consistency.mismatch(listed(0..0), &three), Some(Mismatch::AnotherAccount));
        assert_eq!(consistency.mismatch(listed(2..3), &three), None);
        consistency.record_deleted(1);
        consistency.record_deleted(2);
        assert_eq!(consistency.mismatch(listed(0..0), &three), None, "nothing is left to be shown");
    }

    #[tokio::test(start_paused = true)]
    async fn a_credential_shown_by_a_request_is_not_missing_for_a_day() {
        let mut consistency = ListingConsistency::default();
        let four = registered(0..4);
        consistency.record_present(0);
        assert!(consistency.is_incomplete());
        assert_eq!(consistency.mismatch(listed(0..0), &four), None);
        consistency.update(listed(0..0), &four, false);
        assert!(consistency.is_present(0, LASTS));
        tokio::time::advance(LASTS).await;
        consistency.update(listed(0..0), &four, false);
        assert!(!consistency.is_present(0, LASTS), "it has to be shown again");
        assert!(consistency.is_incomplete(), "and until then nothing is created");
        consistency.update(listed(0..1), &four, false);
        assert!(!consistency.is_incomplete(), "the listing shows it again");
    }

    #[test]
    fn confirmed_deletions_of_an_earlier_process_still_count() {
        let (mut before, ten) = (ListingConsistency::default(), registered(0..10));
        before.confirm_deleted(listed(0..2), &ten);
        let mut consistency = ListingConsistency::default();
        consistency.restore_confirmed(&before.confirmed());
        consistency.update(listed(0..2), &ten, false);
        assert_eq!(consistency.mismatch(listed(0..2), &ten), None);
        consistency.update(listed(0..6), &registered(0..8), false);
        assert_eq!(consistency.confirmed(), [6, 7], "those that are still missing and registered");
    }
}
