//! The record of the store that belongs to an object, and what it holds.

use kube::ResourceExt;

use crate::controller::context::Context;
use crate::controller::error::{PassError, Result};
use crate::controller::observed::{Content, Record, SealedRecord, UsableSource};
use crate::controller::records;
use crate::destination::Failure;
use crate::resources::conditions::whole_second;
use crate::resources::{
    MicrosoftGraphCredential, MicrosoftGraphCredentialStatus, ObservedRecord, SealedGraphCredential,
    UnknownFields,
};
use crate::secret::SecretText;
use crate::store::envelope::Envelope;
use crate::store::keyring::Keyring;
use crate::store::record::{self, record_name};
use crate::telemetry::logs::chain;

/// The record of an object.
#[derive(Default)]
pub struct Read {
    /// What it is to the object; nothing where it may not matter.
    pub record: Option<Record>,
    /// The record itself, where it was read and there is one.
    pub live: Option<SealedGraphCredential>,
    /// What lasts and keeps it from being read.
    pub failure: Option<Failure>,
}

/// Reads the record, where the reconcile may need it. That of a deleted object may be left unread: a deletion that has to
/// know it reads it again, and says so if it cannot.
pub async fn read(
    context: &Context,
    object: &MicrosoftGraphCredential,
    secret: Option<&SecretText>,
) -> Result<Read> {
    match look(context, object, secret).await {
        Ok((record, live)) => Ok(Read { record: Some(record), live, failure: None }),
        Err(error) => match error.as_failure() {
            None if !object.is_deleted() => Err(error),
            failure => {
                tracing::warn!(error = chain(&error), "the record of the store cannot be judged");
                Ok(Read { failure, ..Read::default() })
            }
        },
    }
}

/// The record by what the status says of it, without reading it. It holds what is registered, and it is not known to have
/// changed since. Under which key it is encrypted is looked after elsewhere.
pub fn as_recorded(status: &MicrosoftGraphCredentialStatus, source: &UsableSource) -> Option<Record> {
    let registration = status.registration.as_ref().filter(|it| it.record.is_some())?;
    let content = if source.is_registered { Content::SourceSecret } else { Content::AnotherSecret };
    Some(Record::Ours(SealedRecord {
        credential_id: registration.credential_id,
        name: registration.name.clone(),
        expires_at: whole_second(registration.expires_at.0),
        content,
        is_under_primary: true,
        is_sealed_for_object: true,
    }))
}

/// The version of a record, as the status remembers it.
pub fn version(record: &SealedGraphCredential) -> Option<ObservedRecord> {
    Some(ObservedRecord {
        uid: record.uid()?,
        generation: record.metadata.generation?,
        record_id: record.spec.record_id.to_string(),
        unknown: UnknownFields::default(),
    })
}

/// Reads the object's record and judges it. With a deleted object it does not matter what the record holds.
pub async fn look(
    context: &Context,
    object: &MicrosoftGraphCredential,
    secret: Option<&SecretText>,
) -> Result<(Record, Option<SealedGraphCredential>)> {
    let live = records::read(&context.client, object.namespace_name(), &record_name(object)).await?;
    let Some(live) = live else { return Ok((Record::Missing, None)) };
    let keyring = match Envelope::from_base64(&live.spec.envelope) {
        Ok(envelope) if !object.is_deleted() => {
            context.keyring.holding(envelope.key_id()).await.map_err(PassError::LookUpKey)?
        }
        Ok(_) | Err(_) => context.keyring.current(),
    };
    let record = judge(&live, object, secret, &keyring);
    Ok((record, Some(live)))
}

/// What a record is to an object.
pub fn judge(
    live: &SealedGraphCredential,
    object: &MicrosoftGraphCredential,
    secret: Option<&SecretText>,
    keyring: &Keyring,
) -> Record {
    let (spec, wanted) = (&live.spec, &object.spec);
    let is_ours = (&spec.tenant_id, &spec.client_id, spec.cloud.unwrap_or_default())
        == (&wanted.tenant_id, &wanted.client_id, wanted.cloud());
    if !is_ours {
        return Record::Foreign;
    }
    let key = Envelope::from_base64(&spec.envelope).ok().map(|envelope| envelope.key_id());
    let content = if object.is_deleted() && key.is_some() {
        Content::AnotherSecret
    } else {
        content(live, secret, keyring)
    };
    Record::Ours(SealedRecord {
        credential_id: spec.credential_id,
        name: spec.name.clone(),
        expires_at: whole_second(spec.secret_expires_at.0),
        content,
        is_under_primary: key == Some(keyring.primary()),
        is_sealed_for_object: records::sealed_for(live)
            .is_some_and(|uid| Some(uid) == object.uid().as_deref()),
    })
}

fn content(live: &SealedGraphCredential, secret: Option<&SecretText>, keyring: &Keyring) -> Content {
    match record::open(live, keyring) {
        Ok(opened) if secret == Some(&opened) => Content::SourceSecret,
        Ok(_) => Content::AnotherSecret,
        Err(error) => {
            tracing::warn!(record = live.name_any(), error = chain(&error), "a record does not open");
            Content::Unreadable
        }
    }
}
