//! The client secret of a credential and its expiry, as its Secret and its spec give them.

use jiff::Timestamp;

use crate::api::conditions::Reason;
use crate::api::{ExpirySource, MicrosoftGraphCredential, SecretRef, timestamp};
use crate::core::model::ConditionFailure;
use crate::core::secret_value::{SecretValue, ValueKind, ValueProblem};
use crate::k8s::secrets::SecretData;
use crate::secret_text::SecretText;

/// A client secret with its expiry.
#[derive(Debug)]
pub struct ClientSecret {
    pub secret: SecretText,
    /// `None` if the spec follows the expiry at Microsoft Entra: a given one is ignored.
    pub expiry: Option<(Timestamp, ExpirySource)>,
}

/// The client secret and its expiry, or what is wrong with them.
pub fn of(
    data: &SecretData,
    reference: &SecretRef,
    object: &MicrosoftGraphCredential,
) -> Result<ClientSecret, ConditionFailure> {
    let secret = data.text(&value(reference))?;
    let expiry = if object.spec.follows_entra() { None } else { Some(expiry(data, reference, object)?) };
    Ok(ClientSecret { secret, expiry })
}

/// Why a Secret that does not exist is needed. It must also have the expiry, unless the object has it or follows the one
/// at Microsoft Entra.
pub fn not_found(reference: &SecretRef, object: &MicrosoftGraphCredential) -> ConditionFailure {
    let needs_expiry = object.spec.secret_expires_at.is_none() && !object.spec.follows_entra();
    value(reference).not_found(needs_expiry.then(|| reference.expires_at_key()))
}

/// Why a new secret that has expired is not used.
pub fn already_expired(
    object: &MicrosoftGraphCredential,
    expires_at: Timestamp,
    expiry_source: ExpirySource,
) -> ConditionFailure {
    let secret = match &object.spec.secret_ref {
        Some(reference) => format!("the new secret in Secret {}", reference.name),
        None => "the new secret".to_owned(),
    };
    let message = match expiry_source {
        ExpirySource::Entra => format!(
            "{secret} has already expired at Microsoft Entra ({expires_at:.0}), so nothing was sent: put in a valid one"
        ),
        ExpirySource::Secret | ExpirySource::Spec => format!(
            "{secret} has already expired ({expires_at:.0}), so nothing was sent: put in a valid one, or correct its expiry"
        ),
    };
    ConditionFailure { reason: Reason::ExpiryInPast, message }
}

/// The value of the client secret, for messages about it.
pub fn value(reference: &SecretRef) -> SecretValue<'_> {
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
        ..value(reference)
    }
}

/// The Secret's own expiry takes precedence, because it changes together with the secret.
fn expiry(
    data: &SecretData,
    reference: &SecretRef,
    object: &MicrosoftGraphCredential,
) -> Result<(Timestamp, ExpirySource), ConditionFailure> {
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
                "the expiry of the secret is not given: add key {key} to Secret {name}, such as 2027-11-28, or set spec.secretExpiresAt"
            ),
        }),
    }
}

/// RFC 3339, or a date, read as the end of that day in UTC; surrounding white space is ignored. `9999-12-31` and the like, for "never",
/// become the last supported time.
fn parse_expiry(text: &str) -> Option<Timestamp> {
    timestamp::parse_or_date(text.trim())
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
