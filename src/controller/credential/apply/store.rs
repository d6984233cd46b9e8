//! Writes the secret, encrypted, to the object's record. A write whose response is lost ends the reconcile; the next
//! one reads the result.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{Resource, ResourceExt};

use crate::api::conditions::whole_second;
use crate::api::{Registration, SealedGraphCredential, SealedGraphCredentialSpec};
use crate::controller::context::Context;
use crate::controller::credential::apply::{StepOutcome, defer_event};
use crate::controller::credential::observe::{
    Created, Session, evaluate_record, read_record, record_version,
};
use crate::controller::error::{ReconcileError, Result};
use crate::controller::orphans;
use crate::controller::record::owner;
use crate::controller::status_writer;
use crate::core::event::EventBody;
use crate::core::model::{Content, Observed, Record, Source, registration};
use crate::core::orphan::OrphanCause;
use crate::secret_text::SecretText;
use crate::store::envelope::{AssociatedData, generate_record_id};
use crate::store::record::{self, generate_credential_id, record_name};
use crate::store::repository::Change;
use crate::telemetry::metrics::Drift;

/// Encrypts the secret into the object's record: a new one, or the one that was read or that the status names. The
/// status is written at the end of the reconcile.
pub(super) async fn encrypt(context: &Context, session: &mut Session) -> Result<StepOutcome> {
    let Some(secret) = session.secret.clone() else { return Ok(StepOutcome::Done) };
    let Source::Usable(source) = &session.observed.source else { return Ok(StepOutcome::Done) };
    let Some(expires_at) = source.expires_at else { return Ok(StepOutcome::Done) };
    let expires_at = Time(whole_second(expires_at));
    let is_new = matches!(session.observed.record, Some(Record::Missing | Record::NotRead));
    let written = if is_new || session.record.is_some() {
        write(context, session, &secret, expires_at).await
    } else {
        change(context, session, &secret, expires_at).await
    };
    let written = match written {
        Ok(written) => written,
        Err(ReconcileError::Conflict) => {
            // The record exists already or has changed: plan with what it is now.
            let (record, live) = read_record(context, &session.observed.object, Some(&secret)).await?;
            session.observed.record_version = live.as_ref().and_then(record_version);
            (session.observed.record, session.record) = (Some(record), live);
            return Ok(StepOutcome::Done);
        }
        Err(error) => return Err(error),
    };
    context.records.on_written(&written);
    let event = event_for(&session.observed, !is_new, &written);
    let (record, id) = (written.name_any(), written.spec.credential_id);
    if event.is_warning {
        tracing::warn!(
            record,
            id,
            reason = event.reason,
            "the record was encrypted again, because it was changed or deleted externally"
        );
    } else {
        tracing::debug!(record, id, "the secret was encrypted");
    }
    match event.reason {
        "DeletedRemotely" => context.metrics.credentials.drifted(Drift::Deleted),
        "Reencrypted" => context.metrics.credentials.drifted(Drift::Modified),
        _ => {}
    }
    let object = &session.observed.object;
    session.observed.record = Some(evaluate_record(&written, object, Some(&secret), &context.keyring.get()));
    session.observed.record_version = record_version(&written);
    session.observed.results.encrypted = true;
    session.observed.results.events.push(event);
    session.record = Some(written);
    session.created = is_new.then_some(Created::Record);
    set_registration_from_record(&mut session.observed);
    Ok(StepOutcome::Done)
}

/// Replaces the record that was read, or creates it. Its name is unique; its ids are random.
async fn write(
    context: &Context,
    session: &Session,
    secret: &SecretText,
    expires_at: Time,
) -> Result<SealedGraphCredential> {
    let observed = &session.observed;
    let object = &observed.object;
    let mut record = match &session.record {
        Some(live) => live.clone(),
        None => new_record(observed, expires_at.clone())?,
    };
    record.spec.secret_expires_at = expires_at;
    record.spec.name = observed.desired_record_name();
    owner::set_owner_uid(&mut record, object.metadata.uid.as_deref().unwrap_or_default());
    Ok(context.repository().seal(record, secret).await?)
}

/// A new record, without an owner reference, because the deletion policy decides how long it stays.
fn new_record(observed: &Observed, expires_at: Time) -> Result<SealedGraphCredential> {
    let object = &observed.object;
    let known = observed.status.registration.as_ref().map(|registration| registration.credential_id);
    let spec = SealedGraphCredentialSpec {
        record_id: generate_record_id()?,
        credential_id: known.map_or_else(generate_credential_id, Ok)?,
        tenant_id: object.spec.tenant_id.clone(),
        client_id: object.spec.client_id.clone(),
        cloud: object.spec.cloud,
        secret_expires_at: expires_at,
        name: observed.desired_record_name(),
        envelope: String::new(),
        created_secret: None,
        pending_secret: None,
    };
    Ok(record::new(object.namespace_name(), record_name(object), spec))
}

/// Changes the record that the status names, without reading it. The API server rejects the write if it is another one.
async fn change(
    context: &Context,
    session: &Session,
    secret: &SecretText,
    expires_at: Time,
) -> Result<SealedGraphCredential> {
    let observed = &session.observed;
    let Some(recorded) = &observed.status.observed_record else { return Err(ReconcileError::Conflict) };
    // With an invalid id, the record is read instead.
    let Ok(record_id) = recorded.record_id.parse() else { return Err(ReconcileError::Conflict) };
    let Some(sealed) = observed.sealed_record() else { return Err(ReconcileError::Conflict) };
    let object = &observed.object;
    let record = AssociatedData {
        namespace: object.namespace_name(),
        record_id: &record_id,
        tenant: &object.spec.tenant_id,
        client: &object.spec.client_id,
        cloud: object.spec.cloud(),
        credential_id: sealed.credential_id,
        expires_at: expires_at.0,
        name: &observed.desired_record_name(),
    };
    let change = Change { uid: &recorded.uid, generation: recorded.generation, record };
    Ok(context.repository().change(&record_name(object), change, secret).await?)
}

