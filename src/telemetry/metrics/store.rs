//! Metrics of the encrypted store.

use std::collections::BTreeMap;
use std::fmt::Error;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use crate::telemetry::metrics::{Counters, Gauge, Registry, add, scrape};

metrics! {
    /// Metrics of the encrypted store.
    StoreMetrics {
        remaining: Gauge = "graph_credential_record_reencrypt_remaining", "Records that still need re-encryption with the primary key or in the current format";
        reencryptions: Counters<1> = "graph_credential_record_reencryptions",
            "Records that needed re-encryption, by outcome: reencrypted, changed (meanwhile, retried), unreadable, not_leading, error";
    } with by_key: RecordsByKey
}

/// How many records each key encrypts, by its id.
#[derive(Clone, Debug, Default)]
struct RecordsByKey(Arc<Mutex<BTreeMap<String, usize>>>);

// === impl StoreMetrics ===

impl StoreMetrics {
    /// Adds the series of the usual outcome.
    pub(super) fn init(&self) {
        self.reencryptions.get_or_create(&[("outcome", "reencrypted")]).inc_by(0);
    }

    /// How many records each key encrypts, by its id.
    pub fn set_records_by_key(&self, by_key: impl Iterator<Item = (String, usize)>) {
        *self.by_key.0.lock() = by_key.collect();
    }

    /// How many records still need re-encryption.
    pub fn set_reencrypt_remaining(&self, remaining: usize) {
        self.remaining.set(i64::try_from(remaining).unwrap_or(i64::MAX));
    }

    /// A record needed re-encryption: `sealed`, `changed`, `unreadable`, `not_leading` or `error`.
    pub fn reencrypted(&self, outcome: &'static str) {
        self.reencryptions.get_or_create(&[("outcome", outcome)]).inc();
    }
}

impl Collector for RecordsByKey {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        scrape::gauge(
            &mut encoder,
            "graph_credential_records",
            None,
            "Records of the encrypted store by the id of the key that encrypts them, at the last count.",
            self.0.lock().iter().map(|(key, records)| ([("key_id", key)], *records)),
        )
    }
}
