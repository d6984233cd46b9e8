//! Reads the client secret that the operator created for a credential from the credential's record.

use jiff::Timestamp;

use crate::api::conditions::Reason;
use crate::api::{
    CreatedSecret, ExpirySource, MicrosoftGraphCredential, MicrosoftGraphCredentialStatus, NamespacedName,
    RotationStatus, SealedGraphCredential,
};
use crate::controller::context::Context;
use crate::controller::credential::observe::ReadScope;
use crate::controller::credential::observe::source::{self, Read as Source};
use crate::controller::error::{ReconcileError, Result};
use crate::controller::record::owner;
use crate::core::error_chain::chain;
use crate::core::model::{ConditionFailure, OwnSecrets, Source as SourceState};
use crate::core::rotation::{self, SecretRecord};
use crate::secret_text::SecretText;
use crate::store::envelope::{AssociatedData, Envelope};
use crate::store::keyring::Keyring;
use crate::store::record::record_name;

/// The client secrets of an object, and the one to use.
pub struct Read {
    /// `None` for an object that neither rotates its client secret nor has one left from a rotation.
    pub own: Option<OwnSecrets>,
    /// The client secret to use; `None` for an object with a Secret.
    pub source: Option<Source>,
    /// The record, if it was read and exists.
    pub live: Option<SealedGraphCredential>,
}

/// Reads the record, unless the status still describes it as far as is known, and corrects the status by it.
pub async fn read(
    context: &Context,
    object: &MicrosoftGraphCredential,
    status: &mut MicrosoftGraphCredentialStatus,
    scope: ReadScope,
) -> Result<Read> {
    let rotates = object.spec.rotation.is_some();
    if !rotates && status.rotation.is_none() {
        return Ok(Read { own: None, source: None, live: None });
    }
    let other = context.index.other_rotation(object);
    let unread = |source| Read {
        own: Some(OwnSecrets { record: SecretRecord::NotRead, is_outdated: false, other: other.clone() }),
        source,
        live: None,
    };
    if !rotates {
        return Ok(unread(None));
    }
    if object.is_deleted() || object.spec.is_suspended() {
        return Ok(unread(Some(Source::unread())));
    }
    if let Some(persisted) = persisted(context, object, status, scope) {
        return Ok(unread(Some(persisted)));
    }
    let live = owner::read(&context.client, object.namespace_name(), &record_name(object)).await?;
    let keyring = match live.as_ref().map(|live| Envelope::from_base64(&live.spec.envelope)) {
        Some(Ok(envelope)) => {
            context.keyring.with_key(envelope.key_id()).await.map_err(ReconcileError::LookUpKey)?
        }
        Some(Err(_)) | None => context.keyring.get(),
    };
    let Evaluated { record, secret, is_outdated } =
        evaluate(live.as_ref(), object, status.rotation.as_deref(), &keyring);
    let corrected = rotation::corrected(status.rotation.as_deref().cloned().unwrap_or_default(), &record);
    status.rotation = (corrected != RotationStatus::default()).then(|| Box::new(corrected));
    let source = usable(object, status, secret, &record, &keyring, Timestamp::now());
    Ok(Read { own: Some(OwnSecrets { record, is_outdated, other }), source: Some(source), live })
}

/// The client secret as described by the status.
fn persisted(
    context: &Context,
    object: &MicrosoftGraphCredential,
    status: &MicrosoftGraphCredentialStatus,
    scope: ReadScope,
) -> Option<Source> {
    let recorded = status.observed_record.as_ref()?;
    let rotation = status.rotation.as_deref()?;
    let name = NamespacedName { namespace: object.namespace_name().to_owned(), name: record_name(object) };
    let may_be_skipped = scope == ReadScope::Changes
        && object.metadata.generation == Some(status.observed_generation)
        && rotation.current.is_some()
        && rotation.pending.is_none()
        && rotation.attempt.is_none()
        && rotation.earlier_attempts.is_empty()
        && context.is_record_unchanged(&name, recorded);
    let persisted = source::persisted(context, object, status).filter(|_| may_be_skipped)?;
    Some(Source { source: SourceState::Usable(persisted), ..Source::unread() })
}

/// What the record contains, and the newest client secret in it.
pub struct Evaluated {
    pub record: SecretRecord,
    pub secret: Option<SecretText>,
    /// Whether the record still has a pending client secret that was given up or removed.
    pub is_outdated: bool,
}

