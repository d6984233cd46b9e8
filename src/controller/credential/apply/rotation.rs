//! The steps of a rotation: reads, creates and removes client secrets of the app at Microsoft Entra.

mod create;
mod record;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::conditions::{Reason, whole_second};
use crate::api::{NamespacedName, Registration, RotationStatus, SecretHolder};
use crate::controller::context::Context;
use crate::controller::credential::apply::{StepOutcome, defer_event, emit_event, step_failed};
use crate::controller::credential::observe::Session;
use crate::controller::error::{ReconcileError, Result};
use crate::controller::identities::LiveAccess;
use crate::controller::status_writer;
use crate::core::error_chain::chain;
use crate::core::failure::{FailureKind, Operation, QueueError};
use crate::core::graph_error::GraphError;
use crate::core::graph_write::{WriteFailure, WriteRejection};
use crate::core::model::Observed;
use crate::core::plan::RotationStep;
use crate::core::rotation::failure::RotationFailure;
use crate::core::rotation::{self, find};
use crate::entra::identity::IdentitySnapshot;
use crate::graph::{AppWriteError, ReadTarget, Sharing, WriteError};

pub(super) use self::record::delete_record;

/// Executes a step of a rotation. A failure at Microsoft Graph or of the record is a result.
pub(super) async fn execute(
    context: &Context,
    session: &mut Session,
    step: &RotationStep,
) -> Result<StepOutcome> {
    let own = NamespacedName::of(&session.observed.object);
    let sends = matches!(step, RotationStep::Read | RotationStep::Create | RotationStep::Remove(_));
    let graph_slot = if sends { context.graph_slots.acquire(&own) } else { None };
    if sends && graph_slot.is_none() {
        session.observed.results.is_reading_deferred = true;
        return Ok(StepOutcome::Done);
    }
    match step {
        RotationStep::Read => read(context, session).await,
        RotationStep::Create => create::create(context, session).await,
        RotationStep::Confirm => record::confirm(context, session).await,
        RotationStep::DiscardPending => record::discard_pending(context, session).await,
        RotationStep::Release => release(context, session).await,
        RotationStep::Resend => resend(context, session).await,
        RotationStep::Remove(key_id) => remove(context, session, key_id).await,
    }
}

/// Reads all client secrets of the app, and what they mean for the status.
async fn read(context: &Context, session: &mut Session) -> Result<StepOutcome> {
    let Some(identity) = granted(context, session).await? else { return Ok(StepOutcome::Done) };
    read_with(context, session, &identity).await
}

async fn read_with(
    context: &Context,
    session: &mut Session,
    identity: &IdentitySnapshot,
) -> Result<StepOutcome> {
    let observed = &mut session.observed;
    let spec = &observed.object.spec;
    let target = ReadTarget {
        tenant: spec.tenant_id.clone(),
        client: spec.client_id.clone(),
        holder: SecretHolder::Application,
    };
    // The daily reading of the app is the same request. Anything else depends on what Entra shows now.
    let newer_than = observed.rotation().and_then(|it| it.last_read_time.as_ref()).map(|at| at.0);
    let sharing = match &observed.results.reading {
        Some(reading) if reading.result.is_ok() => Sharing::Recent { newer_than },
        _ => Sharing::Later,
    };
    let read = context.identities.reader.read(identity, &target, sharing).await;
    let (entries, is_limited_to_two) =
        match read.as_ref().map(|it| (it.secrets.clone(), it.is_limited_to_two)) {
            Ok((Some(entries), is_limited)) => (entries, is_limited),
            Ok((None, _)) => {
                let not_found = crate::core::app_reading::ReadingFailure::Graph(GraphError::NotFound);
                let failure = RotationFailure::of_reading(&observed.object, &not_found, None);
                observed.results.rotation.failure = Some(failure);
                return Ok(StepOutcome::Done);
            }
            Err(error) => {
                tracing::warn!(error = chain(error), "the client secrets of the app could not be read");
                let Some((failure, retry_after)) = super::expiry::reading_failure(error) else {
                    return Err(step_failed(Operation::List, FailureKind::Queued(QueueError::Ending), None));
                };
                let failure = RotationFailure::of_reading(&observed.object, &failure, retry_after);
                observed.results.rotation.failure = Some(failure);
                return Ok(StepOutcome::Done);
            }
        };
    let uid = observed.object.metadata.uid.clone().unwrap_or_default();
    let before = observed.rotation().cloned().unwrap_or_default();
    let mut next = rotation::after_reading(&before, &entries, &uid, &context.policy.timing, Timestamp::now());
    next.blocking_secrets = rotation::blocking_secrets(&next, &entries, is_limited_to_two);
    let found =
        next.unknown_secrets.iter().filter(|it| before.unknown_secrets.iter().all(|known| known != *it));
    for unknown in found {
        tracing::warn!(
            key_id = unknown.key_id,
            "the app has a client secret of this object that nothing records"
        );
    }
    observed.status.rotation = Some(Box::new(next));
    observed.results.rotation.entries = Some(entries);
    Ok(StepOutcome::Done)
}

