//! Metrics of all account queues together. The series of each account queue are in `objects`.

use std::time::Duration;

use crate::telemetry::metrics::{Gauge, Gauges, Histogram, Registry, Unit, add};

/// Seconds: at once in an empty queue, minutes in a long one.
const BUCKETS: [f64; 9] = [0.01, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0];

metrics! {
    /// Metrics of all account queues together.
    AccountQueueMetrics {
        waiting: Gauges<1> = "graph_credential_queue_waiting",
            "Requests to Woodpecker that wait in account queues, over all accounts, by priority";
        in_flight: Gauge = "graph_credential_queue_in_flight", "Requests to Woodpecker in flight, at most one per account";
        waited: Histogram = "graph_credential_queue_wait",
            "How long a request to Woodpecker waited in its account queue", Histogram::new(BUCKETS);
    }
}

// === impl AccountQueueMetrics ===

impl AccountQueueMetrics {
    pub fn add_waiting(&self, priority: &'static str, change: i64) {
        self.waiting.get_or_create(&[("priority", priority)]).inc_by(change);
    }

    pub fn permit_granted(&self, waited: Duration) {
        self.waited.observe(waited.as_secs_f64());
    }

    pub fn add_in_flight(&self, change: i64) {
        self.in_flight.inc_by(change);
    }
}
