//! How far a sweep has come: in metrics record by record, in events on the keyring's Secret at its beginning, each
//! quarter and its end.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use k8s_openapi::api::core::v1::ObjectReference;

use super::RecordController;
use crate::events::Note;
use crate::store::keyring::KeyId;
use crate::telemetry::logs::chain;

/// From how many records on the quarters are told.
const MANY: usize = 100;

/// A record as it is: its full name and its resource version.
pub(super) type Version = (String, String);

/// How far a sweep has come.
pub(super) struct Progress<'a> {
    key: KeyId,
    all: usize,
    sealed: AtomicUsize,
    failed: AtomicUsize,
    /// The records of which it was told before that they do not open.
    known: &'a BTreeSet<Version>,
    /// Those of which it is so now.
    found: Mutex<BTreeSet<Version>>,
}

// === impl Progress ===

impl<'a> Progress<'a> {
    /// So many records are to be sealed anew, beside those that are known not to open.
    pub(super) async fn begin(
        controller: &RecordController,
        key: KeyId,
        all: usize,
        known: &'a BTreeSet<Version>,
    ) -> Self {
        let (sealed, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let progress = Self { key, all, sealed, failed, known, found: Mutex::default() };
        if all <= known.len() {
            return progress;
        }
        controller.metrics.store.resealing(all);
        tracing::info!(records = all, %key, "records are sealed anew under the primary key");
        let text = format!("{all} records are sealed anew under key {key}");
        tell(controller, false, "Resealing", text).await;
        progress
    }

    /// The key under which they are sealed.
    pub(super) fn key(&self) -> KeyId {
        self.key
    }

    /// One more is sealed.
    pub(super) async fn sealed(&self, controller: &RecordController) {
        let sealed = self.sealed.fetch_add(1, Ordering::Relaxed) + 1;
        controller.metrics.store.resealing(self.all.saturating_sub(sealed));
        if let Some(quarter) = quarter(sealed, self.all) {
            let percent = quarter * 25;
            tracing::info!(sealed, records = self.all, key = %self.key, percent, "sealing anew goes on");
            let text = format!("{sealed} of {} records are sealed under key {}", self.all, self.key);
            tell(controller, false, "Resealing", text).await;
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
    pub(super) fn warn(&self, version: Version, error: &dyn std::error::Error) {
        if !self.known.contains(&version) {
            let record = version.0.as_str();
            tracing::warn!(record, error = chain(error), "a record does not open and cannot be sealed anew");
        }
        self.found.lock().insert(version);
    }

    /// The sweep is over. Returns the records that do not open.
    pub(super) async fn end(
        self,
        controller: &RecordController,
        left: usize,
        is_done: bool,
    ) -> BTreeSet<Version> {
        let (sealed, key) = (self.sealed.into_inner(), self.key);
        let found = self.found.into_inner();
        if !is_done {
            return found;
        }
        if left == 0 {
            tracing::info!(sealed, %key, "all records are sealed under the primary key");
            let text = format!("{sealed} records were sealed anew: all are sealed under key {key}");
            tell(controller, false, "Resealed", text).await;
        } else if sealed > 0 || found != *self.known {
            tracing::warn!(sealed, left, %key, "records are left under earlier keys");
            let text = format!(
                "{sealed} records were sealed anew, and {left} do not open: `graph-credential-operator keys check` \
                 names them"
            );
            tell(controller, true, "ResealIncomplete", text).await;
        }
        found
    }
}

/// Which quarter of all is reached with just so many, but for the last.
fn quarter(sealed: usize, all: usize) -> Option<usize> {
    (1..4).find(|quarter| all >= MANY && sealed == (all * quarter).div_ceil(4))
}

async fn tell(controller: &RecordController, is_warning: bool, reason: &'static str, text: String) {
    let keyring = ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Secret".to_owned()),
        name: Some(controller.keyring.place().name.clone()),
        namespace: Some(controller.keyring.place().namespace.clone()),
        ..ObjectReference::default()
    };
    let note = Note { is_warning, reason, action: "Reseal", text, ids: String::new() };
    controller.events.publish(&keyring, &note).await;
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
