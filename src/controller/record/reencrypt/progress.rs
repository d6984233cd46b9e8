//! How far a sweep has come: in metrics record by record, in events on the keyring's Secret at its beginning, each
//! quarter and its end.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::ObjectReference;

use super::RecordController;
use crate::events::Note;
use crate::store::keyring::KeyId;
use crate::store::repository::RecordError;
use crate::telemetry::logs::chain;

/// From how many records on the quarters are told.
const MANY: usize = 100;

/// A record as it is: its full name and its resource version.
pub(super) type Version = (String, String);

/// How far a sweep has come.
pub(super) struct Progress<'a> {
    /// The key under which records are sealed.
    pub(super) key: KeyId,
    all: usize,
    sealed: usize,
    /// How many cannot be sealed.
    pub(super) failed: usize,
    /// The records of which it was told before that they do not open.
    known: &'a BTreeSet<Version>,
    /// Those of which it is so now.
    found: BTreeSet<Version>,
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
        if all > known.len() {
            controller.metrics.store.resealing(all);
            tracing::info!(records = all, %key, "records are sealed anew under the primary key");
            let text = format!("{all} records are sealed anew under key {key}");
            tell(controller, false, "Resealing", text).await;
        }
        Self { key, all, sealed: 0, failed: 0, known, found: BTreeSet::new() }
    }

    /// One more is sealed.
    pub(super) async fn sealed(&mut self, controller: &RecordController) {
        self.sealed += 1;
        let Self { key, all, sealed, .. } = *self;
        controller.metrics.store.resealing(all.saturating_sub(sealed));
        if let Some(quarter) = quarter(sealed, all) {
            let percent = quarter * 25;
            tracing::info!(sealed, records = all, %key, percent, "sealing anew goes on");
            let text = format!("{sealed} of {all} records are sealed under key {key}");
            tell(controller, false, "Resealing", text).await;
        }
    }

    /// One was not sealed. Names it where it can never be, unless that was said before.
    pub(super) fn failed(&mut self, version: Version, error: &RecordError) {
        let record = version.0.as_str();
        match error {
            // The next sweep finds it again, if it needs to be.
            RecordError::Conflict | RecordError::NotLeading(_) => return,
            // Not among those that are counted: its key cannot be told.
            RecordError::Malformed(_) => {}
            RecordError::Open(_) | RecordError::Seal(_) => self.failed += 1,
            _ => {
                tracing::warn!(record, error = chain(error), "a record is not sealed anew; trying again");
                return;
            }
        }
        if !self.known.contains(&version) {
            tracing::warn!(record, error = chain(error), "a record does not open and cannot be sealed anew");
        }
        self.found.insert(version);
    }

    /// The sweep is over. Returns the records that do not open.
    pub(super) async fn end(
        self,
        controller: &RecordController,
        left: usize,
        is_done: bool,
    ) -> BTreeSet<Version> {
        let Self { key, sealed, known, found, .. } = self;
        if !is_done {
            return found;
        }
        if left == 0 {
            tracing::info!(sealed, %key, "all records are sealed under the primary key");
            let text = format!("{sealed} records were sealed anew: all are sealed under key {key}");
            tell(controller, false, "Resealed", text).await;
        } else if sealed > 0 || found != *known {
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
    let place = controller.keyring.place();
    let keyring = ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Secret".to_owned()),
        name: Some(place.name.clone()),
        namespace: Some(place.namespace.clone()),
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
