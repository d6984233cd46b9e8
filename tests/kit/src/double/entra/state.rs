//! The state of the double of Entra: tenants, apps, their secrets and roles. A decision is a function of this
//! state alone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use jiff::Timestamp;

use super::assertion::{Assertion, FederatedCredential, TrustedCertificate};
use super::rejection::Cause;
use crate::double::SecretText;
use crate::double::app_key::AppKey;

/// The state of an app in its tenant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AppState {
    /// Tokens are issued for its secrets.
    #[default]
    Active,
    /// AADSTS7000112.
    Disabled,
    /// AADSTS7000229.
    WithoutServicePrincipal,
    /// AADSTS700025.
    PublicClient,
    /// AADSTS53003: Conditional Access rejects even a valid secret.
    BlockedByPolicy,
}

#[derive(Default)]
pub(crate) struct State {
    tenants: BTreeSet<String>,
    apps: BTreeMap<AppKey, App>,
    /// By client in lower case: apps that are registered in one tenant and used in others.
    registrations: BTreeMap<String, Registration>,
}

/// What an app can sign in with in every tenant that has a service principal of it.
pub(crate) struct Registration {
    /// In lower case. The client secrets are those of the app in this tenant.
    home: String,
    pub(crate) federated: Vec<FederatedCredential>,
    pub(crate) certificates: Vec<TrustedCertificate>,
    pub(crate) is_issuer_unreachable: bool,
}

pub(crate) struct App {
    pub(crate) state: AppState,
    pub(crate) roles: Vec<String>,
    secrets: Vec<Entry>,
}

struct Entry {
    text: SecretText,
    expired: bool,
    /// How many more attempts are rejected because the secret has not propagated.
    rejections_left: u32,
    /// `None` for one that is valid at once and until it is removed.
    validity: Option<Validity>,
}

/// When a secret that Graph made works.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Validity {
    pub(crate) tokens_from: Instant,
    /// The same for Woodpecker's own verification.
    pub(crate) woodpecker_from: Instant,
    /// Its removal has propagated.
    pub(crate) until: Option<Instant>,
    pub(crate) expires_at: Option<Timestamp>,
}

/// Whether an attempt uses up one of the rejections of a propagating secret.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attempt {
    Counted,
    /// Woodpecker's own verification.
    Uncounted,
}

// === impl State ===

impl State {
    pub(crate) fn add_tenant(&mut self, tenant: &str) {
        self.tenants.insert(tenant.to_ascii_lowercase());
    }

    /// Removes a tenant with all its apps.
    pub(crate) fn remove_tenant(&mut self, tenant: &str) {
        let tenant = tenant.to_ascii_lowercase();
        self.tenants.remove(&tenant);
        self.apps.retain(|app, _| app.tenant != tenant);
    }

    pub(crate) fn remove_app(&mut self, tenant: &str, client: &str) {
        self.apps.remove(&AppKey::new(tenant, client));
    }

    /// The app, created (with its tenant) if it is new.
    pub(crate) fn app(&mut self, tenant: &str, client: &str) -> &mut App {
        self.add_tenant(tenant);
        self.apps.entry(AppKey::new(tenant, client)).or_default()
    }

    /// The registration of an app in its home tenant, created (with app and tenant) if it is new.
    pub(crate) fn registration(&mut self, home: &str, client: &str) -> &mut Registration {
        self.app(home, client);
        self.registrations.entry(client.to_ascii_lowercase()).or_insert_with(|| Registration {
            home: home.to_ascii_lowercase(),
            federated: Vec::new(),
            certificates: Vec::new(),
            is_issuer_unreachable: false,
        })
    }

    /// The roles for a token that is requested with an assertion, or why none is issued.
    pub(crate) fn authenticate_assertion(
        &self,
        tenant: &str,
        client: &str,
        assertion: &Assertion,
    ) -> Result<Vec<String>, Cause> {
        self.check_tenant(tenant)?;
        let app = self.apps.get(&AppKey::new(tenant, client)).ok_or(Cause::UnknownApp)?;
        app.check_state()?;
        let registration = self.registrations.get(&client.to_ascii_lowercase());
        if assertion.is_of_certificate() {
            let trusted = registration.map(|it| it.certificates.as_slice()).unwrap_or_default();
            assertion.check_signed(client, tenant, trusted)?;
        } else {
            if registration.is_some_and(|it| it.is_issuer_unreachable) {
                return Err(Cause::UnreachableIssuer);
            }
            let trusted = registration.map(|it| it.federated.as_slice()).unwrap_or_default();
            assertion.check_federated(trusted)?;
        }
        if app.state == AppState::BlockedByPolicy {
            return Err(Cause::BlockedByPolicy);
        }
        Ok(app.roles.clone())
    }

    /// The roles for a token, or why none is issued.
    pub(crate) fn authenticate(
        &mut self,
        tenant: &str,
        client: &str,
        secret: &SecretText,
        attempt: Attempt,
    ) -> Result<Vec<String>, Cause> {
        self.check_tenant(tenant)?;
        let key = AppKey::new(tenant, client);
        let app = self.apps.get(&key).ok_or(Cause::UnknownApp)?;
        app.check_state()?;
        let (state, roles) = (app.state, app.roles.clone());
        let registration = self.registrations.get(&client.to_ascii_lowercase());
        let owner = registration.map_or(key, |it| AppKey::new(&it.home, client));
        self.apps.get_mut(&owner).ok_or(Cause::UnknownApp)?.check_secret(secret, attempt)?;
        if state == AppState::BlockedByPolicy {
            return Err(Cause::BlockedByPolicy);
        }
        Ok(roles)
    }

