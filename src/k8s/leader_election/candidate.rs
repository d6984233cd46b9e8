//! A candidate: a standby until it acquires the lease.

use tokio_util::sync::CancellationToken;

use crate::core::error_chain::chain;
use crate::k8s::leader_election::held_lease::HeldLease;
use crate::k8s::leader_election::lease::LeaseError;
use crate::k8s::leader_election::{Election, ElectionConfig, LeaseAttempt};
use crate::telemetry::health::Readiness;

/// The readiness condition that is met once the lease was read. It does not depend on who leads.
pub const GATE: &str = "leader-election";

/// The readiness note that names the leader.
const NOTE: &str = "standby";

/// A replica that wants to lead.
pub struct Candidate {
    election: Election,
    readiness: Readiness,
    /// Whether another replica was observed to lead.
    was_standby: bool,
    /// Avoids logging the same state again.
    last_logged: String,
}

// === impl Candidate ===

impl Candidate {
    /// Fails only if the system has no randomness.
    pub fn new(config: ElectionConfig, readiness: Readiness) -> Result<Self, getrandom::Error> {
        readiness.pending(GATE, "the lease has not been read yet");
        Ok(Self {
            election: Election::new(config)?,
            readiness,
            was_standby: false,
            last_logged: String::new(),
        })
    }

    /// Returns when this replica leads, or `None` if it is stopped before.
    ///
    /// [`GATE`] stays pending then, until the caller has added the conditions of a leader.
    pub async fn acquire(mut self, stop: &CancellationToken) -> Option<HeldLease> {
        let call = self.election.timing.lease_call;
        loop {
            let read = stop.run_until_cancelled(self.election.refresh(call)).await?;
            // A write is not canceled: it could take effect, and no replica would use the lease.
            let attempt = match read {
                Ok(()) => self.election.try_acquire_or_renew(false, call).await,
                Err(error) => Err(error),
            };
            match attempt {
                Ok(LeaseAttempt::Held { since }) => {
                    self.readiness.clear_note(NOTE);
                    tracing::info!(
                        lease = self.election.lease.name,
                        identity = self.election.identity,
                        "leading: this replica holds the lease"
                    );
                    self.election.report_leading(true);
                    return Some(HeldLease { election: self.election, renewed: since });
                }
                Ok(LeaseAttempt::NotHeld { holder }) => self.stand_by(&holder),
                Err(error) => self.report_failure(&error),
            }
            stop.run_until_cancelled(tokio::time::sleep(self.election.timing.lease_retry)).await?;
        }
    }

    fn stand_by(&mut self, holder: &str) {
        let standby = format!("standby: {holder} leads");
        if self.last_logged != standby {
            tracing::info!(lease = self.election.lease.name, holder, "standby: another replica leads");
            self.readiness.set_note(NOTE, &standby);
            self.readiness.done(GATE);
            self.was_standby = true;
        }
        self.last_logged = standby;
    }

    fn report_failure(&mut self, error: &LeaseError) {
        // Another replica was faster; the next read shows which.
        if matches!(error, LeaseError::Conflict(_)) {
            return;
        }
        let failure = error.to_string();
        if !self.was_standby {
            self.readiness.pending(GATE, &failure);
        }
        if self.last_logged != failure {
            tracing::warn!(error = chain(error), "the lease cannot be read or acquired; trying again");
        }
        self.last_logged = failure;
    }
}
