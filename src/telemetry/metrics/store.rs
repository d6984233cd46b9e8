//! Metrics of the encrypted store.

use std::collections::BTreeSet;

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Metrics of the encrypted store.
#[derive(Debug, Default)]
pub struct StoreMetrics {
    sealed: Family<KeyLabels, Gauge>,
    keys: Mutex<BTreeSet<String>>,
    remaining: Gauge,
    resealed: Family<OutcomeLabels, Counter>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KeyLabels {
    key_id: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

// === impl StoreMetrics ===

impl StoreMetrics {
    /// All of them at zero.
    pub(super) fn registered(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "mgc_sealed_records",
            "Records of the encrypted store by the id of the key that they are sealed under, when they were last counted",
            metrics.sealed.clone(),
        );
        registry.register(
            "mgc_reseal_remaining",
            "Records that are still to be sealed anew under the primary key",
            metrics.remaining.clone(),
        );
        registry.register(
            "mgc_reseal_records",
            "Records that had to be sealed anew, by what became of it: sealed, changed (meanwhile, tried again), unreadable, not_leading, error",
            metrics.resealed.clone(),
        );
        // There from the start, so that the first one is seen as a rise.
        metrics.resealed.get_or_create(&OutcomeLabels { outcome: "sealed" }).inc_by(0);
        metrics
    }

    /// So many records are sealed under each key, by its id; none under any other.
    pub fn sealed(&self, by_key: impl Iterator<Item = (String, usize)>) {
        let mut keys = self.keys.lock();
        let mut gone = std::mem::take(&mut *keys);
        for (key_id, records) in by_key {
            gone.remove(&key_id);
            keys.insert(key_id.clone());
            self.sealed.get_or_create(&KeyLabels { key_id }).set(i64::try_from(records).unwrap_or(i64::MAX));
        }
        for key_id in gone {
            self.sealed.remove(&KeyLabels { key_id });
        }
    }

    /// So many records are still to be sealed anew.
    pub fn resealing(&self, remaining: usize) {
        self.remaining.set(i64::try_from(remaining).unwrap_or(i64::MAX));
    }

    /// A record had to be sealed anew: `sealed`, `changed`, `unreadable`, `not_leading` or `error`.
    pub fn resealed(&self, outcome: &'static str) {
        self.resealed.get_or_create(&OutcomeLabels { outcome }).inc();
    }
}