/// The identity, if a grant of now allows to change the app.
async fn granted(context: &Context, session: &mut Session) -> Result<Option<IdentitySnapshot>> {
    let uid = session.observed.object.metadata.uid.as_deref().unwrap_or_default();
    context.index.with(uid, |known| known.is_reading_requested = false);
    match context.identities.read_access(context, &session.observed.object).await {
        Ok(LiveAccess::Granted(identity)) => Ok(Some(identity)),
        Ok(LiveAccess::Denied(access)) => {
            session.observed.app_access = Some(access);
            Ok(None)
        }
        Err(error) => identity_failed(&mut session.observed, error).map(|_| None),
    }
}

/// Notes that the identity could not be read or protected, which delays a rotation and nothing else.
fn identity_failed(observed: &mut Observed, error: ReconcileError) -> Result<StepOutcome> {
    let (ReconcileError::ReadIdentity(source) | ReconcileError::WriteFinalizer(source)) = &error else {
        return Err(error);
    };
    let is_rejected =
        matches!(source, kube::Error::Api(status) if (400..500).contains(&status.code) && status.code != 429);
    tracing::warn!(error = chain(&error), "the identity cannot be used for a rotation");
    let message = "the operator could not read the EntraIdentity, or set its finalizer";
    observed.results.rotation.failure = Some(if is_rejected {
        let advice = "grant the operator get, list, watch and patch on entraidentities in its namespace, and check admission policies and webhooks";
        RotationFailure::lasting(
            Reason::IdentityNotReady,
            format!("{message}, because the API server rejected it: {advice}"),
        )
    } else {
        let message = format!("{message}; the operator retries automatically");
        RotationFailure::temporary(Reason::IdentityNotReady, message, None)
    });
    Ok(StepOutcome::Done)
}

/// Removes a client secret that this object created. Its entry must bear the name that was recorded, so that no other one
/// is ever removed.
async fn remove(context: &Context, session: &mut Session, key_id: &str) -> Result<StepOutcome> {
    let Some(identity) = granted(context, session).await? else { return Ok(StepOutcome::Done) };
    if session.observed.results.rotation.entries.is_none() {
        read_with(context, session, &identity).await?;
    }
    let observed = &mut session.observed;
    let Some(entries) = observed.results.rotation.entries.as_deref() else { return Ok(StepOutcome::Done) };
    let rotation = observed.rotation().cloned().unwrap_or_default();
    let name = recorded_name(&rotation, key_id);
    let shown = find(entries, key_id);
    let is_own = shown.is_none_or(|shown| match (&name, shown.display_name.as_deref()) {
        (Some(name), Some(shown)) => shown == name && rotation::is_of_operator(shown),
        (None, Some(shown)) => is_unknown(observed, &rotation, key_id, shown),
        (_, None) => false,
    });
    if !is_own {
        tracing::error!(
            key_id,
            "a client secret is not removed, because its name at Entra is not the recorded one"
        );
        let text = format!(
            "client secret {key_id} is not removed, because its description at Entra is not the one with which it was created: remove it in the Entra admin center if it is not used"
        );
        observed.results.rotation.failure = Some(RotationFailure::lasting(Reason::WriteRejected, text));
        return Ok(StepOutcome::Done);
    }
    status_writer::confirm_unchanged(context, observed).await?;
    let spec = &observed.object.spec;
    let removed = context.identities.writer.remove(&identity, &spec.tenant_id, &spec.client_id, key_id).await;
    let is_absent = shown.is_none();
    match removed {
        Ok(()) => {}
        // An entry that was created a moment ago may be hidden: its absence counts after some time.
        Err(error) if is_absent && is_key_not_found(&error) && is_old(context, &rotation, key_id) => {}
        Err(error) => return write_failed(observed, &error),
    }
    tracing::info!(key_id, "a client secret was removed at Entra");
    let next = after_removal(&rotation, key_id, Timestamp::now());
    let mut status = observed.status.clone();
    status.rotation = Some(Box::new(next));
    status_writer::persist_result(context, observed, status).await?;
    emit_event(
        context,
        observed,
        "SecretRemoved",
        format!("client secret {key_id} was removed at Microsoft Entra"),
    )
    .await;
    Ok(StepOutcome::Done)
}

/// Whether the client secret has been to be removed for longer than readings lag.
fn is_old(context: &Context, rotation: &RotationStatus, key_id: &str) -> bool {
    let earlier = rotation.earlier.iter().find(|it| it.key_id == key_id);
    let since = earlier.and_then(|it| it.remove_after_time.as_ref());
    since.is_some_and(|since| since.0 + context.policy.timing.secret_lookup <= Timestamp::now())
}

/// The name with which a client secret was created, if it is recorded.
fn recorded_name(rotation: &RotationStatus, key_id: &str) -> Option<String> {
    rotation.earlier.iter().find(|it| it.key_id == key_id).map(|it| it.display_name.clone())
}

