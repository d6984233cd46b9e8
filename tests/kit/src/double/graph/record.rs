//! What the double of Graph records: requests, and the client secrets of each app from their making to their removal.

use jiff::Timestamp;
use serde_json::Value;

use crate::double::SecretText;
use crate::woodpecker::Credential;

/// A received request. The token is not kept.
#[derive(Clone, Debug)]
pub struct GraphRequest {
    /// When it arrived.
    pub at: Timestamp,
    /// What it does.
    pub op: Op,
    /// The tenant of the token; empty if it is not accepted.
    pub tenant: String,
    /// The client ID of the identity that the token is for; empty if it is not accepted.
    pub identity: String,
    /// The client ID that it is about, as sent.
    pub client: String,
    /// The properties in `$select`, as sent; empty for a write.
    pub select: String,
    /// The JSON body of a write, which contains no secret; null for a read.
    pub body: Value,
    /// The kind of the fault that it met, such as `Hang`.
    pub fault: Option<String>,
    /// Whether the write has taken effect so far.
    pub took_effect: bool,
    /// The HTTP status of the response; `None` until it is sent, and if there is none.
    pub status: Option<u16>,
    /// All headers in order, names in lower case; the value of `authorization` is replaced.
    pub headers: Vec<(String, String)>,
}

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Op {
    /// `GET /v1.0/applications(appId='…')`
    Application,
    /// `GET /v1.0/applications?$filter=appId eq '…'`
    ListApplications,
    /// `GET /v1.0/servicePrincipals(appId='…')`
    ServicePrincipal,
    /// `POST /v1.0/applications(appId='…')/addPassword`
    AddPassword,
    /// `POST /v1.0/applications(appId='…')/removePassword`
    RemovePassword,
}

/// A client secret that an application has or had, whatever reads show.
#[derive(Clone, Debug)]
pub struct SecretRecord {
    /// A GUID.
    pub key_id: String,
    /// Its description.
    pub display_name: Option<String>,
    /// Its end, as it is shown.
    pub end: Option<String>,
    /// When it was made.
    pub added_at: Timestamp,
    /// The client ID of the identity that made it; `None` if the test did.
    pub added_by: Option<String>,
    /// When it was removed.
    pub removed_at: Option<Timestamp>,
    /// The client ID of the identity that removed it; `None` if the test did, or if it is not removed.
    pub removed_by: Option<String>,
    pub(super) text: Option<SecretText>,
}

// === impl Op ===

impl Op {
    /// Whether it attempts a change.
    pub fn is_write(self) -> bool {
        matches!(self, Self::AddPassword | Self::RemovePassword)
    }
}

// === impl SecretRecord ===

impl SecretRecord {
    /// Whether the application still has it.
    pub fn is_live(&self) -> bool {
        self.removed_at.is_none()
    }

    /// Whether a credential at the double of Woodpecker has this secret; `false` if the double of Graph does not know its
    /// text.
    pub fn is_in(&self, credential: &Credential) -> bool {
        self.text.as_ref() == Some(&credential.secret)
    }

    /// Whether it is exactly this secret; `false` if the double does not know its text.
    pub fn secret_is(&self, text: &str) -> bool {
        self.text.as_ref().is_some_and(|it| it.is(text))
    }
}
