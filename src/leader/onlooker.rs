//! Finding out who leads, without a part in the election.

use std::time::Duration;

use kube::Client;

use super::lease::{LeaseApi, LeaseError};
use super::record::Sighting;
use crate::k8s::relist::Relist;
use crate::leadership::Clock;
use crate::settings::Timing;

/// Looks at a lease from outside.
pub struct Onlooker {
    lease: LeaseApi,
    clock: Clock,
    timing: Timing,
    seen: Option<Sighting>,
}

// === impl Onlooker ===

impl Onlooker {
    /// Of that lease.
    pub fn new(client: Client, namespace: &str, name: &str, clock: Clock, timing: &Timing) -> Self {
        let lease = LeaseApi::new(client, namespace, name, Relist::default());
        Self { lease, clock, timing: *timing, seen: None }
    }

    /// Looks at the lease, and returns who holds it. Someone who fell silent holds it until as much time as it counts for has
    /// passed since that was first seen; the times in it are by a clock that is not ours.
    pub async fn holder(&mut self) -> Result<Option<&str>, LeaseError> {
        self.look().await?;
        let now = (self.clock)();
        let held = self.seen.as_ref().filter(|seen| seen.is_held(self.timing.lease, now));
        Ok(held.map(Sighting::holder))
    }

    /// How long it takes at most to tell whether the holder lives.
    pub fn within(&self) -> Duration {
        self.seen.as_ref().map_or(Duration::ZERO, |seen| seen.duration(self.timing.lease))
    }

    /// Whether there is such a lease.
    pub fn is_there(&self) -> bool {
        self.seen.is_some()
    }

    /// Who leads: the holder that takes or renews the lease while it is looked at. Nobody if its whole time passes in silence.
    pub async fn leader(&mut self) -> Result<Option<String>, LeaseError> {
        self.look().await?;
        let first = self.seen.as_ref().map(|seen| seen.since);
        let pause = self.timing.lease_retry.min(self.within());
        while let Some(holder) = self.holder().await?.map(ToOwned::to_owned) {
            if self.seen.as_ref().map(|seen| seen.since) > first {
                return Ok(Some(holder));
            }
            tokio::time::sleep(pause).await;
        }
        Ok(None)
    }

    async fn look(&mut self) -> Result<(), LeaseError> {
        let lease = self.lease.read(self.timing.lease_call).await?;
        let before = self.seen.take();
        self.seen = lease.map(|lease| Sighting::of(lease, before, (self.clock)()));
        Ok(())
    }
}
