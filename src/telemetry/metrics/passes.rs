//! Passes over objects, as controller-runtime counts its reconciles.

use std::time::Duration;

use super::{Counters, Family, Gauges, Histogram, Histograms, Registry, Unit, add};

/// Seconds: a pass that only looks takes milliseconds, one that creates takes several calls of seconds.
const BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0];

metrics! {
    /// Passes over objects.
    PassMetrics {
        passes: Counters<2> = "controller_runtime_reconcile",
            "Passes that ended, by result: success, unmet (a person must act, or a remote side), requeue_after (waits), requeue, interrupted (the program ends), gone, error";
        errors: Counters<1> = "controller_runtime_reconcile_errors",
            "Passes that failed at the Kubernetes API, took too long or panicked";
        panics: Counters<1> = "controller_runtime_reconcile_panics",
            "Passes that panicked, which is a defect of the operator";
        seconds: Histograms<1> = "controller_runtime_reconcile_time",
            "Duration of a pass", Family::new_with_constructor(|| Histogram::new(BUCKETS));
        active: Gauges<1> = "controller_runtime_active_workers", "Passes under way";
        most: Gauges<1> = "controller_runtime_max_concurrent_reconciles",
            "Most passes that may be under way at the same time";
    }
}

// === impl PassMetrics ===

impl PassMetrics {
    /// So many passes may be under way at the same time.
    pub fn bounded(&self, controller: &'static str, most: u16) {
        let labels = [("controller", controller)];
        self.most.get_or_create(&labels).set(most.into());
        // They are there from the start, so that the first of them is seen as a rise.
        self.errors.get_or_create(&labels).inc_by(0);
        self.panics.get_or_create(&labels).inc_by(0);
    }

    pub fn started(&self, controller: &'static str) {
        self.active.get_or_create(&[("controller", controller)]).inc();
    }

    pub fn ended(&self, controller: &'static str, result: &'static str, took: Duration) {
        let labels = [("controller", controller)];
        self.active.get_or_create(&labels).dec();
        self.seconds.get_or_create(&labels).observe(took.as_secs_f64());
        self.passes.get_or_create(&[("controller", controller), ("result", result)]).inc();
        if result == "error" {
            self.errors.get_or_create(&labels).inc();
        }
    }

    pub fn panicked(&self, controller: &'static str) {
        self.panics.get_or_create(&[("controller", controller)]).inc();
    }
}
