//! The secret is proved: bring the registration in line with it, at the account of the spec.

use jiff::Timestamp;

use super::rest::{account_not_ready, in_the_way, not_movable, rest, waiting_for};
use super::verification::judge_strictly;
use super::{Action, Decision, Proven, Retry, Standing};
use crate::controller::observed::{Claim, Freshness, Observed, Probe, Problem, ReadyTarget, Rules, Target};
use crate::resources::conditions::Reason;
use crate::resources::{Adoption, AdoptionPolicy, DeletionPolicy, Ownership, Registration};
use crate::woodpecker::Entry;

/// Most earlier registrations that may wait to be removed.
pub const MOST_RETIRING: usize = 4;

pub(super) fn decide(observed: &Observed, rules: &Rules, now: Timestamp) -> Decision {
    let target = match target(observed) {
        Ok(target) => target,
        Err(decision) => return decision,
    };
    if let Claim::HeldBy(other) = &observed.claim {
        let message = format!(
            "MicrosoftGraphCredential {other} comes first for this tenant and client at the same Woodpecker account: delete one of the two objects"
        );
        return waiting_for(Reason::DuplicateClaim, message);
    }
    match &observed.status.registration {
        Some(registration) if observed.is_registered_at_target() => keep(observed, registration, rules, now),
        Some(earlier) if has_no_room_for(observed, earlier) && can_retire(observed) => {
            Decision::Act(Action::Retire)
        }
        Some(earlier) if has_no_room_for(observed, earlier) => {
            let message = format!(
                "{MOST_RETIRING} earlier registrations still have to be removed before the credential can move again: see their accounts, or set deletionPolicy to Retain"
            );
            in_the_way(Reason::InUse, message, rules)
        }
        Some(_) | None => make(observed, target, rules, now),
    }
}

fn target(observed: &Observed) -> Result<&ReadyTarget, Decision> {
    Err(match &observed.target {
        Target::Ready(target) => return Ok(target),
        Target::Store => not_movable(),
        Target::Missing(account) => {
            let message = format!(
                "WoodpeckerAccount {account} does not exist: create it or mend destination.woodpecker.accountRef"
            );
            waiting_for(Reason::AccountNotFound, message)
        }
        Target::NotAllowed(account) => {
            let namespace = observed.object.namespace_name();
            let message = format!(
                "WoodpeckerAccount {account} does not allow this namespace: add {namespace:?} to its spec.allowedNamespaces.names or use an account of this namespace"
            );
            waiting_for(Reason::AccountNotAllowed, message)
        }
        Target::NotReady(account) | Target::NotSeenYet(account) | Target::Unjudged(account) => {
            account_not_ready(account)
        }
    })
}

/// An earlier registration at another account is retired once the new one stands.
fn has_no_room_for(observed: &Observed, earlier: &Registration) -> bool {
    let is_retired =
        observed.object.spec.deletion_policy() == DeletionPolicy::Delete && observed.owns(earlier);
    is_retired && observed.status.retiring.len() >= MOST_RETIRING
}

fn can_retire(observed: &Observed) -> bool {
    let is_reachable = observed.retiring.as_ref().is_some_and(|retiring| retiring.is_reachable);
    observed.learnt.retiring_failure.is_none() && is_reachable
}

/// Something is registered at the account: keep it there, with the right secret and name, and alone.
fn keep(observed: &Observed, registration: &Registration, rules: &Rules, now: Timestamp) -> Decision {
    if !observed.change_settles_in.is_zero() {
        return rest(Standing::Settling, Retry::Settle(observed.change_settles_in));
    }
    match observed.learnt.probe {
        Some(Probe::Gone) => return Decision::Act(Action::ForgetRegistration),
        None if observed.is_missing() && observed.is_acknowledged_gone() => {
            return Decision::Act(Action::ForgetRegistration);
        }
        None if observed.is_missing() => return Decision::Act(Action::Probe),
        Some(Probe::Present) | None => {}
    }
    if observed.current_registration().is_none() {
        // What this object did not make is changed only with a proof of the very secret.
        if registration.ownership == Ownership::Adopted
            && let Some(decision) = unproven(observed, rules, now)
        {
            return decision;
        }
        return Decision::Act(Action::Update);
    }
    if let Some(id) = observed.late_duplicate() {
        return Decision::Act(Action::RemoveDuplicate(id));
    }
    if observed.object.account_name() != registration.account {
        // What it leaves has the new secret: now it can go.
        return Decision::Act(Action::LookAgain);
    }
    if can_retire(observed) {
        return Decision::Act(Action::Retire);
    }
    let name = observed.wanted_name();
    if registration.name != name && !name.is_empty() {
        return Decision::Act(Action::Rename);
    }
    let has_left_over =
        observed.learnt.retiring_failure.is_some() || !observed.learnt.stuck_duplicates.is_empty();
    let retry = if has_left_over { Retry::Look(rules.timing.in_use_retry) } else { Retry::WhenDue };
    rest(Standing::Settled, retry)
}

