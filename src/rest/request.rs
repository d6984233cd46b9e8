//! What requests say: their bodies, read strictly, and the id in their path. PURE.

use std::collections::HashMap;
use std::str::FromStr;

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::fault::Refusal;
use crate::resources::conditions::whole_second;
use crate::resources::{ClientId, MAX_NAME_LENGTH, TenantId, date_time};
use crate::secret::SecretText;
use crate::store::envelope::MAX_SECRET_LENGTH;

/// What a create asks for.
#[derive(Debug)]
pub struct Create {
    pub tenant: TenantId,
    pub client: ClientId,
    pub secret: NewSecret,
    /// The credential's name, where one is given.
    pub name: Option<String>,
}

/// What an update asks for: a secret, a name or both.
#[derive(Debug)]
pub struct Update {
    /// The secret that replaces the present one.
    pub secret: Option<NewSecret>,
    /// The name that replaces the present one.
    pub name: Option<String>,
}

/// A client secret that could be one.
#[derive(Clone, Debug)]
pub struct NewSecret {
    pub text: SecretText,
    /// When it expires, to the second.
    pub expires_at: Timestamp,
}

/// A credential's id in a path: a number from 1 to 2^53 − 1, written in the one usual way.
pub fn credential_id(text: &str) -> Option<i64> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|id| is_plain && (1..1 << 53).contains(id))
}

pub fn read_create(body: &[u8], now: Timestamp) -> Result<Create, Refusal> {
    let fields = read(body)?;
    if !fields.unknown.is_empty() {
        return Err(Refusal::UnknownField);
    }
    Ok(Create {
        tenant: guid(fields.tenant_id.as_ref()).ok_or(Refusal::InvalidTenantId)?,
        client: guid(fields.client_id.as_ref()).ok_or(Refusal::InvalidClientId)?,
        secret: secret(&fields, now)?,
        name: name(fields.name.as_ref())?,
    })
}

/// Reads the body of an update. Tenant and client cannot be changed: another app needs another credential.
pub fn read_update(body: &[u8], now: Timestamp) -> Result<Update, Refusal> {
    let fields = read(body)?;
    if !fields.unknown.is_empty() || fields.tenant_id.is_some() || fields.client_id.is_some() {
        return Err(Refusal::UnknownField);
    }
    let secret = match (&fields.client_secret, &fields.secret_expires_at) {
        (Some(_), Some(_)) => Some(secret(&fields, now)?),
        (None, None) => None,
        _ => return Err(Refusal::SecretAndExpiryBelongTogether),
    };
    let name = name(fields.name.as_ref())?;
    if secret.is_none() && name.is_none() {
        return Err(Refusal::NothingToUpdate);
    }
    Ok(Update { secret, name })
}

/// A body's fields; null counts as left out. Any of them may be the secret, put into the wrong one by mistake.
#[derive(Deserialize)]
struct Fields {
    tenant_id: Option<Given>,
    client_id: Option<Given>,
    client_secret: Option<Given>,
    secret_expires_at: Option<Given>,
    name: Option<Given>,
    #[serde(flatten)]
    unknown: HashMap<String, Given>,
}

/// The value of a field: every one of them is text, or it is wrong.
#[derive(Deserialize)]
#[serde(untagged)]
enum Given {
    Text(SecretText),
    Other(IgnoredAny),
}

fn read(body: &[u8]) -> Result<Fields, Refusal> {
    serde_json::from_slice(body).map_err(|_| Refusal::MalformedRequest)
}

fn text(given: Option<&Given>) -> Option<&str> {
    match given? {
        Given::Text(text) => Some(text.expose()),
        Given::Other(_) => None,
    }
}

fn guid<T: FromStr>(given: Option<&Given>) -> Option<T> {
    text(given)?.parse().ok()
}

fn secret(fields: &Fields, now: Timestamp) -> Result<NewSecret, Refusal> {
    let secret = text(fields.client_secret.as_ref()).map(|text| SecretText::new(text.to_owned()));
    let secret = secret.ok_or(Refusal::InvalidClientSecret)?;
    let is_possible = !secret.is_empty() && secret.expose().len() <= MAX_SECRET_LENGTH;
    if !is_possible || secret.has_stray_whitespace() {
        return Err(Refusal::InvalidClientSecret);
    }
    let expires_at = text(fields.secret_expires_at.as_ref())
        .and_then(date_time::parse_or_date)
        .ok_or(Refusal::InvalidSecretExpiresAt)?;
    if expires_at <= now {
        return Err(Refusal::SecretExpiresAtInPast);
    }
    Ok(NewSecret { text: secret, expires_at: whole_second(expires_at) })
}

fn name(given: Option<&Given>) -> Result<Option<String>, Refusal> {
    if given.is_none() {
        return Ok(None);
    }
    let is_possible = |text: &&str| {
        !text.trim().is_empty() && text.chars().count() <= MAX_NAME_LENGTH && !text.contains(char::is_control)
    };
    text(given).filter(is_possible).map(|text| Some(text.to_owned())).ok_or(Refusal::InvalidName)
}

#[cfg(test)]
mod tests;
