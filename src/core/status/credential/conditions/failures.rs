//! The condition Registered after a failure at the destination, and how to request another attempt.

use crate::api::conditions::{ConditionType, Desired, Reason};
use crate::api::{MicrosoftGraphCredentialStatus, NamespacedName};
use crate::core::failure::{Failure, FailureKind, Operation, QueueError};
use crate::core::model::{Observed, OperatorPolicy};
use crate::core::plan::{Conclusion, Requeue};

/// An alternative for the user while a deletion is blocked.
const RETAIN_HINT: &str = ", or set deletionPolicy to Retain to delete only this object";

/// The condition Registered after a step at the destination failed.
pub(super) fn after_failure(
    observed: &Observed,
    failure: &Failure,
    status: &MicrosoftGraphCredentialStatus,
) -> Desired {
    const TYPE: ConditionType = ConditionType::Registered;
    let registered = status.registration.as_ref().map(|registration| registration.credential_id);
    let id = failure.id.or(registered).unwrap_or_default();
    let problem = |reason, message: String| Desired::unmet(TYPE, reason, message);
    match (&failure.kind, failure.operation) {
        (FailureKind::Queued(error), _) => temporary(*error),
        (FailureKind::Throttled, _) => temporary(QueueError::Paused),
        (FailureKind::Unavailable, _) => temporary(QueueError::Failing),
        (FailureKind::OutcomeUnknown, Operation::Create) => outcome_unknown(),
        (FailureKind::OutcomeUnknown, _) => change_unknown(),
        (FailureKind::ObjectsUnknown, _) => problem(
            Reason::AccountNotReady,
            format!("credential {id} is not changed before the operator has read all objects, because another object could own it: if that lasts, check the operator (graph-credential-operator check)"),
        ),
        (FailureKind::StoreRejected(code), operation) => store_rejected(observed, *code, operation),
        (FailureKind::KeyringUnavailable, _) => problem(
            Reason::KeyringUnavailable,
            "the keyring Secret in the operator's namespace is missing, damaged or not readable, and nothing is encrypted without it: restore it from a backup (graph-credential-operator keys import), or fix the operator's access to it".into(),
        ),
        (FailureKind::NotPersisted, _) => problem(
            Reason::StorageError,
            "the SealedGraphCredential of this object does not keep what the operator writes into it: look for an admission webhook or another controller that changes it".into(),
        ),
        (FailureKind::NameUnknown, _) => problem(
            Reason::UpdateRejected,
            format!("Woodpecker's listing lacks credential {id}, and the operator cannot check it without its name, which is not known; nothing is created. Set spec.displayName, or if the credential was deleted, set the annotation graph-credentials.io/confirm-deleted to {id}"),
        ),
        // The account reports a key that is rejected for its list as well.
        (FailureKind::Unauthorized, _) => Desired::unknown(
            ConditionType::Registered,
            Reason::WoodpeckerUnavailable,
            "Woodpecker rejected the API key for this request; the operator checks the key and tries again. If the key is invalid, the WoodpeckerAccount reports it. If the account stays Ready, the key can list credentials but cannot change them: use another API key",
        ),
        (FailureKind::NotInPlan, _) => not_in_plan(),
        (FailureKind::Unreadable, _) => problem(
            Reason::UpdateRejected,
            format!("Woodpecker's listing shows credential {id} without a readable tenant or client ID, so the operator does not change it: if this persists, ask Woodpecker's support"),
        ),
        (FailureKind::WrongAccount, _) => problem(Reason::AccountNotReady, wrong_account(failure.id.or(registered))),
        (FailureKind::CompanyIdIgnored, _) => problem(
            Reason::AccountNotReady,
            "two WoodpeckerAccounts of different companies list the same credentials, so nothing is created: use a separate API key for each company".into(),
        ),
        (FailureKind::SecretRejected, operation) => secret_rejected(operation, id),
        (FailureKind::Rejected { status, code }, operation) => {
            let code = code.as_ref().map(|code| format!(", {code}")).unwrap_or_default();
            rejected(observed, operation, id, &format!("HTTP {status}{code}"))
        }
    }
}

fn not_in_plan() -> Desired {
    Desired::unknown(
        ConditionType::Registered,
        Reason::ApiNotInPlan,
        "Woodpecker refuses this request because of the account's plan, and the API key itself may be right: add the API add-on at Woodpecker, under Marketplace, or upgrade the plan; the operator tries again",
    )
}

fn secret_rejected(operation: Operation, id: i64) -> Desired {
    let (reason, message) = if operation == Operation::Update {
        (
            Reason::UpdateRejected,
            format!(
                "Woodpecker rejects the new secret although Microsoft accepts it; credential {id} keeps the old one. Create a new secret or ask Woodpecker's support"
            ),
        )
    } else {
        (Reason::CreateRejected, "Woodpecker rejects the secret although Microsoft accepts it: create a new secret or ask Woodpecker's support".into())
    };
    Desired::unmet(ConditionType::Registered, reason, message)
}

