//! Whether the secret counts as proved, and what a verdict of Microsoft means for this object.

use std::time::Duration;

use jiff::Timestamp;

use super::Retry;
use crate::backoff;
use crate::controller::observed::{Observed, Problem, Proof, Rules, UsableSource};
use crate::microsoft::{Diagnosis, Refusal, Verdict, diagnosis};
use crate::resources::conditions::{ConditionType, Reason, find};
use crate::resources::{MicrosoftGraphCredential, MicrosoftGraphCredentialStatus, VerificationPolicy};

/// Whether the source's secret counts as proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proven {
    /// It does.
    Yes,
    /// Microsoft must be asked first.
    Needed,
    /// Microsoft was asked, and it does not.
    No {
        problem: Problem,
        /// When to ask again.
        retry: Retry,
    },
}

/// Judges the source's secret by the proof of this pass, or else by that of an earlier one.
pub fn judge(observed: &Observed, rules: &Rules, now: Timestamp) -> Proven {
    let policy = effective_policy(observed, rules);
    if policy == VerificationPolicy::Disabled {
        return Proven::Yes;
    }
    judge_by(observed, rules, policy, now)
}

/// The same whatever the policy: a token was issued for the very secret.
pub(super) fn judge_strictly(observed: &Observed, rules: &Rules, now: Timestamp) -> Proven {
    judge_by(observed, rules, VerificationPolicy::Required, now)
}

fn judge_by(observed: &Observed, rules: &Rules, policy: VerificationPolicy, now: Timestamp) -> Proven {
    let Some(source) = observed.usable_source() else { return Proven::Needed };
    if let Some(proof) = &observed.learnt.proof {
        return judge_proof(observed, rules, proof, policy, now);
    }
    let is_due = observed.object.is_reconcile_requested()
        || verification_due_at(&observed.object, &observed.status, source).is_none_or(|due| due <= now)
        // Roles may have been asked for, or granted, since the last proof.
        || !missing_roles(observed, observed.status.observed_roles.as_deref()).is_empty();
    if is_due { Proven::Needed } else { Proven::Yes }
}

/// `Disabled` counts only where the administrator allows it.
pub fn effective_policy(observed: &Observed, rules: &Rules) -> VerificationPolicy {
    match observed.object.spec.verification_policy() {
        VerificationPolicy::Disabled if !rules.allow_unverified => VerificationPolicy::Required,
        policy => policy,
    }
}

/// When the secret must be proved again: an interval after its last proof, spread by up to a twentieth so
/// that many objects do not come due at once, and when its registered date passes. Nothing where no proof
/// of this very secret stands.
pub fn verification_due_at(
    object: &MicrosoftGraphCredential,
    status: &MicrosoftGraphCredentialStatus,
    source: &UsableSource,
) -> Option<Timestamp> {
    let verified_at = status.verified_at.as_ref()?.0;
    let stands = if source.is_registered {
        // What was verified last may have been another secret, seen and not accepted.
        status.candidate.is_none()
            && find(&status.conditions, ConditionType::Verified)
                .is_some_and(|verified| verified.is_because(Reason::TokenIssued))
    } else {
        let accepted = Reason::TokenIssued.as_str();
        source.is_candidate && status.candidate.as_ref().is_some_and(|candidate| candidate.reason == accepted)
    };
    if !stands {
        return None;
    }
    let interval = object.spec.verification_interval();
    let uid = object.metadata.uid.as_deref().unwrap_or_default();
    let due = verified_at + backoff::shorten(uid, interval, 20);
    let expiry = source.expires_at;
    Some(if verified_at < expiry && expiry < due { expiry } else { due })
}

/// Whether refusals of the source's secret still count as its spreading through Entra: it is new, and was
/// first seen less than the window ago.
pub fn is_within_window(observed: &Observed, rules: &Rules, now: Timestamp) -> bool {
    let Some(source) = observed.usable_source().filter(|source| !source.is_registered) else { return false };
    let first_seen = observed.status.candidate.as_ref().filter(|_| source.is_candidate);
    let first_seen = first_seen.map_or(now, |candidate| candidate.first_seen_at.0);
    now < first_seen + rules.timing.propagation_window
}

fn judge_proof(
    observed: &Observed,
    rules: &Rules,
    proof: &Proof,
    policy: VerificationPolicy,
    now: Timestamp,
) -> Proven {
    let (diagnosis, retry_after) = match &proof.verdict {
        Verdict::Issued { roles } => return judge_roles(observed, rules, roles.as_deref()),
        Verdict::NotIssued { diagnosis, retry_after, .. } => (diagnosis, *retry_after),
    };
    let is_best_effort = policy == VerificationPolicy::BestEffort;
    match diagnosis {
        Diagnosis::Refused(refusal) if refusal.reason == Reason::ConditionalAccessBlocked && is_best_effort => Proven::Yes,
        Diagnosis::Unavailable if is_best_effort => Proven::Yes,
        Diagnosis::Refused(refusal) => refused(observed, rules, refusal, retry_after, now),
        Diagnosis::Throttled => Proven::No {
            problem: Problem {
                reason: Reason::Throttled,
                message: "no more tokens may be asked for at the moment, for Microsoft counts the attempts of each app; the operator waits and tries again".into(),
            },
            retry: Retry::Backoff(retry_after),
        },
        Diagnosis::Unavailable => Proven::No {
            problem: Problem {
                reason: Reason::MicrosoftUnavailable,
                message: "Microsoft's token endpoint could not be reached or had a failure; the operator tries again. If it lasts, check the operator's way out to the internet".into(),
            },
            retry: Retry::Backoff(retry_after),
        },
    }
}

fn judge_roles(observed: &Observed, rules: &Rules, granted: Option<&[String]>) -> Proven {
    let missing = missing_roles(observed, granted);
    if missing.is_empty() {
        return Proven::Yes;
    }
    let message = match granted {
        Some(_) => format!(
            "the app lacks the application permission {}: grant it with admin consent in Entra, or remove it from verification.requiredRoles",
            missing.join(", ")
        ),
        None => "the roles in Microsoft's token cannot be read: remove verification.requiredRoles".into(),
    };
    Proven::No {
        problem: Problem { reason: Reason::RequiredRolesMissing, message },
        retry: Retry::Stalled(rules.timing.stalled_probe),
    }
}

/// The roles that the object requires and that are not among the granted ones.
fn missing_roles<'a>(observed: &'a Observed, granted: Option<&[String]>) -> Vec<&'a str> {
    let required = observed.object.spec.required_roles().iter().map(String::as_str);
    required.filter(|role| !granted.unwrap_or_default().iter().any(|have| have == role)).collect()
}

fn refused(
    observed: &Observed,
    rules: &Rules,
    refusal: &Refusal,
    retry_after: Option<Duration>,
    now: Timestamp,
) -> Proven {
    if is_within_window(observed, rules, now) {
        let message = format!(
            "Microsoft does not accept the new secret yet ({}), which is normal for some minutes after it, or its app, was made; the operator tries again",
            diagnosis::code_text(refusal)
        );
        return Proven::No {
            problem: Problem { reason: Reason::AwaitingPropagation, message },
            retry: Retry::Propagation(retry_after),
        };
    }
    let looks_like_an_id = observed.usable_source().is_some_and(|source| source.looks_like_an_id);
    Proven::No {
        problem: Problem { reason: refusal.reason, message: diagnosis::advice(refusal, looks_like_an_id) },
        retry: Retry::Stalled(rules.timing.stalled_probe),
    }
}
