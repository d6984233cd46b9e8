//! The conditions after a reconcile. A condition without new information stays as it was.

mod failures;

use jiff::Timestamp;

use self::failures::{after_failure, append_retry_hint, change_unknown, outcome_unknown};
use crate::api::conditions::{Condition, ConditionStatus, ConditionType, Desired, Reason, find};
use crate::api::timestamp::rfc3339;
use crate::api::{
    DeletionPolicy, MicrosoftGraphCredentialStatus, Ownership, Registration, VerificationPolicy,
};
use crate::core::failure::{Failure, FailureKind};
use crate::core::model::{ConditionFailure, Observed, OperatorPolicy, Source};
use crate::core::plan::{Conclusion, ReconcileState, Requeue};
use crate::core::status::credential::REMEDY;
use crate::core::token_result::TokenResult;
use crate::core::{expiry, expiry_confirmed, rotation_ready};

/// All conditions that the object should have now.
pub(super) fn desired(
    observed: &Observed,
    conclusion: &Conclusion,
    policy: &OperatorPolicy,
    status: &MicrosoftGraphCredentialStatus,
    now: Timestamp,
) -> Vec<Desired> {
    let expires_at = expires_at(status, observed);
    match conclusion.state {
        ReconcileState::Suspended => return suspended(observed),
        ReconcileState::Waiting => {
            let mut all = waiting(observed, conclusion, expires_at, now);
            if observed.own_secrets.is_some() {
                // A rotation goes on while the destination or the verification waits.
                all.retain(|it| !rotation_ready::TYPES.contains(&it.type_));
                all.extend(rotation_ready::conditions(observed, status.rotation.as_deref(), now));
            }
            return all;
        }
        _ => {}
    }
    let parts = [
        secret_ready(observed),
        verified(observed, conclusion, policy),
        Some(registered(observed, conclusion, policy, status)),
    ];
    let mut all: Vec<Desired> = parts.into_iter().flatten().collect();
    let confirmed = expiry_confirmed::condition(observed, &policy.timing, now);
    let expiring = expires_at.map(|at| expiring(at, observed, &all, now));
    let mut ready = ready(&ready_parts(&all, observed, conclusion), expiring.as_ref(), status);
    if ready.status == ConditionStatus::True && !is_deletion_enforced(observed, policy) {
        ready.message += FINALIZERS_DISABLED;
    }
    all.extend(expiring.into_iter().chain(confirmed));
    all.extend(rotation_ready::conditions(observed, status.rotation.as_deref(), now));
    all.extend(kstatus_condition(&ready, conclusion));
    all.push(ready);
    all
}

/// The last conditions, as the expiry changes them.
fn waiting(
    observed: &Observed,
    conclusion: &Conclusion,
    expires_at: Option<Timestamp>,
    now: Timestamp,
) -> Vec<Desired> {
    let mut kept = previous_conditions(observed);
    kept.retain(|desired| desired.type_ != ConditionType::Expiring);
    let Some(expiring) = expires_at.map(|at| expiring(at, observed, &kept, now)) else { return kept };
    let ready = kept.iter_mut().find(|it| it.type_ == ConditionType::Ready);
    if expiring.reason == Reason::Expired
        && let Some(ready) = ready.filter(|ready| ready.status == ConditionStatus::True)
    {
        *ready = not_ready_because_of(&expiring);
        let kstatus = kstatus_condition(ready, conclusion);
        kept.extend(kstatus);
    }
    kept.push(expiring);
    kept
}

/// The conditions that Ready depends on: a rejection that is not confirmed does not end readiness.
fn ready_parts(all: &[Desired], observed: &Observed, conclusion: &Conclusion) -> Vec<Desired> {
    let mut parts = all.to_vec();
    let before = previous_condition(observed, ConditionType::Ready);
    if conclusion.state.is_rejection_unconfirmed()
        && before.is_some_and(|ready| ready.status == ConditionStatus::True)
    {
        parts.retain(|part| part.type_ != ConditionType::Verified);
    }
    parts
}

/// Added to Ready if a deletion would not wait for the operator.
const FINALIZERS_DISABLED: &str = "; deletionPolicy Delete has no effect, because the operator runs with --enable-finalizers=false: deleting this object leaves its credential at the destination";

/// Whether the deletion policy takes effect.
fn is_deletion_enforced(observed: &Observed, policy: &OperatorPolicy) -> bool {
    let removes = observed.object.spec.deletion_policy() == DeletionPolicy::Delete;
    !removes || policy.sets_finalizers || observed.has_finalizer()
}

