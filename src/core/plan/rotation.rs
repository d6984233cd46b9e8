//! The plan of a rotation: when a client secret is created at Microsoft Entra, when a pending one becomes current, and
//! when an earlier one is removed.
//!
//! Nothing here delays what the destination needs, except a first client secret.

use std::time::Duration;

use jiff::Timestamp;

use crate::api::conditions::{ConditionType, Reason, find};
use crate::api::{CreatedSecret, DeletionPolicy, EarlierSecret, MicrosoftGraphCredential, RotationStatus};
use crate::core::app_reading::AppAccess;
use crate::core::model::{Claim, ConditionFailure, Observed, OperatorPolicy, Target};
use crate::core::plan::conclusion::{blocked_by_remote, conclude};
use crate::core::plan::registration::wants_rotation_finalizer;
use crate::core::plan::removal::{next_removal, requested_removal};
use crate::core::plan::{Finalization, Plan, ReconcileState, Requeue, Step};
use crate::core::rotation::failure::RotationFailure;
use crate::core::rotation::{SecretRecord, has_room, is_named_for, is_seen, next_attempt_at};
use crate::core::timing::Timing;
use crate::core::{backoff, clock};

/// A step of a rotation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RotationStep {
    /// Read all client secrets of the app at Microsoft Entra.
    Read,
    /// Persist the intent, create a client secret at Microsoft Entra, and save it in the object's record.
    Create,
    /// Persist that the client secret of the source is registered: earlier ones are removed after the overlap.
    Confirm,
    /// Give up a pending client secret that is not accepted.
    DiscardPending,
    /// Persist that nothing uses the client secrets of a deleted object now.
    Release,
    /// Persist that it is not known which client secret the registration has: a backup was restored, perhaps.
    Resend,
    /// Remove a client secret at Microsoft Entra, by the ID of its entry.
    Remove(String),
}

/// The plan while the object has no client secret yet, or lost the text of the last one.
pub(super) fn plan_first(observed: &Observed, policy: &OperatorPolicy, now: Timestamp) -> Option<Plan> {
    let own = observed.own_secrets.as_ref().filter(|_| observed.rotates())?;
    if own.record == SecretRecord::Foreign {
        return None;
    }
    if let Some(plan) = managed_elsewhere(observed, policy) {
        return Some(plan);
    }
    if observed.pending_in_record().is_some() {
        // It expired before it was registered. The one in use may still work.
        return Some(Plan::Step(Step::Rotation(RotationStep::DiscardPending)));
    }
    Some(change(observed, policy, now).map_or_else(
        |wait| conclude(ReconcileState::SourceUnusable, wait),
        |step| step.map_or_else(|| create(observed, policy), Plan::Step),
    ))
}

/// How much longer a new client secret spreads through Entra before it is verified and replaces the registered one.
pub(super) fn spreads_for(observed: &Observed, policy: &OperatorPolicy, now: Timestamp) -> Option<Duration> {
    let (newest, lasts) = (observed.newest_in_record()?, policy.timing.secret_spread);
    let is_replacing = observed.status.registration.is_some() && observed.current_registration().is_none();
    let left = (clock::began(newest.creation_time.0, lasts, now) + lasts).duration_since(now);
    Duration::try_from(left).ok().filter(|left| is_replacing && !left.is_zero())
}

/// The plan if Microsoft rejects a client secret that the operator created: a pending one is discarded, another one is
/// replaced. If that has to wait, or the client secret is not the operator's, the problem in words.
pub(super) fn plan_rejected(
    observed: &Observed,
    problem: ConditionFailure,
    policy: &OperatorPolicy,
    now: Timestamp,
) -> Result<Plan, ConditionFailure> {
    if !observed.rotates() || !is_final(problem.reason) {
        return Err(problem);
    }
    // Nobody can correct a client secret that the operator created.
    let message = "Microsoft rejects the client secret that the operator created, which was removed or has expired; the operator replaces it: see RotationReady";
    replace(observed, policy, now).ok_or_else(|| ConditionFailure { message: message.to_owned(), ..problem })
}

/// The same while the delay after that rejection is running: the replacement has delays of its own.
pub(super) fn replace_rejected(observed: &Observed, policy: &OperatorPolicy, now: Timestamp) -> Option<Plan> {
    let verified = find(&observed.status.conditions, ConditionType::Verified)?.as_desired()?;
    is_final(verified.reason).then(|| replace(observed, policy, now))?
}

fn is_final(reason: Reason) -> bool {
    matches!(reason, Reason::InvalidClientSecret | Reason::SecretExpired)
}

