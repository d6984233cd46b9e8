//! The plan for a verified secret with destination Woodpecker.

use jiff::Timestamp;

use crate::api::conditions::Reason;
use crate::api::{Adoption, AdoptionPolicy, DeletionPolicy, Ownership, Registration};
use crate::core::model::registration::MAX_PREVIOUS_REGISTRATIONS;
use crate::core::model::{
    Claim, ConditionFailure, Existence, MaxAge, Observed, OperatorPolicy, ReadyTarget, Target,
};
use crate::core::plan::conclusion::{
    account_not_ready, account_not_served, blocked_by_remote, blocked_until_trigger, conclude,
    destination_changed,
};
use crate::core::plan::verification::verification_state_strict;
use crate::core::plan::{Plan, ReconcileState, Requeue, Step, VerificationState};
use crate::core::remote::Entry;

pub(super) fn plan_registration(observed: &Observed, policy: &OperatorPolicy, now: Timestamp) -> Plan {
    let target = match target(observed) {
        Ok(target) => target,
        Err(plan) => return plan,
    };
    if let Claim::Conflict(other) = &observed.claim {
        let message = if observed.has_registrations() {
            format!(
                "MicrosoftGraphCredential {other} already manages this tenant and client at the Woodpecker account, and this object is still registered at another one: set destination.woodpecker.accountRef back, or set deletionPolicy to Retain on the other object and delete that"
            )
        } else {
            format!(
                "MicrosoftGraphCredential {other} already manages this tenant and client at the Woodpecker account: delete this object, which has registered nothing, or set deletionPolicy to Retain on the other one and delete that"
            )
        };
        return blocked_until_trigger(Reason::AlreadyManaged, message);
    }
    match &observed.status.registration {
        Some(registration) if observed.is_registered_at_target() => {
            plan_update(observed, registration, policy, now)
        }
        Some(earlier) if has_too_many_previous(observed, earlier) && can_delete_previous(observed) => {
            Plan::Step(Step::DeletePrevious)
        }
        Some(earlier) if has_too_many_previous(observed, earlier) => {
            let message = format!(
                "{MAX_PREVIOUS_REGISTRATIONS} previous registrations must be deleted before the credential can move again: check their accounts, or set deletionPolicy to Retain"
            );
            blocked_by_remote(Reason::InUse, message, policy)
        }
        Some(_) | None => plan_create(observed, target, policy, now),
    }
}

fn target(observed: &Observed) -> Result<&ReadyTarget, Plan> {
    Err(match &observed.target {
        Target::Ready(target) => return Ok(target),
        Target::Store => destination_changed(),
        Target::Missing(account) => {
            let message = format!(
                "WoodpeckerAccount {account} does not exist: create it or fix destination.woodpecker.accountRef"
            );
            blocked_until_trigger(Reason::AccountNotFound, message)
        }
        Target::NotServed(account) => account_not_served(account, ""),
        Target::NotAllowed(account) => {
            let namespace = observed.object.namespace_name();
            let message = format!(
                "WoodpeckerAccount {account} does not allow this namespace: add {namespace:?} to its spec.allowedNamespaces.names, label the namespace as its spec.allowedNamespaces.selector says if it has one, or use an account of this namespace"
            );
            blocked_until_trigger(Reason::AccountNotAllowed, message)
        }
        Target::NotReconciled(_) | Target::NotReached(_)
            if observed.registration_at_unreached_account().is_some() =>
        {
            conclude(ReconcileState::Deferred, Requeue::AsPlanned)
        }
        Target::NotReady(account) | Target::NotReconciled(account) | Target::NotReached(account) => {
            account_not_ready(account)
        }
    })
}

/// Whether leaving `earlier` would exceed the limit: it is deleted only once the new registration exists.
fn has_too_many_previous(observed: &Observed, earlier: &Registration) -> bool {
    let is_to_delete =
        observed.object.spec.deletion_policy() == DeletionPolicy::Delete && observed.may_delete(earlier);
    is_to_delete && observed.status.previous_registrations.len() >= MAX_PREVIOUS_REGISTRATIONS
}

fn can_delete_previous(observed: &Observed) -> bool {
    let is_reachable = observed.previous_registration.as_ref().is_some_and(|previous| previous.is_reachable);
    observed.results.previous_failure.is_none() && is_reachable
}

