//! The lanes of Woodpecker accounts, all of them together. Those of each account are among its own series.

use std::time::Duration;

use super::{Gauge, Gauges, Histogram, Registry, Unit, add};

/// Seconds: at once where nobody is ahead, minutes behind many.
const BUCKETS: [f64; 9] = [0.01, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0];

metrics! {
    /// The lanes of Woodpecker accounts.
    LaneMetrics {
        waiting: Gauges<1> = "mgc_lane_waiting",
            "Requests to Woodpecker that wait for their turn, over all accounts, by class of urgency";
        in_flight: Gauge = "mgc_lane_in_flight", "Requests to Woodpecker under way, at most one per account";
        waited: Histogram = "mgc_lane_wait",
            "How long a request to Woodpecker waited for its grant", Histogram::new(BUCKETS);
    }
}

// === impl LaneMetrics ===

impl LaneMetrics {
    /// So many more requests of a class wait for their turn, or fewer.
    pub fn waiting(&self, class: &'static str, change: i64) {
        self.waiting.get_or_create(&[("class", class)]).inc_by(change);
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
