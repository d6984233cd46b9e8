//! One pass over one credential: observe, then decide and act step by step, then report.

use std::time::Duration;

use jiff::Timestamp;
use kube::Resource;

use super::act::{self, Step};
use super::context::Context;
use super::decide::{Action, Decision, Rest, Retry, Standing, class, decide};
use super::error::{PassError, Result};
use super::guard::Outcome;
use super::index::Named;
use super::observe::{self, Created, Gathered, Reading};
use super::observed::{Learnt, Observed};
use super::report::{Report, report};
use super::status;
use crate::destination::{Failure, FailureKind};
use crate::events::{Note, expiry};
use crate::microsoft::Verdict;
use crate::resources::conditions::{Condition, ConditionStatus, ConditionType, find};
use crate::resources::{MicrosoftGraphCredential, MicrosoftGraphCredentialStatus, Registration};
use crate::telemetry::logs::chain;
use crate::woodpecker::LaneClosed;

/// More steps than any road through `decide` has.
const MOST_STEPS: usize = 16;

/// Carries out a pass over the credential of that name.
pub async fn run(context: &Context, own: &Named) -> Result<Outcome> {
    let Some(mut gathered) = observe::observe(context, own, Reading::Changes).await? else {
        context.accounts.leave_lanes(&observe::owner(own), None);
        return Ok(Outcome::new("gone", context.rules.timing.resync));
    };
    let ended = steps(context, &mut gathered).await;
    // Whatever ended it: what exists at the destination is not forgotten.
    let ended = match record(context, &mut gathered).await {
        Ok(()) => ended,
        Err(PassError::Gone) => Err(PassError::Gone),
        Err(error) => ended.and(Err(error)),
    };
    let ended = match ended {
        Err(PassError::Gone) => {
            context.note_gone(&gathered.observed.object);
            Ok(Outcome::new("gone", context.rules.timing.resync))
        }
        ended => ended,
    };
    gathered.leave_lanes(context);
    // What could make nothing of the news leaves it for the next pass.
    let came_to_nothing = ended
        .as_ref()
        .map_or(true, |ended| matches!(ended.result, "requeue" | "requeue_after" | "interrupted"));
    if came_to_nothing && gathered.observed.account_changed {
        let uid = gathered.observed.object.metadata.uid.as_deref().unwrap_or_default();
        context.index.with(uid, |known| known.account_changed = true);
    }
    give_up_claims(context, &gathered);
    ended
}

async fn steps(context: &Context, gathered: &mut Gathered) -> Result<Outcome> {
    for _ in 0..MOST_STEPS {
        let action = match decide(&gathered.observed, &context.rules, Timestamp::now()) {
            Decision::Act(Action::Rename) if gathered.observed.is_unrecorded => {
                // Readiness does not wait for the name.
                gathered.leave_lanes(context);
                let rest = Rest { standing: Standing::Settled, retry: Retry::WhenDue };
                let outcome = conclude(context, gathered, &rest).await?;
                return Ok(Outcome { again_in: Duration::ZERO, ..outcome });
            }
            Decision::Act(action) => action,
            Decision::Rest(_) if was_interrupted(context, &gathered.observed) => {
                tracing::info!("the program is ending, or this replica does not lead for long enough");
                return Ok(interrupted(context));
            }
            Decision::Rest(rest) => {
                // What follows is between us and Kubernetes.
                gathered.leave_lanes(context);
                return conclude(context, gathered, &rest).await;
            }
        };
        if context.stop.is_cancelled() {
            tracing::info!(?action, "not begun: the program is ending");
            return Ok(interrupted(context));
        }
        if !leads_for_long_enough(context) {
            tracing::info!(?action, "not begun: this replica does not lead for long enough");
            return Ok(interrupted(context));
        }
        if action.needs_secret() && gathered.secret.is_none() {
            if !read_secret(context, gathered).await? {
                return Ok(Outcome::new("gone", context.rules.timing.resync));
            }
            continue;
        }
        record(context, gathered).await?;
        tracing::debug!(?action, "step");
        gathered.class = class(&gathered.observed, &action, Timestamp::now());
        match act::act(context, gathered, &action).await {
            Ok(Step::Done) => {}
            Ok(Step::Again) => {
                let own = Named::of(&gathered.observed.object);
                context.calls.credential(&own);
                return Ok(Outcome::new("requeue", context.rules.timing.resync));
            }
            Err(error) => note_outcome(&mut gathered.observed, error)?,
        }
    }
    Err(PassError::Endless)
}