    fn check_tenant(&self, tenant: &str) -> Result<(), Cause> {
        let tenant = tenant.to_ascii_lowercase();
        if matches!(tenant.as_str(), "common" | "consumers" | "organizations") {
            return Err(Cause::SharedTenant);
        }
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
        if tenant.is_empty() || !tenant.chars().all(is_name) {
            return Err(Cause::MalformedTenant);
        }
        if !self.tenants.contains(&tenant) {
            return Err(Cause::UnknownTenant);
        }
        Ok(())
    }
}

// === impl App ===

impl App {
    pub(crate) fn add_secret(&mut self, secret: &str, rejections_left: u32) {
        self.remove_secret(secret);
        let text = SecretText::new(secret);
        self.secrets.push(Entry { text, expired: false, rejections_left, validity: None });
    }

    pub(crate) fn add(&mut self, text: SecretText, validity: Validity) {
        self.secrets.push(Entry { text, expired: false, rejections_left: 0, validity: Some(validity) });
    }

    pub(crate) fn end(&mut self, text: &SecretText, until: Instant) {
        for validity in self.secrets.iter_mut().filter(|it| it.text == *text).flat_map(|it| &mut it.validity)
        {
            validity.until = Some(until);
        }
    }

    pub(crate) fn remove_secret(&mut self, secret: &str) {
        self.secrets.retain(|entry| !entry.text.is(secret));
    }

    pub(crate) fn set_secrets(&mut self, secrets: &[&str]) {
        self.secrets.clear();
        for secret in secrets {
            self.add_secret(secret, 0);
        }
    }

    /// Marks a secret as expired; adds it if it is new.
    pub(crate) fn expire_secret(&mut self, secret: &str) {
        if !self.secrets.iter().any(|entry| entry.text.is(secret)) {
            self.add_secret(secret, 0);
        }
        for entry in &mut self.secrets {
            entry.expired |= entry.text.is(secret);
        }
    }

    fn check_state(&self) -> Result<(), Cause> {
        match self.state {
            AppState::Disabled => Err(Cause::AppDisabled),
            AppState::WithoutServicePrincipal => Err(Cause::NoServicePrincipal),
            AppState::PublicClient => Err(Cause::PublicClient),
            AppState::Active | AppState::BlockedByPolicy => Ok(()),
        }
    }

    fn check_secret(&mut self, secret: &SecretText, attempt: Attempt) -> Result<(), Cause> {
        let found = self.secrets.iter_mut().find(|entry| entry.text == *secret);
        let entry = found.ok_or(Cause::WrongSecret)?;
        if let Some(validity) = &entry.validity {
            validity.check(attempt)?;
        }
        if entry.expired {
            return Err(Cause::ExpiredSecret);
        }
        if entry.rejections_left > 0 {
            if attempt == Attempt::Counted {
                entry.rejections_left -= 1;
            }
            return Err(Cause::WrongSecret);
        }
        Ok(())
    }
}

// === impl Validity ===

impl Validity {
    fn check(&self, attempt: Attempt) -> Result<(), Cause> {
        let now = Instant::now();
        let from = match attempt {
            Attempt::Counted => self.tokens_from,
            Attempt::Uncounted => self.woodpecker_from,
        };
        if now < from || self.until.is_some_and(|until| until <= now) {
            return Err(Cause::WrongSecret);
        }
        if self.expires_at.is_some_and(|end| end <= Timestamp::now()) {
            return Err(Cause::ExpiredSecret);
        }
        Ok(())
    }
}

impl Default for App {
    fn default() -> Self {
        Self {
            state: AppState::default(),
            roles: ["Mail.ReadWrite", "Mail.Send"].map(str::to_owned).to_vec(),
            secrets: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authenticate(state: &mut State, secret: &str, attempt: Attempt) -> Result<Vec<String>, Cause> {
        state.authenticate("T", "c", &SecretText::new(secret), attempt)
    }

    #[test]
    fn uncounted_attempts_do_not_end_the_propagation() {
        let mut state = State::default();
        state.app("t", "C").add_secret("s", 1);
        assert_eq!(authenticate(&mut state, "s", Attempt::Uncounted), Err(Cause::WrongSecret));
        assert_eq!(authenticate(&mut state, "s", Attempt::Counted), Err(Cause::WrongSecret));
        assert!(authenticate(&mut state, "s", Attempt::Uncounted).is_ok());
    }

    #[test]
    fn a_blocked_app_still_rejects_a_wrong_secret_as_wrong() {
        let mut state = State::default();
        let app = state.app("t", "c");
        app.state = AppState::BlockedByPolicy;
        app.set_secrets(&["s"]);
        assert_eq!(authenticate(&mut state, "x", Attempt::Counted), Err(Cause::WrongSecret));
        assert_eq!(authenticate(&mut state, "s", Attempt::Counted), Err(Cause::BlockedByPolicy));
    }
}
