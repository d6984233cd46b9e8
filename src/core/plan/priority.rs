//! The priority of requests to Woodpecker.

use std::time::Duration;

use jiff::Timestamp;

use crate::api::Registration;
use crate::api::conditions::{ConditionStatus, ConditionType, find};
use crate::core::model::Observed;
use crate::core::plan::Step;
use crate::core::request_priority::RequestPriority;

/// A registered secret that expires this soon is repaired, not rotated.
const SOON: Duration = Duration::from_hours(48);

/// The priority of the requests of a step.
pub fn priority(observed: &Observed, step: &Step, now: Timestamp) -> RequestPriority {
    if observed.object.is_deleted() {
        let terminating = observed.namespace_deleted_at.is_some();
        return if terminating { RequestPriority::TerminatingNamespace } else { RequestPriority::Delete };
    }
    match step {
        Step::Rename => RequestPriority::Rename,
        Step::Update | Step::List(_) if is_bad(observed, now) => RequestPriority::Repair,
        Step::Update => RequestPriority::Rotation,
        Step::List(_) | Step::Create | Step::RecoverCreated(_) | Step::Adopt(_) => RequestPriority::New,
        Step::DeletePrevious | Step::Delete => RequestPriority::Delete,
        Step::ExistenceCheck | Step::DeleteDuplicate(_) => RequestPriority::Drift,
        Step::AddFinalizer
        | Step::RemoveFinalizer
        | Step::Verify
        | Step::ReadExpiry
        | Step::Rotation(_)
        | Step::ClearPendingCreate
        | Step::ClearRegistration
        | Step::AbandonPrevious
        | Step::Encrypt
        | Step::PersistExisting
        | Step::Restart
        | Step::Finalize(_) => RequestPriority::Resync,
    }
}

/// Whether the registered secret does not work, expires soon, or is unknown.
fn is_bad(observed: &Observed, now: Timestamp) -> bool {
    let Some(registration) = &observed.status.registration else { return false };
    let rejected = find(&observed.written.conditions, ConditionType::Verified)
        .is_some_and(|verified| verified.status == ConditionStatus::False);
    rejected || registration.fingerprint == Registration::UNKNOWN || registration.expires_at.0 <= now + SOON
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::core::model::fixtures::{deleted, fresh, now, rotated, settled};

    #[test]
    fn a_secret_that_is_bad_or_expires_within_two_days_is_repaired_before_others_rotate() {
        let observed = rotated(&json!({}));
        assert_eq!(priority(&observed, &Step::Update, now()), RequestPriority::Rotation);
        let expiry = observed.status.registration.as_ref().unwrap().expires_at.0;
        assert_eq!(
            priority(&observed, &Step::Update, expiry - Duration::from_hours(47)),
            RequestPriority::Repair
        );
        let mut unknown = observed;
        unknown.status.registration.as_mut().unwrap().fingerprint = Registration::UNKNOWN.into();
        assert_eq!(priority(&unknown, &Step::Update, now()), RequestPriority::Repair);
    }

    #[test]
    fn a_rename_comes_last_among_credentials() {
        let observed = settled(&json!({}));
        let expiry = observed.status.registration.as_ref().unwrap().expires_at.0;
        assert_eq!(priority(&observed, &Step::Rename, expiry), RequestPriority::Rename);
        assert_eq!(priority(&fresh(&json!({})), &Step::Create, now()), RequestPriority::New);
        let is_last = |other: &RequestPriority| {
            *other <= RequestPriority::Rename || *other == RequestPriority::Mailboxes
        };
        assert!(RequestPriority::ALL.iter().all(is_last));
    }

    #[test]
    fn a_terminating_namespace_is_the_most_urgent() {
        let mut observed = deleted(settled(&json!({"deletionPolicy": "Delete"})), true);
        assert_eq!(priority(&observed, &Step::Delete, now()), RequestPriority::Delete);
        observed.namespace_deleted_at = Some(now());
        assert_eq!(priority(&observed, &Step::Delete, now()), RequestPriority::TerminatingNamespace);
    }
}
