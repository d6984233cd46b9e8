//! addPassword and removePassword: what is rejected, and what changes. Source: Microsoft Graph, "application:
//! addPassword" and "application: removePassword".

use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::fault::{concurrent, error, not_found};
use super::record::{Op, SecretRecord};
use super::route::Route;
use super::state::{App, PasswordEntry, Policy, ReadLag, hint};
use crate::double::SecretText;
use crate::double::entra::handler::Handler as Entra;
use crate::double::entra::rejection::new_id;
use crate::double::entra::state::Validity;
use crate::double::http::HttpResponse;

/// A part of every secret that the double makes. A text that contains it contains a secret.
pub const SECRET_MARK: &str = "kit-made-secret";

/// The lifetime of a secret without `endDateTime`, in days.
const DEFAULT_DAYS: i64 = 730;

const POLICY: &str = "as per assigned policy '0d1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d'.";

/// When Entra accepts a new secret and rejects a removed one. Durations are divided by the double's time scale.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Propagation {
    /// How long token requests with a new secret are rejected with 7000215.
    pub tokens: Duration,
    /// The same for Woodpecker's own verification, which may reach other servers of Entra.
    pub woodpecker: Duration,
    /// How long a removed secret still works.
    pub removal: Duration,
}

/// A client secret that a test made by hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandMadeSecret {
    /// A GUID.
    pub key_id: String,
    /// Its text.
    pub text: String,
}

/// What a write needs besides its app. All durations are scaled.
#[derive(Clone)]
pub(crate) struct Surroundings {
    pub(crate) lag: ReadLag,
    pub(crate) spacing: Duration,
    pub(crate) propagation: Propagation,
    /// Where the secrets work; nowhere if it is not connected.
    pub(crate) entra: Option<Arc<Entra>>,
}

/// A secret to make.
pub(crate) struct New<'a> {
    pub(crate) display_name: Option<String>,
    pub(crate) end: Timestamp,
    /// As it is shown.
    pub(crate) shown_end: String,
    pub(crate) by: Option<&'a str>,
}

type Rejected = HttpResponse;

impl Surroundings {
    /// Performs a write that the identity `by` may do.
    pub(super) fn write(
        &self,
        app: &mut App,
        tenant: &str,
        route: &Route,
        by: &str,
    ) -> Result<HttpResponse, Rejected> {
        if app.application().is_none() || !route.has_length {
            return Err(not_found(&route.client));
        }
        match route.op {
            Op::RemovePassword => self.remove(app, tenant, route, by),
            _ => self.add(app, tenant, route, by),
        }
    }

    fn add(&self, app: &mut App, tenant: &str, route: &Route, by: &str) -> Result<HttpResponse, Rejected> {
        let (new, now) = (new_secret(&route.body, by)?, Timestamp::now());
        self.check_spacing(app)?;
        let rules = app.rules;
        match rules.policy {
            Some(Policy::Secrets) => {
                let text = format!("Credential type is not allowed {POLICY}");
                return Err(error(400, "CredentialTypeNotAllowedAsPerAppPolicy", &text));
            }
            Some(Policy::LongerThan(max)) if now.checked_add(max).is_ok_and(|latest| new.end > latest) => {
                let text = format!("Credential lifetime exceeds the max value allowed {POLICY}");
                return Err(error(400, "CredentialInvalidLifetimeAsPerAppPolicy", &text));
            }
            Some(Policy::LongerThan(_)) | None => {}
        }
        if rules.is_full {
            let text = "The size of the object has exceeded its limit. Please reduce the number of values and \
                        retry your request.";
            return Err(error(403, "Directory_ResourceSizeExceeded", text));
        }
        let count = app.application().map_or(0, <[PasswordEntry]>::len);
        if rules.allows_personal_accounts && count >= 2 {
            let text = format!(
                "Not allowed to add {} passwords. You can only add a maximum of 2 passwords.",
                count + 1
            );
            return Err(error(400, "Request_BadRequest", &text));
        }
        app.last_write = Some(Instant::now());
        let (entry, text) = self.make(app, (tenant, &route.client), new);
        let mut body = entry.body();
        body["@odata.context"] =
            json!("https://graph.microsoft.com/v1.0/$metadata#microsoft.graph.passwordCredential");
        body["secretText"] = json!(text);
        Ok(HttpResponse::json(200, &body))
    }

