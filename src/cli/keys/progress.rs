//! Progress of the operator's re-encryption of records.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::ensure;
use tokio::time::Instant;

use crate::cli::keys::{Target, count};
use crate::cli::output;
use crate::cli::progress::Progress;
use crate::store::key_usage::KeyUsage;
use crate::store::keyring::KeyId;

/// The wait between two counts, as a multiple of the time that a count takes: it reads all records.
const WAIT_PER_COUNT: u32 = 5;

/// Shows the progress.
struct ProgressView {
    key: KeyId,
    /// The largest number of records that needed re-encryption.
    total: usize,
    remaining: usize,
    progress: Progress,
    /// When a record was last re-encrypted.
    progressed_at: Instant,
}

/// Returns once all records are encrypted with that key, or none has been for a while.
pub(super) async fn until_reencrypted(target: &Target, key: KeyId) -> anyhow::Result<ExitCode> {
    let (mut usage, mut took) = measure(target, key).await?;
    let mut view = ProgressView::new(key, usage.stale(key));
    while view.remaining > 0 {
        if view.progressed_at.elapsed() > target.timing.reencrypt_stall {
            return view.stalled(&usage);
        }
        tokio::time::sleep(target.timing.reencrypt_poll.max(took * WAIT_PER_COUNT)).await;
        (usage, took) = measure(target, key).await?;
        view.update(usage.stale(key));
    }
    view.progress.finish();
    output::print(&format!("{} records are encrypted with key {key}\n", usage.under(key)))?;
    if usage.unreadable() > 0 {
        output::print(&format!(
            "{} objects cannot be read as records: `keys verify` names them\n",
            usage.unreadable()
        ))?;
        return Ok(ExitCode::from(3));
    }
    Ok(ExitCode::SUCCESS)
}

/// Counts the records, and measures how long that takes.
async fn measure(target: &Target, key: KeyId) -> anyhow::Result<(KeyUsage, Duration)> {
    let primary = target.keyring().await?.primary();
    ensure!(primary == key, "another client made key {primary} the primary key meanwhile: see `keys list`");
    let started = Instant::now();
    let usage = count(target, &target.namespaces).await?;
    Ok((usage, started.elapsed()))
}

// === impl ProgressView ===

impl ProgressView {
    fn new(key: KeyId, remaining: usize) -> Self {
        let progress = Progress::new(remaining, "records", "re-encrypted");
        if remaining > 0 && !progress.is_visible() {
            output::note(&format!("{remaining} records need re-encryption"));
        }
        Self { key, total: remaining, remaining, progress, progressed_at: Instant::now() }
    }

    /// `remaining` can grow if a replica that was frozen writes records with an earlier key.
    fn update(&mut self, remaining: usize) {
        if remaining < self.remaining {
            self.progressed_at = Instant::now();
        }
        self.total = self.total.max(remaining);
        self.remaining = remaining;
        self.progress.set_total(self.total);
        self.progress.update(self.total - remaining);
    }

    fn stalled(&self, usage: &KeyUsage) -> anyhow::Result<ExitCode> {
        self.progress.abandon();
        let keys: Vec<String> = usage
            .by_key()
            .filter(|(key, _)| *key != self.key)
            .map(|(key, records)| format!("{records} under {key}"))
            .collect();
        output::print(&format!(
            "{} records are still encrypted with earlier keys ({}), and none was re-encrypted for a while: check that \
             an operator is running, and that the records can be decrypted (keys verify)\n",
            self.remaining,
            keys.join(", ")
        ))?;
        Ok(ExitCode::from(3))
    }
}