fn wrong_account(id: Option<i64>) -> String {
    match id {
        Some(id) => format!("the API key of the WoodpeckerAccount belongs to another account than credential {id}, and nothing is changed there: put a key of the right account into its Secret"),
        None => "the API key of the WoodpeckerAccount belongs to another account than the credentials that are registered there, and nothing is changed: put a key of the right account into its Secret".into(),
    }
}

/// A problem that goes away without a change of the object.
fn temporary(error: QueueError) -> Desired {
    let (reason, problem) = match error {
        QueueError::Queued | QueueError::Ending => {
            (Reason::Queued, "other requests to the Woodpecker account are ahead in its queue")
        }
        QueueError::Paused => (Reason::RateLimited, "Woodpecker limits the rate of requests"),
        QueueError::Failing => {
            (Reason::WoodpeckerUnavailable, "Woodpecker could not be reached or returned an error")
        }
    };
    Desired::unknown(
        ConditionType::Registered,
        reason,
        format!("{problem}; the operator retries automatically"),
    )
}

fn store_rejected(observed: &Observed, status_code: u16, operation: Operation) -> Desired {
    let (reason, action) = if status_code == 403 {
        (
            Reason::StorageForbidden,
            "grant the operator's ServiceAccount get, list, watch, create, update, patch and delete on sealedgraphcredentials in this namespace, and look for a quota or an admission policy that rejects it",
        )
    } else {
        (
            Reason::StorageError,
            "check that the CRDs are of this version, and look for an admission webhook that rejects it",
        )
    };
    let verb = match operation {
        Operation::List => "read",
        Operation::Create => "create",
        Operation::Update | Operation::Rename => "change",
        Operation::Delete => "delete",
    };
    let hint = if observed.object.is_deleted() { RETAIN_HINT } else { "" };
    let message = format!(
        "the API server does not allow the operator to {verb} the SealedGraphCredential of this object (HTTP {status_code}): {action}{hint}"
    );
    Desired::unmet(ConditionType::Registered, reason, message)
}

fn rejected(observed: &Observed, operation: Operation, id: i64, response: &str) -> Desired {
    let (reason, message) = match operation {
        Operation::Delete => (
            Reason::InUse,
            format!(
                "Woodpecker rejects the deletion of credential {id}, usually because a mailbox uses it: disconnect its mailboxes in Woodpecker{RETAIN_HINT}"
            ),
        ),
        Operation::Update | Operation::Rename if observed.is_missing() => (
            Reason::UpdateRejected,
            format!(
                "Woodpecker's listing lacks credential {id}, and Woodpecker rejects the request that would show whether it exists ({response}); nothing is created. If it was deleted, set the annotation graph-credentials.io/confirm-deleted to {id}"
            ),
        ),
        Operation::Update | Operation::Rename => (
            Reason::UpdateRejected,
            format!(
                "Woodpecker rejects the change of credential {id} ({response}), which stays as it is: check spec.displayName and the expiry, or ask Woodpecker's support"
            ),
        ),
        Operation::List | Operation::Create => (
            Reason::CreateRejected,
            format!(
                "Woodpecker rejects the request ({response}): check spec.displayName, the expiry, and the account's spec.baseUrl; if spec.tenantId or spec.clientId is wrong, create a new object, because both are immutable; or ask Woodpecker's support"
            ),
        ),
    };
    Desired::unmet(ConditionType::Registered, reason, message)
}

/// Adds to the message of a problem that is retried once a day how to request another attempt: a fix outside Kubernetes
/// triggers nothing.
pub(super) fn append_retry_hint(
    message: &str,
    observed: &Observed,
    conclusion: &Conclusion,
    policy: &OperatorPolicy,
) -> String {
    if conclusion.requeue != Requeue::Stalled(policy.timing.stalled_probe) {
        return message.to_owned();
    }
    let NamespacedName { namespace, name } = NamespacedName::of(&observed.object);
    format!(
        "{message}. Then run graph-credential-operator reconcile {name} --namespace {namespace}, or set the annotation graph-credentials.io/reconcile-requested-at to a new value, or wait for the daily retry"
    )
}

/// During the settle period of an update of unknown outcome.
pub(super) fn change_unknown() -> Desired {
    Desired::unknown(
        ConditionType::Registered,
        Reason::OutcomeUnknown,
        "Woodpecker's response to an update was lost; the operator waits until it must have taken effect, and then sends the update that is still needed",
    )
}

/// During the settle period of a create of unknown outcome.
pub(super) fn outcome_unknown() -> Desired {
    Desired::unknown(
        ConditionType::Registered,
        Reason::OutcomeUnknown,
        "Woodpecker's response to the create was lost; the operator waits until it must have taken effect, looks for what it created, and continues from there",
    )
}