/// The previous registrations as text.
fn still_to_delete(previous: &[Registration]) -> String {
    let each = |earlier: &Registration| {
        let account = earlier.account.as_ref().map(ToString::to_string).unwrap_or_default();
        format!("credential {} (WoodpeckerAccount {account})", earlier.credential_id)
    };
    match previous {
        [] => String::new(),
        some => format!("; still to be deleted: {}", some.iter().map(each).collect::<Vec<_>>().join(", ")),
    }
}

/// The expiry of the registered secret, or else of the secret to register.
pub(super) fn expires_at(status: &MicrosoftGraphCredentialStatus, observed: &Observed) -> Option<Timestamp> {
    let registered = status.registration.as_ref().map(|registration| registration.expires_at.0);
    registered.or_else(|| observed.usable_source().and_then(|source| source.expires_at))
}

fn previous_conditions(observed: &Observed) -> Vec<Desired> {
    observed.status.conditions.iter().filter_map(Condition::as_desired).collect()
}

fn previous_condition(observed: &Observed, type_: ConditionType) -> Option<Desired> {
    find(&observed.status.conditions, type_)?.as_desired()
}

/// The last conditions, with a Ready that says so, and without Reconciling.
fn suspended(observed: &Observed) -> Vec<Desired> {
    const PREFIX: &str = "suspended, last known: ";
    let mut all = previous_conditions(observed);
    all.retain(|desired| desired.type_ != ConditionType::Reconciling);
    match all.iter_mut().find(|desired| desired.type_ == ConditionType::Ready) {
        Some(ready) if ready.message.starts_with(PREFIX) => {}
        Some(ready) => ready.message = format!("{PREFIX}{}", ready.message),
        None => all.push(Desired::unknown(
            ConditionType::Ready,
            Reason::VerificationPending,
            format!("{PREFIX}nothing was done yet; set spec.suspend to false to continue"),
        )),
    }
    all
}

fn secret_ready(observed: &Observed) -> Option<Desired> {
    match &observed.source {
        Source::NotRead => previous_condition(observed, ConditionType::SecretReady),
        Source::Unusable(problem) => Some(unmet(ConditionType::SecretReady, problem)),
        Source::Usable(_) => {
            let Some(reference) = &observed.object.spec.secret_ref else {
                let message = "the operator created the client secret at Microsoft Entra";
                return Some(Desired::met(ConditionType::SecretReady, Reason::SecretCreated, message));
            };
            let name = &reference.name;
            let expiry = if observed.object.spec.follows_entra() { "" } else { " and its expiry" };
            let message = format!("Secret {name} contains a client secret{expiry}");
            Some(Desired::met(ConditionType::SecretReady, Reason::SecretRead, message))
        }
    }
}

fn verified(observed: &Observed, conclusion: &Conclusion, policy: &OperatorPolicy) -> Option<Desired> {
    const TYPE: ConditionType = ConditionType::Verified;
    let source = match &observed.source {
        Source::NotRead => return previous_condition(observed, TYPE),
        Source::Unusable(_) => {
            return Some(Desired::unknown(
                TYPE,
                Reason::AwaitingSecret,
                "there is no usable client secret to verify",
            ));
        }
        Source::Usable(source) => source,
    };
    if let ReconcileState::NotVerified(problem) = &conclusion.state {
        return Some(match problem.reason {
            Reason::AwaitingPropagation
            | Reason::RejectionUnconfirmed
            | Reason::RateLimited
            | Reason::MicrosoftUnavailable => Desired::unknown(TYPE, problem.reason, problem.message.clone()),
            _ => {
                let message = append_retry_hint(&problem.message, observed, conclusion, policy);
                unmet(TYPE, &ConditionFailure { message, ..problem.clone() })
            }
        });
    }
    if is_rejected_for_now(conclusion) {
        let message = "Woodpecker does not accept the new secret yet, which is normal for some minutes after it was created; the operator retries automatically";
        return Some(Desired::unknown(TYPE, Reason::AwaitingPropagation, message));
    }
    let mode = observed.object.spec.verification_policy();
    if mode == VerificationPolicy::Disabled && policy.allow_unverified {
        return Some(Desired::met(TYPE, Reason::VerificationDisabled, "verification is disabled"));
    }
    let Some(verification) = &observed.results.verification else {
        let kept = previous_condition(observed, TYPE).filter(|_| source.is_registered || source.is_pending);
        let message = "the secret has not been verified yet";
        return kept.or_else(|| Some(Desired::unknown(TYPE, Reason::VerificationPending, message)));
    };
    Some(after_verification(&verification.result, mode))
}

