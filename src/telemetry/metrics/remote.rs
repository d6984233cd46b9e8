//! Requests to Microsoft and Woodpecker.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// Seconds: Woodpecker queues for up to 15 and calls Microsoft itself.
const BUCKETS: [f64; 9] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 45.0];

/// Requests to Microsoft and Woodpecker.
#[derive(Debug)]
pub struct RemoteMetrics {
    requests: Family<OutcomeLabels, Counter>,
    seconds: Family<OperationLabels, Histogram, fn() -> Histogram>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OutcomeLabels {
    target: &'static str,
    operation: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OperationLabels {
    target: &'static str,
    operation: &'static str,
}

// === impl RemoteMetrics ===

impl RemoteMetrics {
    pub(super) fn registered(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
        };
        registry.register(
            "mgc_external_requests",
            "Requests to Microsoft (token) and Woodpecker (list, create, update, rename, delete) by outcome, of which ok and issued are the good ones",
            metrics.requests.clone(),
        );
        registry.register_with_unit(
            "mgc_external_request_duration",
            "Duration of requests to Microsoft and Woodpecker, whatever became of them",
            Unit::Seconds,
            metrics.seconds.clone(),
        );
        metrics
    }

    /// A request to `target` (`microsoft` or `woodpecker`) has ended.
    pub fn ended(
        &self,
        target: &'static str,
        operation: &'static str,
        outcome: &'static str,
        took: Duration,
    ) {
        self.requests.get_or_create(&OutcomeLabels { target, operation, outcome }).inc();
        self.seconds.get_or_create(&OperationLabels { target, operation }).observe(took.as_secs_f64());
    }
}
