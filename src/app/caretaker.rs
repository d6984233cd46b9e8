//! The record controller of processes that serve the REST API alone: the one that holds a lease of theirs runs it, while nobody
//! holds the operator's lease. Losing the lease ends the record controller, and nothing else.

use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::leading;
use crate::controller::RecordController;
use crate::leader::{Candidate, ElectionParts, Onlooker};
use crate::leadership::{Leadership, since_boot};
use crate::telemetry::logs::chain;
use crate::telemetry::probes::Readiness;

/// What it is made of.
pub(super) struct Caretaker {
    /// What verifies and re-encrypts records.
    pub(super) records: RecordController,
    /// The election among processes that serve the REST API alone.
    pub(super) election: ElectionParts,
    pub(super) lease: String,
}

// === impl Caretaker ===

impl Caretaker {
    /// Stands by and works by turns, until `stop`.
    pub(super) async fn run(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            // Who runs the record controller is no condition of readiness.
            let candidate = match Candidate::new(self.election.clone(), Readiness::default()) {
                Ok(candidate) => candidate,
                Err(error) => {
                    tracing::error!(error = chain(&error), "records are neither verified nor re-encrypted");
                    return;
                }
            };
            let working = stop.child_token();
            let work = async |leadership: Leadership| {
                let records = RecordController {
                    token_endpoint: self.records.token_endpoint.acting_as(leadership.clone()),
                    leadership,
                    ..self.records.clone()
                };
                self.work_while_no_operator_leads(&records, &working).await;
                Ok(())
            };
            // Where the lease is lost, it is campaigned for again.
            let _lost = Box::pin(leading::work_while_leading(candidate, &working, work)).await;
        }
    }

    /// Runs the record controller while nobody holds the operator's lease, until `stop`. For a moment both may work: that is
    /// harmless, because every write is under the version that was read.
    async fn work_while_no_operator_leads(&self, records: &RecordController, stop: &CancellationToken) {
        let (client, pause) = (records.client.clone(), records.timing.lease_retry);
        let mut operator =
            Onlooker::new(client, &self.election.namespace, &self.lease, since_boot, &records.timing);
        // Until the lease was seen, somebody may hold it.
        let (mut is_led, mut failure) = (true, String::new());
        let mut working: Option<(CancellationToken, AbortOnDropHandle<()>)> = None;
        loop {
            let Some(looked) = stop.run_until_cancelled(operator.holder()).await else { break };
            let problem = match looked {
                Ok(holder) => {
                    is_led = holder.is_some();
                    String::new()
                }
                Err(error) => chain(&error),
            };
            if problem != failure && !problem.is_empty() {
                tracing::warn!(error = problem, "it is not known whether an operator leads");
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

/// Lets work come to its end.
async fn end(working: Option<(CancellationToken, AbortOnDropHandle<()>)>) {
    if let Some((token, work)) = working {
        token.cancel();
        let _ended = work.await;
    }
}
