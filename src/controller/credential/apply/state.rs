//! Changes of the persisted registration state, without a change at the destination.

use jiff::Timestamp;
use kube::Resource;

use crate::api::{DeletionPolicy, MAX_NAME_LENGTH, MicrosoftGraphCredentialStatus, Ownership, Registration};
use crate::controller::context::Context;
use crate::controller::credential::apply::delete::keep_secrets;
use crate::controller::credential::apply::{StepOutcome, emit_event, failed, verify_company_isolation};
use crate::controller::credential::observe::Session;
use crate::controller::error::Result;
use crate::controller::index::CredentialRef;
use crate::controller::status_writer;
use crate::core::characters::is_shown;
use crate::core::event::EventBody;
use crate::core::failure::Operation;
use crate::core::model::registration::{self, Recorded};
use crate::core::model::{Claim, Observed, Source, Target};
use crate::core::remote::{Entry, name_with_token, split_token};
use crate::telemetry::metrics::Drift;

/// Records what a create of unknown outcome has created. Its secret counts as unknown.
pub(super) async fn recover_created(
    context: &Context,
    session: &mut Session,
    id: i64,
) -> Result<StepOutcome> {
    let observed = &mut session.observed;
    let (Some(pending), Some(entry)) = (observed.status.pending_create.clone(), listed(observed, id)) else {
        return Ok(StepOutcome::Done);
    };
    let uid = observed.object.metadata.uid.as_deref().unwrap_or_default();
    if let Some(other) =
        context.index.other_owner(uid, CredentialRef::of(&observed.object, &pending.location(), id))
    {
        tracing::error!(id, %other, "another object has registered what this object's create has created; it is left to that object");
        return clear_pending_create(context, session).await;
    }
    let name = known_name(entry.name)
        .unwrap_or_else(|| name_with_token(&observed.object.remote_name(), &pending.idempotency_token));
    let source = observed.usable_source().and_then(|source| source.expires_at);
    let expires_at = source.or(entry.expires_at).unwrap_or(pending.start_time.0);
    let location = pending.location();
    let registration = Registration {
        idempotency_token: Some(pending.idempotency_token),
        ..registration::at(location, id, name, expires_at, Timestamp::now())
    };
    let fact = with_registration(observed, registration);
    status_writer::persist_result(context, observed, fact).await?;
    tracing::info!(id, "a create without a response has created this credential");
    emit_event(
        context,
        observed,
        "Recovered",
        format!("a create without a response has created credential {id}"),
    )
    .await;
    Ok(StepOutcome::Requeue)
}

/// Records that the create of unknown outcome has created nothing.
pub(super) async fn clear_pending_create(context: &Context, session: &mut Session) -> Result<StepOutcome> {
    let observed = &mut session.observed;
    let mut without = observed.status.clone();
    without.pending_create = None;
    status_writer::write_status(context, observed, without).await?;
    Ok(StepOutcome::Requeue)
}

/// Records an existing credential as adopted. The secret follows as an update.
pub(super) async fn adopt(context: &Context, session: &mut Session, id: i64) -> Result<StepOutcome> {
    let Some(account) = session.account.clone() else { return Ok(StepOutcome::Done) };
    let slot = session.acquire_slot(&account).await;
    let slot = slot.map_err(|error| failed(context, &session.observed, Operation::List, &error))?;
    verify_company_isolation(context, &session.observed, &account, &slot).await?;
    drop(slot);
    if !take_claim(context, session) {
        return Ok(StepOutcome::Done);
    }
    let observed = &mut session.observed;
    let uid = observed.object.metadata.uid.as_deref().unwrap_or_default();
    let (Target::Ready(target), Source::Usable(source), Some(entry)) =
        (&observed.target, &observed.source, listed(observed, id))
    else {
        return Ok(StepOutcome::Done);
    };
    let holder = context.index.other_owner(uid, CredentialRef::of(&observed.object, &target.location, id));
    if let Some(other) = holder.or_else(|| context.index.other_creator(uid, &entry)) {
        observed.claim = Claim::Conflict(other.to_string());
        return Ok(StepOutcome::Done);
    }
    let Some(expires_at) = entry.expires_at.or(source.expires_at) else { return Ok(StepOutcome::Done) };
    let name = known_name(entry.name).unwrap_or_default();
    let registration = Registration {
        ownership: Ownership::Adopted,
        ..registration::at(target.location.clone(), id, name, expires_at, Timestamp::now())
    };
    let text = describe_adoption(observed, &registration);
    let intent = with_registration(observed, registration);
    status_writer::write_status(context, observed, intent).await?;
    tracing::info!(id, "adopted an existing credential");
    emit_event(context, observed, "Adopted", text).await;
    Ok(StepOutcome::Requeue)
}

