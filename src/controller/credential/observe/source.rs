//! Reads the Secret that a credential refers to: a usable client secret, or the reason why there is none.

use jiff::Timestamp;

use crate::api::conditions::{ConditionType, Reason, find};
use crate::api::{MicrosoftGraphCredential, MicrosoftGraphCredentialStatus, ObservedSecret, UnknownFields};
use crate::controller::context::Context;
use crate::controller::error::{ReconcileError, Result};
use crate::core::model::{ConditionFailure, Source, UsableSource};
use crate::core::secret_form;
use crate::k8s::client_secret::{self, ClientSecret};
use crate::k8s::secrets::{self, ReadError, SecretData};
use crate::secret_text::SecretText;
use crate::store::fingerprint::{FingerprintInput, FingerprintKeys};

/// The Secret as it was read.
pub struct Read {
    pub source: Source,
    /// The client secret, if it is usable.
    pub secret: Option<SecretText>,
    pub version: Option<ObservedSecret>,
    /// When the Secret changed last.
    pub changed_at: Option<Timestamp>,
}

// === impl Read ===

impl Read {
    /// Without a value or a version.
    pub fn unread() -> Self {
        Self { source: Source::NotRead, secret: None, version: None, changed_at: None }
    }
}

pub async fn read(
    context: &Context,
    object: &MicrosoftGraphCredential,
    status: &MicrosoftGraphCredentialStatus,
) -> Result<Read> {
    let value = client_secret::value(&object.spec.secret_ref);
    let data = match secrets::read(&context.client, object.namespace_name(), value.secret).await {
        Ok(data) => data,
        Err(ReadError::NotFound) => return Ok(unusable(client_secret::not_found(object))),
        Err(ReadError::Forbidden) => return Ok(unusable(value.access_denied())),
        Err(source @ ReadError::Kube(_)) => {
            return Err(ReconcileError::ReadSecret { name: value.secret.to_owned(), source });
        }
    };
    let keyring = context.keyring.get();
    let (version, changed_at) = (data.version(), data.changed_at());
    let version = Some(ObservedSecret {
        uid: version.uid,
        resource_version: version.resource_version,
        unknown: UnknownFields::default(),
    });
    Ok(match evaluate(&data, object, status, keyring.fingerprint_keys(), Timestamp::now()) {
        Ok((source, secret)) => {
            Read { source: Source::Usable(source), secret: Some(secret), version, changed_at }
        }
        Err(problem) => Read { source: Source::Unusable(problem), secret: None, version, changed_at },
    })
}

/// The Secret as described by the status, without reading it: it holds what is registered and is not known to have
/// changed.
pub fn persisted(context: &Context, status: &MicrosoftGraphCredentialStatus) -> Option<UsableSource> {
    let registration = status.registration.as_ref().filter(|_| status.pending_secret.is_none())?;
    let is_usable = find(&status.conditions, ConditionType::SecretReady)
        .is_some_and(|condition| condition.is_because(Reason::SecretRead));
    let keyring = context.keyring.get();
    let newest = keyring.fingerprint_keys().ids().next()?.to_string();
    let is_under_newest = registration.fingerprint.split_once(':').is_some_and(|(key, _)| key == newest);
    (is_usable && is_under_newest).then_some(UsableSource {
        fingerprint: registration.fingerprint.clone(),
        expires_at: registration.expires_at.0,
        expiry_source: status.expiry_source?,
        is_registered: true,
        is_pending: false,
        form: None,
    })
}

fn evaluate(
    data: &SecretData,
    object: &MicrosoftGraphCredential,
    status: &MicrosoftGraphCredentialStatus,
    keys: &FingerprintKeys,
    now: Timestamp,
) -> Result<(UsableSource, SecretText), ConditionFailure> {
    let ClientSecret { secret, expires_at, expiry_source } = client_secret::of(data, object)?;
    let subject = FingerprintInput {
        uid: object.metadata.uid.as_deref().unwrap_or_default(),
        secret: &secret,
        expires_at,
    };
    let is_registered = status
        .registration
        .as_ref()
        .is_some_and(|registration| keys.matches(&registration.fingerprint, subject));
    let is_pending =
        status.pending_secret.as_ref().is_some_and(|candidate| keys.matches(&candidate.fingerprint, subject));
    if expires_at <= now && !is_registered {
        return Err(client_secret::already_expired(object, expires_at));
    }
    let source = UsableSource {
        fingerprint: keys.fingerprint(subject),
        expires_at,
        expiry_source,
        is_registered,
        is_pending,
        form: secret_form::recognize(secret.expose(), &object.spec.tenant_id, &object.spec.client_id),
    };
    Ok((source, secret))
}

fn unusable(problem: ConditionFailure) -> Read {
    Read { source: Source::Unusable(problem), ..Read::unread() }
}
