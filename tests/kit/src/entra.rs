//! A double of Microsoft's token endpoint, `POST /{tenant}/oauth2/v2.0/token`: it issues tokens for the apps and secrets in
//! its books, refuses the others with Microsoft's codes, goes wrong on demand, and remembers who asked.
//!
//! Tenants and clients are compared without regard to case. Whatever names an app that is not there yet makes it.

use std::sync::Arc;
use std::time::Duration;

pub use crate::double::RetryAfter;
pub use crate::double::entra::books::AppState;
pub use crate::double::entra::fault::Fault;
pub use crate::double::entra::record::{Outcome, TokenRequest};
pub use crate::double::entra::refusal::Layout;
pub use crate::double::entra::token::TOKEN_SIGNATURE;

use crate::double::entra::books::{App, AppKey};
use crate::double::entra::desk::Desk;
use crate::double::lock;
use crate::double::server::Server;

/// A running double of Entra; stops when dropped.
pub struct Entra {
    desk: Arc<Desk>,
    server: Server,
}

impl Entra {
    /// Starts on a free loopback port, with empty books.
    pub async fn start() -> Self {
        let desk = Arc::new(Desk::new());
        let serving = Arc::clone(&desk);
        let server = Server::start(move |request| Arc::clone(&serving).serve(request)).await;
        Self { desk, server }
    }

    /// The authority, `http://127.0.0.1:<port>`, without a slash at its end.
    pub fn url(&self) -> String {
        self.server.url()
    }

    // --- books

    /// A tenant without apps: requests get 700016 instead of 90002.
    pub fn add_tenant(&self, tenant: &str) {
        lock(&self.desk.books).add_tenant(tenant);
    }

    /// Forgets the tenant and its apps: 90002.
    pub fn remove_tenant(&self, tenant: &str) {
        lock(&self.desk.books).remove_tenant(tenant);
    }

    /// An active app (and its tenant) without secrets, with the roles `Mail.ReadWrite` and `Mail.Send`.
    pub fn add_app(&self, tenant: &str, client: &str) {
        self.app(tenant, client, |_| {});
    }

    /// Forgets the app: 700016.
    pub fn remove_app(&self, tenant: &str, client: &str) {
        lock(&self.desk.books).remove_app(tenant, client);
    }

    /// Exactly these secrets, valid at once.
    pub fn set_secrets(&self, tenant: &str, client: &str, secrets: &[&str]) {
        self.app(tenant, client, |app| app.set_secrets(secrets));
    }

    /// One more secret, valid at once.
    pub fn add_secret(&self, tenant: &str, client: &str, secret: &str) {
        self.propagate_after(tenant, client, secret, 0);
    }

    /// Forgets a secret: 7000215.
    pub fn remove_secret(&self, tenant: &str, client: &str, secret: &str) {
        self.app(tenant, client, |app| app.remove_secret(secret));
    }

    /// Marks a secret as expired, adding it where it is new: 7000222.
    pub fn expire_secret(&self, tenant: &str, client: &str, secret: &str) {
        self.app(tenant, client, |app| app.expire_secret(secret));
    }

    /// Adds a secret, or replaces it, that is refused with 7000215 for the next `tries` token requests that carry it.
    /// Woodpecker's own look is refused as long, and uses up no try.
    pub fn propagate_after(&self, tenant: &str, client: &str, secret: &str, tries: u32) {
        self.app(tenant, client, |app| app.add_secret(secret, tries));
    }

    /// The roles of the app's tokens; with none, the tokens have no `roles` claim.
    pub fn set_roles(&self, tenant: &str, client: &str, roles: &[&str]) {
        let roles = roles.iter().copied().map(str::to_owned).collect();
        self.app(tenant, client, |app| app.roles = roles);
    }

    /// How the app stands; [`AppState::Active`] undoes every other state.
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

    // --- manners

    /// The layout of `error_description`; [`Layout::Lines`] at first.
    pub fn layout(&self, layout: Layout) {
        lock(&self.desk.manners).layout = layout;
    }

    /// The one scope that is accepted; `https://graph.microsoft.com/.default` at first.
    pub fn accept_scope(&self, scope: &str) {
        scope.clone_into(&mut lock(&self.desk.manners).scope);
    }

    /// How long every token request takes; nothing at first.
    pub fn service_time(&self, time: Duration) {
        lock(&self.desk.manners).service_time = time;
    }

    /// Divides all delays of the double, as the operator's `--time-scale` does; 0 counts as 1.
    pub fn time_scale(&self, scale: u32) {
        self.desk.delays.divide_by(scale);
    }

    // --- faults: those of an app before those of all, counted ones before standing ones, in the order given

    /// The next `n` requests, of whatever app.
    pub fn fail_next(&self, n: usize, fault: Fault) {
        lock(&self.desk.script).fail_next(None, n, fault);
    }

    /// Every request until [`Entra::heal`].
    pub fn fail_always(&self, fault: Fault) {
        lock(&self.desk.script).fail_always(None, fault);
    }

    /// The next `n` requests of this app.
    pub fn fail_app_next(&self, tenant: &str, client: &str, n: usize, fault: Fault) {
        let app = Some(AppKey::new(tenant, client));
        lock(&self.desk.script).fail_next(app, n, fault);
    }

    /// Every request of this app until [`Entra::heal`] or [`Entra::heal_app`].
    pub fn fail_app_always(&self, tenant: &str, client: &str, fault: Fault) {
        let app = Some(AppKey::new(tenant, client));
        lock(&self.desk.script).fail_always(app, fault);
    }

    /// Ends this app's own faults.
    pub fn heal_app(&self, tenant: &str, client: &str) {
        let app = Some(AppKey::new(tenant, client));
        lock(&self.desk.script).heal(&app);
    }

    /// Ends all faults, those still waiting included.
    pub fn heal(&self) {
        lock(&self.desk.script).heal_all();
    }

    // --- what was asked

    /// All token requests, in order of arrival.
    pub fn requests(&self) -> Vec<TokenRequest> {
        lock(&self.desk.requests).clone()
    }

    /// How many token requests this app has made, answered or not.
    pub fn count(&self, tenant: &str, client: &str) -> usize {
        let app = AppKey::new(tenant, client);
        let requests = lock(&self.desk.requests);
        let of_app = |it: &&TokenRequest| AppKey::new(&it.tenant, &it.client) == app;
        requests.iter().filter(of_app).count()
    }

    /// The most token requests that were ever open at once.
    pub fn max_in_flight(&self) -> usize {
        self.desk.in_flight.most()
    }

    /// How many token requests are open now.
    pub fn in_flight(&self) -> usize {
        self.desk.in_flight.now()
    }

    /// Requests to anything but the token endpoint, as `METHOD /path`: an operator in order makes none.
    pub fn strays(&self) -> Vec<String> {
        lock(&self.desk.strays).clone()
    }

    pub(crate) fn desk(&self) -> Arc<Desk> {
        Arc::clone(&self.desk)
    }

    fn app(&self, tenant: &str, client: &str, change: impl FnOnce(&mut App)) {
        change(lock(&self.desk.books).app(tenant, client));
    }
}
