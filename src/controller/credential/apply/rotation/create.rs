//! Creates a client secret: the intent is persisted before the request, and the client secret in the record before
//! anything else.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::conditions::{Reason, whole_second};
use crate::api::{CreateAttempt, CreatedSecret, EntraStatus, RotationStatus, SecretHolder, UnknownFields};
use crate::controller::context::Context;
use crate::controller::credential::apply::create::token;
use crate::controller::credential::apply::rotation::{
    announce, granted, identity_failed, record, write_failed,
};
use crate::controller::credential::apply::{StepOutcome, defer_event, is_unchanged};
use crate::controller::credential::observe::{self, Session, of_created};
use crate::controller::error::Result;
use crate::controller::identity::finalizer;
use crate::controller::status_writer;
use crate::core::error_chain::chain;
use crate::core::model::{Observed, Source};
use crate::core::rotation::failure::RotationFailure;
use crate::core::rotation::{self, display_name};
use crate::entra::identity::IdentitySnapshot;
use crate::graph::{AddedSecret, AppWriteError, NewSecret};

/// Creates a client secret, and saves it in the record: beside the one in use, if that can be decrypted.
pub async fn create(context: &Context, session: &mut Session) -> Result<StepOutcome> {
    let Some(identity) = granted(context, session).await? else { return Ok(StepOutcome::Done) };
    let spec = &session.observed.object.spec;
    if let Err(wait) = context.identities.writer.is_free(&identity, &spec.tenant_id, &spec.client_id) {
        return write_failed(&mut session.observed, &wait);
    }
    if let Err(error) = finalizer::protect(context, &identity.key.name).await {
        return identity_failed(&mut session.observed, error);
    }
    if !context.index.are_credentials_listed() {
        let text = "the operator has not read all objects yet, and another one may rotate the app";
        let failure = RotationFailure::temporary(Reason::CreationPending, text, None);
        session.observed.results.rotation.failure = Some(failure);
        return Ok(StepOutcome::Done);
    }
    // What cannot be saved is not created.
    if let Err(error) = record::check_writable(context, session).await {
        return record::failed(&mut session.observed, error);
    }
    context.leadership.check_call(context.policy.timing.longest_call())?;
    let uid = session.observed.object.metadata.uid.clone().unwrap_or_default();
    let attempt = CreateAttempt {
        display_name: display_name(&uid, &token()?),
        start_time: Time(whole_second(Timestamp::now())),
        unknown: UnknownFields::default(),
    };
    let before = session.observed.rotation().cloned().unwrap_or_default();
    let mut status = session.observed.status.clone();
    status.rotation = Some(Box::new(intent(&session.observed, &before, &attempt)));
    status_writer::persist_intent(context, &mut session.observed, status).await?;
    if !is_unchanged(context, &session.observed) {
        // The change requeues the object.
        revert(context, &mut session.observed, before).await?;
        return Ok(StepOutcome::Requeue);
    }
    match send(context, session, &identity, &attempt).await {
        Ok(added) => save(context, session, &attempt, added).await,
        Err(error) => {
            if error.is_not_applied() {
                revert(context, &mut session.observed, before).await?;
            }
            write_failed(&mut session.observed, &error)
        }
    }
}

fn intent(observed: &Observed, before: &RotationStatus, attempt: &CreateAttempt) -> RotationStatus {
    let object = &observed.object;
    let overlap = object.requested_overlap().filter(|_| observed.is_rotation_requested());
    RotationStatus {
        attempt: Some(attempt.clone()),
        requested_at: object.rotate_requested_at().map(ToOwned::to_owned),
        requested_overlap: overlap.map(Into::into),
        ..before.clone()
    }
}

async fn send(
    context: &Context,
    session: &Session,
    identity: &IdentitySnapshot,
    attempt: &CreateAttempt,
) -> Result<AddedSecret, AppWriteError> {
    let spec = &session.observed.object.spec;
    let new = NewSecret {
        display_name: attempt.display_name.clone(),
        expires_at: whole_second(Timestamp::now() + spec.rotation_validity()),
    };
    context.identities.writer.add(identity, &spec.tenant_id, &spec.client_id, &new).await
}