fn replace(observed: &Observed, policy: &OperatorPolicy, now: Timestamp) -> Option<Plan> {
    if !observed.rotates() || observed.own_secrets.as_ref()?.other.is_some() {
        return None;
    }
    if observed.pending_in_record().is_some() {
        return Some(Plan::Step(Step::Rotation(RotationStep::DiscardPending)));
    }
    let step = change(observed, policy, now).ok()?;
    Some(step.map_or_else(|| create(observed, policy), Plan::Step))
}

/// What follows once the destination has the client secret: `plan` if nothing.
pub(super) fn after_destination(
    observed: &Observed,
    plan: Plan,
    policy: &OperatorPolicy,
    now: Timestamp,
) -> Plan {
    let is_settled = match &plan {
        Plan::Done(end) if end.state == ReconcileState::UpToDate => true,
        Plan::Done(end) if matches!(end.state, ReconcileState::Waiting | ReconcileState::Deferred) => {
            lacks_only_name(observed)
        }
        // A name may be rejected, and comes last.
        Plan::Step(Step::Rename) => true,
        Plan::Done(_) | Plan::Step(_) => false,
    };
    if !is_settled || observed.own_secrets.is_none() {
        return plan;
    }
    if managed_elsewhere(observed, policy).is_some() {
        return plan;
    }
    if is_unconfirmed(observed) {
        return Plan::Step(Step::Rotation(RotationStep::Confirm));
    }
    match change(observed, policy, now) {
        Ok(Some(step)) => Plan::Step(step),
        Ok(None) if observed.rotates() && is_renewal_due(observed, now) => create(observed, policy),
        Ok(None) | Err(_) => plan,
    }
}

/// Whether the destination can take a client secret, has the one in use, and has rejected only the name. The client secret
/// must not expire because of that.
fn lacks_only_name(observed: &Observed) -> bool {
    let Some(registration) = observed.current_registration() else { return false };
    let is_rejected = find(&observed.status.conditions, ConditionType::Registered)
        .is_some_and(|it| it.is_because(Reason::UpdateRejected));
    let is_shown = observed.cached_entries.is_some() && !observed.is_missing();
    let can_update = matches!(observed.target, Target::Ready(_))
        && observed.is_registered_at_target()
        && observed.claim == Claim::Granted
        && observed.change_settles_in.is_zero();
    is_rejected
        && is_shown
        && can_update
        && registration.name != observed.desired_name()
        && observed.status.previous_registrations.is_empty()
}

/// The removal of the client secrets of a deleted object, before its finalizer is removed.
pub(super) fn plan_removal(
    observed: &Observed,
    finalization: Finalization,
    policy: &OperatorPolicy,
    now: Timestamp,
) -> Plan {
    let finalize = Plan::Step(Step::Finalize(finalization));
    let is_unused = match finalization {
        Finalization::Deleted => observed.results.other_owner.is_none(),
        Finalization::NeverRegistered => is_released(observed) || is_never_used(observed),
        Finalization::Retained | Finalization::NotOwned | Finalization::Orphaned(_) => false,
    };
    let grace = policy.timing.namespace_grace;
    let is_over = observed.namespace_deleted_at.is_some_and(|deleted_at| deleted_at + grace <= now);
    let may_send = is_unused && !is_over && !observed.object.spec.is_suspended();
    let Some(rotation) = observed.rotation().filter(|it| it.has_secrets() && may_send) else {
        return finalize;
    };
    if finalization == Finalization::NeverRegistered && is_retained(observed) {
        // Also if that was set after the registration was deleted.
        return finalize;
    }
    if !observed.may_change_app() && observed.app_access != Some(AppAccess::NotKnown) {
        // The operator may no longer remove them: the event names them.
        return finalize;
    }
    if !is_released(observed) {
        return Plan::Step(Step::Rotation(RotationStep::Release));
    }
    if rotation.attempt.is_none() && rotation.earlier.iter().all(|it| it.removal_time.is_some() || it.kept) {
        // What an earlier attempt may still create is named by the event.
        return finalize;
    }
    match change(observed, policy, now) {
        Ok(Some(step)) => Plan::Step(step),
        Ok(None) => conclude(ReconcileState::Waiting, Requeue::After(policy.timing.secret_lookup_poll)),
        Err(wait) => match &observed.results.rotation.failure {
            Some(failure) if is_app_gone(failure, rotation, policy, now) => finalize,
            Some(failure) => {
                let message = format!(
                    "{}, or set deletionPolicy to Retain to delete only this object",
                    failure.message
                );
                let problem = ConditionFailure { reason: failure.reason, message };
                conclude(ReconcileState::Blocked(problem), Requeue::Backoff(failure.retry_after))
            }
            None => conclude(ReconcileState::Waiting, wait),
        },
    }
}

