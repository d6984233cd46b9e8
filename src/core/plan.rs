//! The plan of a credential: the next step of a reconcile, or its conclusion and when to requeue.
//!
//! The controller calls [`next_step`] before every step, with the results of the earlier ones, until it returns a
//! conclusion. All order and policy is here: verify before any change, finalizer before create, one registration, and
//! no change to what the object does not own.

pub mod app_expiry;
pub mod conclusion;
pub mod deletion;
pub mod preview;
pub mod priority;
pub mod recovery;
pub mod registration;
pub mod removal;
pub mod retry;
pub mod rotation;
pub mod store;
pub mod verification;

use std::time::Duration;

use jiff::Timestamp;

use self::app_expiry::plan_reading;
use self::conclusion::{conclude, requeue_of_source};
use self::deletion::plan_deletion;
use self::recovery::plan_recovery;
use self::registration::plan_registration;
use self::store::plan_store;
use crate::api::DeletionPolicy;
use crate::api::conditions::Reason;
use crate::core::failure::Failure;
use crate::core::model::{ConditionFailure, MaxAge, Observed, OperatorPolicy, Source, Target};
use crate::core::orphan::OrphanCause;

pub use self::app_expiry::reading_due_at;
pub use self::priority::priority;
pub use self::rotation::{RotationStep, due_times as rotation_due_times};
pub use self::verification::{
    VerificationState, rejections_of_source, verification_due_at, verification_state,
};

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Execute this step, then plan again.
    Step(Step),
    /// The reconcile is over.
    Done(Conclusion),
}

/// A step of a reconcile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    AddFinalizer,
    RemoveFinalizer,
    Verify,
    /// Read the app at Microsoft Entra, and find the expiry of the secret.
    ReadExpiry,
    /// List the account's credentials for the app.
    List(MaxAge),
    /// Persist the intent, create the credential, persist the registration.
    Create,
    /// Persist as the registration the credential that a pending create made, by its ID.
    RecoverCreated(i64),
    /// Persist that the pending create made nothing.
    ClearPendingCreate,
    /// Persist an existing credential as the registration, by its ID.
    Adopt(i64),
    /// Replace secret and expiry of the registration, but not its name.
    Update,
    /// Give the registration the name of the spec.
    Rename,
    /// Find out whether the registration exists, because the listing lacks it: by renaming it to its current name.
    ExistenceCheck,
    /// Persist that the registration was deleted.
    ClearRegistration,
    /// Delete a second credential that a late create made, by its ID.
    DeleteDuplicate(i64),
    DeletePrevious,
    Rotation(RotationStep),
    /// Encrypt the secret into the object's record, which is created if it is missing.
    Encrypt,
    /// Persist as the registration what the record already contains.
    PersistExisting,
    /// Observe everything again: so far the reconcile was about the account that the object leaves.
    Restart,
    /// Keep the previous registrations at their accounts, as the deletion policy now requires.
    AbandonPrevious,
    /// Delete the registration from the destination.
    Delete,
    /// Remove the finalizer of a deleted object.
    Finalize(Finalization),
}

impl Step {
    /// Whether it sends, encrypts or compares the client secret.
    pub fn needs_secret(&self) -> bool {
        use RotationStep::{Confirm, Create, DiscardPending};
        matches!(
            self,
            Self::Verify
                | Self::ReadExpiry
                | Self::Create
                | Self::Update
                | Self::Encrypt
                | Self::Rotation(Create | Confirm | DiscardPending)
        )
    }
}

/// What remains at the destination after a deleted object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finalization {
    /// Nothing: nothing was registered.
    NeverRegistered,
    /// The registration, because of policy `Retain`.
    Retained,
    /// The registration, because this object does not own it.
    NotOwned,
    /// Nothing: it was deleted.
    Deleted,
    /// The registration, although the policy is `Delete`.
    Orphaned(OrphanCause),
}

/// The end of a reconcile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conclusion {
    pub state: ReconcileState,
    pub requeue: Requeue,
}

/// The state of the object at the end of a reconcile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReconcileState {
    /// Everything is as specified.
    UpToDate,
    /// Nothing was attempted: the delay after an earlier failure is not over, and nothing changed.
    Waiting,
    /// Nothing was attempted at the destination, because such a delay is not over or the account was not reached yet. The
    /// secret is verified.
    Deferred,
    /// A create or an update may still take effect, and nothing is done before its settle period ends.
    Settling,
    Suspended,
    SourceUnusable,
    NotVerified(ConditionFailure),
    /// Nothing is sent, because the expiry at Microsoft Entra is not known; `ExpiryConfirmed` says why.
    AwaitingExpiry,
    /// The registration cannot continue.
    Blocked(ConditionFailure),
    /// A step at the destination failed.
    Failed(Failure),
    Deleted,
}

/// When the object is requeued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requeue {
    /// At the next due time: a verification, an expiry notice, or the periodic resync.
    WhenDue,
    /// When what it waits for triggers it, else at the periodic resync.
    OnTrigger,
    /// As planned before for the destination, and when a verification is due.
    AsPlanned,
    /// When there is a permit for it, which triggers it; earlier failures stay counted.
    OnPermit,
    /// After this long, when the settle period ends.
    Settle(Duration),
    /// After this long, to check whether the obstacle at the account is still there.
    After(Duration),
    /// After a delay that grows with each failure, and at least this long.
    Backoff(Option<Duration>),
    /// While a new secret propagates through Entra: soon, growing to a minute, and at least this long.
    Propagation(Option<Duration>),
    /// When its Secret changes, else after this long, because what is missing in the Secret may still arrive.
    UntilArrival(Duration),
    /// After this long, to find out whether Microsoft repeats a rejection.
    Confirmation(Duration),
    /// After this long, because only a person can fix it; the longest duration means only when triggered.
    Stalled(Duration),
}

