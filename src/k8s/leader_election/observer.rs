//! Observes who leads without participating in the election.

use std::time::Duration;

use kube::Client;

use crate::core::timing::Timing;
use crate::k8s::leader_election::decision::ObservedLease;
use crate::k8s::leader_election::lease::{LeaseApi, LeaseError};
use crate::k8s::leadership::Clock;
use crate::k8s::relist::Relist;

/// Observes a lease.
pub struct LeaseObserver {
    lease: LeaseApi,
    clock: Clock,
    timing: Timing,
    observed: Option<ObservedLease>,
}

// === impl LeaseObserver ===

impl LeaseObserver {
    pub fn new(client: Client, namespace: &str, name: &str, clock: Clock, timing: &Timing) -> Self {
        let lease = LeaseApi::new(client, namespace, name, Relist::default());
        Self { lease, clock, timing: *timing, observed: None }
    }

    /// Reads the lease and returns its holder. A holder that no longer renews it holds it until its duration has passed
    /// since the spec was first observed, because the times in it are from another clock.
    pub async fn holder(&mut self) -> Result<Option<&str>, LeaseError> {
        self.refresh().await?;
        let now = (self.clock)();
        let held = self.observed.as_ref().filter(|observed| observed.is_held(self.timing.lease, now));
        Ok(held.map(ObservedLease::holder))
    }

    /// The longest time until it is known whether the holder is alive.
    pub fn within(&self) -> Duration {
        self.observed.as_ref().map_or(Duration::ZERO, |observed| observed.duration(self.timing.lease))
    }

    /// Whether the lease exists.
    pub fn is_there(&self) -> bool {
        self.observed.is_some()
    }

    /// The leader: the holder that acquires or renews the lease while it is observed. `None` if the lease expires
    /// instead.
    pub async fn leader(&mut self) -> Result<Option<String>, LeaseError> {
        self.refresh().await?;
        let first = self.observed.as_ref().map(|observed| observed.since);
        let pause = self.timing.lease_retry.min(self.within());
        while let Some(holder) = self.holder().await?.map(ToOwned::to_owned) {
            if self.observed.as_ref().map(|observed| observed.since) > first {
                return Ok(Some(holder));
            }
            tokio::time::sleep(pause).await;
        }
        Ok(None)
    }

    async fn refresh(&mut self) -> Result<(), LeaseError> {
        let lease = self.lease.read(self.timing.lease_call).await?;
        let before = self.observed.take();
        self.observed = lease.map(|lease| ObservedLease::of(lease, before, (self.clock)()));
        Ok(())
    }
}