/// Reads what a step needs that sends the client secret, and that was not read because nothing had changed. Returns whether
/// the object is still there.
async fn read_secret(context: &Context, gathered: &mut Gathered) -> Result<bool> {
    let own = Named::of(&gathered.observed.object);
    let Some(read) = observe::observe(context, &own, Reading::Secret).await? else { return Ok(false) };
    let before = std::mem::replace(gathered, read);
    let (observed, account_changed) = (&mut gathered.observed, before.observed.account_changed);
    observed.account_changed |= account_changed;
    let (failure, proof) = (observed.learnt.failure.take(), observed.learnt.proof.take());
    // What Microsoft said of one secret says nothing of another one.
    let fingerprint = |observed: &Observed| observed.usable_source().map(|source| source.fingerprint.clone());
    let is_same_secret = fingerprint(&before.observed) == fingerprint(observed);
    let learnt = before.observed.learnt;
    let proof = learnt.proof.filter(|_| is_same_secret).or(proof);
    observed.learnt = Learnt { failure: learnt.failure.or(failure), proof, ..learnt };
    (gathered.grant, gathered.waits_in) = (before.grant, before.waits_in);
    // Where it cannot be read, `decide` says so.
    Ok(gathered.secret.is_some() || gathered.observed.usable_source().is_none())
}

/// Writes down what exists at the destination, where the status does not say so yet, and tells people.
async fn record(context: &Context, gathered: &mut Gathered) -> Result<()> {
    if gathered.observed.is_unrecorded {
        let status = gathered.observed.status.clone();
        write_recording(context, gathered, status).await?;
        let news = std::mem::take(&mut gathered.observed.learnt.news);
        emit(context, gathered, &news).await;
    }
    Ok(())
}

/// Writes a status that records something at the destination. What was created for an object that is gone is taken back.
async fn write_recording(
    context: &Context,
    gathered: &mut Gathered,
    status: MicrosoftGraphCredentialStatus,
) -> Result<()> {
    // Once only: an error here is the last word of this pass.
    gathered.observed.is_unrecorded = false;
    let written = status::write_fact(context, &mut gathered.observed, status).await;
    if let Err(PassError::Gone) = written
        && let Some(created) = gathered.created
    {
        act::take_back(context, gathered, created).await;
    }
    if let Some(Created::Credential(_)) = gathered.created.take()
        && written.is_ok()
    {
        // Its outcome is known and written down.
        let uid = gathered.observed.object.metadata.uid.as_deref().unwrap_or_default();
        context.index.with(uid, |known| drop(std::mem::take(&mut known.create)));
    }
    written
}

/// What lasts until somebody mends it is an outcome of the step; the rest ends the pass.
fn note_outcome(observed: &mut Observed, error: PassError) -> Result<()> {
    let Some(failure) = error.as_failure() else { return Err(error) };
    if !matches!(error, PassError::Step(_)) {
        tracing::warn!(error = chain(&error), "a step at the store failed");
    }
    observed.learnt.failure = Some(failure);
    Ok(())
}

/// Whether a step had no turn because the program is ending or this replica leads no more, of which nothing
/// is to be told.
fn was_interrupted(context: &Context, observed: &Observed) -> bool {
    let kind = observed.learnt.failure.as_ref().map(|failure| &failure.kind);
    let is_ending = context.stop.is_cancelled() || !leads_for_long_enough(context);
    match kind {
        Some(FailureKind::Queued(LaneClosed::Ending)) => true,
        Some(FailureKind::Queued(_)) => is_ending,
        _ => false,
    }
}

fn leads_for_long_enough(context: &Context) -> bool {
    context.leadership.allows(context.rules.timing.longest_call())
}

/// A lease that was renewed late is renewed soon, or the program ends.
fn interrupted(context: &Context) -> Outcome {
    Outcome::new("interrupted", context.rules.timing.lease_retry)
}

