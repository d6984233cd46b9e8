//! Work under the lease: it begins when this replica leads, and ends when it does not any more.

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;

use crate::leader::{Candidate, Lost, Tenure};
use crate::leadership::Leadership;

/// Campaigns, works while leading, and hands over. `stop` asks for the end; it is cancelled as well where
/// leadership is lost, and then the work has what is left of the lease to end.
pub async fn work_while_leading(
    candidate: Candidate,
    stop: &CancellationToken,
    work: impl AsyncFnOnce(Leadership) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let Some(tenure) = candidate.campaign(stop).await else {
        tracing::info!("ended before this replica led");
        return Ok(());
    };
    let leadership = tenure.leadership();
    let over = CancellationToken::new();
    // On a task of its own: nothing that the work does keeps the lease from being renewed.
    let mut holding = tokio::spawn(tenure.hold(over.clone()));
    let mut working = Box::pin(work(leadership.clone()));
    tokio::select! {
        ended = &mut working => {
            over.cancel();
            let held = held(holding.await);
            // What was left undone may still have a call under way: then the lease runs out instead.
            ended?;
            held?.release().await;
            Ok(())
        }
        ended = &mut holding => {
            stop.cancel();
            let left = leadership.remaining();
            tracing::info!(?left, "the lease is lost: nothing new is begun");
            if tokio::time::timeout(left, working).await.is_err() {
                tracing::warn!("work was still under way at the end of the lease, and is left");
            }
            held(ended).map(drop)
        }
    }
}

/// The tenure that was held to its end.
fn held(ended: Result<Result<Tenure, Lost>, tokio::task::JoinError>) -> anyhow::Result<Tenure> {
    let held = ended.map_err(|_| Lost::Defect).flatten();
    held.context("leadership was lost: the program ends, to stand by when it is started again")
}