/// A registration at the account gets the right secret and name, and stays the only one.
fn plan_update(
    observed: &Observed,
    registration: &Registration,
    policy: &OperatorPolicy,
    now: Timestamp,
) -> Plan {
    if !observed.change_settles_in.is_zero() {
        return conclude(ReconcileState::Settling, Requeue::Settle(observed.change_settles_in));
    }
    match observed.results.existence {
        Some(Existence::Deleted) => return Plan::Step(Step::ClearRegistration),
        None if observed.is_missing() && observed.is_confirmed_deleted() => {
            return Plan::Step(Step::ClearRegistration);
        }
        None if observed.is_missing() => return Plan::Step(Step::ExistenceCheck),
        Some(Existence::Present) | None => {}
    }
    if observed.current_registration().is_none() {
        // An adopted credential is changed only after this secret was verified.
        if registration.ownership == Ownership::Adopted
            && let Some(plan) = not_verified(observed, policy, now)
        {
            return plan;
        }
        return Plan::Step(Step::Update);
    }
    if let Some(id) = observed.late_duplicate() {
        return Plan::Step(Step::DeleteDuplicate(id));
    }
    if observed.object.account_name() != registration.account {
        // The account that the object leaves has the new secret, so it can move now.
        return Plan::Step(Step::Restart);
    }
    if can_delete_previous(observed) {
        return Plan::Step(Step::DeletePrevious);
    }
    let name = observed.desired_name();
    if registration.name != name && !name.is_empty() {
        return Plan::Step(Step::Rename);
    }
    let requeue = requeue_of_leftovers(observed, policy).unwrap_or(Requeue::WhenDue);
    conclude(ReconcileState::UpToDate, requeue)
}

/// Work beside a registration at the account that needs neither its secret nor an expiry: late duplicates and previous
/// registrations are deleted.
pub(super) fn plan_cleanup(observed: &Observed) -> Option<Plan> {
    let is_allowed = observed.claim == Claim::Granted
        && observed.is_registered_at_target()
        && observed.change_settles_in.is_zero()
        && !observed.is_missing();
    if !is_allowed {
        return None;
    }
    let duplicate = observed.late_duplicate().map(Step::DeleteDuplicate);
    let previous = can_delete_previous(observed).then_some(Step::DeletePrevious);
    duplicate.or(previous).map(Plan::Step)
}

/// When an object that could not delete something tries again; `None` if nothing is left over.
pub(super) fn requeue_of_leftovers(observed: &Observed, policy: &OperatorPolicy) -> Option<Requeue> {
    let has_left_over =
        observed.results.previous_failure.is_some() || !observed.results.failed_duplicates.is_empty();
    has_left_over.then_some(Requeue::After(policy.timing.in_use_retry))
}

/// Without a registration at the account, adopt an existing credential or create one.
fn plan_create(observed: &Observed, target: &ReadyTarget, policy: &OperatorPolicy, now: Timestamp) -> Plan {
    let Some(listed) = &observed.results.listed else { return Plan::Step(Step::List(MaxAge::Cached)) };
    let adoption = observed
        .object
        .spec
        .woodpecker()
        .and_then(|woodpecker| woodpecker.adoption.clone())
        .unwrap_or_default();
    let candidate = match observed.own_entry(&listed.entries) {
        Some(id) => Ok(Some(id)),
        None => select_candidate(&listed.entries, &adoption),
    };
    let spec = &observed.object.spec;
    let may_be_own = |entry: &&Entry| entry.is_opaque() && entry.may_be_for(&spec.tenant_id, &spec.client_id);
    let unreadable = listed.entries.iter().find(may_be_own);
    match candidate {
        Err(ConditionFailure { reason, message }) => blocked_by_remote(reason, message, policy),
        Ok(_) if listed.max_age == MaxAge::Cached => Plan::Step(Step::List(MaxAge::Recent)),
        Ok(Some(_)) if !target.may_adopt => {
            let message = format!(
                "no credential is adopted at WoodpeckerAccount {} before the operator has read all objects, because another object could own it: if that lasts, check the operator (graph-credential-operator check)",
                target.location.account
            );
            blocked_by_remote(Reason::AccountNotReady, message, policy)
        }
        Ok(Some(id)) => not_verified(observed, policy, now).unwrap_or(Plan::Step(Step::Adopt(id))),
        Ok(None) if !target.may_create => {
            let message = format!(
                "nothing is created at WoodpeckerAccount {} while Woodpecker's list of credentials is incomplete: if that lasts, ask Woodpecker's support",
                target.location.account
            );
            blocked_until_trigger(Reason::AccountNotReady, message)
        }
        Ok(None) if unreadable.is_some() => {
            let id = unreadable.map(|entry| entry.id).unwrap_or_default();
            let message = format!(
                "Woodpecker's listing shows credential {id} without a readable tenant or client ID, so it may be for this app, and nothing is created: if this persists, ask Woodpecker's support, or delete the credential"
            );
            blocked_by_remote(Reason::AmbiguousMatch, message, policy)
        }
        Ok(None) if wants_finalizer_first(observed, policy) => Plan::Step(Step::AddFinalizer),
        Ok(None) => Plan::Step(Step::Create),
    }
}

