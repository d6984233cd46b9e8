//! Runs work while this replica leads.

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;

use crate::k8s::leader_election::{Candidate, HeldLease, LeadershipLost};
use crate::k8s::leadership::Leadership;

/// Acquires the lease, works while leading, and releases the lease. If leadership is lost, this cancels `stop`, and the work
/// has the rest of the lease to end.
pub async fn run_while_leader(
    candidate: Candidate,
    stop: &CancellationToken,
    work: impl AsyncFnOnce(Leadership) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let Some(lease) = candidate.acquire(stop).await else {
        tracing::info!("ended before this replica became the leader");
        return Ok(());
    };
    let leadership = lease.leadership();
    let over = CancellationToken::new();
    // On its own task, so that the work cannot delay the renewal.
    let mut renewing = tokio::spawn(lease.renew_until(over.clone()));
    let mut working = Box::pin(work(leadership.clone()));
    tokio::select! {
        ended = &mut working => {
            over.cancel();
            let lease = held_lease(renewing.await);
            // After a failure, a request may still be in progress: then the lease expires instead of being released.
            ended?;
            lease?.release().await;
            Ok(())
        }
        ended = &mut renewing => {
            stop.cancel();
            let left = leadership.remaining();
            tracing::info!(?left, "lost the lease: nothing new is started");
            if tokio::time::timeout(left, working).await.is_err() {
                tracing::warn!("aborted work that was still in progress at the end of the lease");
            }
            held_lease(ended).map(drop)
        }
    }
}

fn held_lease(
    ended: Result<Result<HeldLease, LeadershipLost>, tokio::task::JoinError>,
) -> anyhow::Result<HeldLease> {
    let lease = ended.map_err(|_| LeadershipLost::Defect).flatten();
    lease.context("leadership was lost: the process exits, and stands by after its restart")
}
