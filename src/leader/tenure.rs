//! Leading: the lease is renewed until it is released or lost.

use std::time::Duration;

use thiserror::Error;
use tokio_util::sync::CancellationToken;

use super::lease::LeaseError;
use super::{Election, Turn};
use crate::leadership::Leadership;
use crate::telemetry::logs::chain;

/// The time in which this replica leads.
pub struct Tenure {
    pub(super) election: Election,
    /// When the last request was sent that renewed the lease.
    pub(super) renewed: Duration,
}

/// Why this replica does not lead any more.
#[derive(Debug, Error)]
pub enum Lost {
    /// Another holder stands in the lease.
    #[error("{} holds the lease now", if .holder.is_empty() { "nobody" } else { .holder })]
    Taken { holder: String },
    /// It could not be renewed in time.
    #[error("the lease could not be renewed within {within:?}: check the way to the API server")]
    NotRenewed {
        within: Duration,
        /// Why the last attempt failed; nothing where the process stood still meanwhile.
        source: Option<LeaseError>,
    },
    /// Renewing ended without a word.
    #[error("renewing the lease ended unexpectedly: this is a defect of the operator")]
    Defect,
}

// === impl Tenure ===

impl Tenure {
    /// How long it lasts, for whoever must ask.
    pub fn leadership(&self) -> Leadership {
        self.election.leadership.clone()
    }

    /// Renews the lease until `over`, and hands the tenure back to be released.
    pub async fn hold(mut self, over: CancellationToken) -> Result<Self, Lost> {
        let ended = self.keep(&over).await;
        if let Err(lost) = &ended {
            tracing::error!(error = chain(lost), "leadership is lost");
            self.election.show(false);
        }
        ended.map(|()| self)
    }

    async fn keep(&mut self, over: &CancellationToken) -> Result<(), Lost> {
        let mut last_error = None;
        let mut must_look = false;
        loop {
            let pause = self.election.timing.lease_retry.min(self.until_deadline());
            if over.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return Ok(());
            }
            let left = self.until_deadline();
            if left.is_zero() {
                let within = self.election.timing.renew_deadline;
                return Err(Lost::NotRenewed { within, source: last_error });
            }
            match self.renew(must_look).await {
                Ok(Turn::Ours { since }) => {
                    self.renewed = since;
                    (must_look, last_error) = (false, None);
                }
                Ok(Turn::Theirs { holder }) => {
                    self.election.leadership.forfeit();
                    return Err(Lost::Taken { holder });
                }
                Err(error) => {
                    tracing::warn!(
                        error = chain(&error),
                        ?left,
                        "the lease could not be renewed; trying again"
                    );
                    must_look = true;
                    last_error = Some(error);
                }
            }
        }
    }

    /// One attempt. After a conflict the lease is looked at and, where it is still ours, written at once.
    async fn renew(&mut self, must_look: bool) -> Result<Turn, LeaseError> {
        if must_look {
            self.election.look(self.bound()).await?;
        }
        match self.election.advance(true, self.bound()).await {
            Err(LeaseError::Conflict(_)) => {}
            turn => return turn,
        }
        self.election.look(self.bound()).await?;
        self.election.advance(true, self.bound()).await
    }

    /// Lets go of the lease, so that a standby takes over at once. Where that fails it runs out by itself.
    pub async fn release(mut self) {
        self.election.show(false);
        match self.election.release().await {
            Ok(()) => tracing::info!(lease = self.election.lease.name, "the lease is released"),
            Err(error) => {
                tracing::warn!(error = chain(&error), "the lease could not be released and runs out");
            }
        }
    }

    /// A request for the lease ends before the deadline does.
    fn bound(&self) -> Duration {
        self.election.timing.lease_call.min(self.until_deadline())
    }

    fn until_deadline(&self) -> Duration {
        let deadline = self.renewed.saturating_add(self.election.timing.renew_deadline);
        deadline.saturating_sub((self.election.clock)())
    }
}
