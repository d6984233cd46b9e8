//! Requests to Microsoft and Woodpecker.

use std::time::Duration;

use crate::telemetry::metrics::{Counters, Family, Histogram, Histograms, Registry, Unit, add};

/// Seconds: Woodpecker queues for up to 15 and calls Microsoft itself.
const BUCKETS: [f64; 9] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 45.0];

metrics! {
    /// Requests to Microsoft and Woodpecker.
    RemoteMetrics {
        requests: Counters<3> = "graph_credential_operator_external_requests",
            "Requests to Microsoft (token, graph_token; and to Graph application, list_applications, service_principal, add_password, remove_password) and Woodpecker (list, create, update, rename, delete) by outcome; ok and issued are successes";
        seconds: Histograms<2> = "graph_credential_operator_external_request_duration",
            "Duration of requests to Microsoft and Woodpecker, whatever their outcome",
            Family::new_with_constructor(|| Histogram::new(BUCKETS));
    }
}

// === impl RemoteMetrics ===

impl RemoteMetrics {
    /// `target` is `microsoft` or `woodpecker`.
    pub fn ended(
        &self,
        target: &'static str,
        operation: &'static str,
        outcome: &'static str,
        took: Duration,
    ) {
        let [target, operation] = [("target", target), ("operation", operation)];
        self.requests.get_or_create(&[target, operation, ("outcome", outcome)]).inc();
        self.seconds.get_or_create(&[target, operation]).observe(took.as_secs_f64());
    }
}
