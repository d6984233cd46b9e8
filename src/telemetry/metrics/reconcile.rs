//! Metrics of reconciles, as in controller-runtime.

use std::time::Duration;

use crate::telemetry::metrics::{Counters, Family, Gauges, Histogram, Histograms, Registry, Unit, add};

/// Seconds: a reconcile without changes takes milliseconds, one that creates makes several requests of seconds.
const BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0];

metrics! {
    /// Metrics of reconciles.
    ReconcileMetrics {
        total: Counters<2> = "controller_runtime_reconcile",
            "Completed reconciliations by result: success, requeue_after (waits, or a condition is not met), requeue, error";
        outcomes: Counters<2> = "graph_credential_operator_reconcile_outcomes",
            "Completed reconciliations by outcome: success, waiting, not_met (a condition is False or Unknown), requeued, interrupted (the process ends), object_deleted, failed";
        errors: Counters<1> = "controller_runtime_reconcile_errors",
            "Reconciliations that failed at the Kubernetes API, took too long or panicked";
        panics: Counters<1> = "controller_runtime_reconcile_panics",
            "Reconciliations that panicked, which is a bug in the operator";
        seconds: Histograms<1> = "controller_runtime_reconcile_time",
            "Duration of a reconciliation", Family::new_with_constructor(|| Histogram::new(BUCKETS));
        active: Gauges<1> = "controller_runtime_active_workers", "Reconciliations in progress";
        max_concurrent: Gauges<1> = "controller_runtime_max_concurrent_reconciles",
            "Maximum concurrent reconciliations";
    }
}

// === impl ReconcileMetrics ===

impl ReconcileMetrics {
    pub fn set_max_concurrent(&self, controller: &'static str, max: u16) {
        let labels = [("controller", controller)];
        self.max_concurrent.get_or_create(&labels).set(max.into());
        // Present from the start, so that the first of them counts as an increase.
        self.errors.get_or_create(&labels).inc_by(0);
        self.panics.get_or_create(&labels).inc_by(0);
    }

    pub fn started(&self, controller: &'static str) {
        self.active.get_or_create(&[("controller", controller)]).inc();
    }

    pub fn ended(
        &self,
        controller: &'static str,
        result: &'static str,
        outcome: &'static str,
        took: Duration,
    ) {
        let labels = [("controller", controller)];
        self.active.get_or_create(&labels).dec();
        self.seconds.get_or_create(&labels).observe(took.as_secs_f64());
        self.total.get_or_create(&[("controller", controller), ("result", result)]).inc();
        self.outcomes.get_or_create(&[("controller", controller), ("outcome", outcome)]).inc();
        if result == "error" {
            self.errors.get_or_create(&labels).inc();
        }
    }

    pub fn panicked(&self, controller: &'static str) {
        self.panics.get_or_create(&[("controller", controller)]).inc();
    }
}
