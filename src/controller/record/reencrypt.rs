//! Re-encryption: after a rotation each record is sealed under the primary key, whatever it belongs to, under the version that
//! was read. No progress is stored, so the next process counts again after a crash.

mod progress;

use std::collections::BTreeSet;
use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use jiff::Timestamp;
use kube::ResourceExt;
use thiserror::Error;
use tokio::sync::oneshot;

use self::progress::{Progress, Version};
use super::RecordController;
use crate::backoff::doubled;
use crate::controller::index::Named;
use crate::k8s::list::ListError;
use crate::resources::SealedGraphCredential;
use crate::store::census::{self, Census, GuardedRecord};
use crate::store::keyring::{self, EditError, Keyring, KeyringError, Standing};
use crate::store::repository::RecordError;
use crate::telemetry::logs::chain;

/// Writes at the same time: enough to hide the way to the API server, few enough to leave it to others.
const AT_A_TIME: usize = 4;

/// Why a sweep ended before its end.
#[derive(Debug, Error)]
enum SweepError {
    #[error("failed to list the SealedGraphCredentials")]
    List(#[from] ListError),
    #[error(transparent)]
    Keyring(#[from] KeyringError),
}

// === impl RecordController ===

impl RecordController {
    /// Looks at all records at the start, when the keyring has another primary key or holds more, and once an hour, until
    /// `stop`. `census` is what the start's list holds.
    pub(super) async fn reencrypt_records(&self, census: oneshot::Receiver<Census>) {
        let (mut primary, mut news) = (self.keyring.primary(), self.keyring.news());
        let (mut failures, mut is_rolled_out) = (0_u32, true);
        // What could not be sealed and was logged.
        let mut known = BTreeSet::new();
        let Some(first) = self.stop.run_until_cancelled(census).await else { return };
        let mut first = first.ok();
        loop {
            primary.mark_unchanged();
            news.mark_unchanged();
            let sweep = self.sweep(first.take(), &mut known);
            let Some(swept) = self.stop.run_until_cancelled(sweep).await else { return };
            let pause = match swept {
                Ok(true) => {
                    failures = 0;
                    // Some replicas still seal under the earlier key.
                    let is_rolled_out = std::mem::replace(&mut is_rolled_out, true);
                    if is_rolled_out { self.timing.record_sweep } else { self.timing.key_rollout() }
                }
                Ok(false) => self.back_off(&mut failures),
                Err(error) => {
                    tracing::warn!(
                        error = chain(&error),
                        "the records of the store cannot be swept; trying again"
                    );
                    self.back_off(&mut failures)
                }
            };
            tokio::select! {
                () = self.stop.cancelled() => return,
                // The senders live as long as the keyring, which `self` holds.
                _ = primary.changed() => is_rolled_out = false,
                _ = news.changed() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    fn back_off(&self, failures: &mut u32) -> Duration {
        *failures = failures.saturating_add(1);
        doubled(self.timing.backoff_first, *failures).min(self.timing.backoff_longest)
    }

    /// Counts the records, re-encrypts those that are under an earlier key, and counts again. Of `known` records, as they are,
    /// it was logged that they do not open. Returns whether none is left that the next sweep may seal.
    async fn sweep(
        &self,
        counted: Option<Census>,
        known: &mut BTreeSet<Version>,
    ) -> Result<bool, SweepError> {
        let keyring = self.keyring.read_again().await?;
        let census = match counted {
            Some(census) => self.show(census),
            None => self.count().await?,
        };
        let key = keyring.primary();
        let stale = census.not_under(key);
        if stale == 0 {
            self.metrics.store.resealing(0);
            self.delete_ended_keys(&keyring, &census).await;
            known.clear();
            return Ok(true);
        }
        let mut progress = Progress::begin(self, key, stale, known).await;
        let mut pages = census::pages(&self.client, &self.served);
        let mut goes_on = true;
        while goes_on && let Some(records) = pages.next().await? {
            goes_on = self.reencrypt_page(records, &mut progress).await;
        }
        let census = self.count().await?;
        let now = self.keyring.read_again().await?;
        let left = census.not_under(now.primary());
        self.metrics.store.resealing(left);
        self.delete_ended_keys(&now, &census).await;
        let is_done = goes_on && left <= progress.failed && now.primary() == key;
        *known = progress.end(self, left, is_done).await;
        Ok(is_done)
    }

    async fn count(&self) -> Result<Census, ListError> {
        Ok(self.show(census::count(&self.client, &self.served).await?))
    }

    fn show(&self, census: Census) -> Census {
        self.metrics.store.sealed(census.by_key().map(|(key, records)| (key.to_string(), records)));
        census
    }

    /// Re-encrypts the records of one page, if they need it. Returns whether to go on.
    async fn reencrypt_page(&self, records: Vec<GuardedRecord>, progress: &mut Progress<'_>) -> bool {
        // Read for each page: nothing is sealed under a key that has ceased to be primary, or a keyring that is gone.
        let keyring = match self.keyring.read_again().await {
            Ok(keyring) if keyring.primary() == progress.key => keyring,
            Ok(_) => return false,
            Err(error) => {
                tracing::warn!(error = chain(&error), "records are not sealed without the keyring");
                return false;
            }
        };
        // One that cannot be read as a record is counted, and named by `keys check`.
        let readable = records.into_iter().filter_map(|guarded| guarded.0.ok());
        let writes: Vec<_> = readable.map(|record| self.reencrypt_one(&keyring, record)).collect();
        let mut writes = stream::iter(writes).buffer_unordered(AT_A_TIME);
        while let Some((version, written)) = writes.next().await {
            match written {
                Ok(false) => {}
                Ok(true) => {
                    tracing::debug!(record = version.0, "the record is sealed anew");
                    self.metrics.store.resealed("sealed");
                    progress.sealed(self).await;
                }
                Err(error) => {
                    self.metrics.store.resealed(outcome(&error));
                    progress.failed(version, &error);
                }
            }
        }
        !self.stop.is_cancelled()
    }

    /// Re-encrypts a record if it needs that, unless the program is ending.
    async fn reencrypt_one(
        &self,
        keyring: &Keyring,
        record: SealedGraphCredential,
    ) -> (Version, Result<bool, RecordError>) {
        let version = (Named::of(&record).to_string(), record.resource_version().unwrap_or_default());
        if self.stop.is_cancelled() {
            return (version, Ok(false));
        }
        (version, self.repository().reencrypt(keyring, &record).await)
    }

    /// Deletes the keys that were retired long enough ago and that no record needs. An operator that does not see all
    /// namespaces leaves that to `keys retire`, which does.
    async fn delete_ended_keys(&self, keyring: &Keyring, census: &Census) {
        if !self.served.is_empty() {
            return;
        }
        let retired = keyring.keys().filter(|key| matches!(key.standing, Standing::Retired(_)));
        for key in retired {
            let kept = self.timing.key_retirement;
            let may_need = census.may_need(key.id);
            let is_due = keyring.clone().delete(key.id, may_need, Timestamp::now(), kept).is_ok();
            if !is_due || self.leadership.admit_write().is_err() {
                continue;
            }
            let deleted = keyring::edit(&self.client, self.keyring.place(), |keyring| {
                keyring.delete(key.id, may_need, Timestamp::now(), kept)
            });
            match deleted.await {
                Ok(_) => tracing::info!(key = %key.id, "a retired key that nothing needs is deleted"),
                Err(EditError::Refused(_)) => {}
                Err(error) => tracing::warn!(
                    key = %key.id,
                    error = chain(&error),
                    "a retired key could not be deleted: `keys retire` deletes it as well"
                ),
            }
        }
    }
}

/// As metrics name it.
fn outcome(error: &RecordError) -> &'static str {
    match error {
        RecordError::Malformed(_) | RecordError::Open(_) | RecordError::Seal(_) => "unreadable",
        RecordError::Conflict => "changed",
        RecordError::NotLeading(_) => "not_leading",
        _ => "error",
    }
}
