//! The reconcile loop, one file per step of the way: a change wakes the queue (`credentials`), `guard` wraps
//! the pass, `observe` gathers, `decide` chooses, `act` carries out, `report` tells.

mod accounts;
mod act;
mod backoff;
mod calls;
mod claims;
mod credentials;
mod decide;
mod error;
mod events;
mod guard;
mod index;
mod invalid;
mod jitter;
mod observe;
mod observed;
mod pass;
mod report;
mod scope;
mod sources;
mod status;
mod triggers;

use std::sync::Arc;

use kube::Client;
use tokio_util::sync::CancellationToken;

pub use self::accounts::Accounts;
pub use self::calls::Calls;
pub use self::claims::Claims;
pub use self::events::Events;
pub use self::index::Index;
pub use self::observed::Rules;
pub use self::scope::{Scope, Scopes};
use crate::microsoft::TokenEndpoint;
use crate::store::fingerprint::FingerprintKeys;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::probes::Readiness;

/// The field manager of everything that the operator applies.
pub const FIELD_MANAGER: &str = "graph-credential-operator";

/// What every pass may use.
pub struct Context {
    /// Client of the Kubernetes API, without retries of its own and with a bound on every answer.
    pub client: Client,
    /// What the administrator has decided.
    pub rules: Rules,
    /// Passes at the same time, per kind.
    pub max_concurrent_passes: u16,
    /// Keys of fingerprints.
    pub fingerprints: FingerprintKeys,
    /// Microsoft.
    pub token_endpoint: TokenEndpoint,
    /// The Woodpecker accounts.
    pub accounts: Accounts,
    /// Who registers which app where.
    pub claims: Claims,
    /// Which object points to which Secret, account and app.
    pub index: Index,
    /// Wakes objects.
    pub calls: Calls,
    /// Tells people.
    pub events: Events,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// What is not there yet.
    pub readiness: Readiness,
    /// The namespaces served, with what is known of their objects.
    pub scopes: Scopes,
    /// Cancelled when no new step may begin.
    pub stop: CancellationToken,
}

/// Runs all loops until `context.stop` is cancelled and the passes under way have ended.
pub async fn run(context: Arc<Context>, mut watches: scope::Watches) {
    let mut loops = tokio::task::JoinSet::new();
    loops.spawn(sources::poll(context.clone()));
    for watch in watches.take() {
        loops.spawn(accounts::run(context.clone(), watch.accounts));
        loops.spawn(credentials::run(context.clone(), watch.credentials));
    }
    while let Some(ended) = loops.join_next().await {
        if let Err(error) = ended {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "a loop of the controller ended unexpectedly"
            );
            context.stop.cancel();
        }
    }
}