/// The existing credential to adopt, or `None` to create one.
fn select_candidate(entries: &[Entry], adoption: &Adoption) -> Result<Option<i64>, ConditionFailure> {
    let policy = adoption.policy();
    let ids: Vec<i64> = entries.iter().filter(|entry| !entry.is_opaque()).map(|entry| entry.id).collect();
    let (reason, message) = match (policy, adoption.credential_id, ids.as_slice()) {
        (AdoptionPolicy::CreateOnly, _, [_, ..]) => (
            Reason::AlreadyExists,
            format!(
                "the account already has credential {} for this tenant and client, and adoption.policy CreateOnly forbids adopting it: use AdoptOrCreate, or delete it at Woodpecker",
                join_ids(&ids)
            ),
        ),
        (_, Some(wanted), ids) if ids.contains(&wanted) => return Ok(Some(wanted)),
        (AdoptionPolicy::AdoptOnly | AdoptionPolicy::AdoptOrCreate, Some(wanted), _) => (
            Reason::NoMatchToAdopt,
            format!(
                "the account has no credential {wanted} for this tenant and client: fix destination.woodpecker.adoption.credentialId, or remove it"
            ),
        ),
        (AdoptionPolicy::AdoptOnly | AdoptionPolicy::AdoptOrCreate, None, [id]) => return Ok(Some(*id)),
        (AdoptionPolicy::AdoptOnly | AdoptionPolicy::AdoptOrCreate, None, [_, _, ..]) => (
            Reason::AmbiguousMatch,
            format!(
                "the account has the credentials {} for this tenant and client: set destination.woodpecker.adoption.credentialId to the one that your mailboxes use",
                join_ids(&ids)
            ),
        ),
        (AdoptionPolicy::AdoptOnly, None, []) => (
            Reason::NoMatchToAdopt,
            "the account has no credential for this tenant and client, and adoption.policy AdoptOnly forbids creating one: use AdoptOrCreate".into(),
        ),
        (AdoptionPolicy::AdoptOrCreate | AdoptionPolicy::CreateOnly, _, []) => return Ok(None),
    };
    Err(ConditionFailure { reason, message })
}

/// What must come before the secret counts as verified under any policy; `None` if it does.
pub(super) fn not_verified(observed: &Observed, policy: &OperatorPolicy, now: Timestamp) -> Option<Plan> {
    match verification_state_strict(observed, policy, now) {
        VerificationState::Passed => None,
        VerificationState::Required => Some(Plan::Step(Step::Verify)),
        VerificationState::Failed { problem, requeue } => {
            Some(conclude(ReconcileState::NotVerified(problem), requeue))
        }
    }
}

pub(super) fn wants_finalizer_first(observed: &Observed, policy: &OperatorPolicy) -> bool {
    policy.sets_finalizers
        && observed.object.spec.deletion_policy() == DeletionPolicy::Delete
        && !observed.has_finalizer()
}

/// Whether the finalizer comes before a client secret that the operator creates.
pub(super) fn wants_rotation_finalizer(observed: &Observed, policy: &OperatorPolicy) -> bool {
    policy.sets_finalizers && !observed.has_finalizer()
}

pub(super) fn join_ids(ids: &[i64]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