/// Describes the adoption, and what it means for a deletion. An object that was restored without its status adopts what
/// it created before.
fn describe_adoption(observed: &Observed, registration: &Registration) -> String {
    let id = registration.credential_id;
    let creator = if split_token(&registration.name).is_some() {
        format!(", which an operator created as {}", registration.name)
    } else {
        String::new()
    };
    let is_left = observed.object.spec.deletion_policy() == DeletionPolicy::Delete
        && !observed.may_delete(registration);
    let consequence = if is_left {
        "; deletionPolicy Delete leaves it, unless adoption.takeOwnership is true. If this object had created it and lost \
         its status, restore the status or set takeOwnership"
    } else {
        ""
    };
    format!("existing credential {id} was adopted{creator}{consequence}")
}

/// Records that the registration was deleted remotely. It is then re-created.
pub(super) async fn clear_registration(context: &Context, session: &mut Session) -> Result<StepOutcome> {
    let observed = &mut session.observed;
    let Some(deleted) = observed.status.registration.clone() else { return Ok(StepOutcome::Done) };
    let mut without = observed.status.clone();
    without.registration = None;
    without.credential_id = None;
    without.expires_at = None;
    status_writer::write_status(context, observed, without).await?;
    let id = deleted.credential_id;
    context.metrics.credentials.drifted(Drift::Deleted);
    tracing::warn!(id, "the credential was deleted at Woodpecker and is registered again");
    let text = format!("credential {id} was deleted externally at Woodpecker and is registered again");
    let event = EventBody {
        is_warning: true,
        reason: "DeletedRemotely",
        action: "Reconcile",
        text,
        request_ids: String::new(),
    };
    context.events.emit(&observed.object.object_ref(&()), &event).await;
    Ok(StepOutcome::Requeue)
}

/// A name in a listing, for the status: `None` if it is empty, too long or has characters that cannot be shown. Such a name
/// counts as unknown.
fn known_name(name: String) -> Option<String> {
    let is_usable = (1..=MAX_NAME_LENGTH).contains(&name.chars().count()) && name.chars().all(is_shown);
    is_usable.then_some(name)
}

/// Takes the claim on the app at the account, because another reconcile may be about to register it.
pub(super) fn take_claim(context: &Context, session: &mut Session) -> bool {
    if let Some((key, candidate)) = session.candidate.clone() {
        session.observed.claim = context.index.hold_claim(key, &candidate);
    }
    session.observed.claim == Claim::Granted
}

/// The status with a new registration, see [`registration::record`].
pub(super) fn with_registration(
    observed: &Observed,
    registration: Registration,
) -> MicrosoftGraphCredentialStatus {
    let Recorded { mut status, abandoned } = registration::record(observed, registration);
    if let Some(abandoned) = abandoned {
        keep_secrets(&mut status, &abandoned);
        log_abandoned(&abandoned);
    }
    status
}

/// Forgets registrations that were still to be deleted, because the policy is now Retain.
pub(super) async fn abandon_previous(context: &Context, session: &mut Session) -> Result<StepOutcome> {
    let observed = &mut session.observed;
    let mut without = observed.status.clone();
    let left = std::mem::take(&mut without.previous_registrations);
    for left in &left {
        keep_secrets(&mut without, left);
    }
    status_writer::write_status(context, observed, without).await?;
    for earlier in &left {
        log_abandoned(earlier);
        let text = format!(
            "the earlier credential {} is left, because deletionPolicy is Retain",
            earlier.credential_id
        );
        emit_event(context, observed, "Retained", text).await;
    }
    Ok(StepOutcome::Requeue)
}

fn log_abandoned(earlier: &Registration) {
    let account = earlier.account.as_ref().map(ToString::to_string);
    tracing::info!(id = earlier.credential_id, account, "a previous registration is left at its account");
}

fn listed(observed: &Observed, id: i64) -> Option<Entry> {
    let listed = observed.results.listed.as_ref()?;
    listed.entries.iter().find(|entry| entry.id == id).cloned()
}
