//! The end of an object: only what it made is ever deleted, and nothing hangs for ever.

use jiff::Timestamp;

use super::rest::{out_of_reach, rest};
use super::waiting::{after_failure, is_waiting_to_delete};
use super::{Action, Decision, Parting, Retry, Standing, recovery};
use crate::controller::observed::{Freshness, Observed, Record, Rules, Target};
use crate::destination::{Failure, FailureKind};
use crate::resources::{DeletionPolicy, Registration};

/// What else a person can do where a deletion waits.
const WAY_OUT: &str = ", or set deletionPolicy to Retain to let this object go";

pub(super) fn decide(observed: &Observed, rules: &Rules, now: Timestamp) -> Decision {
    if !observed.has_finalizer() {
        return rest(Standing::Gone, Retry::WhenCalled);
    }
    if observed.learnt.removed && observed.retiring.is_none() {
        return let_go(Parting::Removed);
    }
    if let Some(parting) = at_once(observed, rules, now) {
        return let_go(parting);
    }
    if let Some(failure) = &observed.learnt.failure {
        return after_removal_failed(observed, rules, failure, now);
    }
    if observed.status.pending.is_some() && !observed.settles_in.is_zero() {
        return rest(Standing::Settling, Retry::Settle(observed.settles_in));
    }
    if matches!(observed.target, Target::NotSeenYet(_)) {
        return rest(Standing::Waiting, Retry::WhenCalled);
    }
    if observed.is_pending_acknowledged_gone() {
        return Decision::Act(Action::ForgetPending);
    }
    if is_waiting_to_delete(observed, now) {
        return rest(Standing::Waiting, Retry::WhenCalled);
    }
    if observed.status.pending.is_some() {
        return recovery::decide(observed).unwrap_or(Decision::Act(Action::ForgetPending));
    }
    if observed.target == Target::Store && observed.record == Some(Record::Foreign) {
        return let_go(Parting::NotOurs);
    }
    if (observed.has_unbooked_record() || has_unread_record(observed)) && !observed.learnt.removed {
        return Decision::Act(Action::Delete);
    }
    let retiring = observed.retiring.as_ref();
    let has_failed = observed.learnt.retiring_failure.is_some();
    if !has_failed && retiring.is_some_and(|retiring| retiring.is_reachable) {
        return Decision::Act(Action::Retire);
    }
    match (&observed.status.registration, retiring) {
        (Some(registration), _) if observed.owns(registration) && !observed.is_registered_at_target() => {
            out_of_reach(&observed.target, WAY_OUT)
        }
        (Some(registration), _) if observed.owns(registration) && !observed.learnt.removed => {
            remove(observed, registration)
        }
        (_, Some(retiring)) => match &observed.learnt.retiring_failure {
            Some(failure) => after_removal_failed(observed, rules, failure, now),
            None => out_of_reach(&retiring.target, WAY_OUT),
        },
        (Some(registration), None) if !observed.owns(registration) => let_go(Parting::NotOurs),
        (Some(_) | None, None) => let_go(Parting::Removed),
    }
}

/// A late duplicate of our own goes before what it is a duplicate of: afterwards nobody looks for it.
fn remove(observed: &Observed, registration: &Registration) -> Decision {
    if registration.token.is_some() && observed.learnt.listed.is_none() {
        return Decision::Act(Action::List(Freshness::Fresh));
    }
    match observed.late_duplicate() {
        Some(id) => Decision::Act(Action::RemoveDuplicate(id)),
        None => Decision::Act(Action::Delete),
    }
}

/// What is in use is tried again slowly.
fn after_removal_failed(observed: &Observed, rules: &Rules, failure: &Failure, now: Timestamp) -> Decision {
    match &failure.kind {
        FailureKind::Refused { .. } | FailureKind::SecretRefused => {
            rest(Standing::Failed(failure.clone()), Retry::Stalled(rules.timing.in_use_retry))
        }
        _ => after_failure(observed, rules, failure, now),
    }
}

/// How the object goes without anything being done at the destination.
fn at_once(observed: &Observed, rules: &Rules, now: Timestamp) -> Option<Parting> {
    let grace = rules.timing.namespace_grace;
    if !observed.has_books() && !observed.has_unbooked_record() && !has_unread_record(observed) {
        Some(Parting::NeverRegistered)
    } else if observed.object.spec.deletion_policy() == DeletionPolicy::Retain {
        Some(Parting::Retained)
    } else if observed.object.spec.is_suspended() {
        Some(Parting::OrphanedBySuspension)
    } else if observed.namespace_deleted_at.is_some_and(|deleted_at| deleted_at + grace <= now) {
        Some(Parting::OrphanedByNamespace)
    } else {
        None
    }
}

/// Whether there may be a record of the store that could not be read.
fn has_unread_record(observed: &Observed) -> bool {
    observed.target == Target::Store && observed.record.is_none()
}

fn let_go(parting: Parting) -> Decision {
    Decision::Act(Action::LetGo(parting))
}