/// The event for a record that was written.
fn event_for(observed: &Observed, existed: bool, written: &SealedGraphCredential) -> EventBody {
    let (name, id) = (written.name_any(), written.spec.credential_id);
    let has_new_secret = observed.usable_source().is_some_and(|source| !source.is_registered);
    let (is_warning, reason, text) = match (&observed.status.registration, existed) {
        (None, false) => {
            (false, "Registered", format!("credential {id} is stored in SealedGraphCredential {name}"))
        }
        (None, true) => {
            (false, "Adopted", format!("SealedGraphCredential {name} was adopted as credential {id}"))
        }
        (Some(_), false) => (
            true,
            "DeletedRemotely",
            format!(
                "SealedGraphCredential {name} was deleted externally and has been re-created as credential {id}"
            ),
        ),
        (Some(_), true) if has_new_secret => (
            false,
            "Updated",
            format!("SealedGraphCredential {name} holds the new secret for credential {id}"),
        ),
        (Some(_), true)
            if observed.sealed_record().is_some_and(|sealed| sealed.content == Content::Unreadable) =>
        {
            (
                true,
                "Reencrypted",
                format!(
                    "SealedGraphCredential {name} could not be decrypted, because it was changed or its key is lost, and was encrypted again from the Secret"
                ),
            )
        }
        (Some(_), true) => {
            (false, "Reencrypted", format!("SealedGraphCredential {name} matches its object again"))
        }
    };
    EventBody { is_warning, reason, action: "Reconcile", text, request_ids: String::new() }
}

/// Records an existing record as the registration: an earlier object or an interrupted reconcile left it, or it was
/// restored from a backup.
pub(super) fn persist_existing(session: &mut Session) -> StepOutcome {
    let observed = &mut session.observed;
    if let (None, Some(sealed)) = (&observed.status.registration, observed.sealed_record()) {
        let name = record_name(&observed.object);
        let text = format!("SealedGraphCredential {name} was adopted as credential {}", sealed.credential_id);
        defer_event(observed, "Adopted", text);
    }
    set_registration_from_record(observed);
    StepOutcome::Done
}

/// Sets the registration in the status to what the record holds.
fn set_registration_from_record(observed: &mut Observed) {
    let Some(sealed) = observed.sealed_record().cloned() else { return };
    let Source::Usable(source) = &mut observed.source else { return };
    let is_the_same = source.is_registered;
    source.is_registered = true;
    let fingerprint = source.fingerprint.clone();
    let before = observed.status.registration.take();
    let since = before.as_ref().filter(|_| is_the_same).map(|before| before.registration_time.clone());
    let registration = Registration {
        fingerprint,
        unknown: before.map(|before| before.unknown).unwrap_or_default(),
        ..registration::in_record(&sealed, record_name(&observed.object), since, Timestamp::now())
    };
    let status = &mut observed.status;
    status.credential_id = Some(sealed.credential_id);
    status.expires_at = Some(Time(sealed.expires_at));
    status.registration = Some(registration);
    status.pending_secret = None;
    observed.has_unpersisted_changes |= observed.status != observed.written;
}

/// Deletes the object's record, as it was read at the start of the reconcile. A record of another app is left.
pub(super) async fn delete(context: &Context, session: &mut Session) -> Result<StepOutcome> {
    context.leadership.check_write()?;
    if session.observed.record.is_none() {
        // A failed read does not count as a deletion: read again, and plan with the result.
        let (record, live) = read_record(context, &session.observed.object, None).await?;
        (session.observed.record, session.record) = (Some(record), live);
        return Ok(StepOutcome::Done);
    }
    let observed = &mut session.observed;
    if let (Some(live), true) = (&session.record, observed.sealed_record().is_some()) {
        status_writer::confirm_unchanged(context, observed).await?;
        owner::remove(&context.client, observed.object.namespace_name(), &live.metadata).await?;
        tracing::info!(record = live.name_any(), id = live.spec.credential_id, "the record was deleted");
    }
    observed.results.is_deletion_done = true;
    Ok(StepOutcome::Done)
}

/// Deletes the record that was just created for an object that has been deleted, whatever its policy, because nothing
/// else shows its owner. If that fails, reports it.
pub(super) async fn roll_back(context: &Context, session: &Session) {
    let object = &session.observed.object;
    let Some(live) = &session.record else { return };
    let may = context.leadership.check_write().is_ok()
        && status_writer::is_deleted(context, &session.observed).await;
    let removed =
        may && owner::remove(&context.client, object.namespace_name(), &live.metadata).await.is_ok();
    if removed {
        tracing::warn!(
            record = live.name_any(),
            "the object was deleted while its secret was encrypted; the record was deleted again"
        );
        return;
    }
    let (name, cause) = (live.name_any(), OrphanCause::ObjectDeleted);
    let text = format!(
        "SealedGraphCredential {name} is left, because {cause}: delete it with kubectl delete sgc {name}"
    );
    let regarding = session.observed.object.object_ref(&());
    orphans::log(&regarding, cause, &text);
    orphans::publish(context, &regarding, cause, text).await;
}
