//! PURE: what to do next for an object, and when to look again.
//!
//! `decide` is asked before every step of a pass, with what the earlier steps have found out, until it says
//! to rest. All order and policy of a pass is here: prove before touching, finalizer before create, one
//! registration, never over what is not ours.

mod deletion;
mod verification;

use std::time::Duration;

use jiff::Timestamp;

use super::observed::{Claim, Observed, Problem, Rules, Source, Target};
use crate::destination::{Failure, FailureKind, Operation};
use crate::resources::conditions::{ConditionType, Reason, find};
use crate::resources::{AdoptionPolicy, DeletionPolicy, WoodpeckerDestination};

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
    /// Ask Microsoft for a token.
    Prove,
    /// Look at what the account holds for the app.
    List(Freshness),
    /// Write down the intent, make the credential, write down the registration.
    Create,
    /// Replace secret and expiry of the registration, its name apart.
    Update,
    /// Give the registration its plain name.
    Rename,
    /// Remove the registration from the destination.
    Delete,
    /// Let a deleted object go.
    LetGo(Parting),
}

/// How old a listing may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// The account's last one will do: nothing is done on its word.
    Any,
    /// Young enough to create on its word that nothing is there.
    Fresh,
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
    /// How things stand.
    pub standing: Standing,
    /// When to try again.
    pub retry: Retry,
}

/// How things stand at the end of a pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Everything holds.
    Settled,
    /// Nothing was tried: the delay after an earlier failure is not over, and nothing changed.
    Waiting,
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
    /// The object is gone.
    Gone,
}

/// When a pass comes back without being called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// When something is due: a new proof, an expiry, a look in case an event was missed.
    WhenDue,
    /// When the delay of the earlier failure is over.
    AsPlanned,
    /// When what it waits for has come, which calls the object; else after a while.
    WhenCalled,
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
    if let Some(action) = keep_finalizer(observed) {
        return Decision::Act(action);
    }
    if observed.object.spec.is_suspended() {
        return rest(Standing::Suspended, Retry::WhenCalled);
    }
    if matches!(observed.target, Target::NotSeenYet(_)) {
        return rest(Standing::Waiting, Retry::WhenCalled);
    }
    if let Some(pending) = &observed.status.pending {
        return blocked(
            Reason::OutcomeUnknown,
            unknown_outcome(&pending.token, &pending.account.to_string()),
        );
    }
    if let Some(failure) = &observed.learnt.failure {
        return after_failure(observed, rules, failure, now);
    }
    if is_waiting(observed, now) {
        return rest(Standing::Waiting, Retry::AsPlanned);
    }
    if let Source::Unusable(problem) = &observed.source {
        return rest(Standing::SourceUnusable, source_retry(problem.reason));
    }
    if observed.target == Target::Store {
        return store_not_supported();
    }
    match judge(observed, rules, now) {
        Proven::Needed => Decision::Act(Action::Prove),
        Proven::No { problem, retry } => rest(Standing::NotProven(problem), retry),
        Proven::Yes => register(observed, rules),
    }
}

/// Whatever else is to be said of an object: as long as something is or may be registered for it, its
/// finalizer follows its deletion policy, or a deletion would not wait for us.
fn keep_finalizer(observed: &Observed) -> Option<Action> {
    let is_registered = observed.status.registration.is_some() || observed.status.pending.is_some();
    let wants = is_registered && observed.object.spec.deletion_policy() == DeletionPolicy::Delete;
    match (wants, observed.has_finalizer()) {
        (true, false) => Some(Action::AddFinalizer),
        (false, true) if observed.object.spec.deletion_policy() == DeletionPolicy::Retain => {
            Some(Action::RemoveFinalizer)
        }
        (true, true) | (false, _) => None,
    }
}

