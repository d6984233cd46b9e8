//! The record controller of processes that serve only the REST API. One of them runs it, under their own lease, while no
//! operator leads. If it loses the lease, only the record controller ends.

use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::controller::RecordController;
use crate::core::error_chain::chain;
use crate::k8s::leader_election::{Candidate, ElectionConfig, LeaseObserver};
use crate::k8s::leadership::Leadership;
use crate::platform;
use crate::runtime::leader;
use crate::telemetry::health::Readiness;

/// Runs the record controller under a lease.
pub(super) struct RecordControllerRunner {
    pub(super) records: RecordController,
    /// The election among processes that serve only the REST API.
    pub(super) election: ElectionConfig,
    /// The operator's lease.
    pub(super) lease: String,
}

// === impl RecordControllerRunner ===

impl RecordControllerRunner {
    pub(super) async fn run(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            // Readiness does not depend on this election.
            let candidate = match Candidate::new(self.election.clone(), Readiness::default()) {
                Ok(candidate) => candidate,
                Err(error) => {
                    tracing::error!(
                        error = chain(&error),
                        "failed to start the record controller: records are neither verified nor re-encrypted"
                    );
                    return;
                }
            };
            let working = stop.child_token();
            let work = async |leadership: Leadership| {
                let records = RecordController {
                    token_endpoint: self.records.token_endpoint.with_leadership(leadership.clone()),
                    leadership,
                    ..self.records.clone()
                };
                self.run_while_no_operator_leads(&records, &working).await;
                Ok(())
            };
            // After a lost lease, the loop acquires it again.
            let _lost = Box::pin(leader::run_while_leader(candidate, &working, work)).await;
        }
    }

    /// Runs the record controller while the operator's lease is not held, until `stop`. Both may work for a moment, which is
    /// harmless, because every write depends on the version that was read.
    async fn run_while_no_operator_leads(&self, records: &RecordController, stop: &CancellationToken) {
        let (client, pause) = (records.client.clone(), records.timing.lease_retry);
        let mut operator = LeaseObserver::new(
            client,
            &self.election.namespace,
            &self.lease,
            platform::clock,
            &records.timing,
        );
        // An operator may lead until the lease was observed.
        let (mut is_led, mut failure) = (true, String::new());
        let mut working: Option<(CancellationToken, AbortOnDropHandle<()>)> = None;
        loop {
            let Some(observed) = stop.run_until_cancelled(operator.holder()).await else { break };
            let problem = match observed {
                Ok(holder) => {
                    is_led = holder.is_some();
                    String::new()
                }
                Err(error) => chain(&error),
            };
            if problem != failure && !problem.is_empty() {
                tracing::warn!(error = problem, "failed to determine whether an operator leads");
            }
            failure = problem;
            match (&working, is_led) {
                (None, false) => {
                    tracing::info!("no operator leads: this process runs the record controller");
                    let token = stop.child_token();
                    let records = RecordController { stop: token.clone(), ..records.clone() };
                    let work = tokio::spawn(async move { records.run().await });
                    working = Some((token, AbortOnDropHandle::new(work)));
                }
                (Some(_), true) => {
                    tracing::info!("an operator leads: it runs the record controller");
                    end(working.take()).await;
                }
                _ => {}
            }
            if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                break;
            }
        }
        end(working).await;
    }
}

/// Stops the work and waits for its end.
async fn end(working: Option<(CancellationToken, AbortOnDropHandle<()>)>) {
    if let Some((token, work)) = working {
        token.cancel();
        let _ended = work.await;
    }
}
