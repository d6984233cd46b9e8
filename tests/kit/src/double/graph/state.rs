//! The state of the double of Graph: what each app has, and what reads show of it. A response is a function of this
//! state and the time alone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::record::SecretRecord;
use crate::double::Delays;
use crate::double::app_key::AppKey;

/// The apps by tenant and client.
pub(crate) type State = BTreeMap<AppKey, App>;

/// What a tenant knows about an app.
#[derive(Default)]
pub(crate) struct App {
    content: Content,
    /// So many reads show an earlier content.
    lag: Option<(usize, Content)>,
    /// Adds and removals that reads may not show yet.
    recent: Vec<Change>,
    /// Reads since the last change; every second one is outdated if reads alternate.
    reads: usize,
    /// Client IDs of the identities that are owners, in lower case.
    pub(crate) owners: BTreeSet<String>,
    pub(crate) rules: AppRules,
    pub(crate) history: Vec<SecretRecord>,
    /// When a write last took effect.
    pub(super) last_write: Option<Instant>,
    /// Writes that were too close to the last one.
    pub(super) conflicts: usize,
}

/// What the tenant has of an app.
#[derive(Clone, Debug, Default)]
struct Content {
    /// The client secrets of the application; `None` if it is not in this tenant.
    application: Option<Vec<PasswordEntry>>,
    /// The same for its service principal.
    principal: Option<Vec<PasswordEntry>>,
    home: Option<String>,
}

/// An entry that was added or removed.
#[derive(Clone, Debug)]
struct Change {
    at: Instant,
    kind: ChangeKind,
    entry: PasswordEntry,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ChangeKind {
    Added,
    Removed,
}

/// How far reads lag behind writes. Durations are divided by the double's time scale.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadLag {
    /// How long reads do not show a new secret. A removal does not find it either.
    pub adds: Duration,
    /// How long reads show a removed secret.
    pub removals: Duration,
    /// Whether only every second read is outdated, as if two servers answered in turn.
    pub alternates: bool,
}

/// What the tenant allows for an app.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AppRules {
    /// What a policy of the tenant forbids.
    pub policy: Option<Policy>,
    /// Personal accounts may use the app, which limits it to two client secrets.
    pub allows_personal_accounts: bool,
    /// The app has so many values that no further one fits.
    pub is_full: bool,
    /// New client secrets have no hint.
    pub hides_hints: bool,
}

