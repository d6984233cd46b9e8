//! Notices changes of the Secrets that objects point to, by the best way that the operator's rights allow.
//!
//! Where it may watch Secrets, a stream of their metadata feeds an index of referenced names, and nothing
//! is stored. Where it may only `get`, it asks for the metadata of each referenced Secret every minute, at
//! most ten a second. Rights may come and go while it runs.

mod poll;
mod rights;
mod watch;

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::Mutex;
use tokio::time::{Interval, MissedTickBehavior};

use super::context::Context;
use super::index::Named;
use super::scope::Scope;
use crate::secrets::SecretVersion;
use crate::telemetry::logs::chain;

pub use self::rights::Access;

/// Keeps single requests of all scopes apart.
#[derive(Clone)]
pub struct Pace(Arc<Mutex<Interval>>);

/// What was last seen of each referenced Secret of a scope.
#[derive(Debug, Default)]
struct Seen(HashMap<Named, State>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    There(SecretVersion),
    Missing,
    Forbidden,
}

/// Notices changes in a scope until the controller stops.
pub async fn run(context: Arc<Context>, scope: Scope, pace: Pace) {
    let mut seen = Seen::default();
    let mut known = None;
    while !context.stop.is_cancelled() {
        let access = match context.stop.run_until_cancelled(rights::ask(&context.client, &scope)).await {
            None => return,
            Some(Ok(access)) => access,
            Some(Err(error)) => {
                tracing::warn!(?scope, error = chain(&error), "failed to ask which Secrets may be watched");
                known.unwrap_or(Access::Get)
            }
        };
        if known.replace(access) != Some(access) {
            tracing::info!(?scope, ?access, "this is how changes of Secrets are noticed");
        }
        match access {
            Access::Watch => watch::watch(&context, &scope, &mut seen).await,
            Access::Get => poll::round(&context, &scope, &pace, &mut seen).await,
        }
    }
}

// === impl Pace ===

impl Pace {
    /// One request at most in every such period.
    pub fn new(period: std::time::Duration) -> Self {
        let mut interval = tokio::time::interval(period);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self(Arc::new(Mutex::new(interval)))
    }

    async fn wait(&self) {
        self.0.lock().await.tick().await;
    }
}

// === impl Seen ===

impl Seen {
    /// Notes how a referenced Secret is now, and wakes who points to it where that is news.
    ///
    /// The pass over a new object has read its Secret a moment ago, but perhaps an older version of it than
    /// the first look sees: one pass too many is cheap, a missed change is not.
    fn note(&mut self, context: &Context, secret: Named, now: State) {
        if self.0.get(&secret) == Some(&now) {
            return;
        }
        tracing::debug!(%secret, "a Secret changed");
        for referrer in context.index.referrers(&secret) {
            context.call(&referrer);
        }
        self.0.insert(secret, now);
    }

    /// Forgets Secrets that nothing points to any more.
    fn keep(&mut self, referenced: &[Named]) {
        self.0.retain(|secret, _| referenced.binary_search(secret).is_ok());
    }
}

/// The Secrets of a scope that something points to, in order.
fn referenced(context: &Context, scope: &Scope) -> Vec<Named> {
    let mut secrets = context.index.secrets();
    secrets.retain(|secret| scope.covers(&secret.namespace));
    secrets
}
