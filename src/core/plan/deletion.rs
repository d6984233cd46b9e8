//! The plan for a deleted object: it deletes only what the object owns, and does not block forever.

use jiff::Timestamp;

use crate::api::{DeletionPolicy, Registration};
use crate::core::failure::{Failure, FailureKind};
use crate::core::model::{MaxAge, Observed, OperatorPolicy, Record, Target};
use crate::core::orphan::OrphanCause;
use crate::core::plan::conclusion::{account_unreachable, conclude};
use crate::core::plan::recovery::plan_recovery;
use crate::core::plan::retry::{after_failure, is_waiting_to_delete};
use crate::core::plan::rotation::plan_removal;
use crate::core::plan::{Finalization, Plan, ReconcileState, Requeue, Step};

/// An alternative for the user while a deletion is blocked.
const RETAIN_HINT: &str = ", or set deletionPolicy to Retain to delete only this object";

pub(super) fn plan_deletion(observed: &Observed, policy: &OperatorPolicy, now: Timestamp) -> Plan {
    if !observed.has_finalizer() {
        return conclude(ReconcileState::Deleted, Requeue::OnTrigger);
    }
    let finalize = |finalization| plan_removal(observed, finalization, policy, now);
    if observed.results.is_deletion_done && observed.previous_registration.is_none() {
        return finalize(Finalization::Deleted);
    }
    if let Some(finalization) = finalization_without_deletion(observed, policy, now) {
        return finalize(finalization);
    }
    if let Some(failure) = &observed.results.failure {
        return after_deletion_failed(observed, policy, failure, now);
    }
    if observed.status.pending_create.is_some() && !observed.settles_in.is_zero() {
        return conclude(ReconcileState::Settling, Requeue::Settle(observed.settles_in));
    }
    if matches!(observed.target, Target::NotReconciled(_)) {
        return conclude(ReconcileState::Waiting, Requeue::OnTrigger);
    }
    if observed.is_pending_create_confirmed_deleted() {
        return Plan::Step(Step::ClearPendingCreate);
    }
    if is_waiting_to_delete(observed, now) {
        return conclude(ReconcileState::Waiting, Requeue::OnTrigger);
    }
    if observed.status.pending_create.is_some() {
        return plan_recovery(observed).unwrap_or(Plan::Step(Step::ClearPendingCreate));
    }
    if observed.target == Target::Store && matches!(observed.record, Some(Record::ForOtherApp { .. })) {
        return finalize(Finalization::NotOwned);
    }
    if (observed.has_unpersisted_record() || has_unread_record(observed))
        && !observed.results.is_deletion_done
    {
        return Plan::Step(Step::Delete);
    }
    plan_registered(observed, policy, now)
}

/// The previous registration is deleted first.
fn plan_registered(observed: &Observed, policy: &OperatorPolicy, now: Timestamp) -> Plan {
    let previous = observed.previous_registration.as_ref();
    let has_failed = observed.results.previous_failure.is_some();
    if !has_failed && previous.is_some_and(|previous| previous.is_reachable) {
        return Plan::Step(Step::DeletePrevious);
    }
    match (&observed.status.registration, previous) {
        (Some(registration), _)
            if observed.may_delete(registration) && !observed.is_registered_at_target() =>
        {
            account_unreachable(&observed.target, RETAIN_HINT)
        }
        (Some(registration), _)
            if observed.may_delete(registration) && !observed.results.is_deletion_done =>
        {
            plan_registration_deletion(observed, registration)
        }
        (_, Some(previous)) => match &observed.results.previous_failure {
            Some(failure) => after_deletion_failed(observed, policy, failure, now),
            None => account_unreachable(&previous.target, RETAIN_HINT),
        },
        (Some(registration), None) if !observed.may_delete(registration) => finalize(Finalization::NotOwned),
        (Some(_) | None, None) => finalize(Finalization::Deleted),
    }
}

/// Late duplicates are deleted before the registration, because nothing looks for them afterwards.
fn plan_registration_deletion(observed: &Observed, registration: &Registration) -> Plan {
    if registration.idempotency_token.is_some() && observed.results.listed.is_none() {
        return Plan::Step(Step::List(MaxAge::Recent));
    }
    match observed.late_duplicate() {
        Some(id) => Plan::Step(Step::DeleteDuplicate(id)),
        None => Plan::Step(Step::Delete),
    }
}

/// A credential in use is retried at long intervals.
fn after_deletion_failed(
    observed: &Observed,
    policy: &OperatorPolicy,
    failure: &Failure,
    now: Timestamp,
) -> Plan {
    match &failure.kind {
        FailureKind::Rejected { .. } | FailureKind::SecretRejected => {
            conclude(ReconcileState::Failed(failure.clone()), Requeue::Stalled(policy.timing.in_use_retry))
        }
        _ => after_failure(observed, policy, failure, now),
    }
}

/// How the object ends if nothing is deleted at the destination.
fn finalization_without_deletion(
    observed: &Observed,
    policy: &OperatorPolicy,
    now: Timestamp,
) -> Option<Finalization> {
    let grace = policy.timing.namespace_grace;
    if !observed.has_registrations() && !observed.has_unpersisted_record() && !has_unread_record(observed) {
        Some(Finalization::NeverRegistered)
    } else if observed.object.spec.deletion_policy() == DeletionPolicy::Retain {
        Some(Finalization::Retained)
    } else if observed.object.spec.is_suspended() {
        Some(Finalization::Orphaned(OrphanCause::Suspended))
    } else if observed.namespace_deleted_at.is_some_and(|deleted_at| deleted_at + grace <= now) {
        Some(Finalization::Orphaned(OrphanCause::Namespace))
    } else {
        None
    }
}

/// Whether there may be a record that could not be read.
fn has_unread_record(observed: &Observed) -> bool {
    observed.target == Target::Store && observed.record.is_none()
}

fn finalize(finalization: Finalization) -> Plan {
    Plan::Step(Step::Finalize(finalization))
}
