//! The reconcile loop, one file per step of the way: a change wakes the queue (`credentials`), `guard` wraps
//! the pass, `observe` gathers, `decide` chooses, `act` carries out, `report` tells.

mod accounts;
mod act;
mod calls;
mod claims;
mod context;
mod credentials;
mod decide;
mod error;
mod finalizers;
mod guard;
mod index;
mod invalid;
mod keyring;
mod kind;
mod observe;
mod observed;
mod pass;
mod queue;
mod record;
mod records;
mod report;
mod scope;
mod series;
mod sources;
mod status;
mod stranded;
mod version;

use std::sync::Arc;

use thiserror::Error;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use self::kind::gate;
use crate::resources::{MicrosoftGraphCredential, WoodpeckerAccount};
use crate::telemetry::logs::chain;

pub use self::accounts::Accounts;
pub use self::calls::Calls;
pub use self::context::Context;
pub use self::index::{Index, Named};
pub use self::observed::Rules;
pub use self::record::{Proof, RecordController, is_seen, next_status};
pub use self::records::{KnownRecords, observer};
pub use self::scope::Scope;
pub use self::sources::KnownSecrets;

/// A loop of the controller ended without being told to.
#[derive(Debug, Error)]
pub enum Broken {
    #[error("a loop of the controller failed: this is a defect of the operator")]
    Failed(#[from] JoinError),
    /// It came to its end.
    #[error("a loop of the controller ended by itself: this is a defect of the operator")]
    Ended,
}

/// Runs all loops until `context.stop` is cancelled and the passes under way have ended. Where one of them
/// ends by itself, the others are told to stop.
pub async fn run(context: Arc<Context>) -> Result<(), Broken> {
    let known = Arc::downgrade(&context);
    context.metrics.objects.show(known);
    let mut loops = JoinSet::new();
    let scopes = context.index.scopes.clone();
    for scope in &scopes {
        for gate in [gate::<MicrosoftGraphCredential>(scope), gate::<WoodpeckerAccount>(scope)] {
            context.readiness.wait_for(&gate, "the watch is being opened");
        }
    }
    context.readiness.arrived("controller");
    loops.spawn(keyring::run(context.clone()));
    loops.spawn(stranded::run(context.clone(), scopes.clone()));
    loops.spawn(sources::run(context.clone(), scopes.clone()));
    for scope in scopes {
        loops.spawn(kind::follow::<WoodpeckerAccount>(context.clone(), scope.clone()));
        loops.spawn(kind::follow::<MicrosoftGraphCredential>(context.clone(), scope));
    }
    loops.spawn(accounts::run(context.clone()));
    loops.spawn(kind::run::<MicrosoftGraphCredential>(context.clone()));
    end(loops, &context.stop).await
}

/// Waits for all loops. Returns the first that ended without being told to.
async fn end(mut loops: JoinSet<()>, stop: &CancellationToken) -> Result<(), Broken> {
    let mut first = Ok(());
    while let Some(ended) = loops.join_next().await {
        let broken = match ended {
            Err(error) => Broken::Failed(error),
            Ok(()) if !stop.is_cancelled() => Broken::Ended,
            Ok(()) => continue,
        };
        tracing::error!(error = chain(&broken), "the controller is stopped");
        stop.cancel();
        first = first.and(Err(broken));
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How the controller ends whose second loop is this one.
    async fn ends(other: impl Future<Output = ()> + Send + 'static) -> (Result<(), Broken>, bool) {
        let stop = CancellationToken::new();
        let mut loops = JoinSet::new();
        loops.spawn(stop.clone().cancelled_owned());
        loops.spawn(other);
        let ended = end(loops, &stop).await;
        (ended, stop.is_cancelled())
    }

    #[tokio::test]
    async fn a_loop_that_ends_by_itself_stops_the_others_and_is_told() {
        assert!(matches!(ends(async {}).await, (Err(Broken::Ended), true)));
        assert!(matches!(ends(async { panic!("a defect") }).await, (Err(Broken::Failed(_)), true)));
    }

    #[tokio::test]
    async fn loops_that_were_told_to_end_are_no_failure() {
        let stop = CancellationToken::new();
        let mut loops = JoinSet::new();
        loops.spawn(stop.clone().cancelled_owned());
        stop.cancel();
        assert!(end(loops, &stop).await.is_ok());
    }
}
