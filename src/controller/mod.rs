//! The reconcile loop, one file per step of the way: a change wakes the queue (`credentials`), `guard` wraps
//! the pass, `observe` gathers, `decide` chooses, `act` carries out, `report` tells.

mod accounts;
mod act;
mod backoff;
mod calls;
mod claims;
mod context;
mod credentials;
mod decide;
mod error;
mod events;
mod guard;
mod holdings;
mod index;
mod invalid;
mod jitter;
mod observe;
mod observed;
mod pass;
mod report;
mod scope;
mod sightings;
mod sources;
mod status;
mod triggers;
mod watches;

use crate::telemetry::logs::chain;
use std::sync::Arc;

pub use self::accounts::Accounts;
pub use self::calls::Calls;
pub use self::claims::Claims;
pub use self::context::Context;
pub use self::events::Events;
pub use self::holdings::Holdings;
pub use self::index::Index;
pub use self::observed::Rules;
pub use self::scope::Scope;
pub use self::sightings::Sightings;
pub use self::watches::{Scopes, Watches};

/// Runs all loops until `context.stop` is cancelled and the passes under way have ended.
pub async fn run(context: Arc<Context>, mut watches: Watches) {
    let mut loops = tokio::task::JoinSet::new();
    let pace = sources::Pace::new(context.rules.timing.secret_poll_pace);
    let watches = watches.take();
    for watch in &watches {
        for kind in [credentials::KIND, accounts::queue::KIND] {
            context.readiness.wait_for(&triggers::gate(kind, &watch.scope), "the watch is being opened");
        }
    }
    context.readiness.arrived("controller");
    for watch in watches {
        loops.spawn(sources::run(context.clone(), watch.scope, pace.clone()));
        loops.spawn(accounts::queue::run(context.clone(), watch.accounts));
        loops.spawn(credentials::run(context.clone(), watch.credentials));
    }
    while let Some(ended) = loops.join_next().await {
        if let Err(error) = ended {
            tracing::error!(error = chain(&error), "a loop of the controller ended unexpectedly");
            context.stop.cancel();
        }
    }
}
