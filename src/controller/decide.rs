//! PURE: what to do next for an object, and when to look again.
//!
//! `decide` is asked before every step of a pass, with what the earlier steps have found out, until it says
//! to rest. All order and policy of a pass is here: prove before touching, finalizer before create, one
//! registration, never over what is not ours.

mod class;
mod deletion;
mod recovery;
mod register;
mod rest;
mod store;
mod verification;
mod waiting;

use std::time::Duration;

use jiff::Timestamp;

use self::rest::{rest, source_retry};
use super::observed::{Freshness, Observed, Problem, Rules, Source, Target};
use crate::destination::Failure;
use crate::resources::DeletionPolicy;

pub use self::class::class;
pub use self::register::MOST_RETIRING;
pub use self::verification::{Proven, judge, verification_due_at};

/// The next thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Take this step, then ask again.
    Act(Action),
    /// The pass is over.
    Rest(Rest),
}

/// A step of a pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make sure that a deletion waits for us.
    AddFinalizer,
    /// A deletion need not wait for us any more.
    RemoveFinalizer,
    Prove,
    /// Look at what the account holds for the app.
    List(Freshness),
    /// Write down the intent, make the credential, write down the registration.
    Create,
    /// Write down as our registration what a create of unknown outcome has made, by its id.
    Recover(i64),
    /// Write down that the create of unknown outcome has made nothing.
    ForgetPending,
    /// Write down as our registration what existed before, by its id.
    Adopt(i64),
    /// Replace secret and expiry of the registration, its name apart.
    Update,
    /// Give the registration its plain name.
    Rename,
    /// Ask for the registration by its id, for the listing lacks it.
    Probe,
    /// Write down that the registration is gone.
    ForgetRegistration,
    /// Remove what a late request of ours has made a second time, by its id.
    RemoveDuplicate(i64),
    Retire,
    /// Seal the secret into the object's record of the store, made anew where there is none.
    Seal,
    /// Write down as our registration what the record holds already.
    NoteRecord,
    /// Look at everything again: what was gathered was about an account that the object leaves.
    LookAgain,
    /// Leave the earlier registrations where they are, as the policy says now.
    LeaveRetiring,
    /// Remove the registration from the destination.
    Delete,
    /// Let a deleted object go.
    LetGo(Parting),
}

impl Action {
    /// Whether it sends the client secret somewhere.
    pub fn needs_secret(&self) -> bool {
        matches!(self, Self::Prove | Self::Create | Self::Update | Self::Seal)
    }
}

/// What is left at the destination when a deleted object goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parting {
    /// Nothing was ever registered.
    NeverRegistered,
    /// The registration, as the policy `Retain` says.
    Retained,
    /// The registration, for this object did not make it.
    NotOurs,
    /// Nothing: it was removed.
    Removed,
    /// The registration, though it should have been removed: it was suspended.
    OrphanedBySuspension,
    /// The registration, though it should have been removed: the namespace could not wait longer.
    OrphanedByNamespace,
}

/// Why the pass is over, and what follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rest {
    pub standing: Standing,
    pub retry: Retry,
}

/// How things stand at the end of a pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Everything holds.
    Settled,
    /// Nothing was tried: the delay after an earlier failure is not over, and nothing changed.
    Waiting,
    /// A create or a change may still be under way, and nothing is done before it must have settled.
    Settling,
    /// Nothing may be tried.
    Suspended,
    /// The Secret cannot be used.
    SourceUnusable,
    /// Microsoft has not issued a token.
    NotProven(Problem),
    /// The registration cannot go on.
    Blocked(Problem),
    /// A step at the destination failed.
    Failed(Failure),
    Gone,
}

/// When a pass comes back without being called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// When something is due: a new proof, an expiry, a look in case an event was missed.
    WhenDue,
    /// When what it waits for has come, which calls the object; else after a while.
    WhenCalled,
    /// When its turn at the account comes, which calls the object; earlier failures stay counted.
    WhenGranted,
    /// After this long, when what is under way must have settled.
    Settle(Duration),
    /// After this long, to see whether what is in the way at the account has gone.
    Look(Duration),
    /// After a delay that grows with each failure, and at least this long.
    Backoff(Option<Duration>),
    /// While a new secret spreads through Entra: soon, growing to a minute, and at least this long.
    Propagation(Option<Duration>),
    /// After this long, for only a person can mend it; the longest duration means when called.
    Stalled(Duration),
}

/// Decides on the next step for `observed`.
pub fn decide(observed: &Observed, rules: &Rules, now: Timestamp) -> Decision {
    if observed.object.is_deleted() {
        return deletion::decide(observed, rules, now);
    }
    if let Some(action) = keep_finalizer(observed, rules) {
        return Decision::Act(action);
    }
    if observed.object.spec.is_suspended() {
        return rest(Standing::Suspended, Retry::WhenCalled);
    }
    if !observed.status.retiring.is_empty()
        && observed.object.spec.deletion_policy() == DeletionPolicy::Retain
    {
        return Decision::Act(Action::LeaveRetiring);
    }
    if must_wait_for_account(observed) {
        return rest(Standing::Waiting, Retry::WhenCalled);
    }
    if let Some(failure) = &observed.learnt.failure {
        return waiting::after_failure(observed, rules, failure, now);
    }
    if observed.status.pending.is_some() && !observed.settles_in.is_zero() {
        return rest(Standing::Settling, Retry::Settle(observed.settles_in));
    }
    if waiting::is_waiting(observed, now) {
        return rest(Standing::Waiting, Retry::WhenCalled);
    }
    if let Some(decision) = recovery::decide(observed) {
        return decision;
    }
    if let Source::Unusable(problem) = &observed.source {
        return rest(Standing::SourceUnusable, source_retry(problem.reason));
    }
    match judge(observed, rules, now) {
        Proven::Needed => Decision::Act(Action::Prove),
        Proven::No { problem, retry } => rest(Standing::NotProven(problem), retry),
        Proven::Yes if observed.target == Target::Store => store::decide(observed, rules, now),
        Proven::Yes => register::decide(observed, rules, now),
    }
}

/// Whatever else is to be said of an object: as long as something is or may be registered for it, its
/// finalizer follows its deletion policy, or a deletion would not wait for us.
fn keep_finalizer(observed: &Observed, rules: &Rules) -> Option<Action> {
    let wants = rules.sets_finalizers
        && observed.has_books()
        && observed.object.spec.deletion_policy() == DeletionPolicy::Delete;
    match (wants, observed.has_finalizer()) {
        (true, false) => Some(Action::AddFinalizer),
        (false, true) if observed.object.spec.deletion_policy() == DeletionPolicy::Retain => {
            Some(Action::RemoveFinalizer)
        }
        (true, true) | (false, _) => None,
    }
}

/// Whether nothing can be told before the account was looked at. What is registered stays as it is meanwhile,
/// and its status with it.
fn must_wait_for_account(observed: &Observed) -> bool {
    let registration = observed.status.registration.as_ref();
    match &observed.target {
        Target::NotSeenYet(_) => true,
        Target::Unjudged(account) => registration.is_some_and(|it| it.account.as_ref() == Some(account)),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