/// The condition Verified if the result allows the secret to be used.
fn after_verification(result: &TokenResult, mode: VerificationPolicy) -> Desired {
    let (reason, message) = match result {
        TokenResult::Issued { .. } if mode == VerificationPolicy::Disabled => (
            Reason::TokenIssued,
            "Microsoft issues tokens for the secret; policy Disabled counts as Required, because the operator runs without --allow-unverified",
        ),
        TokenResult::Issued { .. } => (Reason::TokenIssued, "Microsoft issues tokens for the secret"),
        TokenResult::NotIssued { .. } => (
            Reason::VerificationSkipped,
            "verification was not possible (Microsoft was unavailable, or Conditional Access or a proxy blocks the operator); policy BestEffort continues without it",
        ),
    };
    Desired::met(ConditionType::Verified, reason, message)
}

fn is_rejected_for_now(conclusion: &Conclusion) -> bool {
    matches!(&conclusion.state, ReconcileState::Failed(failure) if failure.kind == FailureKind::SecretRejected)
        && matches!(conclusion.requeue, Requeue::Propagation(_))
}

fn registered(
    observed: &Observed,
    conclusion: &Conclusion,
    policy: &OperatorPolicy,
    status: &MicrosoftGraphCredentialStatus,
) -> Desired {
    const TYPE: ConditionType = ConditionType::Registered;
    let is_unreached = observed.registration_at_unreached_account().is_some();
    if let ReconcileState::NotVerified(_) | ReconcileState::Deferred = conclusion.state
        && (status.next_attempt_time.is_some() || is_unreached)
        && let Some(failed) =
            previous_condition(observed, TYPE).filter(|kept| kept.status != ConditionStatus::True)
    {
        // The destination is attempted again later.
        return failed;
    }
    match (&conclusion.state, &status.registration) {
        (ReconcileState::Deferred, Some(registration))
            if is_unreached && !is_desired(observed, registration) =>
        {
            Desired::unknown(TYPE, Reason::WoodpeckerUnavailable, NOT_REACHED)
        }
        (ReconcileState::Settling, None) => outcome_unknown(),
        (ReconcileState::Settling, Some(_)) if status.pending_create.is_some() => outcome_unknown(),
        (ReconcileState::Settling, Some(_)) => change_unknown(),
        (ReconcileState::Blocked(problem), _) => unmet(TYPE, problem),
        (ReconcileState::AwaitingExpiry, Some(registration)) => Desired::unknown(
            TYPE,
            Reason::AwaitingExpiry,
            format!(
                "credential {} stays as it is registered, and waits for the expiry at Microsoft Entra: see the condition ExpiryConfirmed",
                registration.credential_id
            ),
        ),
        (ReconcileState::AwaitingExpiry, None) => Desired::unknown(
            TYPE,
            Reason::AwaitingExpiry,
            "the secret is not registered before its expiry at Microsoft Entra is known: see the condition ExpiryConfirmed",
        ),
        // A registration stays True while a change of it waits in the queue.
        (ReconcileState::Failed(Failure { kind: FailureKind::Queued(_), .. }), Some(registration))
            if !observed.object.is_deleted() && is_desired(observed, registration) =>
        {
            registered_message(observed, registration, status)
        }
        (ReconcileState::Failed(failure), _) if !is_rejected_for_now(conclusion) => {
            let desired = after_failure(observed, failure, status);
            Desired { message: append_retry_hint(&desired.message, observed, conclusion, policy), ..desired }
        }
        (_, Some(registration)) => registered_message(observed, registration, status),
        (_, None) => Desired::unknown(
            TYPE,
            Reason::AwaitingVerification,
            "nothing is registered before the secret is verified",
        ),
    }
}

/// Registered while a change waits for an account that was not reached yet.
const NOT_REACHED: &str = "the WoodpeckerAccount was not reached since the operator started; the credential is changed there once it is";

/// Whether the current secret is registered at the account of the spec.
fn is_desired(observed: &Observed, registration: &Registration) -> bool {
    let is_current = observed.current_registration().is_some();
    is_current && registration.account == observed.object.account_name()
}

