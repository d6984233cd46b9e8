//! Patience: what follows a failed step, and when an earlier failure still makes the object wait.

use jiff::Timestamp;

use super::rest::rest;
use super::verification::is_within_window;
use super::{Decision, Retry, Standing};
use crate::controller::observed::{Observed, Rules};
use crate::destination::{Failure, FailureKind, Operation};
use crate::resources::conditions::{ConditionType, Reason, find};

/// A step at the destination failed: the pass ends here, whatever else there is to do.
pub(super) fn after_failure(
    observed: &Observed,
    rules: &Rules,
    failure: &Failure,
    now: Timestamp,
) -> Decision {
    let failed = |retry| rest(Standing::Failed(failure.clone()), retry);
    let backoff = Retry::Backoff(failure.retry_after);
    match &failure.kind {
        FailureKind::Queued(_) => failed(Retry::WhenGranted),
        FailureKind::StoreRefused(_) | FailureKind::KeyringMissing => {
            failed(Retry::Stalled(rules.timing.backoff_longest))
        }
        FailureKind::Throttled
        | FailureKind::NotKept
        | FailureKind::Unavailable
        | FailureKind::Unauthorized
        | FailureKind::ObjectsUnknown => failed(backoff),
        FailureKind::OutcomeUnknown => failed(Retry::Backoff(Some(rules.timing.create_settle))),
        FailureKind::SecretRefused if is_within_window(observed, rules, now) => {
            failed(Retry::Propagation(failure.retry_after))
        }
        FailureKind::Refused { .. } if failure.operation == Operation::List => failed(backoff),
        // A key that opens the right account calls the object, and so does a listing that shows it again.
        FailureKind::Foreign | FailureKind::NoName => failed(Retry::Look(rules.timing.listing_interval)),
        FailureKind::SecretRefused | FailureKind::Refused { .. } => {
            failed(Retry::Stalled(rules.timing.stalled_probe))
        }
    }
}

/// Whether the delay after an earlier failure still runs and nothing has changed since.
pub(super) fn is_waiting(observed: &Observed, now: Timestamp) -> bool {
    let registered = find(&observed.status.conditions, ConditionType::Registered);
    let is_because =
        |reasons: &[Reason]| registered.is_some_and(|it| reasons.iter().any(|why| it.is_because(*why)));
    // What was refused there may be welcome now.
    let is_moving = observed.status.registration.is_some() && !observed.is_registered_at_target();
    let is_other_account = (observed.account_changed || is_moving)
        && is_because(&[Reason::RejectedByWoodpecker, Reason::UpdateRejected]);
    // What was sealed and is gone must be told, and mended if that can be.
    let is_untold_loss = observed.has_lost_record() && is_because(&[Reason::Stored]);
    is_delayed(observed, now)
        && !is_untold_loss
        && !is_other_account
        && observed.is_same_secret()
        && observed.learnt.proof.is_none()
}

/// The same for an object that is being deleted, whose Secret plays no part.
pub(super) fn is_waiting_to_delete(observed: &Observed, now: Timestamp) -> bool {
    is_delayed(observed, now) && !observed.learnt.removed
}

/// Whether the delay still runs, of the same spec, and neither the account nor a person has said anything new.
fn is_delayed(observed: &Observed, now: Timestamp) -> bool {
    let (status, learnt) = (&observed.status, &observed.learnt);
    status.next_attempt_at.as_ref().is_some_and(|at| now < at.0)
        && observed.object.metadata.generation == Some(status.observed_generation)
        && learnt.listed.is_none()
        && learnt.probe.is_none()
        && !observed.object.is_reconcile_requested()
}
