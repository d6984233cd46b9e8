//! PURE: the status that follows a pass, the events that tell of it, and when to look again.
//!
//! A pass that has changed nothing yields the very status that the object has, so that nothing is written.

mod conditions;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::decide::{Rest, Retry, Standing, verification_due_at};
use super::observed::{Content, Observed, Proof, Rules};
use crate::backoff;
use crate::events::{Note, expiry};
use crate::microsoft::Verdict;
use crate::resources::conditions::{
    ConditionStatus, ConditionType, Reason, changed, find, merge, whole_second,
};
use crate::resources::{Candidate, MicrosoftGraphCredentialStatus, UnknownFields};

/// What to do about a secret that expires.
const CURE: &str = "make a new one in Entra and put it with its expiry into the Secret";

/// What follows a pass.
#[derive(Clone, Debug)]
pub struct Report {
    /// The status to write, where it differs from the one that the object has.
    pub status: MicrosoftGraphCredentialStatus,
    /// What to tell people.
    pub notes: Vec<Note>,
    /// When the object is to be looked at again without being called.
    pub again_in: Duration,
}

/// Reports how things stand at the end of a pass.
pub fn report(observed: &Observed, rest: &Rest, rules: &Rules, now: Timestamp) -> Report {
    let mut status = observed.status.clone();
    if rest.standing == Standing::Waiting && status.observed_generation < 0 {
        // Nothing was looked at yet: the object goes on saying so.
        let again_in = again_in(&status, observed, rest, rules, now);
        return Report { status, notes: Vec::new(), again_in };
    }
    let generation = observed.object.metadata.generation.unwrap_or_default();
    if rest.standing != Standing::Waiting {
        status.observed_generation = generation;
        if let Some(requested) = observed.object.reconcile_requested_at() {
            status.last_handled_reconcile_at = Some(requested.to_owned());
        }
    }
    if !matches!(rest.standing, Standing::Waiting | Standing::Suspended) {
        remember_proof(&mut status, observed);
        remember_source(&mut status, observed, rest, now);
        plan_next_attempt(&mut status, observed, rest, rules, now);
    }
    if rest.standing == Standing::Settled
        && let Some(registration) = &mut status.registration
    {
        // The wait is over, and what is wanted needs no other change.
        registration.change_sent_at = None;
    }
    status.credential_id = status.registration.as_ref().map(|registration| registration.credential_id);
    status.expires_at = status.registration.as_ref().map(|registration| registration.expires_at.clone());
    let expires_at = conditions::expires_at(&status, observed);
    status.expiry_notice_days = expires_at.and_then(|expires_at| expiry::notice_days(expires_at, now));
    let desired = conditions::desired(observed, rest, rules, &status, now);
    status.conditions = merge(&observed.status.conditions, desired, status.observed_generation, now);
    if status != observed.written {
        // Only with a write that is due anyway.
        remember_versions(&mut status, observed);
    }
    let notes = notes(observed, &status);
    let again_in = again_in(&status, observed, rest, rules, now);
    Report { status, notes, again_in }
}

fn remember_proof(status: &mut MicrosoftGraphCredentialStatus, observed: &Observed) {
    if let Some(proof) = &observed.learnt.proof
        && let Verdict::Issued { roles } = &proof.verdict
    {
        status.verified_at = Some(Time(whole_second(proof.at)));
        status.observed_roles.clone_from(roles);
    }
}

/// Remembers what was judged, so that nothing reads it again while it stays as it is.
fn remember_versions(status: &mut MicrosoftGraphCredentialStatus, observed: &Observed) {
    let is_registered = observed.usable_source().is_some_and(|source| source.is_registered);
    if let Some(version) = &observed.source_version {
        status.observed_secret = Some(version.clone()).filter(|_| is_registered);
    }
    if let Some(version) = &observed.record_version {
        let holds = observed.sealed().is_some_and(|sealed| sealed.content == Content::SourceSecret);
        status.observed_record = holds.then(|| Box::new(version.clone()));
    }
}

/// Keeps the registered fingerprint under the newest key, and the candidate while it is not accepted.
fn remember_source(
    status: &mut MicrosoftGraphCredentialStatus,
    observed: &Observed,
    rest: &Rest,
    now: Timestamp,
) {
    let Some(source) = observed.usable_source() else { return };
    if source.is_registered {
        if let Some(registration) = &mut status.registration {
            registration.fingerprint.clone_from(&source.fingerprint);
        }
        status.expiry_source = Some(source.expiry_source);
        status.candidate = None;
        return;
    }
    let is_issued = |proof: &Proof| matches!(proof.verdict, Verdict::Issued { .. });
    let reason = match (&rest.standing, &observed.learnt.proof) {
        (Standing::NotProven(problem), _) => Some(problem.reason),
        (Standing::Failed(_), _) if matches!(rest.retry, Retry::Propagation(_)) => {
            Some(Reason::AwaitingPropagation)
        }
        (_, Some(proof)) if is_issued(proof) => Some(Reason::TokenIssued),
        _ => None,
    };
    let earlier = status.candidate.take().filter(|_| source.is_candidate).unwrap_or_else(|| {
        Box::new(Candidate {
            fingerprint: source.fingerprint.clone(),
            first_seen_at: Time(whole_second(now)),
            attempts: 0,
            reason: Reason::NotAttempted.as_str().to_owned(),
            unknown: UnknownFields::default(),
        })
    });
    status.candidate = Some(Box::new(Candidate {
        fingerprint: source.fingerprint.clone(),
        attempts: earlier.attempts.saturating_add(i32::from(observed.learnt.proof.is_some())),
        reason: reason.map_or_else(|| earlier.reason.clone(), |reason| reason.as_str().to_owned()),
        ..*earlier
    }));
}

