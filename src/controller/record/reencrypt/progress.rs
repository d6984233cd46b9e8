//! Progress of a sweep: in metrics for each record, in events on the keyring's Secret at the beginning, at each quarter
//! and at the end.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::ObjectReference;

use crate::controller::record::reencrypt::RecordController;
use crate::core::error_chain::chain;
use crate::core::event::EventBody;
use crate::store::keyring::KeyId;
use crate::store::repository::RecordError;

/// The number of records from which on quarters are reported.
const MIN_RECORDS_FOR_QUARTERS: usize = 100;

/// The version of a record: its full name and its resource version.
pub(super) type Version = (String, String);

pub(super) struct Progress<'a> {
    /// The key that encrypts the records.
    pub(super) key: KeyId,
    all: usize,
    sealed: usize,
    /// How many cannot be re-encrypted.
    pub(super) failed: usize,
    /// The records that were already logged as unreadable.
    known: &'a BTreeSet<Version>,
    /// The records that are unreadable now.
    found: BTreeSet<Version>,
}

// === impl Progress ===

impl<'a> Progress<'a> {
    /// Begins a sweep of `all` records, some of which may be `known` as unreadable.
    pub(super) async fn begin(
        controller: &RecordController,
        key: KeyId,
        all: usize,
        known: &'a BTreeSet<Version>,
    ) -> Self {
        if all > known.len() {
            controller.metrics.store.set_reencrypt_remaining(all);
            tracing::info!(records = all, %key, "re-encrypting records with the primary key");
            let text = format!("{all} records are re-encrypted with key {key}");
            emit(controller, false, "Reencrypting", text).await;
        }
        Self { key, all, sealed: 0, failed: 0, known, found: BTreeSet::new() }
    }

    /// Counts a record that was re-encrypted.
    pub(super) async fn sealed(&mut self, controller: &RecordController) {
        self.sealed += 1;
        let Self { key, all, sealed, .. } = *self;
        controller.metrics.store.set_reencrypt_remaining(all.saturating_sub(sealed));
        if let Some(quarter) = quarter(sealed, all) {
            let percent = quarter * 25;
            tracing::info!(sealed, records = all, %key, percent, "re-encryption progress");
            let text = format!("{sealed} of {all} records are encrypted with key {key}");
            emit(controller, false, "Reencrypting", text).await;
        }
    }

    /// Counts a record that was not re-encrypted. Logs it if it never can be, unless it is known.
    pub(super) fn failed(&mut self, version: Version, error: &RecordError) {
        let record = version.0.as_str();
        match error {
            // The next sweep finds it again, if it still needs it.
            RecordError::Conflict | RecordError::NotLeading(_) => return,
            // Not counted, because its key is unknown.
            RecordError::Malformed(_) => {}
            RecordError::Open(_) | RecordError::Seal(_) => self.failed += 1,
            _ => {
                tracing::warn!(record, error = chain(error), "failed to re-encrypt a record; trying again");
                return;
            }
        }
        if !self.known.contains(&version) {
            tracing::warn!(record, error = chain(error), "a record cannot be decrypted or re-encrypted");
        }
        self.found.insert(version);
    }

    /// Ends the sweep. Returns the records that cannot be decrypted.
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
            tracing::info!(sealed, %key, "all records are encrypted with the primary key");
            let text = format!("{sealed} records were re-encrypted: all are encrypted with key {key}");
            emit(controller, false, "Reencrypted", text).await;
        } else if sealed > 0 || found != *known {
            tracing::warn!(
                sealed,
                left,
                %key,
                "some records are still encrypted with earlier keys or in an earlier format"
            );
            let text = format!(
                "{sealed} records were re-encrypted, and {left} cannot be decrypted: `graph-credential-operator \
                 keys verify` lists them"
            );
            emit(controller, true, "ReencryptionIncomplete", text).await;
        }
        found
    }
}

/// The quarter that is reached with exactly `sealed` records, except the last.
fn quarter(sealed: usize, all: usize) -> Option<usize> {
    (1..4).find(|quarter| all >= MIN_RECORDS_FOR_QUARTERS && sealed == (all * quarter).div_ceil(4))
}

async fn emit(controller: &RecordController, is_warning: bool, reason: &'static str, text: String) {
    let place = controller.keyring.secret_ref();
    let keyring = ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Secret".to_owned()),
        name: Some(place.name.clone()),
        namespace: Some(place.namespace.clone()),
        ..ObjectReference::default()
    };
    let note = EventBody { is_warning, reason, action: "Reencrypt", text, request_ids: String::new() };
    controller.events.publish(&keyring, &note).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_quarter_is_reported_once_and_only_of_many_records() {
        for all in [100, 101, 102, 103, 5000] {
            let reported: Vec<usize> = (1..=all).filter_map(|sealed| quarter(sealed, all)).collect();
            assert_eq!(reported, [1, 2, 3], "{all}");
        }
        assert!((1..=99).all(|sealed| quarter(sealed, 99).is_none()));
    }
}
