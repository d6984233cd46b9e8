//! The conditions that follow a pass. What the pass has learnt nothing about stays as it was.

mod failures;

use jiff::Timestamp;

use self::failures::{after_failure, change_unknown, outcome_unknown};
use super::CURE;
use crate::controller::decide::{Rest, Retry, Standing};
use crate::controller::observed::{Observed, Problem, Rules, Source};
use crate::destination::{Failure, FailureKind};
use crate::events::expiry;
use crate::microsoft::Verdict;
use crate::resources::conditions::{Condition, ConditionStatus, ConditionType, Desired, Reason, find};
use crate::resources::{
    DeletionPolicy, MicrosoftGraphCredentialStatus, Ownership, Registration, VerificationPolicy,
};
use crate::woodpecker::rfc3339;

/// All conditions that the object should have now.
pub(super) fn desired(
    observed: &Observed,
    rest: &Rest,
    rules: &Rules,
    status: &MicrosoftGraphCredentialStatus,
    now: Timestamp,
) -> Vec<Desired> {
    let expires_at = expires_at(status, observed);
    match rest.standing {
        Standing::Suspended => return suspended(observed),
        Standing::Waiting => {
            let mut kept = previous(observed);
            kept.retain(|desired| desired.type_ != ConditionType::Expiring);
            let expiring = expires_at.map(|at| expiring(at, observed, &kept, now));
            kept.extend(expiring);
            return kept;
        }
        _ => {}
    }
    let parts = [
        source_ready(observed),
        verified(observed, rest, rules),
        Some(registered(observed, rest, rules, status)),
    ];
    let mut all: Vec<Desired> = parts.into_iter().flatten().collect();
    let expiring = expires_at.map(|at| expiring(at, observed, &all, now));
    let mut ready = ready(&all, expiring.as_ref(), status);
    if ready.status == ConditionStatus::True && !is_deletion_carried_out(observed, rules) {
        ready.message += NOT_CARRIED_OUT;
    }
    all.extend(expiring);
    all.extend(progress(&ready, rest));
    all.push(ready);
    all
}

/// What is said where a deletion would not wait for us.
const NOT_CARRIED_OUT: &str = "; deletionPolicy Delete is not carried out, for the operator runs with --finalizers=false: once this object is deleted, what it registered stays";

/// Whether what the policy says about a deletion will be done.
fn is_deletion_carried_out(observed: &Observed, rules: &Rules) -> bool {
    let removes = observed.object.spec.deletion_policy() == DeletionPolicy::Delete;
    !removes || rules.sets_finalizers || observed.has_finalizer()
}

/// What earlier accounts still hold.
fn still_to_remove(retiring: &[Registration]) -> String {
    let each = |earlier: &Registration| {
        let account = earlier.account.as_ref().map(ToString::to_string).unwrap_or_default();
        format!("credential {} (WoodpeckerAccount {account})", earlier.credential_id)
    };
    match retiring {
        [] => String::new(),
        some => format!("; still to be removed: {}", some.iter().map(each).collect::<Vec<_>>().join(", ")),
    }
}

/// How to have another attempt before the slow probe, where the cure lies outside Kubernetes and so goes
/// unnoticed.
const ASK_FOR_A_PASS: &str = ". Once that is done, set the annotation graph-credentials.io/reconcile-requested-at to a new value, or wait for the daily probe";

/// Adds to a message that it is looked at again once a day, or when asked.
fn with_a_way_to_ask(message: &str, rest: &Rest, rules: &Rules) -> String {
    let is_probed = rest.retry == Retry::Stalled(rules.timing.stalled_probe);
    let ask = if is_probed { ASK_FOR_A_PASS } else { "" };
    format!("{message}{ask}")
}

/// The expiry that counts: the registered one, or that of the secret to be registered.
pub(super) fn expires_at(status: &MicrosoftGraphCredentialStatus, observed: &Observed) -> Option<Timestamp> {
    let registered = status.registration.as_ref().map(|registration| registration.expires_at.0);
    registered.or_else(|| observed.usable_source().map(|source| source.expires_at))
}

fn previous(observed: &Observed) -> Vec<Desired> {
    observed.status.conditions.iter().filter_map(Condition::as_desired).collect()
}

fn keep(observed: &Observed, type_: ConditionType) -> Option<Desired> {
    find(&observed.status.conditions, type_)?.as_desired()
}

