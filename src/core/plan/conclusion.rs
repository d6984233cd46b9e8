//! Conclusions that several plans share, with their messages.

use std::time::Duration;

use jiff::Timestamp;

use crate::api::AccountName;
use crate::api::conditions::Reason;
use crate::core::model::{ConditionFailure, Observed, OperatorPolicy, Target};
use crate::core::plan::{Conclusion, Plan, ReconcileState, Requeue};
use crate::core::secret_value::arrival_time_left;

pub(super) fn conclude(state: ReconcileState, requeue: Requeue) -> Plan {
    Plan::Done(Conclusion { state, requeue })
}

/// Blocked until a person changes this object.
pub(super) fn blocked(reason: Reason, message: String) -> Plan {
    conclude(ReconcileState::Blocked(ConditionFailure { reason, message }), Requeue::Stalled(Duration::MAX))
}

/// Blocked by a credential at the account, which a third party may change without an event. The check is free, because
/// it uses the account's own listings.
pub(super) fn blocked_by_remote(reason: Reason, message: String, policy: &OperatorPolicy) -> Plan {
    conclude(
        ReconcileState::Blocked(ConditionFailure { reason, message }),
        Requeue::After(policy.timing.listing_interval),
    )
}

/// Blocked by another object, whose change triggers this one.
pub(super) fn blocked_until_trigger(reason: Reason, message: String) -> Plan {
    conclude(ReconcileState::Blocked(ConditionFailure { reason, message }), Requeue::OnTrigger)
}

pub(super) fn account_not_ready(account: &AccountName) -> Plan {
    let AccountName { namespace, name } = account;
    let message = format!(
        "WoodpeckerAccount {account} is not Ready: kubectl describe wpa {name} --namespace {namespace} shows why and what to do"
    );
    blocked_until_trigger(Reason::AccountNotReady, message)
}

/// The operator cannot see whether the account exists. `hint` is an alternative for the user.
pub(super) fn account_not_served(account: &AccountName, hint: &str) -> Plan {
    let message = format!(
        "WoodpeckerAccount {account} is in a namespace that the operator does not serve: use an account of a served namespace, or ask the operator's administrator to add {:?} to --watch-namespace (the chart's watchNamespaces){hint}",
        account.namespace
    );
    blocked_until_trigger(Reason::AccountNotFound, message)
}

/// The kind of a destination is immutable, so this happens only with a status from elsewhere.
pub(super) fn destination_changed() -> Plan {
    let message = "the status names a registration at the other kind of destination, and credentials do not move between Woodpecker and the store: create a new object";
    blocked(Reason::DestinationChanged, message.into())
}

/// The account of a registration or of a pending create cannot be used. `hint` is an alternative for the user.
pub(super) fn account_unreachable(target: &Target, hint: &str) -> Plan {
    match target {
        Target::Missing(account) => {
            let message = format!(
                "WoodpeckerAccount {account}, where the credential is registered, no longer exists: restore it{hint}"
            );
            blocked_until_trigger(Reason::AccountNotFound, message)
        }
        Target::NotServed(account) => account_not_served(account, hint),
        Target::NotAllowed(account) => {
            let message = format!(
                "WoodpeckerAccount {account}, where the credential is registered, no longer allows this namespace: add it to the account's spec.allowedNamespaces.names, or label it as the account's spec.allowedNamespaces.selector says{hint}"
            );
            blocked_until_trigger(Reason::AccountNotAllowed, message)
        }
        Target::Ready(ready) => {
            let message = format!(
                "WoodpeckerAccount {} is no longer the one where the credential is registered, because its base URL or company differs: restore the earlier one{hint}",
                ready.location.account
            );
            blocked_until_trigger(Reason::AccountNotFound, message)
        }
        Target::NotReady(account) | Target::NotReconciled(account) | Target::NotReached(account) => {
            account_not_ready(account)
        }
        Target::Store => destination_changed(),
    }
}

/// A missing Secret, or a value that is missing in a new one, may be about to arrive from another file or tool; other
/// problems need a person.
pub(super) fn requeue_of_source(
    observed: &Observed,
    problem: &ConditionFailure,
    policy: &OperatorPolicy,
    now: Timestamp,
) -> Requeue {
    if let Reason::SecretNotFound | Reason::AccessDenied = problem.reason {
        return Requeue::OnTrigger;
    }
    let created = observed.object.metadata.creation_timestamp.as_ref().map(|created| created.0);
    let since = created.into_iter().chain(observed.source_changed_at);
    let left = arrival_time_left(problem.reason, since, policy.timing.secret_arrival, now);
    left.map_or(Requeue::Stalled(Duration::MAX), Requeue::UntilArrival)
}
