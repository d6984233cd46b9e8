//! Leader election with a Lease: the replica that holds it works, and the others are standbys.
//!
//! A Lease does not fence systems outside Kubernetes. Time prevents two leaders from overlapping: a call starts only if
//! it ends before another replica can take the lease (see [`Leadership`]).

pub mod candidate;
pub mod decision;
pub mod held_lease;
pub mod lease;
pub mod observer;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Client;

pub use self::candidate::{Candidate, GATE};
use self::decision::{ObservedLease, other_holder};
pub use self::held_lease::{HeldLease, LeadershipLost};
use self::lease::LeaseApi;
pub use self::lease::LeaseError;
pub use self::observer::LeaseObserver;
use crate::core::timing::Timing;
use crate::k8s::leadership::{Clock, Leadership};
use crate::k8s::relist::Relist;
use crate::telemetry::metrics::Metrics;

/// The configuration and dependencies of an election.
#[derive(Clone)]
pub struct ElectionConfig {
    /// Must not retry.
    pub client: Client,
    pub namespace: String,
    pub lease: String,
    /// Name of this replica, such as its pod's. A random suffix makes it unique to the process.
    pub instance: String,
    /// Must count suspended time.
    pub clock: Clock,
    pub timing: Timing,
    /// Is informed of the lease's versions.
    pub relist: Relist,
    pub metrics: Arc<Metrics>,
}

/// One replica's participation: the last observed lease, and writes to it.
struct Election {
    lease: LeaseApi,
    identity: String,
    clock: Clock,
    timing: Timing,
    metrics: Arc<Metrics>,
    leadership: Leadership,
    observed: Option<ObservedLease>,
}

/// The result of an attempt to acquire or renew the lease.
enum LeaseAttempt {
    /// This replica holds it, counted from before the request.
    Held { since: Duration },
    /// Another replica holds it. `holder` is empty if this one held it and it is now free.
    NotHeld { holder: String },
}

// === impl Election ===

impl Election {
    /// Fails only if the system has no randomness.
    fn new(config: ElectionConfig) -> Result<Self, getrandom::Error> {
        let identity = format!("{}_{:016x}", config.instance, getrandom::u64()?);
        let election = Self {
            lease: LeaseApi::new(config.client, &config.namespace, &config.lease, config.relist),
            identity,
            clock: config.clock,
            leadership: Leadership::none(config.clock, config.timing.call_margin),
            timing: config.timing,
            metrics: config.metrics,
            observed: None,
        };
        election.report_leading(false);
        Ok(election)
    }

    /// Reports in metrics whether this replica leads, because alerts rely on it.
    fn report_leading(&self, is_leading: bool) {
        self.metrics.leader.set_leader(&self.lease.name, is_leading);
    }

    /// Reads the lease. Another replica's lease counts from after the response, because it was renewed before.
    async fn refresh(&mut self, bound: Duration) -> Result<(), LeaseError> {
        let lease = self.lease.read(bound).await?;
        let now = (self.clock)();
        self.observed = lease.map(|lease| ObservedLease::of(lease, self.observed.take(), now));
        Ok(())
    }

    /// Acts on the last observed lease. The replica's own lease counts from before the request, the earliest time at
    /// which others may have observed it.
    async fn try_acquire_or_renew(
        &mut self,
        leads: bool,
        bound: Duration,
    ) -> Result<LeaseAttempt, LeaseError> {
        let since = (self.clock)();
        let observed = self.observed.as_ref();
        if let Some(holder) = other_holder(observed, &self.identity, leads, self.timing.lease, since) {
            return Ok(LeaseAttempt::NotHeld { holder: holder.to_owned() });
        }
        let mut lease = observed.map_or_else(Lease::default, |observed| observed.lease.clone());
        let spec = decision::held(lease.spec.as_ref(), &self.identity, self.timing.lease, Timestamp::now());
        lease.spec = Some(spec);
        let written = self.lease.write(lease, bound).await?;
        self.observed = Some(ObservedLease { lease: written, since });
        self.leadership.extend(since.saturating_add(self.timing.lease));
        Ok(LeaseAttempt::Held { since })
    }

    /// Releases the lease. Leadership ends before the request.
    async fn release(&mut self) -> Result<(), LeaseError> {
        self.leadership.relinquish();
        match self.clear().await {
            // The response to the last write of this replica may have been lost.
            Err(LeaseError::Conflict(_)) => {}
            ended => return ended,
        }
        self.refresh(self.timing.lease_call).await?;
        self.clear().await
    }

    /// Clears the holder at the observed version, if this replica is it.
    async fn clear(&self) -> Result<(), LeaseError> {
        let Some(observed) = self.observed.as_ref().filter(|observed| observed.holder() == self.identity)
        else {
            return Ok(());
        };
        let mut lease = observed.lease.clone();
        lease.spec = Some(decision::released(&lease.spec.unwrap_or_default(), Timestamp::now()));
        self.lease.write(lease, self.timing.lease_call).await.map(drop)
    }
}
