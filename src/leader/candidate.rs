//! Standing by until the lease can be taken.

use tokio_util::sync::CancellationToken;

use super::lease::LeaseError;
use super::tenure::Tenure;
use super::{Election, ElectionParts, Turn};
use crate::telemetry::logs::chain;
use crate::telemetry::probes::Readiness;

/// What readiness waits for until the lease was looked at. Who leads is no condition of it.
pub const GATE: &str = "leader election";

/// The name of the note by which readiness tells who leads.
const NOTE: &str = "standby";

/// A replica that wants to lead.
pub struct Candidate {
    election: Election,
    readiness: Readiness,
    /// Whether it ever saw another replica lead.
    stood_by: bool,
    /// What was last told, so that it is told once.
    told: String,
}

// === impl Candidate ===

impl Candidate {
    /// Fails only where the system gives no randomness.
    pub fn new(parts: ElectionParts, readiness: Readiness) -> Result<Self, getrandom::Error> {
        readiness.wait_for(GATE, "the lease was not looked at yet");
        Ok(Self { election: Election::new(parts)?, readiness, stood_by: false, told: String::new() })
    }

    /// Returns once this replica leads; nothing where it is told to stop before.
    ///
    /// [`GATE`] stays in place where it leads: the caller first names what a leader is to wait for.
    pub async fn campaign(mut self, stop: &CancellationToken) -> Option<Tenure> {
        let call = self.election.timing.lease_call;
        loop {
            let looked = stop.run_until_cancelled(self.election.look(call)).await?;
            // A write is not cut off: it could take effect, and nobody would hold what it took.
            let turn = match looked {
                Ok(()) => self.election.advance(false, call).await,
                Err(error) => Err(error),
            };
            match turn {
                Ok(Turn::Ours { since }) => {
                    self.readiness.forget_note(NOTE);
                    tracing::info!(
                        lease = self.election.lease.name,
                        identity = self.election.identity,
                        "leading: this replica holds the lease"
                    );
                    self.election.show(true);
                    return Some(Tenure { election: self.election, renewed: since });
                }
                Ok(Turn::Theirs { holder }) => self.stand_by(&holder),
                Err(error) => self.complain(&error),
            }
            stop.run_until_cancelled(tokio::time::sleep(self.election.timing.lease_retry)).await?;
        }
    }

    fn stand_by(&mut self, holder: &str) {
        let standby = format!("standby: {holder} leads");
        if self.told != standby {
            tracing::info!(lease = self.election.lease.name, holder, "standby: another replica leads");
            self.readiness.note(NOTE, &standby);
            self.readiness.arrived(GATE);
            self.stood_by = true;
        }
        self.told = standby;
    }

    fn complain(&mut self, error: &LeaseError) {
        // Another replica was faster: the next look tells which.
        if matches!(error, LeaseError::Conflict(_)) {
            return;
        }
        let failure = error.to_string();
        if !self.stood_by {
            self.readiness.wait_for(GATE, &failure);
        }
        if self.told != failure {
            tracing::warn!(error = chain(error), "the lease cannot be looked at or taken; trying again");
        }
        self.told = failure;
    }
}