/// What a policy of a tenant forbids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// New client secrets with a longer lifetime.
    LongerThan(Duration),
    /// New client secrets.
    Secrets,
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
    /// Replaces all secrets at once; reads show it at once.
    pub(crate) fn set(&mut self, holder: Holder, entries: Option<&[PasswordEntry]>) {
        let entries = entries.map(<[PasswordEntry]>::to_vec);
        match holder {
            Holder::ServicePrincipal => self.content.principal = entries,
            Holder::Application => {
                let (now, kept) = (Timestamp::now(), entries.as_deref().unwrap_or_default());
                let is_kept = |record: &SecretRecord| kept.iter().any(|it| it.key_id == record.key_id);
                for record in self.history.iter_mut().filter(|it| it.is_live() && !is_kept(it)) {
                    record.removed_at = Some(now);
                }
                for entry in kept {
                    if self.live(&entry.key_id).is_none() {
                        self.history.push(SecretRecord::of(entry, None));
                    }
                }
                self.recent.clear();
                self.content.application = entries;
            }
        }
    }

    pub(crate) fn set_home(&mut self, tenant: &str) {
        self.content.home = Some(tenant.to_owned());
    }

    pub(crate) fn application(&self) -> Option<&[PasswordEntry]> {
        self.content.application.as_deref()
    }

    pub(crate) fn lag_next(&mut self, reads: usize) {
        self.lag = Some((reads, self.content.clone()));
    }

    /// Adds a secret to the application, created if it is new.
    pub(super) fn add(&mut self, entry: PasswordEntry, record: SecretRecord) {
        self.change(ChangeKind::Added, entry.clone());
        self.content.application.get_or_insert_default().push(entry);
        self.history.push(record);
    }

    /// Removes a secret of the application; returns its record if there was one.
    pub(super) fn remove(&mut self, key_id: &str, by: Option<&str>) -> Option<SecretRecord> {
        let entries = self.content.application.as_mut()?;
        let index = entries.iter().position(|it| it.key_id.eq_ignore_ascii_case(key_id))?;
        let entry = entries.remove(index);
        let record = self.history.iter_mut().find(|it| it.is_live() && it.key_id == entry.key_id)?;
        record.removed_at = Some(Timestamp::now());
        record.removed_by = by.map(str::to_owned);
        let removed = record.clone();
        self.change(ChangeKind::Removed, entry);
        Some(removed)
    }

    fn change(&mut self, kind: ChangeKind, entry: PasswordEntry) {
        self.recent.push(Change { at: Instant::now(), kind, entry });
        self.reads = 0;
    }

    fn live(&self, key_id: &str) -> Option<&SecretRecord> {
        self.history.iter().find(|it| it.is_live() && it.key_id == key_id)
    }

    /// Whether a removal finds this secret: not before reads show that it was added.
    pub(super) fn finds(&mut self, key_id: &str, lag: &ReadLag) -> bool {
        let shown = self.shown(lag);
        let is_it = |it: &PasswordEntry| it.key_id.eq_ignore_ascii_case(key_id);
        let exists = self.content.application.iter().flatten().any(is_it);
        exists && shown.application.iter().flatten().any(is_it)
    }

    /// The body of one read; `None` if there is no such object. `lag` is scaled.
    pub(crate) fn read(&mut self, holder: Holder, key: (&str, &str), lag: &ReadLag) -> Option<Value> {
        let audience = if self.rules.allows_personal_accounts {
            "AzureADandPersonalMicrosoftAccount"
        } else {
            "AzureADMyOrg"
        };
        let shown = self.shown(lag);
        shown.body(holder, key, audience)
    }

    /// What the next read shows.
    fn shown(&mut self, lag: &ReadLag) -> Content {
        if let Some((reads_left, earlier)) = &mut self.lag {
            if *reads_left > 0 {
                *reads_left -= 1;
                return earlier.clone();
            }
            self.lag = None;
        }
        let now = Instant::now();
        self.recent.retain(|change| {
            let lasts = match change.kind {
                ChangeKind::Added => lag.adds,
                ChangeKind::Removed => lag.removals,
            };
            now.duration_since(change.at) < lasts
        });
        self.reads += 1;
        let mut shown = self.content.clone();
        if lag.alternates && self.reads.is_multiple_of(2) {
            return shown;
        }
        if let Some(entries) = &mut shown.application {
            let of = |kind| self.recent.iter().filter(move |it| it.kind == kind).map(|it| &it.entry);
            entries.extend(of(ChangeKind::Removed).cloned());
            entries.retain(|entry| !of(ChangeKind::Added).any(|it| it.key_id == entry.key_id));
        }
        shown
    }
}

// === impl Content ===

impl Content {
    fn body(&self, holder: Holder, (tenant, client): (&str, &str), audience: &str) -> Option<Value> {
        let entries = match holder {
            Holder::Application => self.application.as_ref()?,
            Holder::ServicePrincipal => self.principal.as_ref()?,
        };
        let credentials: Vec<Value> = entries.iter().map(PasswordEntry::body).collect();
        let mut body = json!({
            "id": "03ef14b0-ca33-4840-8f4f-d6e91916010e", "appId": client, "passwordCredentials": credentials,
            "signInAudience": audience,
        });
        if holder == Holder::ServicePrincipal {
            body["appOwnerOrganizationId"] = json!(self.home.as_deref().unwrap_or(tenant));
        }
        Some(body)
    }
}

// === impl ReadLag ===

impl ReadLag {
    /// The same by the double's time scale.
    pub(super) fn scaled(self, delays: &Delays) -> Self {
        Self { adds: delays.scaled(self.adds), removals: delays.scaled(self.removals), ..self }
    }
}

// === impl SecretRecord ===

impl SecretRecord {
    pub(super) fn of(entry: &PasswordEntry, by: Option<&str>) -> Self {
        Self {
            key_id: entry.key_id.clone(),
            display_name: entry.display_name.clone(),
            end: entry.end.clone(),
            added_at: Timestamp::now(),
            added_by: by.map(str::to_owned),
            removed_at: None,
            removed_by: None,
            text: None,
        }
    }
}

// === impl PasswordEntry ===

impl PasswordEntry {
    /// The entry that Entra makes for this secret, valid since 2025.
    pub fn of(key_id: &str, secret: &str, end: &str) -> Self {
        Self {
            key_id: key_id.to_owned(),
            hint: Some(hint(secret)),
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

    /// As Graph shows it. The text of the secret is in the response to its addition alone.
    pub(super) fn body(&self) -> Value {
        json!({
            "customKeyIdentifier": null, "displayName": self.display_name, "endDateTime": self.end,
            "hint": self.hint, "keyId": self.key_id, "secretText": null, "startDateTime": self.start
        })
    }
}

/// What Graph shows of a secret.
pub(super) fn hint(secret: &str) -> String {
    secret.chars().take(3).collect()
}
