//! A held lease, which is renewed until it is released or lost.

use std::time::Duration;

use thiserror::Error;
use tokio_util::sync::CancellationToken;

use crate::core::error_chain::chain;
use crate::k8s::leader_election::lease::LeaseError;
use crate::k8s::leader_election::{Election, LeaseAttempt};
use crate::k8s::leadership::Leadership;

/// The lease while this replica holds it.
pub struct HeldLease {
    pub(super) election: Election,
    /// When the last successful renewal was sent.
    pub(super) renewed: Duration,
}

/// Why this replica no longer leads.
#[derive(Debug, Error)]
pub enum LeadershipLost {
    #[error("{} holds the lease now", if .holder.is_empty() { "nobody" } else { .holder })]
    Taken { holder: String },
    #[error("the lease could not be renewed within {within:?}: check the connection to the API server")]
    NotRenewed {
        within: Duration,
        /// Why the last attempt failed; `None` if the process was suspended.
        source: Option<LeaseError>,
    },
    #[error("renewing the lease ended unexpectedly: this is a defect of the operator")]
    Defect,
}

// === impl HeldLease ===

impl HeldLease {
    pub fn leadership(&self) -> Leadership {
        self.election.leadership.clone()
    }

    /// Renews the lease until `over`, and returns it to be released.
    pub async fn renew_until(mut self, over: CancellationToken) -> Result<Self, LeadershipLost> {
        let ended = self.renew_loop(&over).await;
        if let Err(lost) = &ended {
            tracing::error!(error = chain(lost), "leadership is lost");
            self.election.report_leading(false);
        }
        ended.map(|()| self)
    }

    async fn renew_loop(&mut self, over: &CancellationToken) -> Result<(), LeadershipLost> {
        let mut last_error = None;
        let mut must_refresh = false;
        loop {
            let pause = self.election.timing.lease_retry.min(self.until_deadline());
            if over.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return Ok(());
            }
            let left = self.until_deadline();
            if left.is_zero() {
                let within = self.election.timing.renew_deadline;
                return Err(LeadershipLost::NotRenewed { within, source: last_error });
            }
            match self.renew(must_refresh).await {
                Ok(LeaseAttempt::Held { since }) => {
                    self.renewed = since;
                    (must_refresh, last_error) = (false, None);
                }
                Ok(LeaseAttempt::NotHeld { holder }) => {
                    self.election.leadership.relinquish();
                    return Err(LeadershipLost::Taken { holder });
                }
                Err(error) => {
                    tracing::warn!(
                        error = chain(&error),
                        ?left,
                        "the lease could not be renewed; trying again"
                    );
                    must_refresh = true;
                    last_error = Some(error);
                }
            }
        }
    }

    /// One attempt. After a conflict it reads the lease, and writes it at once if this replica still holds it.
    async fn renew(&mut self, must_refresh: bool) -> Result<LeaseAttempt, LeaseError> {
        if must_refresh {
            self.election.refresh(self.bound()).await?;
        }
        match self.election.try_acquire_or_renew(true, self.bound()).await {
            Err(LeaseError::Conflict(_)) => {}
            result => return result,
        }
        self.election.refresh(self.bound()).await?;
        self.election.try_acquire_or_renew(true, self.bound()).await
    }

    /// Releases the lease, so that a standby takes over at once. If that fails, the lease expires.
    pub async fn release(mut self) {
        self.election.report_leading(false);
        match self.election.release().await {
            Ok(()) => tracing::info!(lease = self.election.lease.name, "the lease is released"),
            Err(error) => {
                tracing::warn!(error = chain(&error), "the lease could not be released and will expire");
            }
        }
    }

    /// The time limit of a request: it ends before the renew deadline.
    fn bound(&self) -> Duration {
        self.election.timing.lease_call.min(self.until_deadline())
    }

    fn until_deadline(&self) -> Duration {
        let deadline = self.renewed.saturating_add(self.election.timing.renew_deadline);
        deadline.saturating_sub((self.election.clock)())
    }
}
