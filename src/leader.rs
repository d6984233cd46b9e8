//! Leader election: of all replicas, the one that holds a Lease works, and the others stand by.
//!
//! A Lease fences nothing outside Kubernetes. What holds two leaders apart is time: a call starts only if it
//! ends before anybody else can take the lease, which `Leadership` tells.

mod candidate;
mod lease;
mod onlooker;
mod record;
mod tenure;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Client;

pub use self::candidate::{Candidate, GATE};
use self::lease::LeaseApi;
pub use self::lease::LeaseError;
pub use self::onlooker::Onlooker;
use self::record::{Sighting, other_holder};
pub use self::tenure::{Lost, Tenure};
use crate::k8s::relist::Relist;
use crate::leadership::{Clock, Leadership};
use crate::settings::Timing;
use crate::telemetry::metrics::Metrics;

/// What an election is made of.
#[derive(Clone)]
pub struct ElectionParts {
    /// Client of the Kubernetes API, without retries of its own.
    pub client: Client,
    pub namespace: String,
    pub lease: String,
    /// Name of this replica, such as its pod's; made unique to the process.
    pub instance: String,
    /// Counts suspended time.
    pub clock: Clock,
    pub timing: Timing,
    /// Hears of versions that went back.
    pub relist: Relist,
    pub metrics: Arc<Metrics>,
}

/// One replica's part in the election: what it last saw of the lease, and its writes.
struct Election {
    lease: LeaseApi,
    identity: String,
    clock: Clock,
    timing: Timing,
    metrics: Arc<Metrics>,
    leadership: Leadership,
    seen: Option<Sighting>,
}

/// How an attempt to take or keep the lease ended.
enum Turn {
    /// It is ours, counted from the moment before the request.
    Ours { since: Duration },
    /// Another replica holds it, or nobody does any more where it was ours.
    Theirs { holder: String },
}

// === impl Election ===

impl Election {
    /// Fails only where the system gives no randomness.
    fn new(parts: ElectionParts) -> Result<Self, getrandom::Error> {
        let identity = format!("{}_{:016x}", parts.instance, getrandom::u64()?);
        let election = Self {
            lease: LeaseApi::new(parts.client, &parts.namespace, &parts.lease, parts.relist),
            identity,
            clock: parts.clock,
            leadership: Leadership::none(parts.clock, parts.timing.margin),
            timing: parts.timing,
            metrics: parts.metrics,
            seen: None,
        };
        election.show(false);
        Ok(election)
    }

    /// Shows whether the lease is ours: a leader is a controller, and no alert may take anybody else for one.
    fn show(&self, is_ours: bool) {
        self.metrics.leader.leads(&self.lease.name, is_ours);
    }

    /// Looks at the lease. Another's counts from after the answer: it was renewed before.
    async fn look(&mut self, bound: Duration) -> Result<(), LeaseError> {
        let lease = self.lease.read(bound).await?;
        let now = (self.clock)();
        self.seen = lease.map(|lease| Sighting::of(lease, self.seen.take(), now));
        Ok(())
    }

    /// Does what follows from what was last seen. Our own lease counts from before the request: that is when
    /// others may have seen it at the earliest.
    async fn advance(&mut self, leads: bool, bound: Duration) -> Result<Turn, LeaseError> {
        let since = (self.clock)();
        let seen = self.seen.as_ref();
        if let Some(holder) = other_holder(seen, &self.identity, leads, self.timing.lease, since) {
            return Ok(Turn::Theirs { holder: holder.to_owned() });
        }
        let mut lease = seen.map_or_else(Lease::default, |seen| seen.lease.clone());
        let spec = record::held(lease.spec.as_ref(), &self.identity, self.timing.lease, Timestamp::now());
        lease.spec = Some(spec);
        let written = self.lease.write(lease, bound).await?;
        self.seen = Some(Sighting { lease: written, since });
        self.leadership.extend(since.saturating_add(self.timing.lease));
        Ok(Turn::Ours { since })
    }

    /// Lets go of the lease. From before the request on, nothing that only a leader may do begins here.
    async fn release(&mut self) -> Result<(), LeaseError> {
        self.leadership.forfeit();
        match self.let_go().await {
            // The answer to our own last write may have been lost.
            Err(LeaseError::Conflict(_)) => {}
            ended => return ended,
        }
        self.look(self.timing.lease_call).await?;
        self.let_go().await
    }

    /// Empties the lease under the version that was seen, where it is ours.
    async fn let_go(&self) -> Result<(), LeaseError> {
        let Some(seen) = self.seen.as_ref().filter(|seen| seen.holder() == self.identity) else {
            return Ok(());
        };
        let mut lease = seen.lease.clone();
        lease.spec = Some(record::released(&lease.spec.unwrap_or_default(), Timestamp::now()));
        self.lease.write(lease, self.timing.lease_call).await.map(drop)
    }
}
