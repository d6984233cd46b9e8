//! Passes over objects, as controller-runtime counts its reconciles.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// Seconds: a pass that only looks takes milliseconds, one that creates takes several calls of seconds.
const BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0];

/// Passes over objects.
#[derive(Debug)]
pub struct PassMetrics {
    passes: Family<PassLabels, Counter>,
    errors: Family<ControllerLabels, Counter>,
    panics: Family<ControllerLabels, Counter>,
    seconds: Family<ControllerLabels, Histogram, fn() -> Histogram>,
    active: Family<ControllerLabels, Gauge>,
    most: Family<ControllerLabels, Gauge>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ControllerLabels {
    controller: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PassLabels {
    controller: &'static str,
    result: &'static str,
}

// === impl PassMetrics ===

impl PassMetrics {
    pub(super) fn registered(registry: &mut Registry) -> Self {
        let metrics = Self {
            passes: Family::default(),
            errors: Family::default(),
            panics: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            active: Family::default(),
            most: Family::default(),
        };
        registry.register(
            "controller_runtime_reconcile",
            "Passes that ended, by result: success, unmet (a person must act, or a remote side), requeue_after (waits), requeue, interrupted (the program ends), gone, error",
            metrics.passes.clone(),
        );
        registry.register(
            "controller_runtime_reconcile_errors",
            "Passes that failed at the Kubernetes API, took too long or panicked",
            metrics.errors.clone(),
        );
        registry.register(
            "controller_runtime_reconcile_panics",
            "Passes that panicked, which is a defect of the operator",
            metrics.panics.clone(),
        );
        registry.register_with_unit(
            "controller_runtime_reconcile_time",
            "Duration of a pass",
            Unit::Seconds,
            metrics.seconds.clone(),
        );
        registry.register("controller_runtime_active_workers", "Passes under way", metrics.active.clone());
        registry.register(
            "controller_runtime_max_concurrent_reconciles",
            "Most passes that may be under way at the same time",
            metrics.most.clone(),
        );
        metrics
    }

    /// So many passes may be under way at the same time.
    pub fn bounded(&self, controller: &'static str, most: u16) {
        self.most.get_or_create(&ControllerLabels { controller }).set(most.into());
        // They are there from the start, so that the first of them is seen as a rise.
        self.errors.get_or_create(&ControllerLabels { controller }).inc_by(0);
        self.panics.get_or_create(&ControllerLabels { controller }).inc_by(0);
    }

    /// A pass begins.
    pub fn started(&self, controller: &'static str) {
        self.active.get_or_create(&ControllerLabels { controller }).inc();
    }

    /// A pass has ended.
    pub fn ended(&self, controller: &'static str, result: &'static str, took: Duration) {
        let labels = ControllerLabels { controller };
        self.active.get_or_create(&labels).dec();
        self.seconds.get_or_create(&labels).observe(took.as_secs_f64());
        self.passes.get_or_create(&PassLabels { controller, result }).inc();
        if result == "error" {
            self.errors.get_or_create(&labels).inc();
        }
    }

    /// A pass panicked.
    pub fn panicked(&self, controller: &'static str) {
        self.panics.get_or_create(&ControllerLabels { controller }).inc();
    }
}
