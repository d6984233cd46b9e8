//! The record controller. It periodically verifies the records of the REST API again, and re-encrypts all records after
//! a rotation of the keyring. The leading operator runs it; without an operator, a `serve` process does.

pub mod keyring;
pub mod owner;
pub mod reencrypt;
pub mod verify;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use kube::Client;
use kube::runtime::watcher::Event;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::core::timing::Timing;
use crate::entra::TokenEndpoint;
use crate::k8s::events::Events;
use crate::k8s::leadership::Leadership;
use crate::k8s::relist::Relist;
use crate::k8s::scope::Scope;
use crate::store::key_usage::ParsedRecord;
use crate::store::keyring::KeyringCache;
use crate::store::repository::Repository;
use crate::telemetry::metrics::Metrics;

/// Verifies and re-encrypts records.
#[derive(Clone)]
pub struct RecordController {
    pub client: Client,
    /// The namespaces that are served; all if empty.
    pub served: Vec<String>,
    /// Encrypts and decrypts records.
    pub keyring: Arc<KeyringCache>,
    pub token_endpoint: TokenEndpoint,
    pub leadership: Leadership,
    /// Where verification results, expiry notices and the progress of a re-encryption are emitted.
    pub events: Events,
    pub metrics: Arc<Metrics>,
    pub relist: Relist,
    pub timing: Timing,
    /// Also receives each watch event.
    pub observer: Option<RecordObserver>,
    /// Cancelled when no new step may begin.
    pub stop: CancellationToken,
}

/// Called with each watch event of a scope.
pub type RecordObserver = Arc<dyn Fn(&Scope, &Event<ParsedRecord>) + Send + Sync>;

/// Removes the metrics of records when the controller ends, even by a panic: the process that runs it next exports
/// them.
struct ClearRecordMetrics<'a>(&'a Metrics);

// === impl RecordController ===

impl RecordController {
    /// Runs until `stop`. Writes in flight are finished and their events emitted. A panic is logged, and the controller
    /// starts again.
    pub async fn run(&self) {
        while AssertUnwindSafe(self.work()).catch_unwind().await.is_err() {
            tracing::error!("the record controller panicked, which is a bug in the operator; restarting it");
            let pause = tokio::time::sleep(self.timing.record_retry);
            if self.stop.run_until_cancelled(pause).await.is_none() {
                return;
            }
        }
    }

    async fn work(&self) {
        let _clear = ClearRecordMetrics(&self.metrics);
        let (listed, usage) = oneshot::channel();
        tokio::join!(self.verify_records(listed), self.reencrypt_records(usage));
    }

    fn repository(&self) -> Repository {
        Repository::new(self.client.clone(), self.keyring.clone(), self.leadership.clone())
    }
}

// === impl ClearRecordMetrics ===

impl Drop for ClearRecordMetrics<'_> {
    fn drop(&mut self) {
        self.0.rest.clear_records();
        self.0.store.set_reencrypt_remaining(0);
        self.0.store.set_records_by_key(std::iter::empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_metrics_end_with_the_controller() {
        let metrics = Metrics::new();
        let clear = ClearRecordMetrics(&metrics);
        metrics.store.set_reencrypt_remaining(7);
        metrics.store.set_records_by_key(std::iter::once(("k1".to_owned(), 7)));
        let is_shown = || metrics.render().unwrap().contains("\"k1\"");
        assert!(is_shown());
        drop(clear);
        assert!(!is_shown());
        assert!(metrics.render().unwrap().contains("graph_credential_record_reencrypt_remaining 0"));
    }
}