fn is_retained(observed: &Observed) -> bool {
    observed.object.spec.deletion_policy() == DeletionPolicy::Retain
}

/// Whether the app was deleted with its client secrets: it is still not found when readings are no longer outdated.
fn is_app_gone(
    failure: &RotationFailure,
    rotation: &RotationStatus,
    policy: &OperatorPolicy,
    now: Timestamp,
) -> bool {
    let since = rotation.earlier.iter().filter_map(|it| it.remove_after_time.as_ref()).map(|at| at.0).max();
    failure.reason == Reason::ApplicationNotFound
        && since.is_some_and(|since| since + policy.timing.secret_lookup <= now)
}

/// Whether the status says of all client secrets that nothing uses them.
fn is_released(observed: &Observed) -> bool {
    observed.rotation().is_some_and(|it| {
        it.current.is_none() && it.pending.is_none() && it.earlier.iter().all(|it| it.unused || it.kept)
    })
}

/// Whether nothing can use the client secrets of an object that has registered nothing: it created them itself. It may have
/// taken over those of an earlier object, whose registration was retained.
fn is_never_used(observed: &Observed) -> bool {
    let uid = observed.object.metadata.uid.as_deref().unwrap_or_default();
    let rotation = observed.rotation();
    let in_use = rotation.into_iter().flat_map(|it| it.current.iter().chain(&it.pending));
    let names = in_use.map(|it| &it.display_name);
    let earlier = rotation.into_iter().flat_map(|it| &it.earlier).map(|it| &it.display_name);
    observed.object.spec.deletion_policy() == DeletionPolicy::Delete
        && names.chain(earlier).all(|name| is_named_for(name, uid))
}

/// Only one object rotates the client secrets of an app: each would remove what the other one uses.
fn managed_elsewhere(observed: &Observed, policy: &OperatorPolicy) -> Option<Plan> {
    let other = observed.own_secrets.as_ref().filter(|_| observed.rotates())?.other.as_ref()?;
    let message = format!(
        "MicrosoftGraphCredential {other} already rotates the client secrets of this app, and one object per app does: use one object with secretRef here, or delete the other one"
    );
    Some(blocked_by_remote(Reason::AlreadyManaged, message, policy))
}

/// The step that an attempt, a removal or a reading needs now; `Ok(None)` if a client secret may be created, and `Err` with
/// what to wait for otherwise.
fn change(observed: &Observed, policy: &OperatorPolicy, now: Timestamp) -> Result<Option<Step>, Requeue> {
    if observed.own_secrets.as_ref().is_some_and(|own| own.is_outdated) {
        return Ok(Some(Step::Rotation(RotationStep::DiscardPending)));
    }
    if !observed.may_change_app() || observed.results.is_reading_deferred {
        return Err(Requeue::OnTrigger);
    }
    let failure = observed.results.rotation.failure.as_ref();
    if let Some(failure) = failure {
        return Err(if failure.needs_person { Requeue::Stalled(Duration::MAX) } else { Requeue::OnTrigger });
    }
    let default = RotationStatus::default();
    let rotation = observed.rotation().unwrap_or(&default);
    if is_delayed(observed, rotation, now) {
        return Err(Requeue::OnTrigger);
    }
    let is_read = observed.results.rotation.entries.is_some();
    if !is_read && reading_due_at(observed, rotation, &policy.timing, now).is_some_and(|due| due <= now) {
        return Ok(Some(Step::Rotation(RotationStep::Read)));
    }
    if let Some(step) = next_removal(observed, rotation, policy, now) {
        return Ok(Some(step));
    }
    if rotation.attempt.is_some() {
        return Err(Requeue::After(policy.timing.secret_lookup_poll));
    }
    if !has_room(rotation) {
        return Err(Requeue::OnTrigger);
    }
    if next_attempt_at(rotation, &policy.timing)
        .is_some_and(|at| now < at && !observed.object.is_reconcile_requested())
    {
        return Err(Requeue::OnTrigger);
    }
    Ok(None)
}

/// Creates a client secret, after the finalizer.
fn create(observed: &Observed, policy: &OperatorPolicy) -> Plan {
    if wants_rotation_finalizer(observed, policy) {
        return Plan::Step(Step::AddFinalizer);
    }
    Plan::Step(Step::Rotation(RotationStep::Create))
}

