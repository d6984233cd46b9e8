//! The retry policy: the delay after a failed step, and whether an earlier delay is still running.

use jiff::Timestamp;

use crate::api::conditions::{ConditionType, Reason, find};
use crate::api::timestamp::Time;
use crate::core::clock;
use crate::core::failure::{Failure, FailureKind, Operation};
use crate::core::model::{Observed, OperatorPolicy};
use crate::core::plan::conclusion::conclude;
use crate::core::plan::verification::is_within_window;
use crate::core::plan::{Plan, ReconcileState, Requeue};

/// A failed step at the destination ends the reconcile, whatever else there is to do.
pub(super) fn after_failure(
    observed: &Observed,
    policy: &OperatorPolicy,
    failure: &Failure,
    now: Timestamp,
) -> Plan {
    let failed = |requeue| conclude(ReconcileState::Failed(failure.clone()), requeue);
    let backoff = Requeue::Backoff(failure.retry_after);
    match &failure.kind {
        FailureKind::Queued(_) => failed(Requeue::OnPermit),
        FailureKind::StoreRejected(_) | FailureKind::KeyringUnavailable => {
            failed(Requeue::Stalled(policy.timing.backoff_longest))
        }
        FailureKind::Throttled
        | FailureKind::NotPersisted
        | FailureKind::Unavailable
        | FailureKind::Unauthorized
        | FailureKind::NotInPlan
        | FailureKind::ObjectsUnknown => failed(backoff),
        FailureKind::OutcomeUnknown => failed(Requeue::Backoff(Some(policy.timing.settle_period))),
        FailureKind::SecretRejected if is_within_window(observed, policy, now) => {
            failed(Requeue::Propagation(failure.retry_after))
        }
        FailureKind::Rejected { .. } if failure.operation == Operation::List => failed(backoff),
        // A key of the right account triggers the object, and so does a listing that shows the credential again.
        FailureKind::WrongAccount
        | FailureKind::CompanyIdIgnored
        | FailureKind::NameUnknown
        | FailureKind::Unreadable => failed(Requeue::After(policy.timing.listing_interval)),
        FailureKind::SecretRejected | FailureKind::Rejected { .. } => {
            failed(Requeue::Stalled(policy.timing.stalled_probe))
        }
    }
}

/// Whether the delay after a failed verification is running and nothing changed since.
pub(super) fn is_verification_delayed(observed: &Observed, now: Timestamp) -> bool {
    is_running(observed, observed.status.next_verification_time.as_ref(), now)
        && observed.is_same_secret()
        && observed.results.verification.is_none()
        && !is_unreported_loss(observed)
}

/// Whether the delay after an earlier failure at the destination is running and nothing changed since.
pub(super) fn is_waiting(observed: &Observed, now: Timestamp) -> bool {
    let registered = find(&observed.status.conditions, ConditionType::Registered);
    let is_because =
        |reasons: &[Reason]| registered.is_some_and(|it| reasons.iter().any(|why| it.is_because(*why)));
    // The other account may accept what this one rejected.
    let is_moving = observed.status.registration.is_some()
        && !observed.is_registered_at_target()
        && observed.registration_at_unreached_account().is_none();
    let is_other_account = (observed.account_changed || is_moving)
        && is_because(&[Reason::CreateRejected, Reason::UpdateRejected]);
    is_delayed(observed, now)
        && !is_unreported_loss(observed)
        && !is_other_account
        && observed.is_same_secret()
        && !observed.is_deletion_confirmed()
}

/// Whether the record is lost although the condition still says `Stored`. Such a loss is reported and repaired at once.
fn is_unreported_loss(observed: &Observed) -> bool {
    let registered = find(&observed.status.conditions, ConditionType::Registered);
    observed.has_lost_record() && registered.is_some_and(|it| it.is_because(Reason::Stored))
}

/// The same for a deleted object, whose Secret does not matter.
pub(super) fn is_waiting_to_delete(observed: &Observed, now: Timestamp) -> bool {
    is_delayed(observed, now) && !observed.results.is_deletion_done
}

/// Whether the delay of the destination is running, without a new listing or check.
fn is_delayed(observed: &Observed, now: Timestamp) -> bool {
    is_running(observed, observed.status.next_attempt_time.as_ref(), now)
        && observed.results.listed.is_none()
        && observed.results.existence.is_none()
}

/// Whether a delay until then is running for the same spec, without a reconcile request.
fn is_running(observed: &Observed, until: Option<&Time>, now: Timestamp) -> bool {
    until.is_some_and(|at| now < clock::planned(at.0, now))
        && observed.object.metadata.generation == Some(observed.status.observed_generation)
        && !observed.object.is_reconcile_requested()
}
