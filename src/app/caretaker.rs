//! Who looks after the REST API's records where no controller does: of the processes that serve it alone, the one that holds
//! the leader's lease. It gives way to a controller; losing the lease ends the looking after, and nothing else.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use tokio_util::sync::CancellationToken;

use crate::controller::Resealer;
use crate::events::Events;
use crate::k8s::relist::Relist;
use crate::leader::{Candidate, Duty, ElectionParts};
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
}

/// Looks after the records until its own end. A defect in that is told, and ends nothing else.
pub(super) async fn look_after_records(care: Care) {
    while AssertUnwindSafe(care.run()).catch_unwind().await.is_err() {
        tracing::error!("looking after the records failed: this is a defect of the operator; trying again");
        let pause = tokio::time::sleep(care.timing.record_care);
        if care.stop.run_until_cancelled(pause).await.is_none() {
            return;
        }
    }
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
                held = &mut holding => {
                    working.cancel();
                    work.await;
                    // A controller wants it.
                    if let Ok(Ok(tenure)) = held {
                        tenure.release().await;
                    }
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
            events: self.events(),
            metrics: self.metrics.clone(),
            timing: self.timing,
            stop: stop.clone(),
        };
        tokio::join!(look_after_records(care), self.reseal(&leadership, &stop));
    }

    async fn reseal(&self, leadership: &Leadership, stop: &CancellationToken) {
        let resealer = || self.resealer(leadership.clone(), stop.clone()).run();
        while AssertUnwindSafe(resealer()).catch_unwind().await.is_err() {
            tracing::error!("sealing records anew failed: this is a defect of the operator; trying again");
            if stop.run_until_cancelled(tokio::time::sleep(self.timing.record_care)).await.is_none() {
                return;
            }
        }
    }

    fn resealer(&self, leadership: Leadership, stop: CancellationToken) -> Resealer {
        Resealer {
            client: self.client.clone(),
            place: self.keyring.place().clone(),
            served: self.served.clone(),
            keyring: self.keyring.clone(),
            leadership,
            metrics: self.metrics.clone(),
            events: self.events(),
            timing: self.timing,
            stop,
        }
    }

    fn events(&self) -> Events {
        let (bound, repeats_after) = (self.timing.event, self.timing.event_repeat);
        Events::new(self.client.clone(), self.instance.clone(), bound, repeats_after)
    }

    fn election(&self) -> ElectionParts {
        ElectionParts {
            client: self.client.clone(),
            namespace: self.namespace.clone(),
            lease: self.lease.clone(),
            instance: self.instance.clone(),
            duty: Duty::Records,
            clock: since_boot,
            timing: self.timing,
            // It watches nothing.
            relist: Relist::default(),
            metrics: self.metrics.clone(),
        }
    }
}
