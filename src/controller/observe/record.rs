//! The record of the store that belongs to an object, and what it holds.

use kube::ResourceExt;

use crate::controller::context::Context;
use crate::controller::error::PassError;
use crate::controller::observed::{Content, Record, SealedRecord, Target};
use crate::controller::records;
use crate::resources::conditions::whole_second;
use crate::resources::{MicrosoftGraphCredential, SealedGraphCredential};
use crate::secret::SecretText;
use crate::store::envelope::{Binding, Envelope};
use crate::store::keyring::Keyring;
use crate::store::record::record_name;

/// Reads the record, where the pass may need it.
pub async fn read(
    context: &Context,
    object: &MicrosoftGraphCredential,
    target: &Target,
    secret: Option<&SecretText>,
) -> Result<(Option<Record>, Option<SealedGraphCredential>), PassError> {
    let is_left_alone = object.spec.is_suspended() && !object.is_deleted();
    if *target != Target::Store || is_left_alone {
        return Ok((None, None));
    }
    let live = records::read(&context.client, object.namespace_name(), &record_name(object)).await?;
    let record = live.as_ref().map_or(Record::Missing, |live| judge(live, object, secret, &context.keyring));
    Ok((Some(record), live))
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
    let envelope = Envelope::from_base64(&spec.envelope).ok();
    Record::Ours(SealedRecord {
        credential_id: spec.credential_id,
        name: spec.name.clone(),
        expires_at: whole_second(spec.secret_expires_at.0),
        content: content(envelope.as_ref(), live, secret, keyring),
        is_under_primary: envelope.is_some_and(|envelope| envelope.key_id() == keyring.primary()),
        is_sealed_for_object: records::sealed_for(live)
            .is_some_and(|uid| Some(uid) == object.uid().as_deref()),
    })
}

fn content(
    envelope: Option<&Envelope>,
    live: &SealedGraphCredential,
    secret: Option<&SecretText>,
    keyring: &Keyring,
) -> Content {
    let namespace = live.namespace().unwrap_or_default();
    match envelope.map(|envelope| envelope.open(keyring, binding(live, &namespace))) {
        Some(Ok(opened)) if secret == Some(&opened) => Content::SourceSecret,
        Some(Ok(_)) => Content::AnotherSecret,
        Some(Err(_)) | None => Content::Unreadable,
    }
}

fn binding<'a>(live: &'a SealedGraphCredential, namespace: &'a str) -> Binding<'a> {
    let spec = &live.spec;
    Binding { namespace, record_id: &spec.record_id, tenant: &spec.tenant_id, client: &spec.client_id }
}
