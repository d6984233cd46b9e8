//! How far a sweep has come: in metrics record by record, in events on the keyring's Secret at its beginning, each
//! quarter and its end.

use std::sync::atomic::{AtomicUsize, Ordering};

use k8s_openapi::api::core::v1::ObjectReference;

use super::Resealer;
use crate::controller::report::Note;
use crate::store::keyring::KeyId;
use crate::telemetry::logs::chain;

/// From how many records on the quarters are told.
const MANY: usize = 100;

/// How far a sweep has come.
pub(super) struct Progress {
    key: KeyId,
    all: usize,
    sealed: AtomicUsize,
    failed: AtomicUsize,
    /// Whether people have not heard of it yet: the same records that do not open are told of once.
    is_news: bool,
}

// === impl Progress ===

impl Progress {
    /// So many records are to be sealed anew.
    pub(super) async fn begin(resealer: &Resealer, key: KeyId, all: usize, is_news: bool) -> Self {
        let progress = Self { key, all, sealed: AtomicUsize::new(0), failed: AtomicUsize::new(0), is_news };
        if !is_news {
            return progress;
        }
        resealer.metrics.store.resealing(all);
        tracing::info!(records = all, %key, "records are sealed anew under the primary key");
        let text = format!("{all} records are sealed anew under key {key}");
        tell(resealer, false, "Resealing", text).await;
        progress
    }

    /// The key under which they are sealed.
    pub(super) fn key(&self) -> KeyId {
        self.key
    }

    /// One more is sealed.
    pub(super) async fn sealed(&self, resealer: &Resealer) {
        let sealed = self.sealed.fetch_add(1, Ordering::Relaxed) + 1;
        resealer.metrics.store.resealing(self.all.saturating_sub(sealed));
        if let Some(quarter) = quarter(sealed, self.all) {
            let percent = quarter * 25;
            tracing::info!(sealed, records = self.all, key = %self.key, percent, "sealing anew goes on");
            let text = format!("{sealed} of {} records are sealed under key {}", self.all, self.key);
            tell(resealer, false, "Resealing", text).await;
        }
    }

    /// One more cannot be sealed.
    pub(super) fn failed_for_good(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    /// How many cannot be sealed.
    pub(super) fn failed(&self) -> usize {
        self.failed.load(Ordering::Relaxed)
    }

    /// Names a record that cannot be sealed, unless that is known.
    pub(super) fn warn(&self, record: &str, error: &dyn std::error::Error) {
        if self.is_news {
            tracing::warn!(record, error = chain(error), "a record does not open and cannot be sealed anew");
        }
    }

    /// The sweep is over.
    pub(super) async fn end(self, resealer: &Resealer, left: usize) {
        let (sealed, key) = (self.sealed.into_inner(), self.key);
        if left == 0 {
            tracing::info!(sealed, %key, "all records are sealed under the primary key");
            let text = format!("{sealed} records were sealed anew: all are sealed under key {key}");
            tell(resealer, false, "Resealed", text).await;
        } else if self.is_news || sealed > 0 {
            tracing::warn!(sealed, left, %key, "records are left under earlier keys");
            let text = format!(
                "{sealed} records were sealed anew, and {left} do not open: `graph-credential-operator keys check` \
                 names them"
            );
            tell(resealer, true, "ResealIncomplete", text).await;
        }
    }
}

/// Which quarter of all is reached with just so many, but for the last.
fn quarter(sealed: usize, all: usize) -> Option<usize> {
    (1..4).find(|quarter| all >= MANY && sealed == (all * quarter).div_ceil(4))
}

async fn tell(resealer: &Resealer, is_warning: bool, reason: &'static str, text: String) {
    let keyring = ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Secret".to_owned()),
        name: Some(resealer.place.name.clone()),
        namespace: Some(resealer.place.namespace.clone()),
        ..ObjectReference::default()
    };
    let note = Note { is_warning, reason, action: "Reseal", text, ids: String::new() };
    resealer.events.publish(&keyring, &note).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_quarter_is_told_once_and_only_of_many() {
        for all in [100, 101, 102, 103, 5000] {
            let told: Vec<usize> = (1..=all).filter_map(|sealed| quarter(sealed, all)).collect();
            assert_eq!(told, [1, 2, 3], "{all}");
        }
        assert!((1..=99).all(|sealed| quarter(sealed, 99).is_none()));
    }
}
