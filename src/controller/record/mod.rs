//! The record controller: it verifies the records of the REST API again once in a while, and re-encrypts all records after a
//! rotation of the keyring. The operator that leads runs it; without one, a `serve` does.

mod reencrypt;
mod status;
mod verify;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use kube::Client;
use kube::runtime::watcher::Event;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

pub use self::status::{Proof, is_seen, next_status};
use super::scope::Scope;
use crate::events::Events;
use crate::k8s::relist::Relist;
use crate::leadership::Leadership;
use crate::microsoft::TokenEndpoint;
use crate::settings::Timing;
use crate::store::census::GuardedRecord;
use crate::store::keyring::LiveKeyring;
use crate::store::repository::Repository;
use crate::telemetry::metrics::Metrics;

/// Verifies and re-encrypts records.
#[derive(Clone)]
pub struct RecordController {
    pub client: Client,
    /// The namespaces that are served; none means all.
    pub served: Vec<String>,
    /// What records are opened and sealed with.
    pub keyring: Arc<LiveKeyring>,
    pub token_endpoint: TokenEndpoint,
    /// Whether this process runs the controller.
    pub leadership: Leadership,
    /// Where verdicts, notices of an expiry and the progress of a re-encryption are published.
    pub events: Events,
    /// Where records are shown.
    pub metrics: Arc<Metrics>,
    /// Has all watches list again.
    pub relist: Relist,
    pub timing: Timing,
    /// Also gets each event of the watch.
    pub observer: Option<RecordObserver>,
    /// Cancelled when no new step may begin.
    pub stop: CancellationToken,
}

/// Called with each event of a scope's watch.
pub type RecordObserver = Arc<dyn Fn(&Scope, &Event<GuardedRecord>) + Send + Sync>;

/// Removes the series of the records when the controller ends, even by a panic: the process that runs it next exports them.
struct ForgetRecords<'a>(&'a Metrics);

// === impl RecordController ===

impl RecordController {
    /// Works until `stop`. What is being written by then is finished and published. A defect is logged, and ends nothing else.
    pub async fn run(&self) {
        while AssertUnwindSafe(self.work()).catch_unwind().await.is_err() {
            tracing::error!("the record controller failed: this is a defect of the operator; trying again");
            let pause = tokio::time::sleep(self.timing.record_retry);
            if self.stop.run_until_cancelled(pause).await.is_none() {
                return;
            }
        }
    }

    async fn work(&self) {
        let _shown = ForgetRecords(&self.metrics);
        let (listed, census) = oneshot::channel();
        tokio::join!(self.verify_records(listed), self.reencrypt_records(census));
    }

    fn repository(&self) -> Repository {
        Repository::new(self.client.clone(), self.keyring.clone(), self.leadership.clone())
    }
}

// === impl ForgetRecords ===

impl Drop for ForgetRecords<'_> {
    fn drop(&mut self) {
        self.0.rest.forget_records();
        self.0.store.resealing(0);
        self.0.store.sealed(std::iter::empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_series_of_the_records_end_with_their_controller() {
        let metrics = Metrics::new();
        let shown = ForgetRecords(&metrics);
        metrics.store.resealing(7);
        metrics.store.sealed(std::iter::once(("k1".to_owned(), 7)));
        let is_shown = || metrics.render().unwrap().contains("\"k1\"");
        assert!(is_shown());
        drop(shown);
        assert!(!is_shown());
        assert!(metrics.render().unwrap().contains("mgc_reseal_remaining 0"));
    }
}
