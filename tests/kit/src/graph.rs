//! A double of Microsoft Graph: applications and service principals with their client secrets. It answers requests with
//! a token of the double of Entra, makes and removes client secrets, can be outdated as Graph is, fails on demand, and
//! records the requests and what became of each secret.
//!
//! Tenants and clients are compared without regard to case. Methods create an app that does not exist yet.

use std::sync::Arc;
use std::time::Duration;

pub use crate::double::RetryAfter;
pub use crate::double::graph::fault::Fault;
pub use crate::double::graph::progress::Progress;
pub use crate::double::graph::record::{GraphRequest, Op, SecretRecord};
pub use crate::double::graph::state::{AppRules, PasswordEntry, Policy, ReadLag};
pub use crate::double::graph::writes::{HandMadeSecret, Propagation, SECRET_MARK};
pub use crate::double::progress::Point;

use jiff::Timestamp;
use tokio::sync::broadcast;

use crate::double::app_key::AppKey;
use crate::double::graph::handler::Handler;
use crate::double::graph::state::{App, Holder};
use crate::double::graph::writes::New;
use crate::double::{Double, lock};
use crate::entra::Entra;

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
        self.app(tenant, client, |app| app.set_home(home));
    }

    /// The next `n` reads of this app show what it has now, whatever changes until then.
    pub fn lag_next(&self, tenant: &str, client: &str, n: usize) {
        self.app(tenant, client, |app| app.lag_next(n));
    }

    /// The client secrets of the application; `None` if it is not in the tenant.
    pub fn application(&self, tenant: &str, client: &str) -> Option<Vec<PasswordEntry>> {
        let state = lock(&self.handler.state);
        state.get(&AppKey::new(tenant, client))?.application().map(<[PasswordEntry]>::to_vec)
    }

    /// The identity with this client ID becomes an owner of the application, which `Application.ReadWrite.OwnedBy` needs
    /// for writes.
    pub fn add_owner(&self, tenant: &str, client: &str, identity: &str) {
        self.app(tenant, client, |app| app.owners.insert(identity.to_ascii_lowercase()));
    }

    /// Undoes [`Graph::add_owner`].
    pub fn remove_owner(&self, tenant: &str, client: &str, identity: &str) {
        self.app(tenant, client, |app| app.owners.remove(&identity.to_ascii_lowercase()));
    }

    /// What the tenant allows for the application from now on.
    pub fn set_rules(&self, tenant: &str, client: &str, rules: AppRules) {
        self.app(tenant, client, |app| app.rules = rules);
    }

    // --- client secrets: what Graph has, whatever reads show

    /// Makes a client secret as a person does, which ends at that time (RFC 3339). It propagates as every other one. `None`
    /// if the time cannot be read.
    pub fn add_by_hand(&self, tenant: &str, client: &str, name: &str, end: &str) -> Option<HandMadeSecret> {
        let new = New {
            display_name: Some(name.to_owned()),
            end: end.parse::<Timestamp>().ok()?,
            shown_end: end.to_owned(),
            by: None,
        };
        let surroundings = self.handler.surroundings();
        let (entry, text) = self.app(tenant, client, |app| surroundings.make(app, (tenant, client), new));
        Some(HandMadeSecret { key_id: entry.key_id, text })
    }

    /// Removes a client secret as a person does; returns whether the application had it.
    pub fn remove_by_hand(&self, tenant: &str, client: &str, key_id: &str) -> bool {
        let surroundings = self.handler.surroundings();
        self.app(tenant, client, |app| surroundings.end(app, (tenant, client), key_id, None))
    }

    /// Every client secret that the application ever had, in the order of their making.
    pub fn history(&self, tenant: &str, client: &str) -> Vec<SecretRecord> {
        let state = lock(&self.handler.state);
        state.get(&AppKey::new(tenant, client)).map(|app| app.history.clone()).unwrap_or_default()
    }

    /// The client secrets that the application has now.
    pub fn live_secrets(&self, tenant: &str, client: &str) -> Vec<SecretRecord> {
        let mut all = self.history(tenant, client);
        all.retain(SecretRecord::is_live);
        all
    }

    // --- settings

    /// Single applications answer 403 to `Application.ReadWrite.OwnedBy`, and only lists show them.
    pub fn forbid_single_reads(&self) {
        lock(&self.handler.behavior).forbids_single_reads = true;
    }

    /// The secrets that this double makes work at that double of Entra, without a request. They stop working when they are
    /// removed or have expired.
    pub fn connect(&self, entra: &Entra) {
        lock(&self.handler.behavior).entra = Some(Arc::clone(&entra.handler));
    }

    /// When Entra accepts new secrets and rejects removed ones; at once by default.
    pub fn propagation(&self, propagation: Propagation) {
        lock(&self.handler.behavior).propagation = propagation;
    }

    /// How far reads lag behind writes; not at all by default.
    pub fn read_lag(&self, lag: ReadLag) {
        lock(&self.handler.behavior).read_lag = lag;
    }

    /// A write to an application that follows another one within this time is rejected, with 409 and 400 in turn; zero by
    /// default.
    pub fn write_spacing(&self, spacing: Duration) {
        lock(&self.handler.behavior).write_spacing = spacing;
    }

    /// The duration of every request; zero by default.
    pub fn service_time(&self, time: Duration) {
        lock(&self.handler.behavior).service_time = time;
    }

    // --- faults: those of an app and operation precede those of an app, of an operation, and of all, in this order

    /// The next `n` requests of this operation, of any app.
    pub fn fail_op_next(&self, op: Op, n: usize, fault: Fault) {
        lock(&self.handler.script).fail_next((None, Some(op)), n, fault);
    }

    /// Every request of this operation until [`Graph::clear_faults`].
    pub fn fail_op_always(&self, op: Op, fault: Fault) {
        lock(&self.handler.script).fail_always((None, Some(op)), fault);
    }

    /// The next `n` requests of this operation and app.
    pub fn fail_app_op_next(&self, tenant: &str, client: &str, op: Op, n: usize, fault: Fault) {
        let app = AppKey::new(tenant, client);
        lock(&self.handler.script).fail_next((Some(app), Some(op)), n, fault);
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

    /// Broadcasts the progress of each request with an accepted token from now on.
    pub fn follow(&self) -> broadcast::Receiver<Progress> {
        self.handler.progress.subscribe()
    }

    /// Requests to other paths, as `METHOD /path`; the operator must make none.
    pub fn unexpected_requests(&self) -> Vec<String> {
        lock(&self.handler.unexpected_requests).clone()
    }

    fn app<T>(&self, tenant: &str, client: &str, change: impl FnOnce(&mut App) -> T) -> T {
        change(lock(&self.handler.state).entry(AppKey::new(tenant, client)).or_default())
    }
}
