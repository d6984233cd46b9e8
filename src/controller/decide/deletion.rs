//! The end of an object: only what it made is ever deleted, and nothing hangs for ever.

use jiff::Timestamp;

use super::{
    Action, Decision, Parting, Rest, Retry, Standing, account_not_ready, after_failure, is_waiting_to_delete,
};
use crate::controller::observed::{Observed, Problem, Rules, Target};
use crate::destination::FailureKind;
use crate::resources::conditions::Reason;
use crate::resources::{AccountName, DeletionPolicy, Ownership, Registration};

pub(super) fn decide(observed: &Observed, rules: &Rules, now: Timestamp) -> Decision {
    if !observed.has_finalizer() {
        return rest(Standing::Gone, Retry::WhenCalled);
    }
    let spec = &observed.object.spec;
    let is_registered = observed.status.registration.is_some() || observed.status.pending.is_some();
    if observed.learnt.removed {
        return let_go(Parting::Removed);
    }
    if !is_registered {
        return let_go(Parting::NeverRegistered);
    }
    if spec.deletion_policy() == DeletionPolicy::Retain {
        return let_go(Parting::Retained);
    }
    if spec.is_suspended() {
        return let_go(Parting::OrphanedBySuspension);
    }
    let grace = rules.timing.namespace_grace;
    if observed.namespace_deleted_at.is_some_and(|deleted_at| deleted_at + grace <= now) {
        return let_go(Parting::OrphanedByNamespace);
    }
    let Some(registration) = &observed.status.registration else {
        let message = "it is not known whether a create took place, so the operator cannot tell what to remove: look at Woodpecker, then set deletionPolicy to Retain to let this object go";
        let problem = Problem { reason: Reason::OutcomeUnknown, message: message.into() };
        return rest(Standing::Blocked(problem), Retry::Stalled(rules.timing.in_use_retry));
    };
    if !is_ours(observed, registration) {
        return let_go(Parting::NotOurs);
    }
    if let Some(failure) = &observed.learnt.failure {
        return match &failure.kind {
            FailureKind::Refused { .. } | FailureKind::SecretRefused => {
                rest(Standing::Failed(failure.clone()), Retry::Stalled(rules.timing.in_use_retry))
            }
            _ => after_failure(observed, rules, failure, now),
        };
    }
    if is_waiting_to_delete(observed, now) {
        return rest(Standing::Waiting, Retry::AsPlanned);
    }
    match &observed.target {
        Target::Ready(target) => {
            let is_same = registration.base_url.as_deref() == Some(&target.base_url)
                && registration.company_id == target.company_id;
            if is_same { Decision::Act(Action::Delete) } else { gone_account(&target.account) }
        }
        Target::NotSeenYet(_) => rest(Standing::Waiting, Retry::WhenCalled),
        Target::NotReady(account) => account_not_ready(account),
        Target::Missing(account) => gone_account(account),
        Target::NotAllowed(account) => {
            let message = format!(
                "WoodpeckerAccount {account} does not allow this namespace any more: name it in its spec.allowedNamespaces.names, or set deletionPolicy to Retain to let this object go"
            );
            rest(Standing::Blocked(Problem { reason: Reason::AccountNotAllowed, message }), Retry::WhenCalled)
        }
        Target::Store => let_go(Parting::NeverRegistered),
    }
}

fn is_ours(observed: &Observed, registration: &Registration) -> bool {
    let adoption = observed.object.spec.woodpecker().and_then(|woodpecker| woodpecker.adoption.as_ref());
    let takes_ownership = adoption.and_then(|adoption| adoption.take_ownership).unwrap_or(false);
    registration.ownership == Ownership::Created || takes_ownership
}

fn gone_account(account: &AccountName) -> Decision {
    let message = format!(
        "WoodpeckerAccount {account}, where the credential is registered, does not exist any more or has changed: bring it back, or set deletionPolicy to Retain to let this object go"
    );
    rest(Standing::Blocked(Problem { reason: Reason::AccountNotFound, message }), Retry::WhenCalled)
}

fn let_go(parting: Parting) -> Decision {
    Decision::Act(Action::LetGo(parting))
}

fn rest(standing: Standing, retry: Retry) -> Decision {
    Decision::Rest(Rest { standing, retry })
}
