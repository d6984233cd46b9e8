//! Checks an access token of the double of Entra as Graph checks Entra's.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::Deserialize;

use crate::entra::TOKEN_SIGNATURE;

/// The claims that Graph needs.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Claims {
    aud: String,
    exp: i64,
    pub(super) appid: String,
    pub(super) tid: String,
    #[serde(default)]
    roles: Vec<String>,
}

/// Why a token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenError {
    Empty,
    Unreadable,
    WrongAudience,
    Expired,
}

// === impl Claims ===

impl Claims {
    /// Reads the value of an `Authorization` header.
    pub(super) fn read(header: Option<&str>) -> Result<Self, TokenError> {
        let token = header.and_then(|it| it.strip_prefix("Bearer ")).ok_or(TokenError::Empty)?;
        let parts: Vec<&str> = token.split('.').collect();
        let [_, claims, TOKEN_SIGNATURE] = parts.as_slice() else { return Err(TokenError::Unreadable) };
        let claims = URL_SAFE_NO_PAD.decode(claims).map_err(|_| TokenError::Unreadable)?;
        let claims: Self = serde_json::from_slice(&claims).map_err(|_| TokenError::Unreadable)?;
        if claims.aud != "https://graph.microsoft.com" {
            return Err(TokenError::WrongAudience);
        }
        if claims.exp <= Timestamp::now().as_second() {
            return Err(TokenError::Expired);
        }
        Ok(claims)
    }

    /// Whether a role allows to read any app, alone.
    pub(super) fn reads_all(&self) -> bool {
        self.has("Application.Read.All") || self.has("Application.ReadWrite.All")
    }

    /// Whether a role allows to list all apps, and to manage those that it owns.
    pub(super) fn lists_all(&self) -> bool {
        self.reads_all() || self.has("Application.ReadWrite.OwnedBy")
    }

    /// Whether a role allows to change any app, alone.
    pub(super) fn writes_all(&self) -> bool {
        self.has("Application.ReadWrite.All")
    }

    /// Whether a role allows to change the apps that the identity owns.
    pub(super) fn writes_owned(&self) -> bool {
        self.has("Application.ReadWrite.OwnedBy")
    }

    fn has(&self, role: &str) -> bool {
        self.roles.iter().any(|have| have == role)
    }
}

// === impl TokenError ===

impl TokenError {
    /// The message of Graph's 401.
    pub(super) fn message(self) -> &'static str {
        match self {
            Self::Empty => "Access token is empty.",
            Self::Unreadable => "CompactToken parsing failed with error code: 80049217",
            Self::WrongAudience => "Access token validation failure. Invalid audience.",
            Self::Expired => "Access token has expired or is not yet valid.",
        }
    }
}
