//! What requests say: their bodies, read strictly, and the id in their path. PURE.

use std::fmt;

use jiff::Timestamp;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::fault::Refusal;
use crate::resources::conditions::whole_second;
use crate::resources::{ClientId, MAX_NAME_LENGTH, TenantId, date_time};
use crate::secret::SecretText;
use crate::store::envelope::MAX_SECRET_LENGTH;

/// What a create asks for.
#[derive(Debug)]
pub struct Create {
    /// Tenant of the app.
    pub tenant: TenantId,
    /// Client id of the app.
    pub client: ClientId,
    /// Its secret.
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
    /// The secret.
    pub text: SecretText,
    /// When it expires, to the second.
    pub expires_at: Timestamp,
}

/// A credential's id in a path: a number from 1 to 2^53 − 1, written in the one usual way.
pub fn credential_id(text: &str) -> Option<i64> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|id| is_plain && (1..1 << 53).contains(id))
}

/// Reads the body of a create.
pub fn read_create(body: &[u8], now: Timestamp) -> Result<Create, Refusal> {
    let fields = read(body)?;
    if fields.has_unknown {
        return Err(Refusal::UnknownField);
    }
    Ok(Create {
        tenant: guid(&fields.tenant_id).ok_or(Refusal::InvalidTenantId)?,
        client: guid(&fields.client_id).ok_or(Refusal::InvalidClientId)?,
        secret: secret(&fields.client_secret, &fields.secret_expires_at, now)?,
        name: name(&fields.name)?,
    })
}

/// Reads the body of an update. Tenant and client cannot be changed: another app needs another credential.
pub fn read_update(body: &[u8], now: Timestamp) -> Result<Update, Refusal> {
    let fields = read(body)?;
    if fields.has_unknown || fields.tenant_id.is_given() || fields.client_id.is_given() {
        return Err(Refusal::UnknownField);
    }
    let secret = match (fields.client_secret.is_given(), fields.secret_expires_at.is_given()) {
        (true, true) => Some(secret(&fields.client_secret, &fields.secret_expires_at, now)?),
        (false, false) => None,
        _ => return Err(Refusal::SecretAndExpiryBelongTogether),
    };
    let name = name(&fields.name)?;
    if secret.is_none() && name.is_none() {
        return Err(Refusal::NothingToUpdate);
    }
    Ok(Update { secret, name })
}

/// A field as it was given.
#[derive(Clone, Default)]
enum Given {
    /// Not at all, or as null.
    #[default]
    Nothing,
    Text(SecretText),
    /// As something that is no text.
    Other,
}

/// A body's fields. Any of them may be the secret, put into the wrong one by mistake.
#[derive(Default)]
struct Fields {
    tenant_id: Given,
    client_id: Given,
    client_secret: Given,
    secret_expires_at: Given,
    name: Given,
    has_unknown: bool,
    has_duplicate: bool,
}

fn read(body: &[u8]) -> Result<Fields, Refusal> {
    let fields: Fields = serde_json::from_slice(body).map_err(|_| Refusal::MalformedRequest)?;
    if fields.has_duplicate { Err(Refusal::MalformedRequest) } else { Ok(fields) }
}

fn guid<T: std::str::FromStr>(given: &Given) -> Option<T> {
    given.text()?.parse().ok()
}

fn secret(text: &Given, expires_at: &Given, now: Timestamp) -> Result<NewSecret, Refusal> {
    let Given::Text(text) = text else { return Err(Refusal::InvalidClientSecret) };
    let is_possible = !text.is_empty() && text.expose().len() <= MAX_SECRET_LENGTH;
    if !is_possible || text.has_stray_whitespace() {
        return Err(Refusal::InvalidClientSecret);
    }
    let expires_at =
        expires_at.text().and_then(date_time::parse_or_date).ok_or(Refusal::InvalidSecretExpiresAt)?;
    if expires_at <= now {
        return Err(Refusal::SecretExpiresAtInPast);
    }
    Ok(NewSecret { text: text.clone(), expires_at: whole_second(expires_at) })
}

fn name(given: &Given) -> Result<Option<String>, Refusal> {
    let text = match given {
        Given::Nothing => return Ok(None),
        Given::Text(text) => text.expose(),
        Given::Other => return Err(Refusal::InvalidName),
    };
    let is_fine = !text.trim().is_empty()
        && text.chars().count() <= MAX_NAME_LENGTH
        && !text.contains(char::is_control);
    if is_fine { Ok(Some(text.to_owned())) } else { Err(Refusal::InvalidName) }
}

// === impl Given ===

impl Given {
    fn is_given(&self) -> bool {
        !matches!(self, Self::Nothing)
    }

    fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text.expose()),
            Self::Nothing | Self::Other => None,
        }
    }
}

impl<'de> Deserialize<'de> for Given {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(GivenVisitor)
    }
}

struct GivenVisitor;

impl<'de> Visitor<'de> for GivenVisitor {
    type Value = Given;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field")
    }

    fn visit_unit<E>(self) -> Result<Given, E> {
        Ok(Given::Nothing)
    }

    fn visit_str<E>(self, text: &str) -> Result<Given, E> {
        Ok(Given::Text(SecretText::new(text.to_owned())))
    }

    fn visit_string<E>(self, text: String) -> Result<Given, E> {
        Ok(Given::Text(SecretText::new(text)))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Given, E> {
        Ok(Given::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Given, E> {
        Ok(Given::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Given, E> {
        Ok(Given::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Given, E> {
        Ok(Given::Other)
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut list: A) -> Result<Given, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Given::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Given, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Given::Other)
    }
}

// === impl Fields ===

impl Fields {
    fn slot(&mut self, name: &str) -> Option<&mut Given> {
        match name {
            "tenant_id" => Some(&mut self.tenant_id),
            "client_id" => Some(&mut self.client_id),
            "client_secret" => Some(&mut self.client_secret),
            "secret_expires_at" => Some(&mut self.secret_expires_at),
            "name" => Some(&mut self.name),
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
        let mut fields = Fields::default();
        let mut seen = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            let Some(slot) = fields.slot(&name) else {
                map.next_value::<IgnoredAny>()?;
                fields.has_unknown = true;
                continue;
            };
            *slot = map.next_value()?;
            fields.has_duplicate |= seen.contains(&name);
            seen.push(name);
        }
        Ok(fields)
    }
}

#[cfg(test)]
mod tests;
