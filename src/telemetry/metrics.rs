//! Metrics, under controller-runtime's names where the meaning is the same.

mod store;

use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

pub use store::StoreMetrics;

/// Seconds: a pass that only looks takes milliseconds, one that creates takes several calls of seconds.
const PASS_BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0];

/// Seconds: Woodpecker queues for up to 15 and calls Microsoft itself.
const CALL_BUCKETS: [f64; 9] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 45.0];

/// Seconds: at once where nobody is ahead, minutes behind many.
const WAIT_BUCKETS: [f64; 9] = [0.01, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0];

/// Every metric of the program.
#[derive(Debug)]
pub struct Metrics {
    /// Those of the encrypted store.
    pub store: StoreMetrics,
    registry: Registry,
    passes: Family<PassLabels, Counter>,
    pass_seconds: Family<ControllerLabels, Histogram, fn() -> Histogram>,
    panics: Family<ControllerLabels, Counter>,
    active: Family<ControllerLabels, Gauge>,
    remote_requests: Family<RemoteLabels, Counter>,
    remote_seconds: Family<RemoteTargetLabels, Histogram, fn() -> Histogram>,
    watch_errors: Family<WatchLabels, Counter>,
    orphans: Family<OrphanLabels, Counter>,
    lane_waiting: Family<LaneLabels, Gauge>,
    lane_in_flight: Gauge,
    lane_wait_seconds: Histogram,
    leads: Family<LeaseLabels, Gauge>,
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

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RemoteLabels {
    target: &'static str,
    operation: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RemoteTargetLabels {
    target: &'static str,
    operation: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct WatchLabels {
    kind: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OrphanLabels {
    cause: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct LaneLabels {
    class: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct LeaseLabels {
    name: String,
}

// === impl Metrics ===

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// A fresh registry with all metrics at zero.
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let store = StoreMetrics::registered(&mut registry);
        let passes = Family::default();
        registry.register("controller_runtime_reconcile", "Passes by controller and result", passes.clone());
        let pass_seconds =
            Family::new_with_constructor((|| Histogram::new(PASS_BUCKETS)) as fn() -> Histogram);
        registry.register(
            "controller_runtime_reconcile_time_seconds",
            "Duration of a pass",
            pass_seconds.clone(),
        );
        let panics = Family::default();
        registry.register("controller_runtime_reconcile_panics", "Passes that panicked", panics.clone());
        let active = Family::default();
        registry.register("controller_runtime_active_workers", "Passes under way", active.clone());
        let remote_requests = Family::default();
        registry.register(
            "mgc_external_requests",
            "Requests to Microsoft and Woodpecker by operation and outcome",
            remote_requests.clone(),
        );
        let remote_seconds =
            Family::new_with_constructor((|| Histogram::new(CALL_BUCKETS)) as fn() -> Histogram);
        registry.register(
            "mgc_external_request_duration_seconds",
            "Duration of requests to Microsoft and Woodpecker",
            remote_seconds.clone(),
        );
        let watch_errors = Family::default();
        registry.register("mgc_watch_errors", "Errors of watches by kind", watch_errors.clone());
        let orphans = Family::default();
        registry.register(
            "mgc_orphans",
            "Credentials left at a destination although they should have been removed",
            orphans.clone(),
        );
        let lane_waiting = Family::default();
        registry.register(
            "mgc_lane_waiting",
            "Requests to Woodpecker that wait for their turn, over all accounts, by class",
            lane_waiting.clone(),
        );
        let lane_in_flight = Gauge::default();
        registry.register(
            "mgc_lane_in_flight",
            "Requests to Woodpecker under way, at most one per account",
            lane_in_flight.clone(),
        );
        let lane_wait_seconds = Histogram::new(WAIT_BUCKETS);
        registry.register(
            "mgc_lane_wait_seconds",
            "How long a request to Woodpecker waited for its grant",
            lane_wait_seconds.clone(),
        );
        let leads = Family::default();
        registry.register(
            "leader_election_master_status",
            "Whether this replica leads, by lease",
            leads.clone(),
        );
        registry.register(
            "mgc_build",
            "Version of the operator",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        Self {
            store,
            registry,
            passes,
            pass_seconds,
            panics,
            active,
            remote_requests,
            remote_seconds,
            watch_errors,
            orphans,
            lane_waiting,
            lane_in_flight,
            lane_wait_seconds,
            leads,
        }
    }

    /// All metrics as OpenMetrics text.
    pub fn render(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        text::encode(&mut text, &self.registry)?;
        Ok(text)
    }

    /// A pass begins.
    pub fn pass_started(&self, controller: &'static str) {
        self.active.get_or_create(&ControllerLabels { controller }).inc();
    }

    /// A pass has ended.
    pub fn pass_ended(&self, controller: &'static str, result: &'static str, took: Duration) {
        self.active.get_or_create(&ControllerLabels { controller }).dec();
        self.passes.get_or_create(&PassLabels { controller, result }).inc();
        self.pass_seconds.get_or_create(&ControllerLabels { controller }).observe(took.as_secs_f64());
    }

    /// A pass panicked.
    pub fn panicked(&self, controller: &'static str) {
        self.panics.get_or_create(&ControllerLabels { controller }).inc();
    }

    /// A request to `target` (`microsoft` or `woodpecker`) has ended.
    pub fn remote_request(
        &self,
        target: &'static str,
        operation: &'static str,
        outcome: &'static str,
        took: Duration,
    ) {
        self.remote_requests.get_or_create(&RemoteLabels { target, operation, outcome }).inc();
        self.remote_seconds
            .get_or_create(&RemoteTargetLabels { target, operation })
            .observe(took.as_secs_f64());
    }

    /// A watch reported an error.
    pub fn watch_error(&self, kind: &'static str) {
        self.watch_errors.get_or_create(&WatchLabels { kind }).inc();
    }

    /// Whether this replica holds the lease of that name.
    pub fn leads(&self, lease: &str, leads: bool) {
        self.leads.get_or_create(&LeaseLabels { name: lease.to_owned() }).set(leads.into());
    }

    /// A credential was left behind at its destination.
    pub fn orphaned(&self, cause: &'static str) {
        self.orphans.get_or_create(&OrphanLabels { cause }).inc();
    }

    /// So many more requests of a class wait for their turn, or fewer.
    pub fn lane_waiting(&self, class: &'static str, change: i64) {
        self.lane_waiting.get_or_create(&LaneLabels { class }).inc_by(change);
    }

    /// A request to Woodpecker may be sent, after having waited so long.
    pub fn lane_granted(&self, waited: Duration) {
        self.lane_wait_seconds.observe(waited.as_secs_f64());
    }

    /// A turn begins, or ends.
    pub fn lane_in_flight(&self, change: i64) {
        self.lane_in_flight.inc_by(change);
    }
}