/// Lets go of claims at accounts where the object holds nothing and is about to hold nothing, and wakes who
/// waits for them.
fn give_up_claims(context: &Context, gathered: &Gathered) {
    let (object, status) = (&gathered.observed.object, &gathered.observed.status);
    let registrations = status.registration.iter().chain(&status.retiring);
    let places = registrations
        .filter_map(Registration::place)
        .chain(status.pending.iter().map(|pending| pending.place()));
    let accounts: Vec<_> = places.filter_map(|place| context.accounts.identity(&place.account)).collect();
    let uid = object.metadata.uid.as_deref().unwrap_or_default();
    let kept = context.index.keep_claims(uid, |claim| accounts.contains(&claim.account));
    context.follow::<MicrosoftGraphCredential>(kept);
}

/// Writes the status where it changed and tells people.
async fn conclude(context: &Context, gathered: &mut Gathered, rest: &Rest) -> Result<Outcome> {
    let result = match rest.standing {
        Standing::Settled => "success",
        Standing::Waiting | Standing::Settling | Standing::Suspended | Standing::Gone => "requeue_after",
        Standing::SourceUnusable | Standing::NotProven(_) | Standing::Blocked(_) | Standing::Failed(_) => {
            "unmet"
        }
    };
    if rest.standing == Standing::Gone {
        return Ok(Outcome::new(result, context.rules.timing.resync));
    }
    let observed = &mut gathered.observed;
    if let Some(left) = short_wait(context, observed, rest) {
        return Ok(Outcome::new(result, left));
    }
    let Report { mut status, notes, again_in } = report(observed, rest, &context.rules, Timestamp::now());
    let before = find(&observed.status.conditions, ConditionType::Ready).cloned();
    let ready = find(&status.conditions, ConditionType::Ready).cloned();
    let gives_notice = notes.iter().any(|note| note.action == expiry::ACTION);
    if gives_notice && observed.is_unrecorded {
        // What exists at the destination does not wait for an event.
        let fact = observed.status.clone();
        write_recording(context, gathered, fact).await?;
    }
    let observed = &mut gathered.observed;
    let (notes, is_given) = context.events.publish_notice(&observed.object.object_ref(&()), notes).await;
    if !is_given {
        status.expiry_notice_days = observed.status.expiry_notice_days;
    }
    if status != observed.written {
        if observed.is_unrecorded {
            write_recording(context, gathered, status).await?;
        } else {
            status::write_once(context, observed, status).await?;
        }
    }
    gathered.observed.learnt.news.clear();
    emit(context, gathered, &notes).await;
    let is_ready = ready.as_ref().is_some_and(|ready| ready.status == ConditionStatus::True);
    note_readiness(context, &gathered.observed, before.as_ref(), is_ready);
    let generation = gathered.observed.object.metadata.generation;
    Ok(Outcome::new(result, again_in).about(generation, ready.as_ref()))
}

/// How much longer the object waits for a permit until its status says so; nothing where it does not wait, or has waited so
/// long. Most waits are over by then, and cost no write.
fn short_wait(context: &Context, observed: &Observed, rest: &Rest) -> Option<Duration> {
    let uid = observed.object.metadata.uid.as_deref().unwrap_or_default();
    let is_queued = matches!(
        &rest.standing,
        Standing::Failed(Failure { kind: FailureKind::Queued(LaneClosed::Queued), .. })
    );
    if !is_queued {
        context.index.with(uid, |known| known.waiting = None);
        return None;
    }
    let issued = observed.learnt.proof.clone().filter(|it| matches!(it.verdict, Verdict::Issued { .. }));
    let verified = observed.usable_source().map(|source| source.fingerprint.clone()).zip(issued);
    let waited = context.index.with(uid, |known| known.waiting.get_or_insert_default().go_on(verified));
    let left = context.rules.timing.queue_notice.checked_sub(waited.unwrap_or_default())?;
    (!observed.is_unrecorded && observed.learnt.news.is_empty()).then_some(left)
}

async fn emit(context: &Context, gathered: &Gathered, notes: &[Note]) {
    let regarding = gathered.observed.object.object_ref(&());
    for note in notes {
        context.events.emit(&regarding, note).await;
    }
}

/// Notes how readiness changes by a report.
fn note_readiness(context: &Context, observed: &Observed, before: Option<&Condition>, is_ready: bool) {
    let meta = &observed.object.metadata;
    let uid = meta.uid.as_deref().unwrap_or_default();
    let now = Timestamp::now();
    let created = meta.creation_timestamp.as_ref().map_or(now, |created| created.0);
    let took = context.index.with(uid, |known| known.note_readiness(created, before, is_ready, now));
    if let Some(took) = took.flatten() {
        context.metrics.credentials.became_ready(took);
    }
}
