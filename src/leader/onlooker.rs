//! Finding out which controller leads, without a part in the election.

use std::time::Duration;

use kube::Client;

use super::duty::{Duty, wanted_by};
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
}

/// What the lease says at first sight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Glance {
    /// There is no such lease.
    Missing,
    /// No controller holds it.
    Free,
    /// Somebody holds it, or did before it fell silent: for that long it is looked at.
    Held {
        /// Who.
        holder: String,
        /// How long it takes at most to tell.
        within: Duration,
    },
}

// === impl Onlooker ===

impl Onlooker {
    /// Of that lease.
    pub fn new(client: Client, namespace: &str, name: &str, clock: Clock, timing: Timing) -> Self {
        Self { lease: LeaseApi::new(client, namespace, name, Relist::default()), clock, timing }
    }

    /// What the lease says now. Whether its holder lives is another question.
    pub async fn glance(&self) -> Result<Glance, LeaseError> {
        Ok(match self.look(None).await? {
            None => Glance::Missing,
            Some(seen) => match controller(&seen) {
                None => Glance::Free,
                Some(holder) => Glance::Held { holder: holder.to_owned(), within: self.span(&seen) },
            },
        })
    }

    /// Who leads: the controller that takes or renews the lease while it is looked at. Nobody where its whole span passes in
    /// silence; the times in it are by a clock that is not ours.
    pub async fn leader(&self) -> Result<Option<String>, LeaseError> {
        let Some(first) = self.look(None).await? else { return Ok(None) };
        let (since, span) = (first.since, self.span(&first));
        let mut seen = first;
        while controller(&seen).is_some() && (self.clock)() < since.saturating_add(span) {
            tokio::time::sleep(self.timing.lease_retry.min(span)).await;
            let Some(now) = self.look(Some(seen)).await? else { return Ok(None) };
            if now.since > since && holds(&now) {
                return Ok(Some(now.holder().to_owned()));
            }
            seen = now;
        }
        Ok(None)
    }

    async fn look(&self, before: Option<Sighting>) -> Result<Option<Sighting>, LeaseError> {
        let lease = self.lease.read(self.timing.lease_call).await?;
        Ok(lease.map(|lease| Sighting::of(lease, before, (self.clock)())))
    }

    fn span(&self, seen: &Sighting) -> Duration {
        match seen.duration() {
            // Whoever has asked for it looks meanwhile.
            _ if seen.holder().is_empty() => self.timing.lease_retry.saturating_mul(2),
            duration => duration.unwrap_or(self.timing.lease),
        }
    }
}

/// Whether a controller holds it, not nobody or one who looks after the records of the REST API alone.
fn holds(seen: &Sighting) -> bool {
    !seen.holder().is_empty() && Duty::of_holder(&seen.lease) == Duty::Everything
}

/// The controller that holds it, or that has asked for it and may soon.
fn controller(seen: &Sighting) -> Option<&str> {
    if holds(seen) { Some(seen.holder()) } else { wanted_by(&seen.lease) }
}
