//! The handle of a running double: its start, its address, its time scale, and its faults.

use std::hash::Hash;
use std::sync::{Arc, Mutex};

use super::app_key::AppKey;
use super::http::{Reply, Request};
use super::script::Script;
use super::server::Server;
use super::{Delays, lock};

/// A running double of one service; stops when dropped.
pub struct Double<S> {
    pub(crate) handler: Arc<S>,
    server: Server,
}

/// What a double of a service consists of.
pub trait Service: Send + Sync + Sized + 'static {
    /// Which requests a fault is for.
    type Key: Eq + Hash;
    type Fault: Clone;

    /// With an empty state.
    fn new() -> Self;

    fn serve(self: Arc<Self>, request: Request) -> impl Future<Output = Reply> + Send;

    fn script(&self) -> &Mutex<Script<Self::Key, Self::Fault>>;

    fn delays(&self) -> &Delays;
}

/// A service whose requests are about apps.
pub trait AppService: Service {
    /// The key of all requests about this app, or about any app.
    fn key(app: Option<AppKey>) -> Self::Key;
}

impl<S: Service> Double<S> {
    /// Starts on a free loopback port, with an empty state.
    pub async fn start() -> Self {
        let handler = Arc::new(S::new());
        let serving = Arc::clone(&handler);
        let server = Server::start(move |request| Arc::clone(&serving).serve(request)).await;
        Self { handler, server }
    }

    /// The root, `http://127.0.0.1:<port>`, without a trailing slash.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Divides all delays of the double, as the operator's `--time-scale` does; 0 counts as 1.
    pub fn time_scale(&self, scale: u32) {
        self.handler.delays().divide_by(scale);
    }

    /// Ends all faults, including those that wait.
    pub fn clear_faults(&self) {
        lock(self.handler.script()).clear_all();
    }
}

// Faults of an app precede those of all, counted ones precede lasting ones, in the order given.
impl<S: AppService> Double<S> {
    /// The next `n` requests of any app fail.
    pub fn fail_next(&self, n: usize, fault: S::Fault) {
        lock(self.handler.script()).fail_next(S::key(None), n, fault);
    }

    /// Every request fails until [`Double::clear_faults`].
    pub fn fail_always(&self, fault: S::Fault) {
        lock(self.handler.script()).fail_always(S::key(None), fault);
    }

    /// The next `n` requests of this app fail.
    pub fn fail_app_next(&self, tenant: &str, client: &str, n: usize, fault: S::Fault) {
        let key = S::key(Some(AppKey::new(tenant, client)));
        lock(self.handler.script()).fail_next(key, n, fault);
    }

    /// Every request of this app fails until [`Double::clear_faults`] or [`Double::clear_app_faults`].
    pub fn fail_app_always(&self, tenant: &str, client: &str, fault: S::Fault) {
        let key = S::key(Some(AppKey::new(tenant, client)));
        lock(self.handler.script()).fail_always(key, fault);
    }

    /// Ends this app's own faults.
    pub fn clear_app_faults(&self, tenant: &str, client: &str) {
        let key = S::key(Some(AppKey::new(tenant, client)));
        lock(self.handler.script()).clear(&key);
    }
}
