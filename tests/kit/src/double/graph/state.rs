//! The state of the double of Graph: what each app has. A response is a function of this state alone.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::double::app_key::AppKey;

/// The apps by tenant and client.
pub(crate) type State = BTreeMap<AppKey, App>;

/// What a tenant knows about an app.
#[derive(Clone, Debug, Default)]
pub(crate) struct App {
    /// The client secrets of the application; `None` if it is not in this tenant.
    pub(crate) application: Option<Vec<PasswordEntry>>,
    /// The same for its service principal.
    principal: Option<Vec<PasswordEntry>>,
    pub(crate) home: Option<String>,
    lag: Option<Lag>,
}

/// Reads that show an earlier state.
#[derive(Clone, Debug)]
struct Lag {
    reads_left: usize,
    earlier: Box<App>,
}

/// Whose secrets are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    Application,
    ServicePrincipal,
}

/// An entry of `passwordCredentials`. Source: Microsoft Graph, "passwordCredential resource type".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PasswordEntry {
    /// A GUID.
    pub key_id: String,
    /// The first three characters of the secret; older entries have none.
    pub hint: Option<String>,
    /// As it is sent.
    pub start: Option<String>,
    /// As it is sent.
    pub end: Option<String>,
    /// Its description.
    pub display_name: Option<String>,
}

// === impl App ===

impl App {
    pub(crate) fn set(&mut self, holder: Holder, entries: Option<&[PasswordEntry]>) {
        let entries = entries.map(<[PasswordEntry]>::to_vec);
        match holder {
            Holder::Application => self.application = entries,
            Holder::ServicePrincipal => self.principal = entries,
        }
    }

    pub(crate) fn lag_next(&mut self, reads: usize) {
        let earlier = Box::new(Self { lag: None, ..self.clone() });
        self.lag = Some(Lag { reads_left: reads, earlier });
    }

    /// The body of one read; `None` if there is no such object.
    pub(crate) fn read(&mut self, holder: Holder, tenant: &str, client: &str) -> Option<Value> {
        if let Some(lag) = &mut self.lag {
            if lag.reads_left > 0 {
                lag.reads_left -= 1;
                return lag.earlier.body(holder, tenant, client);
            }
            self.lag = None;
        }
        self.body(holder, tenant, client)
    }

    fn body(&self, holder: Holder, tenant: &str, client: &str) -> Option<Value> {
        let entries = match holder {
            Holder::Application => self.application.as_ref()?,
            Holder::ServicePrincipal => self.principal.as_ref()?,
        };
        let credentials: Vec<Value> = entries.iter().map(PasswordEntry::body).collect();
        let mut body = json!({
            "id": "03ef14b0-ca33-4840-8f4f-d6e91916010e", "appId": client, "passwordCredentials": credentials
        });
        if holder == Holder::ServicePrincipal {
            body["appOwnerOrganizationId"] = json!(self.home.as_deref().unwrap_or(tenant));
        }
        Some(body)
    }
}

// === impl PasswordEntry ===

impl PasswordEntry {
    /// The entry that Entra makes for this secret, valid since 2025.
    pub fn of(key_id: &str, secret: &str, end: &str) -> Self {
        Self {
            key_id: key_id.to_owned(),
            hint: Some(secret.chars().take(3).collect()),
            start: Some("2025-01-01T00:00:00Z".to_owned()),
            end: Some(end.to_owned()),
            display_name: Some("by hand".to_owned()),
        }
    }

    /// The same without a hint, as the older API made it.
    #[must_use]
    pub fn without_hint(mut self) -> Self {
        self.hint = None;
        self.display_name = None;
        self
    }

    fn body(&self) -> Value {
        json!({
            "customKeyIdentifier": null, "displayName": self.display_name, "endDateTime": self.end,
            "hint": self.hint, "keyId": self.key_id, "secretText": null, "startDateTime": self.start
        })
    }
}
