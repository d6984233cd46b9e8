//! Metrics of the encrypted store.

use std::collections::BTreeMap;
use std::fmt::Error;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::{Counters, Gauge, Registry, add, scrape};

metrics! {
    /// Metrics of the encrypted store.
    StoreMetrics {
        remaining: Gauge = "mgc_reseal_remaining", "Records that are still to be sealed anew under the primary key";
        resealed: Counters<1> = "mgc_reseal_records",
            "Records that had to be sealed anew, by what became of it: sealed, changed (meanwhile, tried again), unreadable, not_leading, error";
    } with sealed: Sealed
}

/// How many records are sealed under each key, by its id.
#[derive(Clone, Debug, Default)]
struct Sealed(Arc<Mutex<BTreeMap<String, usize>>>);

// === impl StoreMetrics ===

impl StoreMetrics {
    /// Shows what becomes of most records.
    pub(super) fn begin(&self) {
        self.resealed.get_or_create(&[("outcome", "sealed")]).inc_by(0);
    }

    /// So many records are sealed under each key, by its id; none under any other.
    pub fn sealed(&self, by_key: impl Iterator<Item = (String, usize)>) {
        *self.sealed.0.lock() = by_key.collect();
    }

    /// So many records are still to be sealed anew.
    pub fn resealing(&self, remaining: usize) {
        self.remaining.set(i64::try_from(remaining).unwrap_or(i64::MAX));
    }

    /// A record had to be sealed anew: `sealed`, `changed`, `unreadable`, `not_leading` or `error`.
    pub fn resealed(&self, outcome: &'static str) {
        self.resealed.get_or_create(&[("outcome", outcome)]).inc();
    }
}

impl Collector for Sealed {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        scrape::gauge(
            &mut encoder,
            "mgc_sealed_records",
            None,
            "Records of the encrypted store by the id of the key that they are sealed under, when they were last counted.",
            self.0.lock().iter().map(|(key, records)| ([("key_id", key)], *records)),
        )
    }
}