/// Nothing is registered at the account: take over what is there, or create.
fn make(observed: &Observed, target: &ReadyTarget, rules: &Rules, now: Timestamp) -> Decision {
    let Some(listed) = &observed.learnt.listed else { return Decision::Act(Action::List(Freshness::Any)) };
    let adoption = observed
        .object
        .spec
        .woodpecker()
        .and_then(|woodpecker| woodpecker.adoption.clone())
        .unwrap_or_default();
    match choose(&listed.entries, &adoption) {
        Err(Problem { reason, message }) => in_the_way(reason, message, rules),
        Ok(_) if listed.freshness == Freshness::Any => Decision::Act(Action::List(Freshness::Fresh)),
        Ok(Some(_)) if !target.may_adopt => {
            let message = format!(
                "nothing is taken over at WoodpeckerAccount {} before all objects are known, for it could be another one's: see the operator's readiness",
                target.place.account
            );
            in_the_way(Reason::AccountNotReady, message, rules)
        }
        Ok(Some(id)) => unproven(observed, rules, now).unwrap_or(Decision::Act(Action::Adopt(id))),
        Ok(None) if !target.may_create => {
            let message = format!(
                "nothing is created at WoodpeckerAccount {} while its listing is incomplete: see its conditions",
                target.place.account
            );
            waiting_for(Reason::AccountNotReady, message)
        }
        Ok(None) if wants_finalizer_first(observed, rules) => Decision::Act(Action::AddFinalizer),
        Ok(None) => Decision::Act(Action::Create),
    }
}

/// Which of the entries that the account holds for the app to take over, or none, to create one.
fn choose(entries: &[Entry], adoption: &Adoption) -> Result<Option<i64>, Problem> {
    let policy = adoption.policy();
    let ids: Vec<i64> = entries.iter().map(|entry| entry.id).collect();
    let (reason, message) = match (policy, adoption.credential_id, ids.as_slice()) {
        (AdoptionPolicy::CreateOnly, _, [_, ..]) => (
            Reason::AlreadyExists,
            format!(
                "the account already holds credential {} for this tenant and client, and adoption.policy CreateOnly forbids to take it over: remove it at Woodpecker, or use AdoptOrCreate",
                joined(&ids)
            ),
        ),
        (_, Some(wanted), ids) if ids.contains(&wanted) => return Ok(Some(wanted)),
        (AdoptionPolicy::AdoptOnly | AdoptionPolicy::AdoptOrCreate, Some(wanted), _) => (
            Reason::NothingToAdopt,
            format!(
                "the account holds no credential {wanted} for this tenant and client: mend adoption.credentialId, or remove it"
            ),
        ),
        (AdoptionPolicy::AdoptOnly | AdoptionPolicy::AdoptOrCreate, None, [id]) => return Ok(Some(*id)),
        (AdoptionPolicy::AdoptOnly | AdoptionPolicy::AdoptOrCreate, None, [_, _, ..]) => (
            Reason::AmbiguousRemote,
            format!(
                "the account holds the credentials {} for this tenant and client: name the right one in adoption.credentialId",
                joined(&ids)
            ),
        ),
        (AdoptionPolicy::AdoptOnly, None, []) => (
            Reason::NothingToAdopt,
            "the account holds no credential for this tenant and client, and adoption.policy AdoptOnly forbids to create one: use AdoptOrCreate".into(),
        ),
        (AdoptionPolicy::AdoptOrCreate | AdoptionPolicy::CreateOnly, _, []) => return Ok(None),
    };
    Err(Problem { reason, message })
}

/// What still has to come before the secret counts as proved whatever the policy; nothing where it does.
pub(super) fn unproven(observed: &Observed, rules: &Rules, now: Timestamp) -> Option<Decision> {
    match judge_strictly(observed, rules, now) {
        Proven::Yes => None,
        Proven::Needed => Some(Decision::Act(Action::Prove)),
        Proven::No { problem, retry } => Some(rest(Standing::NotProven(problem), retry)),
    }
}

pub(super) fn wants_finalizer_first(observed: &Observed, rules: &Rules) -> bool {
    rules.sets_finalizers
        && observed.object.spec.deletion_policy() == DeletionPolicy::Delete
        && !observed.has_finalizer()
}

/// Ids as people read them.
pub(super) fn joined(ids: &[i64]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
