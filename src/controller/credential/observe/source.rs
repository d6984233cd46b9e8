//! Reads the Secret that a credential refers to: a usable client secret, or the reason why there is none.

use jiff::Timestamp;

use crate::api::conditions::{ConditionType, Reason, find};
use crate::api::{
    ExpirySource, MicrosoftGraphCredential, MicrosoftGraphCredentialStatus, ObservedSecret, SecretRef,
    UnknownFields, timestamp,
};
use crate::controller::context::Context;
use crate::controller::error::{ReconcileError, Result};
use crate::core::model::{ConditionFailure, Source, UsableSource};
use crate::core::secret_form;
use crate::core::secret_value::{SecretValue, ValueKind, ValueProblem};
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
    let value = client_secret(&object.spec.secret_ref);
    let data = match secrets::read(&context.client, object.namespace_name(), value.secret).await {
        Ok(data) => data,
        Err(ReadError::NotFound) => return Ok(unusable(value.not_found())),
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
    let reference = &object.spec.secret_ref;
    let secret = data.text(&client_secret(reference))?;
    let (expires_at, expiry_source) = expiry(data, object)?;
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
        return Err(ConditionFailure {
            reason: Reason::ExpiryInPast,
            message: format!(
                "the new secret in Secret {} has already expired ({expires_at:.0}), so nothing was sent: put in a valid one, or correct its expiry",
                reference.name
            ),
        });
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

fn client_secret(reference: &SecretRef) -> SecretValue<'_> {
    SecretValue {
        kind: ValueKind::ClientSecret,
        secret: &reference.name,
        name_field: "spec.secretRef.name",
        key: reference.client_secret_key(),
        key_field: "spec.secretRef.clientSecretKey",
    }
}

fn expiry_value(reference: &SecretRef) -> SecretValue<'_> {
    SecretValue {
        kind: ValueKind::Expiry,
        key: reference.expires_at_key(),
        key_field: "spec.secretRef.expiresAtKey",
        ..client_secret(reference)
    }
}

/// The Secret's own expiry takes precedence, because it changes together with the secret.
fn expiry(
    data: &SecretData,
    object: &MicrosoftGraphCredential,
) -> Result<(Timestamp, ExpirySource), ConditionFailure> {
    let reference = &object.spec.secret_ref;
    let (name, key) = (&reference.name, reference.expires_at_key());
    if let Some(bytes) = data.get(key) {
        let value = expiry_value(reference);
        let text = match value.kind.check(bytes.expose()) {
            Ok(text) if !text.trim().is_empty() => text,
            Ok(_) | Err(ValueProblem::Empty) => {
                let message = value.unusable(ValueProblem::Empty).message;
                return Err(ConditionFailure { reason: Reason::ExpiryMissing, message });
            }
            Err(problem) => return Err(value.unusable(problem)),
        };
        return parse_expiry(text).map(|at| (at, ExpirySource::Secret)).ok_or_else(|| ConditionFailure {
            reason: Reason::ExpiryInvalid,
            message: format!(
                "key {key} of Secret {name} is not a date: write it like 2027-11-28T23:59:59Z or 2027-11-28"
            ),
        });
    }
    match &object.spec.secret_expires_at {
        Some(at) => Ok((at.0, ExpirySource::Spec)),
        None => Err(ConditionFailure {
            reason: Reason::ExpiryMissing,
            message: format!(
                "the expiry of the secret is not given: add key {key} to Secret {name}, or set spec.secretExpiresAt"
            ),
        }),
    }
}

/// RFC 3339, or a date, read as the end of that day in UTC; surrounding white space is ignored. `9999-12-31` and the like, for "never",
/// become the last supported time.
fn parse_expiry(text: &str) -> Option<Timestamp> {
    timestamp::parse_or_date(text.trim())
}

fn unusable(problem: ConditionFailure) -> Read {
    Read { source: Source::Unusable(problem), ..Read::unread() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_in_both_forms() {
        for (text, expected) in [
            ("2027-11-28T23:59:59Z", Some("2027-11-28T23:59:59Z")),
            (" 2027-11-29T00:59:59+01:00\n", Some("2027-11-28T23:59:59Z")),
            ("2027-11-28", Some("2027-11-28T23:59:59Z")),
            ("9999-12-31", Some("9999-01-01T00:00:00Z")),
            ("9999-12-31T23:59:59Z", Some("9999-01-01T00:00:00Z")),
            ("9999-12-31T23:59:59-12:00", Some("9999-01-01T00:00:00Z")),
            ("-009999-01-02T01:59:59Z", None),
            ("28.11.2027", None),
            ("2027-11-28T23:59:59", None),
            ("1795910399", None),
            ("", None),
        ] {
            let expected = expected.map(|text| text.parse::<Timestamp>().unwrap());
            assert_eq!(parse_expiry(text), expected, "{text:?}");
        }
    }
}