/// The proof stands: bring the registration in line with it.
fn register(observed: &Observed, rules: &Rules) -> Decision {
    let target = match &observed.target {
        Target::Ready(target) => target,
        Target::Store => return store_not_supported(),
        Target::Missing(account) => {
            let message = format!(
                "WoodpeckerAccount {account} does not exist: create it or mend destination.woodpecker.accountRef"
            );
            return waiting_for(Reason::AccountNotFound, message);
        }
        Target::NotAllowed(account) => {
            let namespace = observed.object.namespace_name();
            let message = format!(
                "WoodpeckerAccount {account} does not allow this namespace: add {namespace:?} to its spec.allowedNamespaces.names or use an account of this namespace"
            );
            return waiting_for(Reason::AccountNotAllowed, message);
        }
        Target::NotReady(account) | Target::NotSeenYet(account) => return account_not_ready(account),
    };
    if let Some(registration) = &observed.status.registration {
        let is_elsewhere = registration.account.as_ref() != Some(&target.account)
            || registration.base_url.as_deref() != Some(&target.base_url)
            || registration.company_id != target.company_id;
        if is_elsewhere {
            let account = registration.account.as_ref().map(ToString::to_string).unwrap_or_default();
            let message = format!(
                "the credential is registered at WoodpeckerAccount {account} and this version of the operator cannot move it: point accountRef back, or make a new object for the other account"
            );
            return blocked(Reason::DestinationNotSupported, message);
        }
    }
    if let Claim::HeldBy(other) = &observed.claim {
        let message = format!(
            "MicrosoftGraphCredential {other} comes first for this tenant and client at the same Woodpecker account: delete one of the two objects"
        );
        return waiting_for(Reason::DuplicateClaim, message);
    }
    let Some(registration) = &observed.status.registration else { return create(observed, rules) };
    if observed.current_registration().is_none() {
        return Decision::Act(Action::Update);
    }
    if registration.name != observed.object.remote_name() {
        return Decision::Act(Action::Rename);
    }
    rest(Standing::Settled, Retry::WhenDue)
}

/// Nothing is registered: create, unless the account holds the app already.
fn create(observed: &Observed, rules: &Rules) -> Decision {
    let Some(listed) = &observed.learnt.listed else { return Decision::Act(Action::List(Freshness::Any)) };
    if !listed.entries.is_empty() {
        let ids = listed.entries.iter().map(|entry| entry.id.to_string()).collect::<Vec<_>>().join(", ");
        let message = format!(
            "the account already holds credential {ids} for this tenant and client, and this version of the operator cannot adopt it: remove it at Woodpecker, and it will be created anew"
        );
        return in_the_way(Reason::AlreadyExists, message, rules);
    }
    let policy =
        observed.object.spec.woodpecker().map(WoodpeckerDestination::adoption_policy).unwrap_or_default();
    if policy == AdoptionPolicy::AdoptOnly {
        let message = "the account holds no credential for this tenant and client, and adoption.policy AdoptOnly forbids to create one: use AdoptOrCreate";
        return in_the_way(Reason::NothingToAdopt, message.into(), rules);
    }
    if !listed.is_fresh {
        return Decision::Act(Action::List(Freshness::Fresh));
    }
    if observed.object.spec.deletion_policy() == DeletionPolicy::Delete && !observed.has_finalizer() {
        return Decision::Act(Action::AddFinalizer);
    }
    Decision::Act(Action::Create)
}

/// A step at the destination failed: the pass ends here, whatever else there is to do.
fn after_failure(observed: &Observed, rules: &Rules, failure: &Failure, now: Timestamp) -> Decision {
    let failed = |retry| rest(Standing::Failed(failure.clone()), retry);
    let backoff = Retry::Backoff(failure.retry_after);
    match &failure.kind {
        FailureKind::Queued
        | FailureKind::Throttled
        | FailureKind::Unavailable
        | FailureKind::Unauthorized => failed(backoff),
        FailureKind::OutcomeUnknown => failed(Retry::Stalled(Duration::MAX)),
        FailureKind::SecretRefused if verification::is_within_window(observed, rules, now) => {
            failed(Retry::Propagation(failure.retry_after))
        }
        FailureKind::Refused { .. } if failure.operation == Operation::List => failed(backoff),
        // A key that opens the right account calls the object.
        FailureKind::Foreign => failed(Retry::Look(rules.timing.listing_interval)),
        FailureKind::SecretRefused | FailureKind::Refused { .. } | FailureKind::Gone => {
            failed(Retry::Stalled(rules.timing.stalled_probe))
        }
    }
}