/// Evaluates the record. What the status has given up or removed does not count: the record is outdated.
pub fn evaluate(
    live: Option<&SealedGraphCredential>,
    object: &MicrosoftGraphCredential,
    rotation: Option<&RotationStatus>,
    keyring: &Keyring,
) -> Evaluated {
    let without = |record| Evaluated { record, secret: None, is_outdated: false };
    let Some(live) = live else { return without(SecretRecord::Missing) };
    let spec = &live.spec;
    let is_of_app = (&spec.tenant_id, &spec.client_id) == (&object.spec.tenant_id, &object.spec.client_id);
    let Some(current) = spec.created_secret.clone().filter(|_| is_of_app) else {
        return without(SecretRecord::Foreign);
    };
    let is_given_up = |key_id: &str| rotation.is_some_and(|it| rotation::is_given_up(it, key_id));
    let opened = Envelope::from_base64(&spec.envelope)
        .map_err(Into::into)
        .and_then(|envelope| envelope.open_all(keyring, AssociatedData::of(live)));
    let (secret, new) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            tracing::warn!(error = chain(&error), "failed to decrypt the record of a client secret");
            return without(SecretRecord::Unreadable {
                current: Some(current.into()),
                pending: spec.pending_secret.clone().map(Box::new),
            });
        }
    };
    let is_outdated = spec.pending_secret.as_ref().is_some_and(|pending| is_given_up(&pending.key_id));
    match (spec.pending_secret.clone().filter(|_| !is_outdated), new) {
        (Some(pending), Some(secret)) => {
            let record = SecretRecord::Readable { current: current.into(), pending: Some(pending.into()) };
            Evaluated { record, secret: Some(secret), is_outdated }
        }
        _ if is_given_up(&current.key_id) => {
            without(SecretRecord::Unreadable { current: None, pending: None })
        }
        _ => {
            let record = SecretRecord::Readable { current: current.into(), pending: None };
            Evaluated { record, secret: Some(secret), is_outdated }
        }
    }
}

/// The client secret to use, or why there is none.
fn usable(
    object: &MicrosoftGraphCredential,
    status: &MicrosoftGraphCredentialStatus,
    secret: Option<SecretText>,
    record: &SecretRecord,
    keyring: &Keyring,
    now: Timestamp,
) -> Source {
    let unusable = |reason, message: &str| Source {
        source: SourceState::Unusable(ConditionFailure { reason, message: message.to_owned() }),
        ..Source::unread()
    };
    let newest: &CreatedSecret = match record {
        SecretRecord::NotRead | SecretRecord::Missing => {
            return unusable(
                Reason::CreationPending,
                "the operator has not created a client secret yet: see RotationReady",
            );
        }
        SecretRecord::Unreadable { .. } => {
            return unusable(
                Reason::CreationPending,
                "the client secret can no longer be decrypted, and another one is created: see RotationReady",
            );
        }
        SecretRecord::Foreign => {
            let message = format!(
                "SealedGraphCredential {} has this object's name and a client secret that another object stored: delete it if it is not used, or rename this object",
                record_name(object)
            );
            return unusable(Reason::AlreadyExists, &message);
        }
        SecretRecord::Readable { current, pending } => pending.as_ref().unwrap_or(current),
    };
    let Some(secret) = secret else {
        return unusable(
            Reason::CreationPending,
            "the operator has not created a client secret yet: see RotationReady",
        );
    };
    of_created(object, status, newest, secret, keyring, now).unwrap_or_else(|| {
        unusable(Reason::CreationPending, "the client secret expired before it was registered, and another one is created: see RotationReady")
    })
}

/// A client secret that the operator created, as the source; `None` if it expired before it was registered.
pub fn of_created(
    object: &MicrosoftGraphCredential,
    status: &MicrosoftGraphCredentialStatus,
    created: &CreatedSecret,
    secret: SecretText,
    keyring: &Keyring,
    now: Timestamp,
) -> Option<Source> {
    let expiry = Some((created.expires_at.0, ExpirySource::Entra));
    let usable = source::usable(object, status, (&secret, expiry), keyring.fingerprint_keys(), now).ok()?;
    usable.expires_at?;
    Some(Source { source: SourceState::Usable(usable), secret: Some(secret), ..Source::unread() })
}
