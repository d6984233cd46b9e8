//! Claims: per remote account, one app belongs to one object.
//!
//! It belongs to the object that has registered it; if there is none, to the oldest verified one. The others wait until
//! that one is deleted. Claims that reconciles take complete what the index knows, so that two at the same time cannot
//! both win.

use jiff::Timestamp;

use crate::api::{AccountName, MicrosoftGraphCredential, NamespacedName};
use crate::core::model::Claim;

/// An object that names an app.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// `<namespace>/<name>`.
    pub name: String,
    pub uid: String,
    pub created: Timestamp,
    /// Whether it has registered the app at the account, or is doing so.
    pub is_registered: bool,
    /// Whether it could register the app now: it is verified, its account allows it, and it may create.
    pub could_register: bool,
}

/// The object as candidate for its app at a remote account; `None` if it claims nothing there. `is_there` says whether an account
/// of the cluster is this remote account.
pub fn candidate(
    object: &MicrosoftGraphCredential,
    is_there: impl Fn(&AccountName) -> bool,
    is_allowed: impl Fn(&AccountName) -> bool,
) -> Option<Candidate> {
    let status = object.status.as_ref();
    let registrations = status
        .into_iter()
        .flat_map(|status| status.registration.iter().chain(&status.previous_registrations));
    let registered = registrations.filter_map(|registration| registration.account.as_ref());
    let pending = status.and_then(|status| status.pending_create.as_ref()).map(|pending| &pending.account);
    let is_registered = registered.chain(pending).any(&is_there);
    let account = object.account_name().filter(&is_there);
    let is_wanted = account.is_some() && !object.is_deleted() && !object.spec.is_suspended();
    let is_allowed = account.is_some_and(|account| is_allowed(&account));
    (is_registered || is_wanted).then(|| Candidate {
        name: NamespacedName::of(object).to_string(),
        uid: object.metadata.uid.clone().unwrap_or_default(),
        created: object.metadata.creation_timestamp.as_ref().map_or(Timestamp::MAX, |created| created.0),
        is_registered,
        could_register: is_allowed && object.may_create() && object.is_verified(),
    })
}

/// Whether `own` may register the app, or which of the others comes first.
pub fn resolve_claim(own: &Candidate, others: &[Candidate]) -> Claim {
    if own.is_registered {
        return Claim::Granted;
    }
    let registered = others.iter().find(|other| other.is_registered);
    let age = |candidate: &Candidate| (candidate.created, candidate.uid.clone());
    let older = others
        .iter()
        .filter(|other| other.could_register && age(other) < age(own))
        .min_by_key(|other| age(other));
    match registered.or(older) {
        Some(other) => Claim::Conflict(other.name.clone()),
        None => Claim::Granted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(name: &str, created: i64, is_registered: bool, could_register: bool) -> Candidate {
        let created = Timestamp::from_second(created).unwrap();
        Candidate { name: name.into(), uid: name.into(), created, is_registered, could_register }
    }

    #[test]
    fn the_registered_one_comes_first_then_the_oldest_verified() {
        let conflict = |name: &str| Claim::Conflict(name.into());
        let young = candidate("young", 20, false, true);
        assert_eq!(resolve_claim(&young, &[]), Claim::Granted);
        assert_eq!(resolve_claim(&young, &[candidate("old", 10, false, true)]), conflict("old"));
        assert_eq!(
            resolve_claim(&young, &[candidate("old-but-unverified", 10, false, false)]),
            Claim::Granted
        );
        assert_eq!(
            resolve_claim(&candidate("old", 10, false, true), std::slice::from_ref(&young)),
            Claim::Granted
        );
        assert_eq!(
            resolve_claim(&candidate("old", 10, false, true), &[candidate("young", 20, true, true)]),
            conflict("young")
        );
        assert_eq!(
            resolve_claim(&candidate("mine", 30, true, false), &[candidate("old", 10, true, true)]),
            Claim::Granted
        );
        assert_eq!(
            resolve_claim(&candidate("b", 10, false, true), &[candidate("a", 10, false, true)]),
            conflict("a")
        );
    }
}
