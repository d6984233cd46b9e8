//! The source: the Secret that a credential points to, as a usable secret or as the reason why it is none.

use jiff::Timestamp;

use crate::controller::context::Context;
use crate::controller::error::{PassError, Result};
use crate::controller::observed::{Problem, Source, UsableSource};
use crate::resources::conditions::{ConditionType, Reason, find};
use crate::resources::date_time;
use crate::resources::{
    ExpirySource, MicrosoftGraphCredential, MicrosoftGraphCredentialStatus, SecretRef, TenantId,
};
use crate::secret::SecretText;
use crate::secrets::{self, ReadError, SecretData, SecretVersion};
use crate::store::fingerprint::{FingerprintKeys, Subject};

/// The Secret as it was read.
pub struct Read {
    /// What it is to the object.
    pub source: Source,
    /// The client secret, where it holds a usable one. It lives as long as the reconcile.
    pub secret: Option<SecretText>,
    pub version: Option<SecretVersion>,
}

pub async fn read(
    context: &Context,
    object: &MicrosoftGraphCredential,
    status: &MicrosoftGraphCredentialStatus,
) -> Result<Read> {
    let name = &object.spec.secret_ref.name;
    let data = match secrets::read(&context.client, object.namespace_name(), name).await {
        Ok(data) => data,
        Err(ReadError::NotFound) => {
            let message =
                format!("there is no Secret {name} in this namespace: create it or mend spec.secretRef.name");
            return Ok(unusable(Reason::SecretNotFound, message));
        }
        Err(ReadError::Forbidden) => {
            let message = format!(
                "the operator may not read Secret {name}: grant its ServiceAccount get on Secrets in this namespace"
            );
            return Ok(unusable(Reason::AccessDenied, message));
        }
        Err(source @ ReadError::Kube(_)) => return Err(PassError::ReadSecret { name: name.clone(), source }),
    };
    let keyring = context.keyring.current();
    let version = Some(data.version());
    Ok(match judge(&data, object, status, keyring.fingerprint_keys(), Timestamp::now()) {
        Ok((source, secret)) => Read { source: Source::Usable(source), secret: Some(secret), version },
        Err(problem) => Read { source: Source::Unusable(problem), secret: None, version },
    })
}

/// The Secret by what the status says of it, without reading it: it holds what is registered, and it is not known to have
/// changed since.
pub fn as_recorded(context: &Context, status: &MicrosoftGraphCredentialStatus) -> Option<UsableSource> {
    let registration = status.registration.as_ref().filter(|_| status.candidate.is_none())?;
    let is_usable = find(&status.conditions, ConditionType::SourceReady)
        .is_some_and(|condition| condition.is_because(Reason::SecretRead));
    let keyring = context.keyring.current();
    let newest = keyring.fingerprint_keys().ids().next()?.to_string();
    let is_under_newest = registration.fingerprint.split_once(':').is_some_and(|(key, _)| key == newest);
    (is_usable && is_under_newest).then_some(UsableSource {
        fingerprint: registration.fingerprint.clone(),
        expires_at: registration.expires_at.0,
        expiry_source: status.expiry_source?,
        is_registered: true,
        is_candidate: false,
        looks_like_an_id: false,
    })
}

fn judge(
    data: &SecretData,
    object: &MicrosoftGraphCredential,
    status: &MicrosoftGraphCredentialStatus,
    keys: &FingerprintKeys,
    now: Timestamp,
) -> Result<(UsableSource, SecretText), Problem> {
    let reference = &object.spec.secret_ref;
    let secret = client_secret(data, reference)?;
    let (expires_at, expiry_source) = expiry(data, object)?;
    let subject =
        Subject { uid: object.metadata.uid.as_deref().unwrap_or_default(), secret: &secret, expires_at };
    let is_registered = status
        .registration
        .as_ref()
        .is_some_and(|registration| keys.matches(&registration.fingerprint, subject));
    let is_candidate =
        status.candidate.as_ref().is_some_and(|candidate| keys.matches(&candidate.fingerprint, subject));
    if expires_at <= now && !is_registered {
        return Err(Problem {
            reason: Reason::ExpiryInPast,
            message: format!(
                "the new secret in Secret {} has expired already ({expires_at:.0}), and nothing was sent: put in a valid one, or correct its expiry",
                reference.name
            ),
        });
    }
    let source = UsableSource {
        fingerprint: keys.fingerprint(subject),
        expires_at,
        expiry_source,
        is_registered,
        is_candidate,
        looks_like_an_id: secret.expose().parse::<TenantId>().is_ok(),
    };
    Ok((source, secret))
}

fn client_secret(data: &SecretData, reference: &SecretRef) -> Result<SecretText, Problem> {
    let (name, key) = (&reference.name, reference.client_secret_key());
    let problem = |reason, message| Err(Problem { reason, message });
    let Some(bytes) = data.get(key) else {
        return problem(
            Reason::KeyMissing,
            format!(
                "Secret {name} has no key {key}: add it, or name the right one in spec.secretRef.clientSecretKey"
            ),
        );
    };
    if bytes.expose().is_empty() {
        return problem(
            Reason::EmptyValue,
            format!("key {key} of Secret {name} is empty: put the client secret's Value into it"),
        );
    }
    let stray = format!(
        "key {key} of Secret {name} holds a line break, white space around the value or bytes that are no text, with which Microsoft refuses it: write the value without (echo -n, or stringData)"
    );
    match bytes.to_text() {
        Some(text) if !text.has_stray_whitespace() => Ok(text),
        _ => problem(Reason::SurroundingWhitespace, stray),
    }
}

/// The Secret's own expiry wins, for it changes together with the secret.
fn expiry(
    data: &SecretData,
    object: &MicrosoftGraphCredential,
) -> Result<(Timestamp, ExpirySource), Problem> {
    let reference = &object.spec.secret_ref;
    let (name, key) = (&reference.name, reference.expires_at_key());
    if let Some(bytes) = data.get(key) {
        let read = bytes.to_text().and_then(|text| parse_expiry(text.expose()));
        return read.map(|at| (at, ExpirySource::Secret)).ok_or_else(|| Problem {
            reason: Reason::ExpiryInvalid,
            message: format!(
                "key {key} of Secret {name} is no date: write it like 2027-11-28T23:59:59Z or 2027-11-28"
            ),
        });
    }
    match &object.spec.secret_expires_at {
        Some(at) => Ok((at.0, ExpirySource::Spec)),
        None => Err(Problem {
            reason: Reason::ExpiryMissing,
            message: format!(
                "nothing says when the secret expires: add key {key} to Secret {name}, or set spec.secretExpiresAt"
            ),
        }),
    }
}

/// RFC 3339, or a plain date taken as 00:00 UTC; white space around it does no harm. `9999-12-31` and the like, for
/// "never", are taken for the last time there is.
fn parse_expiry(text: &str) -> Option<Timestamp> {
    date_time::parse_or_date(text.trim())
}

fn unusable(reason: Reason, message: String) -> Read {
    Read { source: Source::Unusable(Problem { reason, message }), secret: None, version: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_in_both_forms() {
        for (text, expected) in [
            ("2027-11-28T23:59:59Z", Some("2027-11-28T23:59:59Z")),
            (" 2027-11-29T00:59:59+01:00\n", Some("2027-11-28T23:59:59Z")),
            ("2027-11-28", Some("2027-11-28T00:00:00Z")),
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