fn registered_message(
    observed: &Observed,
    registration: &Registration,
    status: &MicrosoftGraphCredentialStatus,
) -> Desired {
    let id = registration.credential_id;
    if let Some(record) = &registration.record {
        return stored_message(observed, record, id);
    }
    let account = registration.account.as_ref().map(ToString::to_string).unwrap_or_default();
    let is_current = observed.usable_source().is_some_and(|source| source.is_registered);
    let message = if is_current {
        format!("Woodpecker has the secret as credential {id} (WoodpeckerAccount {account})")
    } else {
        format!("Woodpecker has credential {id} (WoodpeckerAccount {account}) with the last accepted secret")
    };
    let message = format!("{message}{}", still_to_delete(&status.previous_registrations));
    let reason = match registration.ownership {
        Ownership::Created => Reason::Registered,
        Ownership::Adopted => Reason::Adopted,
    };
    Desired::met(ConditionType::Registered, reason, message)
}

fn stored_message(observed: &Observed, record: &str, id: i64) -> Desired {
    const TYPE: ConditionType = ConditionType::Registered;
    if observed.has_lost_record() {
        return Desired::unknown(
            TYPE,
            Reason::AwaitingVerification,
            format!(
                "SealedGraphCredential {record} is missing or cannot be decrypted; it is re-created once the secret is verified"
            ),
        );
    }
    let is_current = observed.usable_source().is_some_and(|source| source.is_registered);
    let which = if is_current { "the secret" } else { "the last accepted secret" };
    Desired::met(
        TYPE,
        Reason::Stored,
        format!("SealedGraphCredential {record} contains {which} as credential {id}"),
    )
}

fn expiring(at: Timestamp, observed: &Observed, others: &[Desired], now: Timestamp) -> Desired {
    let expiring = expiry::expiring_condition(at, observed.object.spec.expiry_warning(), REMEDY, now);
    let is_verified =
        |it: &Desired| it.type_ == ConditionType::Verified && it.status == ConditionStatus::True;
    if expiring.reason != Reason::Expired || !others.iter().any(is_verified) {
        return expiring;
    }
    let message = format!(
        "the secret's expiry {} has passed: {REMEDY}, or correct the date if Microsoft still accepts the secret",
        rfc3339(at)
    );
    Desired { message, ..expiring }
}

/// The first condition that is not met, else a passed expiry, else Ready.
fn ready(parts: &[Desired], expiring: Option<&Desired>, status: &MicrosoftGraphCredentialStatus) -> Desired {
    const TYPE: ConditionType = ConditionType::Ready;
    if let Some(unmet) = parts.iter().find(|part| part.status != ConditionStatus::True) {
        return Desired { type_: TYPE, ..unmet.clone() };
    }
    match expiring {
        Some(expired) if expired.reason == Reason::Expired => not_ready_because_of(expired),
        _ => match &status.registration {
            Some(registration) => Desired::met(
                TYPE,
                Reason::Ready,
                format!(
                    "credential {} is verified and registered; the secret expires at {}",
                    registration.credential_id,
                    rfc3339(registration.expires_at.0)
                ),
            ),
            None => Desired::unknown(TYPE, Reason::AwaitingVerification, "nothing is registered yet"),
        },
    }
}

fn not_ready_because_of(expired: &Desired) -> Desired {
    Desired { type_: ConditionType::Ready, status: ConditionStatus::False, ..expired.clone() }
}

/// Reconciling while the operator continues automatically, Stalled while a person must act.
fn kstatus_condition(ready: &Desired, conclusion: &Conclusion) -> Option<Desired> {
    if ready.status == ConditionStatus::True {
        return None;
    }
    let type_ = match conclusion.requeue {
        Requeue::Stalled(_) | Requeue::After(_) | Requeue::WhenDue => ConditionType::Stalled,
        Requeue::AsPlanned if ready.status == ConditionStatus::False => ConditionType::Stalled,
        Requeue::AsPlanned
        | Requeue::OnPermit
        | Requeue::Settle(_)
        | Requeue::Backoff(_)
        | Requeue::Propagation(_)
        | Requeue::UntilArrival(_)
        | Requeue::Confirmation(_)
        | Requeue::OnTrigger => ConditionType::Reconciling,
    };
    Some(Desired { type_, status: ConditionStatus::True, ..ready.clone() })
}

fn unmet(type_: ConditionType, problem: &ConditionFailure) -> Desired {
    Desired::unmet(type_, problem.reason, problem.message.clone())
}
