//! Who looks after the REST API's records: of all processes that serve it, the one that holds a lease for that. Losing the
//! lease ends the looking after, and nothing else.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::controller::{Events, Resealer};
use crate::leader::{Candidate, ElectionParts};
use crate::leadership::{Leadership, since_boot};
use crate::microsoft::TokenEndpoint;
use crate::rest::Care;
use crate::settings::Timing;
use crate::store::keyring::LiveKeyring;
use crate::telemetry::logs::chain;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::probes::Readiness;

/// What a caretaker is made of.
pub(super) struct Caretaker {
    /// Client of the Kubernetes API.
    pub(super) client: kube::Client,
    /// The operator's namespace.
    pub(super) namespace: String,
    /// Name of this replica.
    pub(super) instance: String,
    /// Name of the Lease.
    pub(super) lease: String,
    /// The namespaces that are served; none means all.
    pub(super) served: Vec<String>,
    /// The keyring.
    pub(super) keyring: Arc<LiveKeyring>,
    /// What proves secrets.
    pub(super) token_endpoint: TokenEndpoint,
    /// Where records are shown.
    pub(super) metrics: Arc<Metrics>,
    /// The waits.
    pub(super) timing: Timing,
    /// Whether no controller in this process seals records anew after a rotation.
    pub(super) is_alone: bool,
}

// === impl Caretaker ===

impl Caretaker {
    /// Stands by and looks after the records by turns, until `stop`.
    pub(super) async fn run(self, stop: CancellationToken) {
        loop {
            // Who looks after the records is no condition of readiness.
            let candidate = match Candidate::new(self.election(), Readiness::default()) {
                Ok(candidate) => candidate,
                Err(error) => {
                    tracing::error!(error = chain(&error), "the records are not looked after");
                    return;
                }
            };
            let Some(tenure) = candidate.campaign(&stop).await else { return };
            let leadership = tenure.leadership();
            let (over, working) = (CancellationToken::new(), stop.child_token());
            // On a task of its own: nothing keeps the lease from being renewed.
            let mut holding = tokio::spawn(tenure.hold(over.clone()));
            let mut work = Box::pin(self.work(leadership, working.clone()));
            tokio::select! {
                () = &mut work => {
                    over.cancel();
                    if let Ok(Ok(tenure)) = holding.await {
                        tenure.release().await;
                    }
                    return;
                }
                _ = &mut holding => {
                    working.cancel();
                    work.await;
                }
            }
        }
    }

    async fn work(&self, leadership: Leadership, stop: CancellationToken) {
        let care = Care {
            client: self.client.clone(),
            served: self.served.clone(),
            keyring: self.keyring.clone(),
            token_endpoint: self.token_endpoint.acting_as(leadership.clone()),
            leadership: leadership.clone(),
            metrics: self.metrics.clone(),
            timing: self.timing,
            stop: stop.clone(),
        };
        let resealing = async {
            if self.is_alone {
                self.resealer(leadership, stop).run().await;
            }
        };
        tokio::join!(care.run(), resealing);
    }

    fn resealer(&self, leadership: Leadership, stop: CancellationToken) -> Resealer {
        let (bound, repeats_after) = (self.timing.kube_headers, self.timing.event_repeat);
        Resealer {
            client: self.client.clone(),
            place: self.keyring.place().clone(),
            served: self.served.clone(),
            keyring: self.keyring.clone(),
            leadership,
            metrics: self.metrics.clone(),
            events: Events::new(self.client.clone(), self.instance.clone(), bound, repeats_after),
            timing: self.timing,
            stop,
        }
    }

    fn election(&self) -> ElectionParts {
        ElectionParts {
            client: self.client.clone(),
            namespace: self.namespace.clone(),
            lease: self.lease.clone(),
            instance: self.instance.clone(),
            clock: since_boot,
            timing: self.timing,
            metrics: self.metrics.clone(),
        }
    }
}
