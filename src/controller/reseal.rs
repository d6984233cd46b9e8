//! Records follow the primary key: after a rotation each is sealed anew, whatever it belongs to, under the version that
//! was read. Nothing is kept about how far that has come, so whoever goes on after a crash counts anew.

mod progress;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use jiff::Timestamp;
use kube::{Client, ResourceExt};
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use self::progress::{Progress, Version};
use super::context::Context;
use crate::events::Events;
use crate::leadership::Leadership;
use crate::resources::SealedGraphCredential;
use crate::settings::Timing;
use crate::store::census::{self, Census, GuardedRecord, ListError, Pages};
use crate::store::keyring::{self, EditError, Keyring, KeyringError, KeyringPlace, LiveKeyring, Standing};
use crate::store::repository::{RecordError, Repository};
use crate::telemetry::logs::chain;
use crate::telemetry::metrics::Metrics;

/// Writes at the same time: enough to hide the way to the API server, few enough to leave it to others.
const AT_A_TIME: usize = 4;

/// Seals records anew in the background.
pub struct Resealer {
    /// Client of the Kubernetes API.
    pub client: Client,
    /// Where the keyring is.
    pub place: KeyringPlace,
    /// The namespaces whose records are served; none means all.
    pub served: Vec<String>,
    /// The keyring.
    pub keyring: Arc<LiveKeyring>,
    /// Whether this replica leads.
    pub leadership: Leadership,
    /// Where progress is shown.
    pub metrics: Arc<Metrics>,
    /// Where progress is told.
    pub events: Events,
    /// The waits.
    pub timing: Timing,
    /// Cancelled when no new step may begin.
    pub stop: CancellationToken,
}

/// Why a sweep ended before its end.
#[derive(Debug, Error)]
enum SweepError {
    #[error(transparent)]
    List(#[from] ListError),
    #[error(transparent)]
    Keyring(#[from] KeyringError),
}

/// How a sweep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Swept {
    /// Every record is sealed under the primary key, or cannot be.
    Done,
    /// Some are left that the next sweep may seal.
    Left,
}

// === impl Resealer ===

impl Resealer {
    /// That of a controller.
    pub(super) fn of(context: &Context) -> Self {
        Self {
            client: context.client.clone(),
            place: context.keyring.place().clone(),
            served: context.index.namespaces(),
            keyring: context.keyring.clone(),
            leadership: context.leadership.clone(),
            metrics: context.metrics.clone(),
            events: context.events.clone(),
            timing: context.rules.timing,
            stop: context.stop.clone(),
        }
    }

    fn repository(&self) -> Repository {
        Repository::new(self.client.clone(), self.keyring.clone(), self.leadership.clone())
    }

    /// Looks at all records at the start, whenever the keyring has another primary key, and every now and then, until
    /// `stop`.
    pub async fn run(self) {
        self.sweep_again_and_again().await;
        // Whoever does it next shows what there is.
        self.metrics.store.resealing(0);
        self.metrics.store.sealed(std::iter::empty());
    }

