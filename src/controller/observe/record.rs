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
use crate::telemetry::logs::chain;

/// Reads the record, where the pass may need it. That of a deleted object may be left unread.
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
    let live = match records::read(&context.client, object.namespace_name(), &record_name(object)).await {
        // A deletion that has to read it says so itself; others go without.
        Err(error) if object.is_deleted() => {
            tracing::warn!(error = chain(&error), "the record of a deleted object cannot be read");
            return Ok((None, None));
        }
        read => read?,
    };
    let Some(live) = live else { return Ok((Some(Record::Missing), None)) };
    let keyring = match Envelope::from_base64(&live.spec.envelope) {
        Ok(envelope) => context.keyring.holding(envelope.key_id()).await?,
        Err(_) => context.keyring.current(),
    };
    let record = judge(&live, object, secret, &keyring);
    Ok((Some(record), Some(live)))
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
