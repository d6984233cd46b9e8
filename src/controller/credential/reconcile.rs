//! Reconciles one credential: observe, plan and execute step by step, then write the status.

use std::time::Duration;

use jiff::Timestamp;
use kube::Resource;

use crate::api::conditions::{Condition, ConditionStatus, ConditionType, find};
use crate::api::{MicrosoftGraphCredential, MicrosoftGraphCredentialStatus, NamespacedName, Registration};
use crate::controller::context::Context;
use crate::controller::credential::apply::{self, StepOutcome};
use crate::controller::credential::observe::{self, Created, ReadScope, Session};
use crate::controller::error::{ReconcileError, Result};
use crate::controller::instrument::Completed;
use crate::controller::status_writer;
use crate::core::error_chain::chain;
use crate::core::event::EventBody;
use crate::core::expiry;
use crate::core::failure::{Failure, FailureKind, QueueError};
use crate::core::model::{Observed, StepResults};
use crate::core::outcome::Outcome;
use crate::core::plan::{Conclusion, Plan, ReconcileState, Requeue, Step, next_step, priority};
use crate::core::rotation::{self, SecretRecord};
use crate::core::status::credential::{Report, report};
use crate::core::token_result::TokenResult;

/// More steps than any plan has.
const MAX_STEPS: usize = 16;

/// Reconciles the credential of that name.
pub async fn run(context: &Context, own: &NamespacedName) -> Result<Completed> {
    let Some(mut session) = observe::observe(context, own, ReadScope::Changes).await? else {
        context.accounts.leave_queues(&observe::requester(own), None);
        return Ok(Completed::new(Outcome::ObjectDeleted, context.policy.timing.resync));
    };
    let ended = run_steps(context, &mut session).await;
    // However it ended: what exists at the destination must be persisted.
    let ended = match persist_changes(context, &mut session).await {
        Ok(()) => ended,
        Err(ReconcileError::Deleted) => Err(ReconcileError::Deleted),
        Err(error) => ended.and(Err(error)),
    };
    let ended = match ended {
        Err(ReconcileError::Deleted) => {
            context.on_deleted(&session.observed.object);
            Ok(Completed::new(Outcome::ObjectDeleted, context.policy.timing.resync))
        }
        ended => ended,
    };
    session.leave_queues(context);
    // An unfinished reconcile leaves the change of the account to the next one.
    let is_unfinished = ended.as_ref().map_or(true, |ended| {
        matches!(ended.outcome, Outcome::Requeued | Outcome::Waiting | Outcome::Interrupted)
    });
    if is_unfinished && session.observed.account_changed {
        let uid = session.observed.object.metadata.uid.as_deref().unwrap_or_default();
        context.index.with(uid, |known| known.account_changed = true);
    }
    release_claims(context, &session);
    ended
}

async fn run_steps(context: &Context, session: &mut Session) -> Result<Completed> {
    for _ in 0..MAX_STEPS {
        // The report has the same clock, so that nothing becomes due between the two without being planned.
        let now = Timestamp::now();
        let step = match next_step(&session.observed, &context.policy, now) {
            Plan::Step(Step::Rename) if session.observed.has_unpersisted_changes => {
                // Readiness does not wait for the name.
                session.leave_queues(context);
                let conclusion = Conclusion { state: ReconcileState::UpToDate, requeue: Requeue::WhenDue };
                let completed = finish(context, session, &conclusion, now).await?;
                return Ok(Completed { requeue_after: Duration::ZERO, ..completed });
            }
            Plan::Step(step) => step,
            Plan::Done(_) if was_interrupted(context, &session.observed) => {
                tracing::info!("the process is shutting down, or the lease expires too soon");
                return Ok(interrupted(context));
            }
            Plan::Done(conclusion) => {
                // The rest needs only the Kubernetes API.
                session.leave_queues(context);
                return finish(context, session, &conclusion, now).await;
            }
        };
        if context.stop.is_cancelled() {
            tracing::info!(?step, "step not started: the process is shutting down");
            return Ok(interrupted(context));
        }
        if !leads_long_enough(context) {
            tracing::info!(?step, "step not started: the lease expires too soon");
            return Ok(interrupted(context));
        }
        if step.needs_secret() && session.secret.is_none() && session.observed.usable_source().is_some() {
            if !read_secret(context, session).await? {
                return Ok(Completed::new(Outcome::ObjectDeleted, context.policy.timing.resync));
            }
            continue;
        }
        persist_changes(context, session).await?;
        tracing::debug!(?step, "step");
        session.priority = priority(&session.observed, &step, Timestamp::now());
        let ended = apply::execute(context, session, &step).await;
        match ended.map_err(|error| session.wait_after_throttling(error)) {
            Ok(StepOutcome::Done) => {}
            Ok(StepOutcome::Requeue) => {
                let own = NamespacedName::of(&session.observed.object);
                context.requeuer.credential(&own);
                return Ok(Completed::new(Outcome::Requeued, context.policy.timing.resync));
            }
            Err(error) => record_failure(&mut session.observed, error)?,
        }
    }
    Err(ReconcileError::StepLimit)
}

