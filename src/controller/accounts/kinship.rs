//! Whether two `WoodpeckerAccount`s are one remote account, or two companies of one agency that the vendor
//! does not tell apart. PURE.

use crate::woodpecker::RemoteIdentity;

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

/// How two accounts stand to each other, by their identities, whether their last listings show the same credential (one
/// id for one app), and whether both show any.
pub fn kinship(
    one: &RemoteIdentity,
    other: &RemoteIdentity,
    have_some_in_common: bool,
    have_some: bool,
) -> Kinship {
    if one.base_url != other.base_url || one == other {
        return Kinship::Strangers;
    }
    let are_companies = one.key == other.key && one.company_id != other.company_id;
    match (are_companies, have_some_in_common) {
        (true, true) => Kinship::Confused,
        (true, false) if have_some => Kinship::Companies,
        (true, false) => Kinship::Untold,
        (false, true) => Kinship::One,
        (false, false) => Kinship::Strangers,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::woodpecker::testing::identity;

    #[test]
    fn a_credential_in_two_listings_tells_what_two_accounts_are() {
        let (hq, client, another) = (identity(1, None), identity(1, Some(7)), identity(2, None));
        assert_eq!(kinship(&hq, &client, true, true), Kinship::Confused);
        assert_eq!(kinship(&hq, &client, false, true), Kinship::Companies);
        assert_eq!(kinship(&hq, &client, false, false), Kinship::Untold);
        assert_eq!(kinship(&hq, &another, true, true), Kinship::One);
        assert_eq!(kinship(&hq, &another, false, true), Kinship::Strangers);
        assert_eq!(kinship(&hq, &hq, true, true), Kinship::Strangers, "it is the very same");
    }
}
