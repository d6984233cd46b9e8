//! Claims: per remote account, one app belongs to one object.
//!
//! It belongs to the object that has registered it; among unregistered ones to the oldest verified one. The
//! others wait and take over when it goes. What the index knows of their objects is complemented by the claims that reconciles
//! take, so that two at the same time cannot both win.

use jiff::Timestamp;

use super::observed::Claim;
use crate::resources::{ClientId, TenantId};
use crate::woodpecker::RemoteIdentity;

/// An app at a remote account.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClaimKey {
    pub account: RemoteIdentity,
    pub tenant: TenantId,
    pub client: ClientId,
}

/// An object that names an app, as far as the claim depends on it.
#[derive(Clone, Debug)]
pub struct Claimant {
    /// `<namespace>/<name>`.
    pub name: String,
    pub uid: String,
    pub created: Timestamp,
    /// Whether it has registered the app at the account, or is about to.
    pub is_registered: bool,
    /// Whether it could register the app now: it is proved, its account lets it in, it may create.
    pub could_register: bool,
}

/// Who is entitled to the app: `ours`, or the rival that comes before it.
pub fn entitled(ours: &Claimant, rivals: &[Claimant]) -> Claim {
    if ours.is_registered {
        return Claim::Ours;
    }
    let registered = rivals.iter().find(|rival| rival.is_registered);
    let age = |claimant: &Claimant| (claimant.created, claimant.uid.clone());
    let elder = rivals
        .iter()
        .filter(|rival| rival.could_register && age(rival) < age(ours))
        .min_by_key(|rival| age(rival));
    match registered.or(elder) {
        Some(rival) => Claim::HeldBy(rival.name.clone()),
        None => Claim::Ours,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claimant(name: &str, created: i64, is_registered: bool, could_register: bool) -> Claimant {
        let created = Timestamp::from_second(created).unwrap();
        Claimant { name: name.into(), uid: name.into(), created, is_registered, could_register }
    }

    #[test]
    fn the_registered_one_comes_first_then_the_oldest_verified() {
        let held_by = |name: &str| Claim::HeldBy(name.into());
        let young = claimant("young", 20, false, true);
        assert_eq!(entitled(&young, &[]), Claim::Ours);
        assert_eq!(entitled(&young, &[claimant("old", 10, false, true)]), held_by("old"));
        assert_eq!(entitled(&young, &[claimant("old-but-unproved", 10, false, false)]), Claim::Ours);
        assert_eq!(entitled(&claimant("old", 10, false, true), std::slice::from_ref(&young)), Claim::Ours);
        assert_eq!(
            entitled(&claimant("old", 10, false, true), &[claimant("young", 20, true, true)]),
            held_by("young")
        );
        assert_eq!(
            entitled(&claimant("mine", 30, true, false), &[claimant("old", 10, true, true)]),
            Claim::Ours
        );
        assert_eq!(
            entitled(&claimant("b", 10, false, true), &[claimant("a", 10, false, true)]),
            held_by("a")
        );
    }
}
