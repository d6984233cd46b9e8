//! The record of an object that rotates its client secret.

use jiff::Timestamp;
use kube::ResourceExt;

use crate::api::conditions::Reason;
use crate::api::{CreatedSecret, Registration, SealedGraphCredential, SealedGraphCredentialSpec};
use crate::controller::context::Context;
use crate::controller::credential::apply::StepOutcome;
use crate::controller::credential::observe::{self, Session};
use crate::controller::error::{ReconcileError, Result};
use crate::controller::record::owner;
use crate::controller::status_writer;
use crate::core::model::Observed;
use crate::core::rotation::failure::RotationFailure;
use crate::core::rotation::{self, SecretRecord};
use crate::secret_text::SecretText;
use crate::store::envelope::{AssociatedData, Envelope, Secrets, generate_record_id};
use crate::store::record::{self, generate_credential_id, record_name};
use crate::store::repository::{RecordError, TRIES, conflict_backoff};

/// Finds out whether the client secret can be saved, before it is created.
pub(super) async fn check_writable(context: &Context, session: &Session) -> Result<(), RecordError> {
    let observed = &session.observed;
    let placeholder = SecretText::new("placeholder".to_owned());
    let changed = match live(context, observed).await? {
        Some(live) => live,
        None => new_record(observed)?,
    };
    context.repository().check_writable(changed, &placeholder).await
}

/// Saves a new client secret: beside the one in use, or in its place if that is lost.
pub(super) async fn save(
    context: &Context,
    session: &Session,
    created: &CreatedSecret,
    secret: &SecretText,
) -> Result<SealedGraphCredential, RecordError> {
    let (observed, repository) = (&session.observed, context.repository());
    for attempt in 0..TRIES {
        let found = live(context, observed).await?;
        let mut changed = match &found {
            Some(found) => found.clone(),
            None => new_record(observed)?,
        };
        owner::set_owner_uid(&mut changed, observed.object.metadata.uid.as_deref().unwrap_or_default());
        let in_use = in_use(context, observed, found.as_ref()).await?;
        let secrets = if let Some(current) = &in_use {
            changed.spec.pending_secret = Some(created.clone());
            Secrets { current, pending: Some(secret) }
        } else {
            set_current(&mut changed, created.clone());
            secret.into()
        };
        let written = match &found {
            Some(found) => repository.replace(found, changed, secrets).await,
            None => repository.create(changed, secrets).await,
        };
        match written {
            Err(RecordError::Conflict) => conflict_backoff(attempt).await,
            written => return written,
        }
    }
    Err(RecordError::Conflict)
}

/// The client secret in use in a record; `None` if there is none, or it can no longer be decrypted. A record with a pending
/// one has changed since it was read.
async fn in_use(
    context: &Context,
    observed: &Observed,
    found: Option<&SealedGraphCredential>,
) -> Result<Option<SecretText>, RecordError> {
    let Some(found) = found else { return Ok(None) };
    let keyring = match Envelope::from_base64(&found.spec.envelope) {
        Ok(envelope) => context.keyring.with_key(envelope.key_id()).await?,
        Err(_) => context.keyring.get(),
    };
    let evaluated = observe::evaluate_secrets(Some(found), &observed.object, observed.rotation(), &keyring);
    match evaluated.record {
        SecretRecord::Readable { pending: None, .. } => Ok(evaluated.secret),
        SecretRecord::Readable { .. } | SecretRecord::Foreign => Err(RecordError::Conflict),
        SecretRecord::NotRead | SecretRecord::Missing | SecretRecord::Unreadable { .. } => Ok(None),
    }
}

/// The record holds that client secret and no other one.
fn set_current(record: &mut SealedGraphCredential, current: CreatedSecret) {
    record.spec.secret_expires_at = current.expires_at.clone();
    record.spec.created_secret = Some(current);
    record.spec.pending_secret = None;
}

async fn live(context: &Context, observed: &Observed) -> Result<Option<SealedGraphCredential>, RecordError> {
    owner::read(&context.client, observed.object.namespace_name(), &record_name(&observed.object)).await
}

/// A new record, without an owner reference, because the deletion policy decides how long it stays.
fn new_record(observed: &Observed) -> Result<SealedGraphCredential, RecordError> {
    let object = &observed.object;
    let random = |error: getrandom::Error| RecordError::Seal(error.into());
    let spec = SealedGraphCredentialSpec {
        record_id: generate_record_id().map_err(random)?,
        credential_id: generate_credential_id().map_err(random)?,
        tenant_id: object.spec.tenant_id.clone(),
        client_id: object.spec.client_id.clone(),
        cloud: object.spec.cloud,
        secret_expires_at: k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::now()),
        name: observed.object.remote_name(),
        envelope: String::new(),
        created_secret: None,
        pending_secret: None,
    };
    Ok(record::new(object.namespace_name(), record_name(object), spec))
}