/// Whether the status or the record does not say yet that the client secret of the source is registered.
fn is_unconfirmed(observed: &Observed) -> bool {
    let Some(rotation) = observed.rotation() else { return false };
    let is_left = !observed.rotates() && (rotation.current.is_some() || rotation.pending.is_some());
    let is_pending = rotation.pending.is_some() || observed.pending_in_record().is_some();
    is_left || is_pending || rotation.earlier.iter().any(|it| it.remove_after_time.is_none())
}

/// Whether a delay after a failure is running, and nothing was requested or changed since.
fn is_delayed(observed: &Observed, rotation: &RotationStatus, now: Timestamp) -> bool {
    rotation.next_attempt_time.as_ref().is_some_and(|at| now < clock::planned(at.0, now))
        && observed.object.metadata.generation == Some(observed.status.observed_generation)
        && !observed.object.is_reconcile_requested()
        && !observed.is_rotation_requested()
        && !observed.is_reading_requested
}

/// Whether a new client secret is due, by its expiry or by request.
fn is_renewal_due(observed: &Observed, now: Timestamp) -> bool {
    let due = observed.rotation().and_then(|rotation| rotation.current.as_ref());
    observed.is_rotation_requested()
        || due.is_some_and(|current| renewal_at(&observed.object, current) <= now)
}

/// When the client secret is replaced: up to a twentieth of its life earlier than demanded, so that those of many objects do
/// not become due at once.
pub fn renewal_at(object: &MicrosoftGraphCredential, current: &CreatedSecret) -> Timestamp {
    let renew_before = object.spec.rotation_renew_before();
    let uid = object.metadata.uid.as_deref().unwrap_or_default();
    let life = Duration::try_from(current.expires_at.0.duration_since(current.creation_time.0));
    let life = life.unwrap_or_default();
    // One that lives shorter than expected is not replaced at once.
    let until_due = life.saturating_sub(renew_before).max(life / 2);
    current.creation_time.0 + backoff::shorten(uid, until_due, 20)
}

/// When a client secret that was not replaced is overdue: half of the time before its expiry has passed. One that was created
/// a moment ago may live shorter than the spec now wants.
pub fn overdue_at(object: &MicrosoftGraphCredential, current: &CreatedSecret) -> Timestamp {
    let half = object.spec.rotation_renew_before() / 2;
    (current.expires_at.0 - half).max(current.creation_time.0 + half)
}

/// When the client secrets of the app must be read next; `None` if nothing depends on it.
fn reading_due_at(
    observed: &Observed,
    rotation: &RotationStatus,
    timing: &Timing,
    now: Timestamp,
) -> Option<Timestamp> {
    if !rotation.has_secrets() || requested_removal(observed, rotation).is_some() {
        return Some(now);
    }
    let Some(last) = rotation.last_read_time.as_ref().and_then(|at| clock::happened(at.0, now)) else {
        return Some(now);
    };
    let attempt = rotation.attempt.iter().map(|_| last + timing.secret_lookup_poll);
    let removed = rotation.earlier.iter().filter_map(|it| it.removal_time.as_ref());
    let removed = removed.map(|at| clock::began(at.0, timing.secret_lookup, now) + timing.secret_lookup);
    // Three readings over the time in which a reading may be outdated.
    // The successor is not read if it is in a Secret.
    let waits = |it: &&EarlierSecret| observed.rotates() && it.removal_time.is_none() && !it.kept;
    let due = rotation.earlier.iter().filter(waits).filter_map(|it| {
        let at = it.remove_after_time.as_ref()?.0.max(last + timing.app_reading_confirmation / 2);
        (!is_seen(rotation, timing)).then_some(at)
    });
    // The daily reading of the app is the same request.
    let shared = observed.results.reading.as_ref().filter(|it| it.result.is_ok()).map(|_| now);
    let daily = std::iter::once(last + timing.app_reading + timing.app_reading / 4);
    attempt.chain(removed).chain(due).chain(shared).chain(daily).min()
}

/// The times at which a rotation has something to do.
pub fn due_times(
    observed: &Observed,
    status: &RotationStatus,
    timing: &Timing,
    now: Timestamp,
) -> Vec<Timestamp> {
    let retry = status.next_attempt_time.iter().map(|at| clock::planned(at.0, now));
    let retry = retry.chain(next_attempt_at(status, timing));
    let reading = reading_due_at(observed, status, timing, now);
    let removal = status.earlier.iter().filter(|it| it.removal_time.is_none());
    let removal = removal.filter_map(|it| Some(it.remove_after_time.as_ref()?.0));
    let current = status.current.iter().filter(|_| observed.rotates());
    let renewal = current.flat_map(|it| [renewal_at(&observed.object, it), overdue_at(&observed.object, it)]);
    retry.chain(reading).chain(removal).chain(renewal).collect()
}