/// The last conditions, with a Ready that says so; nothing is under way any more.
fn suspended(observed: &Observed) -> Vec<Desired> {
    const PREFIX: &str = "suspended, last known: ";
    let mut all = previous(observed);
    all.retain(|desired| desired.type_ != ConditionType::Reconciling);
    match all.iter_mut().find(|desired| desired.type_ == ConditionType::Ready) {
        Some(ready) if ready.message.starts_with(PREFIX) => {}
        Some(ready) => ready.message = format!("{PREFIX}{}", ready.message),
        None => all.push(Desired::unknown(
            ConditionType::Ready,
            Reason::NotAttempted,
            format!("{PREFIX}nothing was done yet; set spec.suspend to false to go on"),
        )),
    }
    all
}

fn source_ready(observed: &Observed) -> Option<Desired> {
    match &observed.source {
        Source::NotRead => keep(observed, ConditionType::SourceReady),
        Source::Unusable(problem) => Some(unmet(ConditionType::SourceReady, problem)),
        Source::Usable(_) => {
            let name = &observed.object.spec.secret_ref.name;
            let message = format!("Secret {name} holds a client secret and its expiry");
            Some(Desired::met(ConditionType::SourceReady, Reason::SecretRead, message))
        }
    }
}

fn verified(observed: &Observed, rest: &Rest, rules: &Rules) -> Option<Desired> {
    const TYPE: ConditionType = ConditionType::Verified;
    let source = match &observed.source {
        Source::NotRead => return keep(observed, TYPE),
        Source::Unusable(_) => {
            return Some(Desired::unknown(
                TYPE,
                Reason::AwaitingSource,
                "there is no usable secret to verify",
            ));
        }
        Source::Usable(source) => source,
    };
    if let Standing::NotProven(problem) = &rest.standing {
        return Some(match problem.reason {
            Reason::AwaitingPropagation | Reason::Throttled | Reason::MicrosoftUnavailable => {
                Desired::unknown(TYPE, problem.reason, problem.message.clone())
            }
            _ => {
                let message = with_a_way_to_ask(&problem.message, rest, rules);
                unmet(TYPE, &Problem { message, ..problem.clone() })
            }
        });
    }
    if is_refused_for_now(rest) {
        let message = "Woodpecker does not accept the new secret yet, which is normal for some minutes after it was made; the operator tries again";
        return Some(Desired::unknown(TYPE, Reason::AwaitingPropagation, message));
    }
    let policy = observed.object.spec.verification_policy();
    if policy == VerificationPolicy::Disabled && rules.allow_unverified {
        return Some(Desired::met(TYPE, Reason::NotRequired, "verification is disabled"));
    }
    let (reason, message) = match observed.learnt.proof.as_ref().map(|proof| &proof.verdict) {
        Some(Verdict::Issued { .. }) if policy == VerificationPolicy::Disabled => (
            Reason::TokenIssued,
            "Microsoft issues tokens for the secret; policy Disabled counts as Required here, for the operator runs without --allow-unverified",
        ),
        Some(Verdict::Issued { .. }) => (Reason::TokenIssued, "Microsoft issues tokens for the secret"),
        Some(Verdict::NotIssued { .. }) => {
            (Reason::ProofSkipped, "the proof could not be had, and policy BestEffort goes on without")
        }
        None => {
            let kept = keep(observed, TYPE).filter(|_| source.is_registered || source.is_candidate);
            let message = "the secret was not verified yet";
            return kept.or_else(|| Some(Desired::unknown(TYPE, Reason::NotAttempted, message)));
        }
    };
    Some(Desired::met(TYPE, reason, message))
}

fn is_refused_for_now(rest: &Rest) -> bool {
    matches!(&rest.standing, Standing::Failed(failure) if failure.kind == FailureKind::SecretRefused)
        && matches!(rest.retry, Retry::Propagation(_))
}

fn registered(
    observed: &Observed,
    rest: &Rest,
    rules: &Rules,
    status: &MicrosoftGraphCredentialStatus,
) -> Desired {
    const TYPE: ConditionType = ConditionType::Registered;
    match (&rest.standing, &status.registration) {
        (Standing::Settling, None) => outcome_unknown(),
        (Standing::Settling, Some(_)) if status.pending.is_some() => outcome_unknown(),
        (Standing::Settling, Some(_)) => change_unknown(),
        (Standing::Blocked(problem), _) => unmet(TYPE, problem),
        // What is registered stays so while a change of it waits for its turn.
        (Standing::Failed(Failure { kind: FailureKind::Queued(_), .. }), Some(registration))
            if !observed.object.is_deleted() && is_what_is_wanted(observed, registration) =>
        {
            held(observed, registration, status)
        }
        (Standing::Failed(failure), _) if !is_refused_for_now(rest) => {
            let desired = after_failure(observed, failure, status);
            Desired { message: with_a_way_to_ask(&desired.message, rest, rules), ..desired }
        }
        (_, Some(registration)) => held(observed, registration, status),
        (_, None) => Desired::unknown(
            TYPE,
            Reason::AwaitingVerification,
            "nothing is registered before the secret is proved",
        ),
    }
}