/// Persists that the client secret of the source is registered: first in the status, so that the earlier one is removed
/// later whatever happens, then in the record.
pub async fn confirm(context: &Context, session: &mut Session) -> Result<StepOutcome> {
    let observed = &mut session.observed;
    let before = observed.rotation().cloned().unwrap_or_default();
    let (now, overlap) = (Timestamp::now(), observed.object.overlap_of(&before));
    let next = if observed.rotates() {
        rotation::after_registration(&before, overlap, now)
    } else {
        rotation::after_switch(&before, overlap, now)
    };
    if !observed.rotates() {
        // First, because the status leads to another attempt.
        delete_record(context, session).await?;
    }
    let observed = &mut session.observed;
    if next != before || observed.has_unpersisted_changes {
        let mut status = observed.status.clone();
        status.rotation = Some(Box::new(next));
        status_writer::persist_result(context, observed, status).await?;
        observed.has_unpersisted_changes = false;
    }
    if !observed.rotates() {
        return Ok(StepOutcome::Requeue);
    }
    if observed.pending_in_record().is_some() {
        return rewrite(context, session, Keep::Pending).await;
    }
    Ok(StepOutcome::Done)
}

/// Gives up a pending client secret that is not accepted: the one in use stays.
pub async fn discard_pending(context: &Context, session: &mut Session) -> Result<StepOutcome> {
    let observed = &mut session.observed;
    let before = observed.rotation().cloned().unwrap_or_default();
    let key_id = before.pending.as_ref().map(|it| it.key_id.clone()).unwrap_or_default();
    tracing::warn!(key_id, "a new client secret is not accepted, and is removed");
    // Woodpecker may have got it with an update whose outcome is not known.
    let registration = observed.status.registration.as_ref();
    let may_be_registered = registration
        .is_some_and(|it| it.fingerprint == Registration::UNKNOWN || it.update_sent_time.is_some());
    let next = rotation::without_pending(&before, may_be_registered, Timestamp::now());
    let mut status = observed.status.clone();
    status.rotation = Some(Box::new(next));
    status.pending_secret = None;
    status_writer::persist_result(context, observed, status).await?;
    rewrite(context, session, Keep::Current).await
}

/// Which client secret of the record stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keep {
    Current,
    Pending,
}

/// Writes the record with one of its two client secrets. Another reconcile continues with it.
async fn rewrite(context: &Context, session: &mut Session, keep: Keep) -> Result<StepOutcome> {
    let Some(found) = session.record.clone() else { return Ok(StepOutcome::Requeue) };
    let Some(pending) = found.spec.pending_secret.clone() else { return Ok(StepOutcome::Requeue) };
    let envelope = Envelope::from_base64(&found.spec.envelope).map_err(RecordError::from)?;
    let keyring = context.keyring.with_key(envelope.key_id()).await.map_err(ReconcileError::LookUpKey)?;
    let opened = envelope.open_all(&keyring, AssociatedData::of(&found)).map_err(RecordError::from)?;
    let mut changed = found.clone();
    let secret = match (keep, opened) {
        (Keep::Pending, (_, Some(secret))) => {
            set_current(&mut changed, pending);
            secret
        }
        (Keep::Current | Keep::Pending, (secret, _)) => {
            changed.spec.pending_secret = None;
            secret
        }
    };
    let written = context.repository().replace(&found, changed, &secret).await?;
    context.records.on_written(&written);
    let observed = &mut session.observed;
    let keyring = context.keyring.get();
    let read = observe::evaluate_secrets(Some(&written), &observed.object, observed.rotation(), &keyring);
    if let Some(own) = &mut observed.own_secrets {
        (own.record, own.is_outdated) = (read.record, read.is_outdated);
    }
    observed.record_version = observe::record_version(&written);
    session.record = Some(written);
    Ok(if keep == Keep::Current { StepOutcome::Requeue } else { StepOutcome::Done })
}

/// Deletes the record of an object that no longer needs it.
pub async fn delete_record(context: &Context, session: &mut Session) -> Result<()> {
    let observed = &session.observed;
    let found = live(context, observed).await?;
    let keyring = context.keyring.get();
    let read = observe::evaluate_secrets(found.as_ref(), &observed.object, None, &keyring);
    if let Some(found) = found.filter(|_| read.record != SecretRecord::Foreign) {
        context.leadership.check_write()?;
        owner::remove(&context.client, observed.object.namespace_name(), &found.metadata).await?;
        tracing::info!(record = found.name_any(), "the record of the client secret was deleted");
    }
    Ok(())
}

/// Notes that the record could not be written. What a later reconcile resolves ends this one.
pub(super) fn failed(observed: &mut Observed, error: RecordError) -> Result<StepOutcome> {
    let failure = match &error {
        RecordError::Rejected { status, .. } => {
            let message = format!(
                "the API server rejected the object's SealedGraphCredential (HTTP {status}), and no client secret is created that cannot be saved: grant the operator the rights on sealedgraphcredentials, or check quotas and admission policies"
            );
            RotationFailure::lasting(Reason::StorageForbidden, message)
        }
        RecordError::Keyring(error) if error.is_lasting() => {
            let message = "the operator's keyring is missing, damaged or not readable: restore it";
            RotationFailure::lasting(Reason::KeyringUnavailable, message)
        }
        RecordError::NotLeading(_) => return Err(error.into()),
        _ => {
            let message =
                "the object's SealedGraphCredential could not be written; the operator retries automatically";
            RotationFailure::temporary(Reason::StorageError, message, None)
        }
    };
    observed.results.rotation.failure = Some(failure);
    Ok(StepOutcome::Done)
}
