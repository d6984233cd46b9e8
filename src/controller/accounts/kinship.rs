//! Whether two `WoodpeckerAccount`s are one remote account, or two companies of one agency that the vendor
//! does not tell apart. PURE.
//!
//! Ids are unique at Woodpecker as far as is known, so an id in two listings means one remote account.

use std::collections::HashSet;

use crate::woodpecker::{Entry, RemoteIdentity};

/// How one account stands to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kinship {
    /// They have nothing to do with each other, as far as is known.
    Strangers,
    /// They are one remote account, by two keys.
    One,
    /// They are companies behind one key, and it is not known yet whether the company id is heeded.
    Untold,
    /// They are companies behind one key, and each has its own credentials.
    Companies,
    /// They are companies behind one key, and show the same credentials: the company id is ignored.
    Confused,
}

/// How two accounts stand to each other, by their identities and last listings.
pub fn kinship(one: &RemoteIdentity, ours: &[Entry], other: &RemoteIdentity, theirs: &[Entry]) -> Kinship {
    if one.base_url != other.base_url || one == other {
        return Kinship::Strangers;
    }
    let ids: HashSet<i64> = ours.iter().map(|entry| entry.id).collect();
    let have_some_in_common = theirs.iter().any(|entry| ids.contains(&entry.id));
    let are_companies = one.has_key_of(other) && one.company_id != other.company_id;
    match (are_companies, have_some_in_common) {
        (true, true) => Kinship::Confused,
        (true, false) if ours.is_empty() || theirs.is_empty() => Kinship::Untold,
        (true, false) => Kinship::Companies,
        (false, true) => Kinship::One,
        (false, false) => Kinship::Strangers,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::woodpecker::testing::identity;

    fn entries(ids: &[i64]) -> Vec<Entry> {
        let entry = |id: &i64| Entry {
            id: *id,
            tenant: String::new(),
            client: String::new(),
            name: String::new(),
            expires_at: None,
        };
        ids.iter().map(entry).collect()
    }

    #[test]
    fn an_id_in_two_listings_tells_what_two_accounts_are() {
        let (hq, client, another) = (identity(1, None), identity(1, Some(7)), identity(2, None));
        let between = |one: &RemoteIdentity, ours: &[i64], other: &RemoteIdentity, theirs: &[i64]| {
            kinship(one, &entries(ours), other, &entries(theirs))
        };
        assert_eq!(between(&hq, &[1], &client, &[1, 2]), Kinship::Confused);
        assert_eq!(between(&hq, &[1], &client, &[2]), Kinship::Companies);
        assert_eq!(between(&hq, &[1], &client, &[]), Kinship::Untold);
        assert_eq!(between(&hq, &[], &client, &[2]), Kinship::Untold);
        assert_eq!(between(&hq, &[1], &another, &[1]), Kinship::One);
        assert_eq!(between(&hq, &[1], &another, &[2]), Kinship::Strangers);
        assert_eq!(between(&hq, &[1], &hq, &[1]), Kinship::Strangers, "it is the very same");
    }
}
