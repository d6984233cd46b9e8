//! A double of Microsoft's token endpoint, `POST /{tenant}/oauth2/v2.0/token`. It issues tokens for the apps
//! and secrets in its state, rejects others with Microsoft's codes, fails on demand, and records the
//! requests.
//!
//! Tenants and clients are compared without regard to case. Methods create an app that does not exist yet.

use std::time::Duration;

pub use crate::double::RetryAfter;
pub use crate::double::entra::fault::Fault;
pub use crate::double::entra::record::{Outcome, SentCredential, TokenRequest};
pub use crate::double::entra::rejection::Layout;
pub use crate::double::entra::state::AppState;
pub use crate::double::entra::token::TOKEN_SIGNATURE;

use crate::double::app_key::AppKey;
use crate::double::entra::assertion::{FederatedCredential, TrustedCertificate};
use crate::double::entra::handler::Handler;
use crate::double::entra::state::App;
use crate::double::{Double, lock};

/// A running double of Entra; stops when dropped. Its URL is the authority.
pub type Entra = Double<Handler>;

impl Entra {
    // --- state

    /// A tenant without apps: requests get 700016 instead of 90002.
    pub fn add_tenant(&self, tenant: &str) {
        lock(&self.handler.state).add_tenant(tenant);
    }

    /// Removes the tenant and its apps: 90002.
    pub fn remove_tenant(&self, tenant: &str) {
        lock(&self.handler.state).remove_tenant(tenant);
    }

    /// An active app (and its tenant) without secrets, with the roles `Mail.ReadWrite` and `Mail.Send`.
    pub fn add_app(&self, tenant: &str, client: &str) {
        self.app(tenant, client, |_| {});
    }

    /// Removes the app: 700016.
    pub fn remove_app(&self, tenant: &str, client: &str) {
        lock(&self.handler.state).remove_app(tenant, client);
    }

    /// Exactly these secrets, valid at once.
    pub fn set_secrets(&self, tenant: &str, client: &str, secrets: &[&str]) {
        self.app(tenant, client, |app| app.set_secrets(secrets));
    }

    /// One more secret, valid at once.
    pub fn add_secret(&self, tenant: &str, client: &str, secret: &str) {
        self.propagate_after(tenant, client, secret, 0);
    }

    /// Removes a secret: 7000215.
    pub fn remove_secret(&self, tenant: &str, client: &str, secret: &str) {
        self.app(tenant, client, |app| app.remove_secret(secret));
    }

    /// Marks a secret as expired, and adds it if it is new: 7000222.
    pub fn expire_secret(&self, tenant: &str, client: &str, secret: &str) {
        self.app(tenant, client, |app| app.expire_secret(secret));
    }

    /// Adds or replaces a secret that is rejected with 7000215 for the next `tries` token requests with it.
    /// Woodpecker's own verification is rejected as long, and uses up no attempt.
    pub fn propagate_after(&self, tenant: &str, client: &str, secret: &str, tries: u32) {
        self.app(tenant, client, |app| app.add_secret(secret, tries));
    }

    /// The roles of the app's tokens; with none, the tokens have no `roles` claim.
    pub fn set_roles(&self, tenant: &str, client: &str, roles: &[&str]) {
        let roles = roles.iter().copied().map(str::to_owned).collect();
        self.app(tenant, client, |app| app.roles = roles);
    }

    /// Sets the state of the app; [`AppState::Active`] undoes every other state.
    pub fn set_state(&self, tenant: &str, client: &str, state: AppState) {
        self.app(tenant, client, |app| app.state = state);
    }

    /// 7000112.
    pub fn disable_app(&self, tenant: &str, client: &str) {
        self.set_state(tenant, client, AppState::Disabled);
    }

    /// 7000229.
    pub fn remove_service_principal(&self, tenant: &str, client: &str) {
        self.set_state(tenant, client, AppState::WithoutServicePrincipal);
    }

    // --- identities: apps that are registered in a home tenant, and used in others

    /// The app in its home tenant trusts tokens of a ServiceAccount with exactly these claims, in every tenant that has
    /// consented. Its client secrets are those of the home tenant.
    pub fn trust_federated(&self, home: &str, client: &str, issuer: &str, subject: &str, audience: &str) {
        let (issuer, subject, audience) = (issuer.to_owned(), subject.to_owned(), audience.to_owned());
        let mut state = lock(&self.handler.state);
        state.registration(home, client).federated.push(FederatedCredential { issuer, subject, audience });
    }

    /// Removes all federated credentials of the app: 70025.
    pub fn distrust_federated(&self, home: &str, client: &str) {
        lock(&self.handler.state).registration(home, client).federated.clear();
    }

    /// Whether Entra fails to fetch the keys of the issuer: 90061.
    pub fn set_issuer_unreachable(&self, home: &str, client: &str, is_unreachable: bool) {
        lock(&self.handler.state).registration(home, client).is_issuer_unreachable = is_unreachable;
    }

    /// The app in its home tenant has this certificate, in PEM with its RSA key of 2048 bits, of which only the public
    /// part is kept. Returns whether they could be read.
    #[must_use]
    pub fn trust_certificate(&self, home: &str, client: &str, certificate: &[u8], key: &[u8]) -> bool {
        let certificate = TrustedCertificate::new(certificate, key);
        let is_read = certificate.is_some();
        lock(&self.handler.state).registration(home, client).certificates.extend(certificate);
        is_read
    }

    /// An admin of the tenant consents to these roles: the tenant gets a service principal of the app.
    pub fn consent(&self, tenant: &str, client: &str, roles: &[&str]) {
        self.set_roles(tenant, client, roles);
    }

    // --- settings

    /// Seconds until a token expires; 3599 by default. The operator's time scale does not change it.
    pub fn token_lifetime(&self, seconds: i64) {
        lock(&self.handler.behavior).token_lifetime = seconds;
    }

    /// The layout of `error_description`; [`Layout::Lines`] by default.
    pub fn layout(&self, layout: Layout) {
        lock(&self.handler.behavior).layout = layout;
    }

    /// The only accepted scope; `https://graph.microsoft.com/.default` by default.
    pub fn accept_scope(&self, scope: &str) {
        scope.clone_into(&mut lock(&self.handler.behavior).scope);
    }

    /// The duration of every token request; zero by default.
    pub fn service_time(&self, time: Duration) {
        lock(&self.handler.behavior).service_time = time;
    }

    // --- requests

    /// All token requests, in order of arrival.
    pub fn requests(&self) -> Vec<TokenRequest> {
        lock(&self.handler.requests).clone()
    }

    /// The number of token requests of this app, answered or not.
    pub fn count(&self, tenant: &str, client: &str) -> usize {
        let app = AppKey::new(tenant, client);
        let requests = lock(&self.handler.requests);
        let of_app = |it: &&TokenRequest| AppKey::new(&it.tenant, &it.client) == app;
        requests.iter().filter(of_app).count()
    }

    /// The maximum number of token requests that were open at once.
    pub fn max_in_flight(&self) -> usize {
        self.handler.in_flight.max()
    }

    /// The number of open token requests.
    pub fn in_flight(&self) -> usize {
        self.handler.in_flight.now()
    }

    /// Requests to anything but the token endpoint, as `METHOD /path`; the operator must make none.
    pub fn unexpected_requests(&self) -> Vec<String> {
        lock(&self.handler.unexpected_requests).clone()
    }

    fn app(&self, tenant: &str, client: &str, change: impl FnOnce(&mut App)) {
        change(lock(&self.handler.state).app(tenant, client));
    }
}
