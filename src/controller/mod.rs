//! The controllers. `reconciler` runs the watch and the work queue of a kind, `instrument` wraps each reconcile, and the
//! folders hold what is specific to a kind.

pub mod account;
pub mod context;
pub mod credential;
pub mod error;
pub mod finalizers;
pub mod graph_slots;
pub mod identities;
pub mod identity;
pub mod index;
pub mod instrument;
pub mod invalid;
pub mod kind;
pub mod mailboxes;
pub mod metrics;
pub mod namespaces;
pub mod orphans;
pub mod parsed;
pub mod queue;
pub mod reconciler;
pub mod record;
pub mod requeue;
pub mod secret_watch;
pub mod stale_finalizers;
pub mod status_writer;
pub mod version;

use std::sync::Arc;

use thiserror::Error;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use self::kind::readiness_check;
use crate::api::{EntraIdentity, MicrosoftGraphCredential, WoodpeckerAccount, WoodpeckerMailboxes};
use crate::core::error_chain::chain;
use crate::k8s::scope::Scope;

pub use self::account::Accounts;
pub use self::context::Context;
pub use self::identities::Identities;
pub use self::index::Index;
pub use self::mailboxes::Submissions;
pub use self::record::RecordController;
pub use self::record::owner::{KnownRecords, observer};
pub use self::requeue::{QueueSenders, Requeuer};
pub use self::secret_watch::KnownSecrets;

/// A task of the controller ended before shutdown.
#[derive(Debug, Error)]
pub enum ControllerError {
    #[error("a task of the controller failed; this is a bug in the operator")]
    Failed(#[from] JoinError),
    #[error("a task of the controller ended unexpectedly; this is a bug in the operator")]
    Ended,
}

/// Runs all tasks until `context.stop` is cancelled and in-flight reconciles have ended. If a task ends before that,
/// the others are stopped.
pub async fn run(context: Arc<Context>) -> Result<(), ControllerError> {
    let known = Arc::downgrade(&context);
    context.metrics.objects.set_source(known);
    let mut tasks = JoinSet::new();
    let scopes = context.index.scopes.clone();
    for scope in &scopes {
        for check in
            [readiness_check::<MicrosoftGraphCredential>(scope), readiness_check::<WoodpeckerAccount>(scope)]
        {
            context.readiness.pending(&check, "the watch is being opened");
        }
    }
    let identities = context.identity_namespace.clone().map(Scope::Namespace);
    if let Some(scope) = &identities {
        context.readiness.pending(&readiness_check::<EntraIdentity>(scope), "the watch is being opened");
    }
    for scope in scopes.iter().filter(|_| context.connects_mailboxes) {
        context
            .readiness
            .pending(&readiness_check::<WoodpeckerMailboxes>(scope), "the watch is being opened");
    }
    context.readiness.done("controller");
    tasks.spawn(record::keyring::run(context.clone()));
    tasks.spawn(stale_finalizers::run(context.clone(), scopes.clone()));
    tasks.spawn(secret_watch::run(context.clone(), scopes.clone()));
    tasks.spawn(namespaces::run(context.clone()));
    if let Some(scope) = identities {
        tasks.spawn(reconciler::watch::<EntraIdentity>(context.clone(), scope));
        tasks.spawn(reconciler::run::<EntraIdentity>(context.clone()));
    }
    if context.connects_mailboxes {
        for scope in &scopes {
            tasks.spawn(reconciler::watch::<WoodpeckerMailboxes>(context.clone(), scope.clone()));
        }
        tasks.spawn(reconciler::run::<WoodpeckerMailboxes>(context.clone()));
    }
    for scope in scopes {
        tasks.spawn(reconciler::watch::<WoodpeckerAccount>(context.clone(), scope.clone()));
        tasks.spawn(reconciler::watch::<MicrosoftGraphCredential>(context.clone(), scope));
    }
    tasks.spawn(account::run(context.clone()));
    tasks.spawn(reconciler::run::<MicrosoftGraphCredential>(context.clone()));
    join(tasks, &context.stop).await
}

/// Waits for all tasks. Returns the first error.
async fn join(mut tasks: JoinSet<()>, stop: &CancellationToken) -> Result<(), ControllerError> {
    let mut first = Ok(());
    while let Some(ended) = tasks.join_next().await {
        let broken = match ended {
            Err(error) => ControllerError::Failed(error),
            Ok(()) if !stop.is_cancelled() => ControllerError::Ended,
            Ok(()) => continue,
        };
        tracing::error!(error = chain(&broken), "stopping the controller");
        stop.cancel();
        first = first.and(Err(broken));
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Joins this task and one that runs until shutdown.
    async fn join_with(
        other: impl Future<Output = ()> + Send + 'static,
    ) -> (Result<(), ControllerError>, bool) {
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(stop.clone().cancelled_owned());
        tasks.spawn(other);
        let ended = join(tasks, &stop).await;
        (ended, stop.is_cancelled())
    }

    #[tokio::test]
    async fn a_task_that_ends_early_stops_the_others() {
        assert!(matches!(join_with(async {}).await, (Err(ControllerError::Ended), true)));
        assert!(matches!(
            join_with(async { panic!("a bug") }).await,
            (Err(ControllerError::Failed(_)), true)
        ));
    }

    #[tokio::test]
    async fn tasks_that_end_on_shutdown_are_no_error() {
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(stop.clone().cancelled_owned());
        stop.cancel();
        assert!(join(tasks, &stop).await.is_ok());
    }
}