/// Reads the Secret for a step that sends it; it was skipped because nothing had changed. Returns whether the object
/// still exists.
async fn read_secret(context: &Context, session: &mut Session) -> Result<bool> {
    let own = NamespacedName::of(&session.observed.object);
    let Some(read) = observe::observe(context, &own, ReadScope::Secret).await? else { return Ok(false) };
    let mut before = std::mem::replace(session, read);
    let (observed, account_changed) = (&mut session.observed, before.observed.account_changed);
    observed.account_changed |= account_changed;
    let (failure, verification) = (observed.results.failure.take(), observed.results.verification.take());
    // Microsoft's result for one secret does not apply to another one.
    let fingerprint = |observed: &Observed| observed.usable_source().map(|source| source.fingerprint.clone());
    let is_same_secret = fingerprint(&before.observed) == fingerprint(observed);
    keep_reading(&mut before.observed, observed);
    let results = before.observed.results;
    let verification = results.verification.filter(|_| is_same_secret).or(verification);
    observed.results = StepResults { failure: results.failure.or(failure), verification, ..results };
    (session.permit, session.queued_in) = (before.permit, before.queued_in);
    // If it cannot be read, planning handles that.
    Ok(session.secret.is_some() || session.observed.usable_source().is_none())
}

/// A reading of the client secrets of the app in this reconcile still counts, if it was about the same status. Otherwise
/// the app is read again.
fn keep_reading(before: &mut Observed, observed: &mut Observed) {
    if before.results.rotation.entries.is_none() {
        return;
    }
    if before.written.rotation != observed.written.rotation {
        before.results.rotation.entries = None;
        return;
    }
    let record = observed.own_secrets.as_ref().map_or(&SecretRecord::NotRead, |own| &own.record);
    let read = before.status.rotation.take().map(|read| rotation::corrected(*read, record));
    observed.status.rotation = read.map(Box::new);
}

/// Persists what exists at the destination and is not in the status yet, and emits the events.
async fn persist_changes(context: &Context, session: &mut Session) -> Result<()> {
    if session.observed.has_unpersisted_changes {
        let status = session.observed.status.clone();
        persist_status(context, session, status).await?;
        let events = std::mem::take(&mut session.observed.results.events);
        emit(context, session, &events).await;
    }
    Ok(())
}

/// Writes a status that records something at the destination. If the object was deleted, what was created is rolled
/// back.
async fn persist_status(
    context: &Context,
    session: &mut Session,
    status: MicrosoftGraphCredentialStatus,
) -> Result<()> {
    // Once only: an error here ends this reconcile.
    session.observed.has_unpersisted_changes = false;
    let written = status_writer::persist_result(context, &mut session.observed, status).await;
    if let Err(ReconcileError::Deleted) = written
        && let Some(created) = session.created
    {
        apply::roll_back(context, session, created).await;
    }
    if let Some(Created::Credential(_)) = session.created.take()
        && written.is_ok()
    {
        // Its result is persisted.
        let uid = session.observed.object.metadata.uid.as_deref().unwrap_or_default();
        context.index.with(uid, |known| drop(std::mem::take(&mut known.create)));
    }
    written
}

/// Records a failure that lasts until someone fixes its cause. Any other error ends the reconcile.
fn record_failure(observed: &mut Observed, error: ReconcileError) -> Result<()> {
    let Some(failure) = error.as_status_failure() else { return Err(error) };
    if !matches!(error, ReconcileError::Step(_)) {
        tracing::warn!(error = chain(&error), "a step at the store failed");
    }
    observed.results.failure = Some(failure);
    Ok(())
}

/// Whether a step got no slot because of shutdown or lost leadership, which is not reported.
fn was_interrupted(context: &Context, observed: &Observed) -> bool {
    let kind = observed.results.failure.as_ref().map(|failure| &failure.kind);
    let is_ending = context.stop.is_cancelled() || !leads_long_enough(context);
    match kind {
        Some(FailureKind::Queued(QueueError::Ending)) => true,
        Some(FailureKind::Queued(_)) => is_ending,
        _ => false,
    }
}

fn leads_long_enough(context: &Context) -> bool {
    context.leadership.has_remaining(context.policy.timing.longest_call())
}

/// A lease that was renewed late is renewed soon, or the process exits.
fn interrupted(context: &Context) -> Completed {
    Completed::new(Outcome::Interrupted, context.policy.timing.lease_retry)
}