/// Whether it is a client secret of this object that nothing records, as an earlier reading found too.
fn is_unknown(observed: &Observed, rotation: &RotationStatus, key_id: &str, shown: &str) -> bool {
    let written = observed.written.rotation.as_deref();
    let is_listed = |status: &RotationStatus| status.unknown_secrets.iter().any(|it| it.key_id == key_id);
    rotation::is_of_operator(shown) && is_listed(rotation) && written.is_some_and(is_listed)
}

fn after_removal(rotation: &RotationStatus, key_id: &str, now: Timestamp) -> RotationStatus {
    let mut next = rotation.clone();
    for removed in next.earlier.iter_mut().filter(|it| it.key_id == key_id) {
        removed.removal_time = Some(Time(whole_second(now)));
    }
    next.unknown_secrets.retain(|it| it.key_id != key_id);
    (next.failure_reason, next.next_attempt_time, next.consecutive_failures) = (None, None, None);
    next
}

fn is_key_not_found(error: &AppWriteError) -> bool {
    let not_found = WriteFailure::NotApplied(WriteRejection::KeyNotFound);
    matches!(error, AppWriteError::Write(WriteError::Graph { failure, .. }) if *failure == not_found)
}

/// Notes why a write failed. If nothing was sent because this replica may lose the lease, the reconcile ends.
fn write_failed(observed: &mut Observed, error: &AppWriteError) -> Result<StepOutcome> {
    tracing::warn!(error = chain(error), "a client secret could not be created or removed");
    let (object, retry_after) = (&observed.object, error.retry_after());
    let failure = match error {
        AppWriteError::Write(WriteError::NotLeading(_)) => {
            return Err(step_failed(Operation::List, FailureKind::Queued(QueueError::Ending), None));
        }
        AppWriteError::Token(error) => RotationFailure::of_token(object, !error.is_lasting(), retry_after),
        AppWriteError::TooSoon { .. } => {
            let concurrent = WriteFailure::NotApplied(WriteRejection::Concurrent);
            RotationFailure::of_write(object, concurrent, retry_after)
        }
        AppWriteError::Write(WriteError::Graph { failure, .. }) => {
            RotationFailure::of_write(object, *failure, retry_after)
        }
    };
    observed.results.rotation.failure = Some(failure);
    Ok(StepOutcome::Done)
}

/// Persists that it is not known which client secret the registration has, so that the one in use is sent again.
async fn resend(context: &Context, session: &mut Session) -> Result<StepOutcome> {
    let observed = &mut session.observed;
    let mut status = observed.status.clone();
    if let Some(registration) = &mut status.registration {
        Registration::UNKNOWN.clone_into(&mut registration.fingerprint);
    }
    status_writer::persist_result(context, observed, status).await?;
    Ok(StepOutcome::Requeue)
}

/// Persists that nothing uses the client secrets of a deleted object now: its registration was deleted, or there was
/// none.
async fn release(context: &Context, session: &mut Session) -> Result<StepOutcome> {
    let observed = &mut session.observed;
    let mut status = observed.status.clone();
    if observed.results.is_deletion_done {
        let deleted = status.registration.take();
        (status.credential_id, status.expires_at) = (None, None);
        if let Some(deleted) = deleted {
            let text = format!("credential {} was deleted at Woodpecker", deleted.credential_id);
            emit_event(context, observed, "Deleted", text).await;
        }
    }
    let rotation = status.rotation.as_deref().cloned().unwrap_or_default();
    status.rotation = Some(Box::new(rotation::after_deletion(&rotation, Timestamp::now())));
    status_writer::persist_result(context, observed, status).await?;
    Ok(StepOutcome::Done)
}

/// The client secrets of the object that stay at Entra after its deletion, in words.
pub(super) fn remaining(observed: &Observed) -> Option<String> {
    let rotation = observed.rotation()?;
    let created = [&rotation.current, &rotation.pending].into_iter().flatten();
    let created = created.map(|it| format!("{} (expires at {})", it.key_id, it.expires_at.0));
    let earlier = rotation.earlier.iter().filter(|it| it.removal_time.is_none());
    let earlier = earlier.map(|it| format!("{} (expires at {})", it.key_id, it.expires_at.0));
    let attempts = rotation.attempt.iter().chain(&rotation.earlier_attempts);
    let attempts = attempts.map(|it| format!("one named {}, if it was created", it.display_name));
    let unknown = rotation.unknown_secrets.iter().map(|it| format!("{}, which nothing records", it.key_id));
    let all: Vec<String> = created.chain(earlier).chain(attempts).chain(unknown).collect();
    let client = &observed.object.spec.client_id;
    (!all.is_empty())
        .then(|| format!("client secrets of app {client} stay at Microsoft Entra: {}", all.join(", ")))
}

/// An event for what was created, emitted once the status is written.
fn announce(observed: &mut Observed, key_id: &str) {
    let text = format!("client secret {key_id} was created at Microsoft Entra");
    defer_event(observed, "SecretCreated", text);
}
