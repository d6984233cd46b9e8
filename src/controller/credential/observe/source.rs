//! Reads the Secret that a credential refers to: a usable client secret, or the reason why there is none.

use jiff::Timestamp;

use crate::api::conditions::{ConditionType, Reason, find};
use crate::api::{
    ExpirySource, MicrosoftGraphCredential, MicrosoftGraphCredentialStatus, ObservedSecret, SecretRef,
    UnknownFields,
};
use crate::controller::context::Context;
use crate::controller::error::{ReconcileError, Result};
use crate::core::model::{ConditionFailure, ReadingSubject, Source, UsableSource};
use crate::core::secret_form;
use crate::k8s::client_secret::{self, ClientSecret};
use crate::k8s::secrets::{self, ReadError, SecretData};
use crate::secret_text::SecretText;
use crate::store::fingerprint::{FingerprintInput, FingerprintKeys, NO_EXPIRY};

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
    let Some(reference) = &object.spec.secret_ref else { return Ok(Read::unread()) };
    let value = client_secret::value(reference);
    let data = match secrets::read(&context.client, object.namespace_name(), value.secret).await {
        Ok(data) => data,
        Err(ReadError::NotFound) => return Ok(unusable(client_secret::not_found(reference, object))),
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
    Ok(match evaluate(&data, reference, object, status, keyring.fingerprint_keys(), Timestamp::now()) {
        Ok((source, secret)) => {
            Read { source: Source::Usable(source), secret: Some(secret), version, changed_at }
        }
        Err(problem) => Read { source: Source::Unusable(problem), secret: None, version, changed_at },
    })
}

/// The Secret as described by the status, without reading it: it holds what is registered and is not known to have
/// changed.
pub fn persisted(
    context: &Context,
    object: &MicrosoftGraphCredential,
    status: &MicrosoftGraphCredentialStatus,
) -> Option<UsableSource> {
    let registration = status.registration.as_ref().filter(|_| status.pending_secret.is_none())?;
    let is_usable = find(&status.conditions, ConditionType::SecretReady)
        .is_some_and(|it| it.is_because(Reason::SecretRead) || it.is_because(Reason::SecretCreated));
    let keyring = context.keyring.get();
    let newest = keyring.fingerprint_keys().ids().next()?.to_string();
    let is_under_newest =
        |fingerprint: &str| fingerprint.split_once(':').is_some_and(|(key, _)| key == newest);
    let reading = match (&object.spec.entra, status.entra.as_deref()) {
        (None, _) => None,
        // Without a reading of this secret, the Secret must be read for one.
        (Some(_), None) => return None,
        (Some(_), Some(entra)) if !is_under_newest(&entra.fingerprint) => return None,
        (Some(_), Some(entra)) => {
            let at_entra = entra.expires_at.as_ref().map(|at| at.0);
            if object.spec.follows_entra() && at_entra != Some(registration.expires_at.0) {
                return None;
            }
            Some(ReadingSubject { fingerprint: entra.fingerprint.clone(), is_recorded: true })
        }
    };
    (is_usable && is_under_newest(&registration.fingerprint)).then_some(UsableSource {
        fingerprint: registration.fingerprint.clone(),
        expires_at: Some(registration.expires_at.0),
        expiry_source: status.expiry_source?,
        is_registered: true,
        is_pending: false,
        form: None,
        reading,
    })
}

fn evaluate(
    data: &SecretData,
    reference: &SecretRef,
    object: &MicrosoftGraphCredential,
    status: &MicrosoftGraphCredentialStatus,
    keys: &FingerprintKeys,
    now: Timestamp,
) -> Result<(UsableSource, SecretText), ConditionFailure> {
    let ClientSecret { secret, expiry } = client_secret::of(data, reference, object)?;
    let source = match expiry {
        Some(expiry) => usable(object, status, (&secret, Some(expiry)), keys, now)?,
        None => following_entra(object, status, &secret, keys, now)?,
    };
    Ok((source, secret))
}

/// A client secret with the expiry that was last read at Microsoft Entra, if there is one. A given expiry is ignored.
pub fn following_entra(
    object: &MicrosoftGraphCredential,
    status: &MicrosoftGraphCredentialStatus,
    secret: &SecretText,
    keys: &FingerprintKeys,
    now: Timestamp,
) -> Result<UsableSource, ConditionFailure> {
    let uid = object.metadata.uid.as_deref().unwrap_or_default();
    let matches = |fingerprint: &str, expires_at| {
        keys.matches(fingerprint, FingerprintInput { uid, secret, expires_at })
    };
    let read = status.entra.as_deref().filter(|entra| matches(&entra.fingerprint, NO_EXPIRY));
    let last_read = read.and_then(|entra| Some(entra.expires_at.as_ref()?.0));
    // The registration may have been read in an earlier status.
    let registered = status
        .registration
        .as_ref()
        .filter(|_| status.expiry_source == Some(ExpirySource::Entra))
        .map(|registration| (&registration.fingerprint, registration.expires_at.0))
        .filter(|(fingerprint, expires_at)| matches(fingerprint, *expires_at))
        .map(|(_, expires_at)| expires_at);
    let expiry = last_read.or(registered).map(|at| (at, ExpirySource::Entra));
    usable(object, status, (secret, expiry), keys, now)
}

/// A client secret with its expiry, if that is known.
pub fn usable(
    object: &MicrosoftGraphCredential,
    status: &MicrosoftGraphCredentialStatus,
    (secret, expiry): (&SecretText, Option<(Timestamp, ExpirySource)>),
    keys: &FingerprintKeys,
    now: Timestamp,
) -> Result<UsableSource, ConditionFailure> {
    let (expires_at, expiry_source) =
        expiry.map_or((None, ExpirySource::Entra), |(at, source)| (Some(at), source));
    let uid = object.metadata.uid.as_deref().unwrap_or_default();
    let alone = FingerprintInput { uid, secret, expires_at: NO_EXPIRY };
    let subject = FingerprintInput { expires_at: expires_at.unwrap_or(NO_EXPIRY), ..alone };
    let is_registered = expires_at.is_some()
        && status
            .registration
            .as_ref()
            .is_some_and(|registration| keys.matches(&registration.fingerprint, subject));
    // A secret may have been pending before its expiry was read.
    let is_pending = status.pending_secret.as_ref().is_some_and(|candidate| {
        keys.matches(&candidate.fingerprint, subject)
            || expiry_source == ExpirySource::Entra && keys.matches(&candidate.fingerprint, alone)
    });
    let is_past = expires_at.is_some_and(|at| at <= now) && !is_registered;
    if is_past && expiry_source == ExpirySource::Entra {
        // Microsoft issues tokens for it, so the date is wrong or of another entry: it is read again.
        return usable(object, status, (secret, None), keys, now);
    }
    if let Some(at) = expires_at.filter(|_| is_past) {
        return Err(client_secret::already_expired(object, at, expiry_source));
    }
    let reading = object.spec.entra.is_some().then(|| ReadingSubject {
        fingerprint: keys.fingerprint(alone),
        is_recorded: status.entra.as_ref().is_some_and(|entra| keys.matches(&entra.fingerprint, alone)),
    });
    Ok(UsableSource {
        fingerprint: keys.fingerprint(subject),
        expires_at,
        expiry_source,
        is_registered,
        is_pending,
        form: secret_form::recognize(secret.expose(), &object.spec.tenant_id, &object.spec.client_id),
        reading,
    })
}

fn unusable(problem: ConditionFailure) -> Read {
    Read { source: Source::Unusable(problem), ..Read::unread() }
}