    async fn sweep_again_and_again(&self) {
        let (mut primary, mut news) = (self.keyring.primary(), self.keyring.news());
        let (mut failures, mut is_rolled_out) = (0_u32, true);
        // What could not be sealed and was told.
        let mut told = BTreeSet::new();
        loop {
            primary.mark_unchanged();
            news.mark_unchanged();
            let Some(swept) = self.stop.run_until_cancelled(self.sweep(&mut told)).await else { return };
            let pause = match swept {
                Ok(Swept::Done) => {
                    failures = 0;
                    // Some replicas still seal under the earlier key.
                    let is_rolled_out = std::mem::replace(&mut is_rolled_out, true);
                    if is_rolled_out { self.timing.record_sweep } else { self.timing.key_rollout() }
                }
                Ok(Swept::Left) => self.back_off(&mut failures),
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
        let factor = 2_u32.saturating_pow(*failures);
        *failures = failures.saturating_add(1);
        self.timing.backoff_first.saturating_mul(factor).min(self.timing.backoff_longest)
    }

    /// Counts the records, seals those anew that are under an earlier key, and counts again. `told` are the records, as
    /// they are, of which it was told that they do not open: they are no news.
    async fn sweep(&self, told: &mut BTreeSet<Version>) -> Result<Swept, SweepError> {
        let keyring = self.keyring.read_again().await?;
        let census = self.count().await?;
        let key = keyring.primary();
        let stale = census.not_under(key);
        if stale == 0 {
            self.metrics.store.resealing(0);
            self.delete_ended_keys(&keyring, &census).await;
            told.clear();
            return Ok(Swept::Done);
        }
        let progress = Progress::begin(self, key, stale, told).await;
        let mut pages = Pages::new(&self.client, &self.served);
        let mut goes_on = true;
        while goes_on && let Some(records) = pages.next().await? {
            goes_on = self.reseal_page(records, &progress).await;
        }
        let census = self.count().await?;
        let now = self.keyring.read_again().await?;
        let left = census.not_under(now.primary());
        self.metrics.store.resealing(left);
        self.delete_ended_keys(&now, &census).await;
        let is_done = goes_on && left <= progress.failed() && now.primary() == key;
        *told = progress.end(self, left, is_done).await;
        Ok(if is_done { Swept::Done } else { Swept::Left })
    }

    async fn count(&self) -> Result<Census, ListError> {
        let census = census::count(&self.client, &self.served).await?;
        self.metrics.store.sealed(census.by_key().map(|(key, records)| (key.to_string(), records)));
        Ok(census)
    }

    /// Seals the records of one page anew, as far as they need it. Returns whether to go on.
    async fn reseal_page(&self, records: Vec<GuardedRecord>, progress: &Progress<'_>) -> bool {
        // Read for each page: nothing is sealed under a key that has ceased to be primary, or a keyring that is gone.
        let keyring = match self.keyring.read_again().await {
            Ok(keyring) if keyring.primary() == progress.key() => keyring,
            Ok(_) => return false,
            Err(error) => {
                tracing::warn!(error = chain(&error), "records are not sealed without the keyring");
                return false;
            }
        };
        // One that cannot be read as a record is counted, and named by `keys check`.
        let readable = records.into_iter().filter_map(|guarded| guarded.0.ok());
        let seals: Vec<_> = readable.map(|record| self.reseal_and_note(&keyring, record, progress)).collect();
        stream::iter(seals).buffer_unordered(AT_A_TIME).collect::<()>().await;
        !self.stop.is_cancelled()
    }

    async fn reseal_and_note(
        &self,
        keyring: &Keyring,
        record: SealedGraphCredential,
        progress: &Progress<'_>,
    ) {
        if self.stop.is_cancelled() {
            return;
        }
        let name = format!("{}/{}", record.namespace().unwrap_or_default(), record.name_any());
        match self.repository().reencrypt(keyring, &record).await {
            Ok(false) => {}
            Ok(true) => {
                tracing::debug!(record = name, "the record is sealed anew");
                self.metrics.store.resealed("sealed");
                progress.sealed(self).await;
            }
            Err(error) => {
                let version = (name, record.resource_version().unwrap_or_default());
                self.note_failure(version, &error, progress);
            }
        }
    }

    fn note_failure(&self, version: Version, error: &RecordError, progress: &Progress<'_>) {
        self.metrics.store.resealed(outcome(error));
        match error {
            // The next sweep finds it again, if it needs to be.
            RecordError::Conflict | RecordError::NotLeading(_) => {}
            // Not among those that are counted: its key cannot be told.
            RecordError::Malformed(_) => progress.warn(version, error),
            RecordError::Open(_) | RecordError::Seal(_) => {
                progress.failed_for_good();
                progress.warn(version, error);
            }
            _ => {
                let record = version.0;
                tracing::warn!(record, error = chain(error), "a record is not sealed anew; trying again");
            }
        }
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
            let deleted = keyring::edit(&self.client, &self.place, |keyring| {
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

/// One word for metrics.
fn outcome(error: &RecordError) -> &'static str {
    match error {
        RecordError::Malformed(_) | RecordError::Open(_) | RecordError::Seal(_) => "unreadable",
        RecordError::Conflict => "changed",
        RecordError::NotLeading(_) => "not_leading",
        _ => "error",
    }
}