/// Releases claims at accounts where the object neither has nor is about to have a registration, and requeues the
/// objects that wait for them.
fn release_claims(context: &Context, session: &Session) {
    let (object, status) = (&session.observed.object, &session.observed.status);
    let registrations = status.registration.iter().chain(&status.previous_registrations);
    let locations = registrations
        .filter_map(Registration::location)
        .chain(status.pending_create.iter().map(|pending| pending.location()));
    let accounts: Vec<_> =
        locations.filter_map(|location| context.accounts.identity(&location.account)).collect();
    let uid = object.metadata.uid.as_deref().unwrap_or_default();
    let kept = context.index.retain_claims(uid, |claim| accounts.contains(&claim.account));
    context.requeuer.apply::<MicrosoftGraphCredential>(kept);
}

/// Writes the status if it changed, and emits events.
async fn finish(
    context: &Context,
    session: &mut Session,
    conclusion: &Conclusion,
    now: Timestamp,
) -> Result<Completed> {
    let outcome = match conclusion.state {
        ReconcileState::UpToDate => Outcome::Success,
        ReconcileState::Waiting
        | ReconcileState::Deferred
        | ReconcileState::Settling
        | ReconcileState::Suspended
        | ReconcileState::Deleted => Outcome::Waiting,
        ReconcileState::SourceUnusable
        | ReconcileState::NotVerified(_)
        | ReconcileState::AwaitingExpiry
        | ReconcileState::Blocked(_)
        | ReconcileState::Failed(_) => Outcome::NotMet,
    };
    if conclusion.state == ReconcileState::Deleted {
        return Ok(Completed::new(outcome, context.policy.timing.resync));
    }
    let observed = &mut session.observed;
    if let Some(left) = unreported_wait(context, observed, conclusion) {
        return Ok(Completed::new(outcome, left));
    }
    let Report { mut status, events, requeue_after } = report(observed, conclusion, &context.policy, now);
    let before = find(&observed.status.conditions, ConditionType::Ready).cloned();
    let ready = find(&status.conditions, ConditionType::Ready).cloned();
    let has_notice = events.iter().any(|event| event.action == expiry::ACTION);
    if has_notice && observed.has_unpersisted_changes {
        // Persisting what exists at the destination does not wait for an event.
        let fact = observed.status.clone();
        persist_status(context, session, fact).await?;
    }
    let observed = &mut session.observed;
    let (events, is_published) =
        context.events.publish_notice(&observed.object.object_ref(&()), events).await;
    if !is_published {
        status.expiry_notice_days = observed.status.expiry_notice_days;
    }
    if status != observed.written {
        if observed.has_unpersisted_changes {
            persist_status(context, session, status).await?;
        } else {
            status_writer::write_status(context, observed, status).await?;
        }
    }
    session.observed.results.events.clear();
    emit(context, session, &events).await;
    let is_ready = ready.as_ref().is_some_and(|ready| ready.status == ConditionStatus::True);
    record_readiness(context, &session.observed, before.as_ref(), is_ready);
    let generation = session.observed.object.metadata.generation;
    Ok(Completed::new(outcome, requeue_after).about(generation, ready.as_ref()))
}

/// How much longer a wait for a permit stays out of the status; `None` if the object does not wait, or has waited that
/// long. Most waits end before that, and cost no write.
fn unreported_wait(context: &Context, observed: &Observed, conclusion: &Conclusion) -> Option<Duration> {
    let uid = observed.object.metadata.uid.as_deref().unwrap_or_default();
    let is_queued = matches!(
        &conclusion.state,
        ReconcileState::Failed(Failure { kind: FailureKind::Queued(QueueError::Queued), .. })
    );
    if !is_queued {
        context.index.with(uid, |known| known.waiting = None);
        return None;
    }
    let issued =
        observed.results.verification.clone().filter(|it| matches!(it.result, TokenResult::Issued { .. }));
    let verified = observed.usable_source().map(|source| source.fingerprint.clone()).zip(issued);
    let waited =
        context.index.with(uid, |known| known.waiting.get_or_insert_default().keep_waiting(verified));
    let left = context.policy.timing.queue_notice.checked_sub(waited.unwrap_or_default())?;
    (!observed.has_unpersisted_changes && observed.results.events.is_empty()).then_some(left)
}

async fn emit(context: &Context, session: &Session, events: &[EventBody]) {
    let regarding = session.observed.object.object_ref(&());
    for event in events {
        context.events.emit(&regarding, event).await;
    }
}

/// Records a change of readiness.
fn record_readiness(context: &Context, observed: &Observed, before: Option<&Condition>, is_ready: bool) {
    let meta = &observed.object.metadata;
    let uid = meta.uid.as_deref().unwrap_or_default();
    let now = Timestamp::now();
    let created = meta.creation_timestamp.as_ref().map_or(now, |created| created.0);
    let took = context.index.with(uid, |known| known.record_readiness(created, before, is_ready, now));
    if let Some(took) = took.flatten() {
        context.metrics.credentials.became_ready(took);
    }
}
