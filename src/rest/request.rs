//! Parsing of requests: their bodies, strictly, and the id in their path.

use std::collections::HashMap;
use std::str::FromStr;

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::api::conditions::whole_second;
use crate::api::{ClientId, MAX_NAME_LENGTH, TenantId, timestamp};
use crate::core::secret_value::ValueKind;
use crate::rest::error::{Detail, ErrorCode, RestError};
use crate::secret_text::SecretText;

#[derive(Debug)]
pub struct Create {
    pub tenant: TenantId,
    pub client: ClientId,
    pub secret: NewSecret,
    pub name: Option<String>,
}

/// An update of the secret, the name or both.
#[derive(Debug)]
pub struct Update {
    pub secret: Option<NewSecret>,
    pub name: Option<String>,
}

/// A well-formed client secret.
#[derive(Clone, Debug)]
pub struct NewSecret {
    pub text: SecretText,
    /// Truncated to the second.
    pub expires_at: Timestamp,
}

/// What happens to fields that an endpoint does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownFields {
    /// The request is rejected, because a misspelled field would otherwise be lost.
    Reject,
    /// They are ignored.
    Ignore,
}

/// A credential's id in a path: a number from 1 to 2^53 − 1, without sign or leading zeros.
pub fn credential_id(text: &str) -> Option<i64> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|id| is_plain && (1..1 << 53).contains(id))
}

pub fn read_create(body: &[u8], now: Timestamp, unknown: UnknownFields) -> Result<Create, RestError> {
    let fields = read(body)?;
    if unknown == UnknownFields::Reject && has_unknown_field(body) {
        return Err(ErrorCode::UnknownField.into());
    }
    Ok(Create {
        tenant: guid(fields.tenant_id.as_ref()).ok_or(ErrorCode::InvalidTenantId)?,
        client: guid(fields.client_id.as_ref()).ok_or(ErrorCode::InvalidClientId)?,
        secret: secret(&fields, now)?,
        name: name(fields.name.as_ref())?,
    })
}

/// Tenant and client cannot be changed: another app needs another credential.
pub fn read_update(body: &[u8], now: Timestamp, unknown: UnknownFields) -> Result<Update, RestError> {
    let fields = read(body)?;
    let names_app = fields.tenant_id.is_some() || fields.client_id.is_some();
    if unknown == UnknownFields::Reject && (names_app || has_unknown_field(body)) {
        return Err(ErrorCode::UnknownField.into());
    }
    let secret = match (&fields.client_secret, &fields.secret_expires_at) {
        (Some(_), Some(_)) => Some(secret(&fields, now)?),
        (None, None) => None,
        _ => return Err(ErrorCode::SecretAndExpiryBelongTogether.into()),
    };
    let name = name(fields.name.as_ref())?;
    if secret.is_none() && name.is_none() {
        return Err(ErrorCode::NothingToUpdate.into());
    }
    Ok(Update { secret, name })
}

/// The fields of a body; null counts as missing. Each may contain the secret by mistake, so none is shown.
#[derive(Deserialize)]
struct RawFields {
    tenant_id: Option<RawField>,
    client_id: Option<RawField>,
    client_secret: Option<RawField>,
    secret_expires_at: Option<RawField>,
    name: Option<RawField>,
}

/// The names of the fields of a body.
const FIELDS: [&str; 5] = ["tenant_id", "client_id", "client_secret", "secret_expires_at", "name"];

/// The value of a field. Only text is valid.
#[derive(Deserialize)]
#[serde(untagged)]
enum RawField {
    Text(SecretText),
    Other(IgnoredAny),
}

fn read(body: &[u8]) -> Result<RawFields, ErrorCode> {
    // An array would be read as the values of the fields.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(ErrorCode::MalformedRequest);
    }
    serde_json::from_slice(body).map_err(|_| ErrorCode::MalformedRequest)
}

/// Whether a body has a field that no endpoint knows. Read apart and without the values, because `serde(flatten)` buffers
/// all of them.
#[expect(clippy::zero_sized_map_values, reason = "there is no set of the names of an object")]
fn has_unknown_field(body: &[u8]) -> bool {
    let fields = serde_json::from_slice::<HashMap<String, IgnoredAny>>(body);
    !fields.is_ok_and(|fields| fields.keys().all(|name| FIELDS.contains(&name.as_str())))
}

fn text(field: Option<&RawField>) -> Option<&str> {
    match field? {
        RawField::Text(text) => Some(text.expose()),
        RawField::Other(_) => None,
    }
}

fn guid<T: FromStr>(field: Option<&RawField>) -> Option<T> {
    text(field)?.parse().ok()
}

fn secret(fields: &RawFields, now: Timestamp) -> Result<NewSecret, RestError> {
    let secret = text(fields.client_secret.as_ref()).ok_or(ErrorCode::InvalidClientSecret)?;
    let unusable = |code, field, problem| RestError::Rejected(code, Some(Detail::Unusable(field, problem)));
    ValueKind::ClientSecret
        .check(secret.as_bytes())
        .map_err(|problem| unusable(ErrorCode::InvalidClientSecret, "client_secret", problem))?;
    let expiry = text(fields.secret_expires_at.as_ref()).ok_or(ErrorCode::InvalidSecretExpiresAt)?;
    ValueKind::Expiry
        .check(expiry.as_bytes())
        .map_err(|problem| unusable(ErrorCode::InvalidSecretExpiresAt, "secret_expires_at", problem))?;
    let expires_at = timestamp::parse_or_date(expiry).ok_or(ErrorCode::InvalidSecretExpiresAt)?;
    if expires_at <= now {
        return Err(ErrorCode::SecretExpiresAtInPast.into());
    }
    Ok(NewSecret { text: SecretText::new(secret.to_owned()), expires_at: whole_second(expires_at) })
}

fn name(field: Option<&RawField>) -> Result<Option<String>, ErrorCode> {
    if field.is_none() {
        return Ok(None);
    }
    let is_valid = |text: &&str| {
        !text.trim().is_empty() && text.chars().count() <= MAX_NAME_LENGTH && !text.contains(char::is_control)
    };
    text(field).filter(is_valid).map(|text| Some(text.to_owned())).ok_or(ErrorCode::InvalidName)
}

#[cfg(test)]
mod tests;
