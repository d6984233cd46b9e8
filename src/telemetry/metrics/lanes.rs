//! The lanes of Woodpecker accounts, all of them together. Those of each account are among its own series.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// Seconds: at once where nobody is ahead, minutes behind many.
const BUCKETS: [f64; 9] = [0.01, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0];

/// The lanes of Woodpecker accounts.
#[derive(Debug)]
pub struct LaneMetrics {
    waiting: Family<ClassLabels, Gauge>,
    in_flight: Gauge,
    waited: Histogram,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ClassLabels {
    class: &'static str,
}

// === impl LaneMetrics ===

impl LaneMetrics {
    pub(super) fn registered(registry: &mut Registry) -> Self {
        let metrics =
            Self { waiting: Family::default(), in_flight: Gauge::default(), waited: Histogram::new(BUCKETS) };
        registry.register(
            "mgc_lane_waiting",
            "Requests to Woodpecker that wait for their turn, over all accounts, by class of urgency",
            metrics.waiting.clone(),
        );
        registry.register(
            "mgc_lane_in_flight",
            "Requests to Woodpecker under way, at most one per account",
            metrics.in_flight.clone(),
        );
        registry.register_with_unit(
            "mgc_lane_wait",
            "How long a request to Woodpecker waited for its grant",
            Unit::Seconds,
            metrics.waited.clone(),
        );
        metrics
    }

    /// So many more requests of a class wait for their turn, or fewer.
    pub fn waiting(&self, class: &'static str, change: i64) {
        self.waiting.get_or_create(&ClassLabels { class }).inc_by(change);
    }

    /// A request may be sent, after having waited so long.
    pub fn granted(&self, waited: Duration) {
        self.waited.observe(waited.as_secs_f64());
    }

    /// A turn begins, or ends.
    pub fn in_flight(&self, change: i64) {
        self.in_flight.inc_by(change);
    }
}