/// Whether the delay after an earlier failure still runs and nothing has changed since.
fn is_waiting(observed: &Observed, now: Timestamp) -> bool {
    let status = &observed.status;
    let delayed = status.next_attempt_at.as_ref().is_some_and(|at| now < at.0);
    let same_spec = observed.object.metadata.generation == Some(status.observed_generation);
    let nothing_learnt = observed.learnt.proof.is_none() && observed.learnt.listed.is_none();
    // What was refused there may be welcome now.
    let same_account = !(observed.account_changed && was_refused_by_the_account(observed));
    delayed
        && same_spec
        && same_account
        && observed.is_same_secret()
        && nothing_learnt
        && !observed.is_requested()
}

fn was_refused_by_the_account(observed: &Observed) -> bool {
    let reason = |type_| find(&observed.status.conditions, type_).map(|condition| condition.reason.as_str());
    [Reason::RejectedByWoodpecker, Reason::UpdateRejected]
        .into_iter()
        .any(|refused| reason(ConditionType::Registered) == Some(refused.as_str()))
}

/// The same for an object that is being deleted, whose Secret plays no part.
fn is_waiting_to_delete(observed: &Observed, now: Timestamp) -> bool {
    let delayed = observed.status.next_attempt_at.as_ref().is_some_and(|at| now < at.0);
    let same_spec = observed.object.metadata.generation == Some(observed.status.observed_generation);
    delayed && same_spec && !observed.is_requested()
}

/// A Secret that is not there yet may be on its way (it comes from another file or tool); the others hold
/// something that a person must mend.
fn source_retry(reason: Reason) -> Retry {
    match reason {
        Reason::SecretNotFound | Reason::AccessDenied => Retry::WhenCalled,
        _ => Retry::Stalled(Duration::MAX),
    }
}

fn unknown_outcome(token: &str, account: &str) -> String {
    format!(
        "it is not known whether a create at WoodpeckerAccount {account} took place, and nothing is created over it: look there for a credential whose name ends with [{token}], remove it if there is one, then delete this object (with deletionPolicy Retain, for it waits otherwise) and apply it again"
    )
}

pub(super) fn account_not_ready(account: &crate::resources::AccountName) -> Decision {
    let message = format!("WoodpeckerAccount {account} is not Ready: see its conditions");
    waiting_for(Reason::AccountNotReady, message)
}

fn store_not_supported() -> Decision {
    let message = "destination.store is not supported by this version of the operator: use destination.woodpecker in a new object";
    blocked(Reason::DestinationNotSupported, message.into())
}

/// Blocked until a person changes this object.
fn blocked(reason: Reason, message: String) -> Decision {
    rest(Standing::Blocked(Problem { reason, message }), Retry::Stalled(Duration::MAX))
}

/// Blocked by what the account holds, which somebody may change there without our hearing of it. It costs
/// nothing to look at the account's own listings again.
fn in_the_way(reason: Reason, message: String, rules: &Rules) -> Decision {
    rest(Standing::Blocked(Problem { reason, message }), Retry::Look(rules.timing.listing_interval))
}

/// Blocked by another object, whose change calls this one.
fn waiting_for(reason: Reason, message: String) -> Decision {
    rest(Standing::Blocked(Problem { reason, message }), Retry::WhenCalled)
}

fn rest(standing: Standing, retry: Retry) -> Decision {
    Decision::Rest(Rest { standing, retry })
}

#[cfg(test)]
mod tests;
