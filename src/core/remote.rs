//! A credential at a remote account, and the idempotency token in its name.

use jiff::Timestamp;

use crate::api::{ClientId, MAX_NAME_LENGTH, TenantId};

/// A credential in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub id: i64,
    /// Tenant of its app, lower case; empty if it could not be read.
    pub tenant: String,
    /// Client id of its app, lower case; empty if it could not be read.
    pub client: String,
    /// Its name as the listing shows it, cut after [`MAX_LENGTH`]; empty if the listing shows none.
    pub name: String,
    /// When its secret expires, if the listing has that in a known form.
    pub expires_at: Option<Timestamp>,
}

/// Most characters that are kept of a name in a listing: a few times as many as a name may have.
pub const MAX_LENGTH: usize = 1024;

/// Letters and digits of an idempotency token: none that look alike.
pub const TOKEN_ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// Letters and digits in a token.
pub const TOKEN_LENGTH: usize = 12;

/// An idempotency token as it appears in a name.
pub fn token_suffix(token: &str) -> String {
    format!("[{token}]")
}

/// The name that a create gives: the plain name and the token, the plain name truncated if both would be too long.
pub fn name_with_token(plain: &str, token: &str) -> String {
    let suffix = token_suffix(token);
    let room = MAX_NAME_LENGTH.saturating_sub(suffix.chars().count() + 1);
    format!("{} {suffix}", plain.chars().take(room).collect::<String>())
}

/// The plain name and the idempotency token, if the name ends with one.
pub fn split_token(name: &str) -> Option<(&str, &str)> {
    let (plain, token) = name.strip_suffix(']')?.rsplit_once(" [")?;
    let is_token =
        token.len() == TOKEN_LENGTH && token.bytes().all(|letter| TOKEN_ALPHABET.contains(&letter));
    is_token.then_some((plain, token))
}

// === impl Entry ===

impl Entry {
    /// Whether its app could not be read. It may be for any app, and is never changed.
    pub fn is_opaque(&self) -> bool {
        self.tenant.is_empty() || self.client.is_empty()
    }

    /// Whether it is for that app, as far as it can be read.
    pub fn may_be_for(&self, tenant: &TenantId, client: &ClientId) -> bool {
        let agrees = |read: &str, own: &str| read.is_empty() || read == own;
        agrees(&self.tenant, tenant.as_str()) && agrees(&self.client, client.as_str())
    }

    /// Whether it is for that app.
    pub fn is_for(&self, tenant: &TenantId, client: &ClientId) -> bool {
        self.tenant == tenant.as_str() && self.client == client.as_str()
    }

    /// Whether its name contains that idempotency token.
    pub fn has_token(&self, token: &str) -> bool {
        self.name.contains(&token_suffix(token))
    }

    /// The idempotency tokens in its name, and any other text in brackets.
    pub fn bracketed_texts(&self) -> impl Iterator<Item = &str> {
        bracketed(&self.name)
    }
}

/// Each text in brackets that contains no bracket.
pub fn bracketed(name: &str) -> impl Iterator<Item = &str> {
    let closed = name.rsplit_once(']').map_or("", |(closed, _)| closed);
    closed.split(']').filter_map(|part| part.rsplit_once('[').map(|(_, token)| token))
}
