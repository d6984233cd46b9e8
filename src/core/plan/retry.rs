//! The retry policy: the delay after a failed step, and whether an earlier delay is still running.

use jiff::Timestamp;

use crate::api::conditions::{ConditionType, Reason, find};
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

/// Whether the delay after an earlier failure is running and nothing changed since.
pub(super) fn is_waiting(observed: &Observed, now: Timestamp) -> bool {
    let registered = find(&observed.status.conditions, ConditionType::Registered);
    let is_because =
        |reasons: &[Reason]| registered.is_some_and(|it| reasons.iter().any(|why| it.is_because(*why)));
    // The other account may accept what this one rejected.
    let is_moving = observed.status.registration.is_some() && !observed.is_registered_at_target();
    let is_other_account = (observed.account_changed || is_moving)
        && is_because(&[Reason::CreateRejected, Reason::UpdateRejected]);
    // A lost record is reported, and restored if possible, at once.
    let is_unreported_loss = observed.has_lost_record() && is_because(&[Reason::Stored]);
    is_delayed(observed, now)
        && !is_unreported_loss
        && !is_other_account
        && observed.is_same_secret()
        && observed.results.verification.is_none()
}

/// The same for a deleted object, whose Secret does not matter.
pub(super) fn is_waiting_to_delete(observed: &Observed, now: Timestamp) -> bool {
    is_delayed(observed, now) && !observed.results.is_deletion_done
}

/// Whether the delay is running for the same spec, without a new listing, check or reconcile request.
fn is_delayed(observed: &Observed, now: Timestamp) -> bool {
    let (status, results) = (&observed.status, &observed.results);
    status.next_attempt_time.as_ref().is_some_and(|at| now < clock::planned(at.0, now))
        && observed.object.metadata.generation == Some(status.observed_generation)
        && results.listed.is_none()
        && results.existence.is_none()
        && !observed.object.is_reconcile_requested()
}