    fn remove(&self, app: &mut App, tenant: &str, route: &Route, by: &str) -> Result<HttpResponse, Rejected> {
        let key_id = route.body["keyId"].as_str().ok_or_else(|| bad_request("A keyId is required."))?;
        self.check_spacing(app)?;
        if !app.finds(key_id, &self.lag) {
            return Err(bad_request(&format!("No password credential found with keyId '{key_id}'.")));
        }
        app.last_write = Some(Instant::now());
        self.end(app, (tenant, &route.client), key_id, Some(by));
        Ok(HttpResponse::empty(204))
    }

    /// Rejects a write that follows another one too closely, with 409 and 400 in turn.
    fn check_spacing(&self, app: &mut App) -> Result<(), Rejected> {
        if app.last_write.is_none_or(|at| at.elapsed() >= self.spacing) {
            return Ok(());
        }
        app.conflicts += 1;
        Err(concurrent(if app.conflicts.is_multiple_of(2) { 400 } else { 409 }))
    }

    /// Makes a secret that works after its propagation.
    pub(crate) fn make(
        &self,
        app: &mut App,
        (tenant, client): (&str, &str),
        new: New<'_>,
    ) -> (PasswordEntry, String) {
        let text = secret_text();
        let entry = PasswordEntry {
            key_id: new_id(),
            hint: (!app.rules.hides_hints).then(|| hint(&text)),
            start: Some(Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.7fZ").to_string()),
            end: Some(new.shown_end),
            display_name: new.display_name,
        };
        let secret = SecretText::new(text.as_str());
        if let Some(entra) = &self.entra {
            let now = Instant::now();
            let validity = Validity {
                tokens_from: now + self.propagation.tokens,
                woodpecker_from: now + self.propagation.woodpecker,
                until: None,
                expires_at: Some(new.end),
            };
            entra.add_secret(tenant, client, secret.clone(), validity);
        }
        let record = SecretRecord { text: Some(secret), ..SecretRecord::of(&entry, new.by) };
        app.add(entry.clone(), record);
        (entry, text)
    }

    /// Removes a secret, which works for a while after that; returns whether the application had it.
    pub(crate) fn end(
        &self,
        app: &mut App,
        (tenant, client): (&str, &str),
        key_id: &str,
        by: Option<&str>,
    ) -> bool {
        let Some(removed) = app.remove(key_id, by) else { return false };
        if let (Some(entra), Some(text)) = (&self.entra, &removed.text) {
            entra.end_secret(tenant, client, text, Instant::now() + self.propagation.removal);
        }
        true
    }
}

/// Reads the body of addPassword.
fn new_secret<'a>(body: &Value, by: &'a str) -> Result<New<'a>, Rejected> {
    let given = body["passwordCredential"].as_object();
    let given = given.ok_or_else(|| bad_request("A value is required for property 'passwordCredential'."))?;
    let date = |name: &str| match given.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            let text = value.as_str().unwrap_or_default();
            let at = text.parse::<Timestamp>();
            at.map(|at| Some((at, text.to_owned()))).map_err(|_| bad_request("A date is not valid."))
        }
    };
    let now = Timestamp::now();
    if date("startDateTime")?.is_some_and(|(start, _)| start < now) {
        return Err(error(400, "KeyCredentialsInvalidStartDate", "Key credential start date is invalid."));
    }
    let (end, shown_end) = date("endDateTime")?.unwrap_or_else(|| {
        let end = now + SignedDuration::from_hours(24 * DEFAULT_DAYS);
        (end, end.strftime("%Y-%m-%dT%H:%M:%S%.7fZ").to_string())
    });
    if end <= now {
        return Err(error(400, "KeyCredentialsInvalidEndDate", "Key credential end date is invalid."));
    }
    let display_name = given.get("displayName").and_then(Value::as_str).map(str::to_owned);
    Ok(New { display_name, end, shown_end, by: Some(by) })
}

fn bad_request(message: &str) -> HttpResponse {
    error(400, "Request_BadRequest", message)
}

/// A text like those that Entra makes.
fn secret_text() -> String {
    let mut bytes = [0; 18];
    // Without randomness the key ID still tells secrets apart, and a test that needs more fails.
    let _ = getrandom::fill(&mut bytes);
    let random = URL_SAFE_NO_PAD.encode(bytes);
    format!("{}8Q~{SECRET_MARK}{}", &random[..3], &random[3..])
}
