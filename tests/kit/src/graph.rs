//! A double of Microsoft Graph: applications and service principals with their client secrets. It answers reads
//! with a token of the double of Entra, can be outdated as Graph is, fails on demand, and records the requests.
//!
//! Tenants and clients are compared without regard to case.

use std::time::Duration;

pub use crate::double::RetryAfter;
pub use crate::double::graph::fault::Fault;
pub use crate::double::graph::record::{GraphRequest, Op};
pub use crate::double::graph::state::PasswordEntry;

use crate::double::app_key::AppKey;
use crate::double::graph::handler::Handler;
use crate::double::graph::state::{App, Holder};
use crate::double::{Double, lock};

/// A running double of Graph; stops when dropped. Its URL is without the version.
pub type Graph = Double<Handler>;

impl Graph {
    // --- state

    /// The application has exactly these client secrets.
    pub fn set_application(&self, tenant: &str, client: &str, entries: &[PasswordEntry]) {
        self.app(tenant, client, |app| app.set(Holder::Application, Some(entries)));
    }

    /// The service principal in the tenant has exactly these client secrets. Its application is in the same tenant
    /// unless [`Graph::set_home_tenant`] says otherwise.
    pub fn set_service_principal(&self, tenant: &str, client: &str, entries: &[PasswordEntry]) {
        self.app(tenant, client, |app| app.set(Holder::ServicePrincipal, Some(entries)));
    }

    /// Removes the application from the tenant: 404.
    pub fn remove_application(&self, tenant: &str, client: &str) {
        self.app(tenant, client, |app| app.set(Holder::Application, None));
    }

    /// The tenant that the service principal names as that of its application.
    pub fn set_home_tenant(&self, tenant: &str, client: &str, home: &str) {
        self.app(tenant, client, |app| app.home = Some(home.to_owned()));
    }

    /// The next `n` reads of this app show what it has now, whatever changes until then.
    pub fn lag_next(&self, tenant: &str, client: &str, n: usize) {
        self.app(tenant, client, |app| app.lag_next(n));
    }

    /// The client secrets of the application; `None` if it is not in the tenant.
    pub fn application(&self, tenant: &str, client: &str) -> Option<Vec<PasswordEntry>> {
        lock(&self.handler.state).get(&AppKey::new(tenant, client))?.application.clone()
    }

    // --- settings

    /// Single applications answer 403 to `Application.ReadWrite.OwnedBy`, and only lists show them.
    pub fn forbid_single_reads(&self) {
        lock(&self.handler.behavior).forbids_single_reads = true;
    }

    /// The duration of every request; zero by default.
    pub fn service_time(&self, time: Duration) {
        lock(&self.handler.behavior).service_time = time;
    }

    // --- requests

    /// All requests, in order of arrival.
    pub fn requests(&self) -> Vec<GraphRequest> {
        lock(&self.handler.requests).clone()
    }

    /// The number of requests about this app, answered or not.
    pub fn count(&self, tenant: &str, client: &str) -> usize {
        let app = AppKey::new(tenant, client);
        let requests = lock(&self.handler.requests);
        requests.iter().filter(|it| AppKey::new(&it.tenant, &it.client) == app).count()
    }

    /// Requests to other paths, as `METHOD /path`; the operator must make none.
    pub fn unexpected_requests(&self) -> Vec<String> {
        lock(&self.handler.unexpected_requests).clone()
    }

    fn app(&self, tenant: &str, client: &str, change: impl FnOnce(&mut App)) {
        change(lock(&self.handler.state).entry(AppKey::new(tenant, client)).or_default());
    }
}