/// Whether what is registered is the secret that there is, at the account of the spec.
fn is_what_is_wanted(observed: &Observed, registration: &Registration) -> bool {
    let is_current = observed.current_registration().is_some();
    is_current && registration.account == observed.object.account_name()
}

fn held(
    observed: &Observed,
    registration: &Registration,
    status: &MicrosoftGraphCredentialStatus,
) -> Desired {
    let id = registration.credential_id;
    if let Some(record) = &registration.record {
        return sealed(observed, record, id);
    }
    let account = registration.account.as_ref().map(ToString::to_string).unwrap_or_default();
    let is_current = observed.usable_source().is_some_and(|source| source.is_registered);
    let message = if is_current {
        format!("Woodpecker holds the secret as credential {id} (WoodpeckerAccount {account})")
    } else {
        format!(
            "Woodpecker holds credential {id} (WoodpeckerAccount {account}) with the secret that was last accepted"
        )
    };
    let message = format!("{message}{}", still_to_remove(&status.retiring));
    let reason = match registration.ownership {
        Ownership::Created => Reason::Registered,
        Ownership::Adopted => Reason::Adopted,
    };
    Desired::met(ConditionType::Registered, reason, message)
}

fn sealed(observed: &Observed, record: &str, id: i64) -> Desired {
    const TYPE: ConditionType = ConditionType::Registered;
    if observed.has_lost_record() {
        return Desired::unknown(
            TYPE,
            Reason::AwaitingVerification,
            format!(
                "SealedGraphCredential {record} is gone or does not open; it is sealed anew once the secret is proved"
            ),
        );
    }
    let is_current = observed.usable_source().is_some_and(|source| source.is_registered);
    let which = if is_current { "the secret" } else { "the secret that was last accepted" };
    Desired::met(
        TYPE,
        Reason::Stored,
        format!("SealedGraphCredential {record} holds {which} as credential {id}"),
    )
}

fn expiring(at: Timestamp, observed: &Observed, others: &[Desired], now: Timestamp) -> Desired {
    let expiring = expiry::condition(at, observed.object.spec.expiry_warning(), CURE, now);
    let is_verified =
        |it: &Desired| it.type_ == ConditionType::Verified && it.status == ConditionStatus::True;
    if expiring.reason != Reason::Expired || !others.iter().any(is_verified) {
        return expiring;
    }
    let message = format!(
        "the secret's date {} has passed: {CURE}, or correct the date if Microsoft still accepts the secret",
        rfc3339(at)
    );
    Desired { message, ..expiring }
}

/// The first part that is not met, or an expiry that has passed; else all is well.
fn ready(parts: &[Desired], expiring: Option<&Desired>, status: &MicrosoftGraphCredentialStatus) -> Desired {
    const TYPE: ConditionType = ConditionType::Ready;
    if let Some(unmet) = parts.iter().find(|part| part.status != ConditionStatus::True) {
        return Desired { type_: TYPE, ..unmet.clone() };
    }
    match expiring {
        Some(expired) if expired.reason == Reason::Expired => {
            Desired { type_: TYPE, status: ConditionStatus::False, ..expired.clone() }
        }
        _ => match &status.registration {
            Some(registration) => Desired::met(
                TYPE,
                Reason::Ready,
                format!(
                    "credential {} is proved and registered; the secret expires at {}",
                    registration.credential_id,
                    rfc3339(registration.expires_at.0)
                ),
            ),
            None => Desired::unknown(TYPE, Reason::AwaitingVerification, "nothing is registered yet"),
        },
    }
}

/// Reconciling while the operator goes on by itself, Stalled while only a person can go on.
fn progress(ready: &Desired, rest: &Rest) -> Option<Desired> {
    if ready.status == ConditionStatus::True {
        return None;
    }
    let type_ = match rest.retry {
        Retry::Stalled(_) | Retry::Look(_) | Retry::WhenDue => ConditionType::Stalled,
        Retry::WhenGranted
        | Retry::Settle(_)
        | Retry::Backoff(_)
        | Retry::Propagation(_)
        | Retry::WhenCalled => ConditionType::Reconciling,
    };
    Some(Desired { type_, status: ConditionStatus::True, ..ready.clone() })
}

fn unmet(type_: ConditionType, problem: &Problem) -> Desired {
    Desired::unmet(type_, problem.reason, problem.message.clone())
}