impl ReconcileState {
    /// Whether Microsoft rejected a secret for which it issued a token before, and has not repeated that often enough.
    pub fn is_rejection_unconfirmed(&self) -> bool {
        matches!(self, Self::NotVerified(problem) if problem.reason == Reason::RejectionUnconfirmed)
    }

    /// Whether the secret counts as verified, so that its app may be read.
    pub fn has_verified_source(&self) -> bool {
        match self {
            Self::UpToDate
            | Self::Waiting
            | Self::Deferred
            | Self::Settling
            | Self::AwaitingExpiry
            | Self::Blocked(_)
            | Self::Failed(_) => true,
            Self::Suspended | Self::SourceUnusable | Self::NotVerified(_) | Self::Deleted => false,
        }
    }
}

/// The next step for `observed`.
pub fn next_step(observed: &Observed, policy: &OperatorPolicy, now: Timestamp) -> Plan {
    if observed.object.is_deleted() {
        return plan_deletion(observed, policy, now);
    }
    if let Some(step) = finalizer_step(observed, policy) {
        return Plan::Step(step);
    }
    if observed.object.spec.is_suspended() {
        return conclude(ReconcileState::Suspended, Requeue::OnTrigger);
    }
    if !observed.status.previous_registrations.is_empty()
        && observed.object.spec.deletion_policy() == DeletionPolicy::Retain
    {
        return Plan::Step(Step::AbandonPrevious);
    }
    if must_wait_for_account(observed) {
        return conclude(ReconcileState::Waiting, Requeue::OnTrigger);
    }
    if let Some(failure) = &observed.results.failure {
        return retry::after_failure(observed, policy, failure, now);
    }
    if observed.status.pending_create.is_some() && !observed.settles_in.is_zero() {
        return conclude(ReconcileState::Settling, Requeue::Settle(observed.settles_in));
    }
    if retry::is_verification_delayed(observed, now) {
        let waiting = conclude(ReconcileState::Waiting, Requeue::AsPlanned);
        return rotation::replace_rejected(observed, policy, now).unwrap_or(waiting);
    }
    let is_deferred = retry::is_waiting(observed, now);
    if !is_deferred && let Some(plan) = plan_recovery(observed) {
        return plan;
    }
    if let Source::Unusable(problem) = &observed.source {
        let requeue = requeue_of_source(observed, problem, policy, now);
        return rotation::plan_first(observed, policy, now)
            .unwrap_or_else(|| conclude(ReconcileState::SourceUnusable, requeue));
    }
    if let Some(wait) = rotation::spreads_for(observed, policy, now) {
        return conclude(ReconcileState::Waiting, Requeue::After(wait));
    }
    match verification_state(observed, policy, now) {
        VerificationState::Required => return Plan::Step(Step::Verify),
        VerificationState::Failed { problem, requeue } => {
            return rotation::plan_rejected(observed, problem, policy, now)
                .unwrap_or_else(|problem| conclude(ReconcileState::NotVerified(problem), requeue));
        }
        VerificationState::Passed => {}
    }
    let plan = plan_reading(observed, policy, now)
        .unwrap_or_else(|| plan_destination(observed, policy, is_deferred, now));
    rotation::after_destination(observed, plan, policy, now)
}

/// The plan for a verified secret with an expiry.
fn plan_destination(observed: &Observed, policy: &OperatorPolicy, is_deferred: bool, now: Timestamp) -> Plan {
    let is_idle = observed.results.verification.is_none() && observed.results.reading.is_none();
    match &observed.target {
        _ if is_deferred && is_idle => conclude(ReconcileState::Waiting, Requeue::AsPlanned),
        _ if is_deferred => conclude(ReconcileState::Deferred, Requeue::AsPlanned),
        Target::Store => plan_store(observed, policy, now),
        _ => plan_registration(observed, policy, now),
    }
}

/// The finalizer follows the deletion policy as long as a credential is or may be registered, whatever else is wrong:
/// otherwise a deletion would not wait for the operator.
fn finalizer_step(observed: &Observed, policy: &OperatorPolicy) -> Option<Step> {
    let wants = policy.sets_finalizers && observed.has_external_state() && needs_finalizer(observed);
    match (wants, observed.has_finalizer()) {
        (true, false) => Some(Step::AddFinalizer),
        (false, true) if !needs_finalizer(observed) => Some(Step::RemoveFinalizer),
        (true, true) | (false, _) => None,
    }
}

/// Whether a deletion has something to do: also with policy Retain, if client secrets of the object are at Entra.
fn needs_finalizer(observed: &Observed) -> bool {
    observed.object.spec.deletion_policy() == DeletionPolicy::Delete
        || observed.rotates()
        || observed.has_secrets_at_entra()
}

/// Whether the account must be reconciled first. Until then the registration and its status stay as they are. A registered
/// secret is verified meanwhile, unless a create is pending.
fn must_wait_for_account(observed: &Observed) -> bool {
    let is_registered = observed.registration_at_unreached_account().is_some();
    let has_pending_create = observed.status.pending_create.is_some();
    match &observed.target {
        Target::NotReconciled(_) => !is_registered || has_pending_create,
        Target::NotReached(_) => is_registered && has_pending_create,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
