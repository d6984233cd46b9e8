//! Re-encryption: after a rotation every record is encrypted with the primary key, and after an upgrade in the current
//! format, conditional on the resource version that was read. No progress is stored, so the next process counts again
//! after a crash.

mod progress;

use std::collections::BTreeSet;
use std::time::Duration;

use futures::{StreamExt, stream};
use jiff::Timestamp;
use kube::ResourceExt;
use thiserror::Error;
use tokio::sync::oneshot;

use self::progress::{Progress, Version};
use crate::api::{NamespacedName, SealedGraphCredential};
use crate::controller::record::RecordController;
use crate::core::backoff::doubled;
use crate::core::error_chain::chain;
use crate::k8s::list::ListError;
use crate::store::key_usage::{self, KeyUsage, ParsedRecord};
use crate::store::keyring::{self, EditError, KeyState, Keyring, KeyringError};
use crate::store::repository::RecordError;

/// Concurrent writes: enough to hide the latency of the API server, few enough not to load it.
const MAX_CONCURRENT: usize = 4;

#[derive(Debug, Error)]
enum SweepError {
    #[error("failed to list the SealedGraphCredentials")]
    List(#[from] ListError),
    #[error(transparent)]
    Keyring(#[from] KeyringError),
}

// === impl RecordController ===

impl RecordController {
    /// Sweeps all records at the start, when the keyring has another primary key or more keys, and once an hour, until
    /// `stop`. `usage` is the count of the first list.
    pub(super) async fn reencrypt_records(&self, usage: oneshot::Receiver<KeyUsage>) {
        let (mut primary, mut changes) = (self.keyring.primary(), self.keyring.changes());
        let (mut failures, mut is_rolled_out) = (0_u32, true);
        // Records that cannot be decrypted and were already logged.
        let mut known = BTreeSet::new();
        let Some(first) = self.stop.run_until_cancelled(usage).await else { return };
        let mut first = first.ok();
        loop {
            primary.mark_unchanged();
            changes.mark_unchanged();
            let sweep = self.sweep(first.take(), &mut known);
            let Some(swept) = self.stop.run_until_cancelled(sweep).await else { return };
            let pause = match swept {
                Ok(true) => {
                    failures = 0;
                    // Some replicas still encrypt with the previous key.
                    let is_rolled_out = std::mem::replace(&mut is_rolled_out, true);
                    if is_rolled_out { self.timing.record_sweep } else { self.timing.key_rollout() }
                }
                Ok(false) => self.back_off(&mut failures),
                Err(error) => {
                    tracing::warn!(
                        error = chain(&error),
                        "failed to sweep the records of the store; trying again"
                    );
                    self.back_off(&mut failures)
                }
            };
            tokio::select! {
                () = self.stop.cancelled() => return,
                // The senders live as long as the keyring, which `self` holds.
                _ = primary.changed() => is_rolled_out = false,
                _ = changes.changed() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    fn back_off(&self, failures: &mut u32) -> Duration {
        *failures = failures.saturating_add(1);
        doubled(self.timing.backoff_first, *failures).min(self.timing.backoff_longest)
    }

    /// Counts the records, re-encrypts those under an earlier key or in an earlier format, and counts again. `known` are
    /// the records that were already logged as unreadable. Returns whether none is left that the next sweep could
    /// re-encrypt.
    async fn sweep(
        &self,
        counted: Option<KeyUsage>,
        known: &mut BTreeSet<Version>,
    ) -> Result<bool, SweepError> {
        let keyring = self.keyring.refresh().await?;
        let usage = match counted {
            Some(usage) => self.publish(usage),
            None => self.count().await?,
        };
        let key = keyring.primary();
        let stale = usage.to_reencrypt(key);
        if stale == 0 {
            self.metrics.store.set_reencrypt_remaining(0);
            self.delete_retired_keys(&keyring, &usage).await;
            known.clear();
            return Ok(true);
        }
        let mut progress = Progress::begin(self, key, stale, known).await;
        let mut pages = key_usage::pages(&self.client, &self.served);
        let mut continues = true;
        while continues && let Some(records) = pages.next().await? {
            continues = self.reencrypt_page(records, &mut progress).await;
        }
        let usage = self.count().await?;
        let now = self.keyring.refresh().await?;
        let left = usage.to_reencrypt(now.primary());
        self.metrics.store.set_reencrypt_remaining(left);
        self.delete_retired_keys(&now, &usage).await;
        let is_done = continues && left <= progress.failed && now.primary() == key;
        *known = progress.end(self, left, is_done).await;
        Ok(is_done)
    }

    async fn count(&self) -> Result<KeyUsage, ListError> {
        Ok(self.publish(key_usage::count(&self.client, &self.served).await?))
    }

    fn publish(&self, usage: KeyUsage) -> KeyUsage {
        self.metrics
            .store
            .set_records_by_key(usage.by_key().map(|(key, records)| (key.to_string(), records)));
        usage
    }

    /// Re-encrypts the records of one page that need it. Returns whether to continue.
    async fn reencrypt_page(&self, records: Vec<ParsedRecord>, progress: &mut Progress<'_>) -> bool {
        // Read for each page, so that nothing is encrypted with a key that is no longer primary, or without a keyring.
        let keyring = match self.keyring.refresh().await {
            Ok(keyring) if keyring.primary() == progress.key => keyring,
            Ok(_) => return false,
            Err(error) => {
                tracing::warn!(error = chain(&error), "records are not re-encrypted without the keyring");
                return false;
            }
        };
        // A record that cannot be deserialized is counted, and `keys verify` lists it.
        let readable = records.into_iter().filter_map(|guarded| guarded.0.ok());
        let writes: Vec<_> = readable.map(|record| self.reencrypt_one(&keyring, record)).collect();
        let mut writes = stream::iter(writes).buffer_unordered(MAX_CONCURRENT);
        while let Some((version, written)) = writes.next().await {
            match written {
                Ok(false) => {}
                Ok(true) => {
                    tracing::debug!(record = version.0, "the record was re-encrypted");
                    self.metrics.store.reencrypted("reencrypted");
                    progress.sealed(self).await;
                }
                Err(error) => {
                    self.metrics.store.reencrypted(outcome(&error));
                    progress.failed(version, &error);
                }
            }
        }
        !self.stop.is_cancelled()
    }

    /// Re-encrypts a record if it needs that, unless the process is stopping.
    async fn reencrypt_one(
        &self,
        keyring: &Keyring,
        record: SealedGraphCredential,
    ) -> (Version, Result<bool, RecordError>) {
        let version =
            (NamespacedName::of(&record).to_string(), record.resource_version().unwrap_or_default());
        if self.stop.is_cancelled() {
            return (version, Ok(false));
        }
        (version, self.repository().reencrypt(keyring, &record).await)
    }

    /// Deletes the keys that were retired long enough ago and that no record needs. An operator that does not serve all
    /// namespaces leaves that to `keys retire`.
    async fn delete_retired_keys(&self, keyring: &Keyring, usage: &KeyUsage) {
        if !self.served.is_empty() {
            return;
        }
        let retired = keyring.keys().filter(|key| matches!(key.state, KeyState::Retired(_)));
        for key in retired {
            let kept = self.timing.key_retirement;
            let possibly_under = usage.possibly_under(key.id);
            let is_due = keyring.clone().delete(key.id, possibly_under, Timestamp::now(), kept).is_ok();
            if !is_due || self.leadership.check_write().is_err() {
                continue;
            }
            let deleted = keyring::edit(&self.client, self.keyring.secret_ref(), |keyring| {
                keyring.delete(key.id, possibly_under, Timestamp::now(), kept)
            });
            match deleted.await {
                Ok(_) => tracing::info!(key = %key.id, "deleted a retired key that no record needs"),
                Err(EditError::Rejected(_)) => {}
                Err(error) => tracing::warn!(
                    key = %key.id,
                    error = chain(&error),
                    "failed to delete a retired key; `keys retire` can also delete it"
                ),
            }
        }
    }
}

/// The value of the metric's label.
fn outcome(error: &RecordError) -> &'static str {
    match error {
        RecordError::Malformed(_) | RecordError::Open(_) | RecordError::Seal(_) => "unreadable",
        RecordError::Conflict => "changed",
        RecordError::NotLeading(_) => "not_leading",
        _ => "error",
    }
}