/// Counts a failure and sets the next attempt, or clears both.
fn plan_next_attempt(
    status: &mut MicrosoftGraphCredentialStatus,
    observed: &Observed,
    rest: &Rest,
    rules: &Rules,
    now: Timestamp,
) {
    if let Retry::WhenGranted | Retry::Settle(_) = rest.retry {
        // Nothing was tried: what was counted stays counted. A delay is over once something asked for a turn, and
        // what has to settle is looked at as soon as it has, whatever was planned before.
        status.next_attempt_at = None;
        return;
    }
    let same_spec = observed.object.metadata.generation == Some(observed.status.observed_generation);
    let same_secret = observed.usable_source().is_none() || observed.is_same_secret();
    let before = observed.status.consecutive_failures.filter(|_| same_spec && same_secret).unwrap_or(0);
    let failures = before.saturating_add(1);
    let uid = observed.object.metadata.uid.as_deref().unwrap_or_default();
    let timing = &rules.timing;
    let delay = match rest.retry {
        Retry::Stalled(delay) if delay < Duration::MAX => Some(delay),
        Retry::Backoff(at_least) => {
            Some(backoff::delay(timing, failures.unsigned_abs(), uid).max(at_least.unwrap_or_default()))
        }
        Retry::Propagation(at_least) => Some(
            backoff::propagation_delay(timing, failures.unsigned_abs()).max(at_least.unwrap_or_default()),
        ),
        Retry::WhenDue
        | Retry::WhenCalled
        | Retry::WhenGranted
        | Retry::Settle(_)
        | Retry::Look(_)
        | Retry::Stalled(_) => None,
    };
    status.consecutive_failures = delay.map(|_| failures);
    // Remote sides may ask for any wait; a week is as good as for ever and cannot overflow a date.
    status.next_attempt_at = delay.map(|delay| Time(now + delay.min(Duration::from_hours(168))));
}

/// What the steps have done, else an event for a change of what Ready says or for another verdict than before; and one for
/// each expiry notice. That all is well follows from what the steps have done, and is not told beside it.
fn notes(observed: &Observed, status: &MicrosoftGraphCredentialStatus) -> Vec<Note> {
    let mut notes = observed.learnt.news.clone();
    let (before, after) = (
        find(&observed.status.conditions, ConditionType::Ready),
        find(&status.conditions, ConditionType::Ready),
    );
    // Waiting in the account's queue is no news. That the secret is good is said with its registration.
    let is_queued = after.is_some_and(|after| after.is_because(Reason::Queued));
    if let Some(after) = after
        && before.is_none_or(|before| before.status != after.status || before.reason != after.reason)
        && !is_queued
        && (after.status != ConditionStatus::True || notes.is_empty())
    {
        notes.extend(Note::of(after, after.status == ConditionStatus::False, "Reconcile", ids(observed)));
    }
    let verdict = verdict(observed, status).filter(|verdict| {
        if verdict.is_warning {
            notes.iter().all(|note| note.text != verdict.text)
        } else {
            notes.is_empty() && !is_queued
        }
    });
    notes.extend(verdict);
    let (told, due) = (observed.status.expiry_notice_days, status.expiry_notice_days);
    if let (Some(due), Some(expires_at)) = (due, conditions::expires_at(status, observed))
        && told.is_none_or(|told| told > due)
    {
        notes.push(expiry::note(due, expires_at, CURE));
    }
    notes
}

/// What Microsoft said in this pass, where that is news.
fn verdict(observed: &Observed, status: &MicrosoftGraphCredentialStatus) -> Option<Note> {
    observed.learnt.proof.as_ref()?;
    let verified = changed(&observed.status.conditions, &status.conditions, ConditionType::Verified)?;
    Note::of(verified, verified.status == ConditionStatus::False, "Verify", ids(observed))
}

/// Codes and ids by which Microsoft's support finds the request: in an event, never in a condition.
fn ids(observed: &Observed) -> String {
    let verdict = observed.learnt.proof.as_ref().map(|proof| &proof.verdict);
    let Some(Verdict::NotIssued { trace, .. }) = verdict else { return String::new() };
    trace.ids()
}

fn again_in(
    status: &MicrosoftGraphCredentialStatus,
    observed: &Observed,
    rest: &Rest,
    rules: &Rules,
    now: Timestamp,
) -> Duration {
    let mut times: Vec<Timestamp> = status.next_attempt_at.iter().map(|at| at.0).collect();
    if rest.retry == Retry::WhenDue
        && let Some(source) = observed.usable_source()
    {
        times.extend(verification_due_at(&observed.object, status, source));
    }
    if let Retry::Look(again_in) | Retry::Settle(again_in) = rest.retry {
        times.push(now + again_in);
    }
    if let Some(expires_at) = conditions::expires_at(status, observed) {
        times.extend(expiry::boundaries(expires_at, observed.object.spec.expiry_warning()));
    }
    times.extend(observed.namespace_deleted_at.map(|deleted_at| deleted_at + rules.timing.namespace_grace));
    // What is over already (the plan of an attempt that a suspension overtook, say) asks for nothing.
    let next = times.into_iter().filter(|at| *at > now).min();
    let until = next.and_then(|at| Duration::try_from(at.duration_since(now)).ok());
    // Nothing tells when a namespace begins to terminate.
    let is_waiting_to_go = observed.object.is_deleted() && observed.has_books();
    let longest = if is_waiting_to_go { rules.timing.in_use_retry } else { rules.timing.resync };
    until.map_or(longest, |until| until.min(longest))
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod properties;

#[cfg(test)]
mod simulation;
