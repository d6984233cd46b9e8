//! How urgent a request to Woodpecker is.

use std::time::Duration;

use jiff::Timestamp;

use super::Action;
use crate::controller::observed::Observed;
use crate::resources::Registration;
use crate::resources::conditions::{ConditionStatus, ConditionType, find};
use crate::woodpecker::Class;

/// A registered secret that expires this soon is repaired rather than rotated.
const SOON: Duration = Duration::from_hours(48);

/// The class of the requests of a step.
pub fn class(observed: &Observed, action: &Action, now: Timestamp) -> Class {
    if observed.object.is_deleted() {
        let terminating = observed.namespace_deleted_at.is_some();
        return if terminating { Class::TerminatingNamespace } else { Class::Delete };
    }
    match action {
        Action::Rename => Class::Rename,
        Action::Update | Action::List(_) if is_bad(observed, now) => Class::Repair,
        Action::Update => Class::Rotation,
        Action::List(_) | Action::Create | Action::Recover(_) | Action::Adopt(_) => Class::New,
        Action::Retire | Action::Delete => Class::Delete,
        Action::Probe | Action::RemoveDuplicate(_) => Class::Drift,
        Action::AddFinalizer
        | Action::RemoveFinalizer
        | Action::Prove
        | Action::ForgetPending
        | Action::ForgetRegistration
        | Action::LeaveRetiring
        | Action::Seal
        | Action::NoteRecord
        | Action::LookAgain
        | Action::LetGo(_) => Class::Recheck,
    }
}

/// Whether what is registered does not work, soon will not, or is not known.
fn is_bad(observed: &Observed, now: Timestamp) -> bool {
    let Some(registration) = &observed.status.registration else { return false };
    let refused = find(&observed.written.conditions, ConditionType::Verified)
        .is_some_and(|verified| verified.status == ConditionStatus::False);
    refused || registration.fingerprint == Registration::UNKNOWN || registration.expires_at.0 <= now + SOON
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::controller::observed::testing::{deleted, fresh, now, rotated, settled};

    #[test]
    fn what_is_bad_or_expires_within_two_days_is_repaired_before_others_rotate() {
        let observed = rotated(&json!({}));
        assert_eq!(class(&observed, &Action::Update, now()), Class::Rotation);
        let expiry = observed.status.registration.as_ref().unwrap().expires_at.0;
        assert_eq!(class(&observed, &Action::Update, expiry - Duration::from_hours(47)), Class::Repair);
        let mut unknown = observed;
        unknown.status.registration.as_mut().unwrap().fingerprint = Registration::UNKNOWN.into();
        assert_eq!(class(&unknown, &Action::Update, now()), Class::Repair);
    }

    #[test]
    fn a_name_comes_last() {
        let observed = settled(&json!({}));
        let expiry = observed.status.registration.as_ref().unwrap().expires_at.0;
        assert_eq!(class(&observed, &Action::Rename, expiry), Class::Rename);
        assert_eq!(class(&fresh(&json!({})), &Action::Create, now()), Class::New);
        assert!(Class::ALL.iter().all(|other| *other <= Class::Rename));
    }

    #[test]
    fn a_terminating_namespace_is_the_most_urgent() {
        let mut observed = deleted(settled(&json!({"deletionPolicy": "Delete"})), true);
        assert_eq!(class(&observed, &Action::Delete, now()), Class::Delete);
        observed.namespace_deleted_at = Some(now());
        assert_eq!(class(&observed, &Action::Delete, now()), Class::TerminatingNamespace);
    }
}