/// Restores the status from before the intent, because nothing was created.
async fn revert(context: &Context, observed: &mut Observed, before: RotationStatus) -> Result<()> {
    let mut status = observed.status.clone();
    status.rotation = (before != RotationStatus::default()).then(|| Box::new(before));
    status_writer::persist_result(context, observed, status).await
}

/// Saves the client secret in the record and then in the status. If it cannot be saved, its text is lost, and the attempt in
/// the status leads to its removal.
async fn save(
    context: &Context,
    session: &mut Session,
    attempt: &CreateAttempt,
    added: AddedSecret,
) -> Result<StepOutcome> {
    let created = CreatedSecret {
        key_id: added.key_id.clone(),
        display_name: attempt.display_name.clone(),
        expires_at: Time(added.expires_at),
        creation_time: attempt.start_time.clone(),
        kept: false,
        unknown: UnknownFields::default(),
    };
    tracing::info!(key_id = created.key_id, "a client secret was created at Entra");
    let written = match record::save(context, session, &created, &added.secret).await {
        Ok(written) => written,
        Err(error) => {
            tracing::error!(
                key_id = created.key_id,
                error = chain(&error),
                "a new client secret could not be saved, and is removed at Entra"
            );
            return record::failed(&mut session.observed, error);
        }
    };
    context.records.on_written(&written);
    let keyring = context.keyring.get();
    let observed = &mut session.observed;
    let read = observe::evaluate_secrets(Some(&written), &observed.object, observed.rotation(), &keyring);
    let record = read.record;
    let mut next = rotation::corrected(observed.rotation().cloned().unwrap_or_default(), &record);
    (next.failure_reason, next.next_attempt_time, next.consecutive_failures) = (None, None, None);
    if next.pending.is_none() {
        rotation::handle_request(&mut next);
    }
    observed.status.rotation = Some(Box::new(next));
    if let Some(own) = &mut observed.own_secrets {
        own.record = record;
    }
    announce_left(&mut session.observed);
    use_secret(context, session, &created, added);
    session.observed.record_version = observe::record_version(&written);
    session.record = Some(written);
    announce(&mut session.observed, &created.key_id);
    session.observed.has_unpersisted_changes = true;
    Ok(StepOutcome::Done)
}

/// The new client secret is the source from now on. Its expiry is known without a reading, which would be outdated.
fn use_secret(context: &Context, session: &mut Session, created: &CreatedSecret, added: AddedSecret) {
    let keyring = context.keyring.get();
    let observed = &mut session.observed;
    let (object, status, now) = (&observed.object, &observed.status, Timestamp::now());
    let Some(read) = of_created(object, status, created, added.secret, &keyring, now) else { return };
    observed.source = read.source;
    session.secret = read.secret;
    // What Microsoft said about another client secret does not apply to this one.
    observed.results.verification = None;
    let Source::Usable(source) = &mut observed.source else { return };
    let Some(subject) = &mut source.reading else { return };
    subject.is_recorded = true;
    observed.status.entra = Some(Box::new(EntraStatus {
        fingerprint: subject.fingerprint.clone(),
        key_id: Some(created.key_id.clone()),
        holder: Some(SecretHolder::Application),
        expires_at: Some(created.expires_at.clone()),
        last_read_time: Some(Time(whole_second(now))),
        ..EntraStatus::default()
    }));
}

/// Says that the client secret which a person created, and which is registered so far, stays.
fn announce_left(observed: &mut Observed) {
    let Some(registration) = observed.status.registration.as_ref() else { return };
    let before = observed.written.rotation.as_deref();
    if before.is_some_and(|before| before.current.is_some() || !before.earlier.is_empty()) {
        return;
    }
    let id = observed.status.entra.as_ref().and_then(|entra| entra.key_id.as_deref());
    let id = id.map(|id| format!(" (Secret ID {id})")).unwrap_or_default();
    let text = format!(
        "the earlier client secret of credential {}{id} stays at Microsoft Entra, and so does its Secret: remove both once nothing uses them",
        registration.credential_id
    );
    defer_event(observed, "SecretLeft", text);
}
