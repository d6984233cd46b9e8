//! Reads and evaluates the record of an object.

use kube::ResourceExt;

use crate::api::conditions::whole_second;
use crate::api::{
    MicrosoftGraphCredential, MicrosoftGraphCredentialStatus, ObservedRecord, SealedGraphCredential,
    UnknownFields,
};
use crate::controller::context::Context;
use crate::controller::error::{ReconcileError, Result};
use crate::controller::record::owner;
use crate::core::error_chain::chain;
use crate::core::failure::Failure;
use crate::core::model::{Content, Record, SealedRecord, UsableSource};
use crate::secret_text::SecretText;
use crate::store::envelope::Envelope;
use crate::store::keyring::Keyring;
use crate::store::record::{self, record_name};

/// The record of an object.
#[derive(Default)]
pub struct Read {
    /// Its relation to the object; `None` if it does not matter.
    pub record: Option<Record>,
    /// The record itself, if it was read and exists.
    pub live: Option<SealedGraphCredential>,
    /// A lasting failure that prevents reading it.
    pub failure: Option<Failure>,
}

/// Reads the record. For a deleted object a failure is tolerated: a deletion that needs the record reads it again, and
/// then reports the failure.
pub async fn read(
    context: &Context,
    object: &MicrosoftGraphCredential,
    secret: Option<&SecretText>,
) -> Result<Read> {
    match read_live(context, object, secret).await {
        Ok((record, live)) => Ok(Read { record: Some(record), live, failure: None }),
        Err(error) => match error.as_status_failure() {
            None if !object.is_deleted() => Err(error),
            failure => {
                tracing::warn!(error = chain(&error), "failed to evaluate the record");
                Ok(Read { failure, ..Read::default() })
            }
        },
    }
}

/// The record as described by the status, without reading it. It holds what is registered and is not known to have
/// changed. The record controller checks the key that it is encrypted with.
pub fn persisted(status: &MicrosoftGraphCredentialStatus, source: &UsableSource) -> Option<Record> {
    let registration = status.registration.as_ref().filter(|it| it.record.is_some())?;
    let content = if source.is_registered { Content::SourceSecret } else { Content::AnotherSecret };
    Some(Record::ForApp(SealedRecord {
        credential_id: registration.credential_id,
        name: registration.name.clone(),
        expires_at: whole_second(registration.expires_at.0),
        content,
        is_under_primary: true,
        is_for_object: true,
    }))
}

/// The version of a record, for the status.
pub fn version(record: &SealedGraphCredential) -> Option<ObservedRecord> {
    Some(ObservedRecord {
        uid: record.uid()?,
        generation: record.metadata.generation?,
        record_id: record.spec.record_id.to_string(),
        unknown: UnknownFields::default(),
    })
}

/// Reads and evaluates the object's record. For a deleted object its content does not matter.
pub async fn read_live(
    context: &Context,
    object: &MicrosoftGraphCredential,
    secret: Option<&SecretText>,
) -> Result<(Record, Option<SealedGraphCredential>)> {
    let live = owner::read(&context.client, object.namespace_name(), &record_name(object)).await?;
    let Some(live) = live else { return Ok((Record::Missing, None)) };
    let keyring = match Envelope::from_base64(&live.spec.envelope) {
        Ok(envelope) if !object.is_deleted() => {
            context.keyring.with_key(envelope.key_id()).await.map_err(ReconcileError::LookUpKey)?
        }
        Ok(_) | Err(_) => context.keyring.get(),
    };
    let record = evaluate(&live, object, secret, &keyring);
    Ok((record, Some(live)))
}

/// The relation of a record to an object.
pub fn evaluate(
    live: &SealedGraphCredential,
    object: &MicrosoftGraphCredential,
    secret: Option<&SecretText>,
    keyring: &Keyring,
) -> Record {
    let (spec, wanted) = (&live.spec, &object.spec);
    let is_ours = (&spec.tenant_id, &spec.client_id, spec.cloud.unwrap_or_default())
        == (&wanted.tenant_id, &wanted.client_id, wanted.cloud());
    if !is_ours {
        return Record::ForOtherApp { name: record_name(object) };
    }
    let envelope = Envelope::from_base64(&spec.envelope).ok();
    let content = if object.is_deleted() && envelope.is_some() {
        Content::AnotherSecret
    } else {
        content(live, secret, keyring)
    };
    Record::ForApp(SealedRecord {
        credential_id: spec.credential_id,
        name: spec.name.clone(),
        expires_at: whole_second(spec.secret_expires_at.0),
        content,
        is_under_primary: envelope
            .is_some_and(|it| it.key_id() == keyring.primary() && !it.has_earlier_format()),
        is_for_object: owner::owner_uid(live).is_some_and(|uid| Some(uid) == object.uid().as_deref()),
    })
}

fn content(live: &SealedGraphCredential, secret: Option<&SecretText>, keyring: &Keyring) -> Content {
    match record::open(live, keyring) {
        Ok(opened) if secret == Some(&opened) => Content::SourceSecret,
        Ok(_) => Content::AnotherSecret,
        Err(error) => {
            tracing::warn!(record = live.name_any(), error = chain(&error), "failed to decrypt a record");
            Content::Unreadable
        }
    }
}
