//! Relation of two `WoodpeckerAccount`s: the same remote account, or two companies of one API key that Woodpecker may
//! not separate.

use crate::woodpecker::RemoteIdentity;

/// How one account is related to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccountRelation {
    /// No relation, as far as is known.
    Unrelated,
    /// The same remote account, with two keys.
    SameAccount,
    /// Companies of one key, each with its own credentials.
    SeparateCompanies,
    /// Companies of one key with the same credentials: Woodpecker ignores the company id.
    CompanyIdIgnored,
}

/// Relates two accounts by their identities, whether their last listings show the same credential (one id for one app),
/// and whether both show any.
pub fn account_relation(
    one: &RemoteIdentity,
    other: &RemoteIdentity,
    have_some_in_common: bool,
    have_some: bool,
) -> AccountRelation {
    if one.base_url != other.base_url || one == other {
        return AccountRelation::Unrelated;
    }
    let are_companies = one.key == other.key && one.company_id != other.company_id;
    match (are_companies, have_some_in_common) {
        (true, true) => AccountRelation::CompanyIdIgnored,
        (true, false) if have_some => AccountRelation::SeparateCompanies,
        (false, true) => AccountRelation::SameAccount,
        // Whether Woodpecker separates companies does not show while one of them has no credentials.
        (true | false, false) => AccountRelation::Unrelated,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::woodpecker::testing::identity;

    #[test]
    fn shared_credentials_determine_the_relation() {
        let (hq, client, another) = (identity(1, None), identity(1, Some(7)), identity(2, None));
        assert_eq!(account_relation(&hq, &client, true, true), AccountRelation::CompanyIdIgnored);
        assert_eq!(account_relation(&hq, &client, false, true), AccountRelation::SeparateCompanies);
        assert_eq!(account_relation(&hq, &client, false, false), AccountRelation::Unrelated);
        assert_eq!(account_relation(&hq, &another, true, true), AccountRelation::SameAccount);
        assert_eq!(account_relation(&hq, &another, false, true), AccountRelation::Unrelated);
        assert_eq!(account_relation(&hq, &hq, true, true), AccountRelation::Unrelated, "the same identity");
    }
}
