//! What a failure at the destination means for people, and its cure.

use crate::controller::observed::Observed;
use crate::destination::{Failure, FailureKind, Operation};
use crate::resources::MicrosoftGraphCredentialStatus;
use crate::resources::conditions::{ConditionType, Desired, Reason};
use crate::woodpecker::LaneClosed;

/// What else a person can do where a deletion waits.
const WAY_OUT: &str = ", or set deletionPolicy to Retain to let this object go";

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
        (FailureKind::Queued(LaneClosed::Queued | LaneClosed::Ending), _) => {
            Desired::unknown(TYPE, Reason::Queued, "other requests to the Woodpecker account are ahead; the operator waits for its turn")
        }
        (FailureKind::Throttled | FailureKind::Queued(LaneClosed::Paused), _) => {
            Desired::unknown(TYPE, Reason::RateLimited, "Woodpecker asked to slow down; the operator waits and tries again")
        }
        (FailureKind::Unavailable | FailureKind::Queued(LaneClosed::Failing), _) => Desired::unknown(
            TYPE,
            Reason::WoodpeckerUnavailable,
            "Woodpecker could not be reached or had a failure; the operator tries again",
        ),
        (FailureKind::OutcomeUnknown, Operation::Create) => outcome_unknown(),
        (FailureKind::OutcomeUnknown, _) => change_unknown(),
        (FailureKind::ObjectsUnknown, _) => problem(
            Reason::AccountNotReady,
            format!("credential {id} is left as it is before all objects are known, for it could be another one's: see the operator's readiness"),
        ),
        (FailureKind::StoreRefused(code), operation) => {
            let (verb, way_out) = (verb(operation), if observed.object.is_deleted() { WAY_OUT } else { "" });
            problem(
                Reason::StoreRefused,
                format!("the API server refuses to {verb} the SealedGraphCredential of this object (HTTP {code}): grant the operator's ServiceAccount get, list, watch, create, update, patch and delete on sealedgraphcredentials in this namespace, and look for a quota or an admission policy that refuses it{way_out}"),
            )
        }
        (FailureKind::KeyringMissing, _) => problem(
            Reason::KeyringMissing,
            "the keyring Secret in the operator's namespace is gone, damaged or may not be read, and nothing is sealed without it: bring it back from a backup (graph-credential-operator keys import), or mend the operator's rights to it".into(),
        ),
        (FailureKind::NotKept, _) => problem(
            Reason::StoreRefused,
            "the SealedGraphCredential of this object does not hold what was written into it a moment ago: look for an admission webhook or another controller that changes it".into(),
        ),
        (FailureKind::NoName, _) => problem(
            Reason::UpdateRejected,
            format!("Woodpecker's listing lacks credential {id}, and it can be asked for by its name alone, which is not known; nothing is made anew. Set spec.displayName, or if it is gone, set the annotation graph-credentials.io/acknowledge-gone to {id}"),
        ),
        (FailureKind::Unauthorized, _) => problem(
            Reason::AccountNotReady,
            "Woodpecker refuses the request for want of rights: put a valid API key into the Secret of the WoodpeckerAccount, and check that the account has the API add-on".into(),
        ),
        (FailureKind::Foreign, _) => problem(
            Reason::AccountNotReady,
            format!("the API key of the WoodpeckerAccount opens another account than the one that holds credential {id}, and nothing is changed there: put a key of the right account into its Secret"),
        ),
        (FailureKind::SecretRefused, Operation::Update) => problem(
            Reason::UpdateRejected,
            format!("Woodpecker refuses the new secret although Microsoft accepts it; credential {id} keeps the old one. Make a new secret or ask Woodpecker's support"),
        ),
        (FailureKind::SecretRefused, _) => problem(
            Reason::RejectedByWoodpecker,
            "Woodpecker refuses the secret although Microsoft accepts it: make a new secret or ask Woodpecker's support".into(),
        ),
        (FailureKind::Refused { .. }, Operation::Delete) => problem(
            Reason::InUse,
            format!("Woodpecker refuses to delete credential {id}, mostly because a mailbox uses it: disconnect its mailboxes in Woodpecker, or set deletionPolicy to Retain to let this object go"),
        ),
        (FailureKind::Refused { status, word }, Operation::Update | Operation::Rename) if observed.is_missing() => problem(
            Reason::UpdateRejected,
            format!("Woodpecker's listing lacks credential {id}, and Woodpecker refuses to say whether it is there ({}); nothing is made anew. If it is gone, set the annotation graph-credentials.io/acknowledge-gone to {id}", answer(*status, word.as_deref())),
        ),
        (FailureKind::Refused { status, word }, Operation::Update | Operation::Rename) => problem(
            Reason::UpdateRejected,
            format!("Woodpecker refuses to change credential {id} ({}); it keeps what it has. Check the object's fields or ask Woodpecker's support", answer(*status, word.as_deref())),
        ),
        (FailureKind::Refused { status, word }, Operation::List | Operation::Create) => problem(
            Reason::RejectedByWoodpecker,
            format!("Woodpecker refuses the request ({}): check the object's fields and the account's base URL, or ask Woodpecker's support", answer(*status, word.as_deref())),
        ),
    }
}

/// While a change of unknown outcome has to settle.
pub(super) fn change_unknown() -> Desired {
    Desired::unknown(
        ConditionType::Registered,
        Reason::OutcomeUnknown,
        "Woodpecker's answer to a change was lost; the operator waits until it must have taken effect, and sends what is wanted",
    )
}

/// While a create of unknown outcome has to settle.
pub(super) fn outcome_unknown() -> Desired {
    Desired::unknown(
        ConditionType::Registered,
        Reason::OutcomeUnknown,
        "Woodpecker's answer to the create was lost; the operator waits until it must have taken effect, looks for what it made, and goes on from there",
    )
}

fn verb(operation: Operation) -> &'static str {
    match operation {
        Operation::List => "show",
        Operation::Create => "make",
        Operation::Update | Operation::Rename => "change",
        Operation::Delete => "delete",
    }
}

fn answer(status: u16, word: Option<&str>) -> String {
    match word {
        Some(word) => format!("HTTP {status}, {word}"),
        None => format!("HTTP {status}"),
    }
}
