//! Following the operator while it seals records anew: counts them, and shows how far it has come.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::ensure;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

use super::{Target, count};
use crate::cli::output;
use crate::store::census::Census;
use crate::store::keyring::KeyId;

/// A look takes at most this part of the time: counting reads all records.
const SHARE: u32 = 5;

/// How far the records have come, as seen from outside.
struct View {
    key: KeyId,
    /// How many were to be sealed anew at the first look.
    all: usize,
    left: usize,
    bar: ProgressBar,
    /// The quarters that are told where no bar can be drawn.
    told: usize,
    /// When one was sealed last.
    moved_at: Instant,
}

/// Returns once all records are sealed under that key, or none has been for a while.
pub(super) async fn until_sealed(target: &Target, key: KeyId) -> anyhow::Result<ExitCode> {
    let (mut census, mut took) = look(target, key).await?;
    let mut view = View::new(key, census.not_under(key));
    while view.left > 0 {
        if view.moved_at.elapsed() > target.timing.reseal_stall {
            return view.stalled(&census);
        }
        tokio::time::sleep(target.timing.reseal_look.max(took * SHARE)).await;
        (census, took) = look(target, key).await?;
        view.see(census.not_under(key))?;
    }
    view.bar.finish_and_clear();
    output::print(&format!("{} records are sealed under key {key}\n", census.under(key)))?;
    if census.unreadable() > 0 {
        output::print(&format!(
            "{} objects cannot be read as records: `keys check` names them\n",
            census.unreadable()
        ))?;
        return Ok(ExitCode::from(3));
    }
    Ok(ExitCode::SUCCESS)
}

/// Counts the records, and tells how long that took.
async fn look(target: &Target, key: KeyId) -> anyhow::Result<(Census, Duration)> {
    let primary = target.keyring().await?.primary();
    ensure!(
        primary == key,
        "key {primary} became primary meanwhile, by somebody else's hands: `keys list` shows how things stand"
    );
    let began = Instant::now();
    let census = count(target, &target.namespaces).await?;
    Ok((census, began.elapsed()))
}

// === impl View ===

impl View {
    fn new(key: KeyId, left: usize) -> Self {
        let bar = ProgressBar::new(left as u64);
        // The template is fixed and well formed; the default one is the fall-back.
        if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos} of {len} records, {eta} left") {
            bar.set_style(style);
        }
        bar.tick();
        if left > 0 && bar.is_hidden() {
            output::note(&format!("{left} records are to be sealed anew"));
        }
        Self { key, all: left, left, bar, told: 0, moved_at: Instant::now() }
    }

    /// So many are left now. More than before are those that a frozen replica has written under the earlier key.
    fn see(&mut self, left: usize) -> anyhow::Result<()> {
        if left < self.left {
            self.moved_at = Instant::now();
        }
        self.all = self.all.max(left);
        self.left = left;
        let done = self.all - left;
        self.bar.set_length(self.all as u64);
        self.bar.set_position(done as u64);
        let quarter = done * 4 / self.all.max(1);
        if self.bar.is_hidden() && quarter > self.told && left > 0 {
            self.told = quarter;
            output::print(&format!("{done} of {} records are sealed anew\n", self.all))?;
        }
        Ok(())
    }

    fn stalled(&self, census: &Census) -> anyhow::Result<ExitCode> {
        self.bar.abandon();
        let keys: Vec<String> = census
            .by_key()
            .filter(|(key, _)| *key != self.key)
            .map(|(key, records)| format!("{records} under {key}"))
            .collect();
        output::print(&format!(
            "{} records are left under earlier keys ({}), and none was sealed anew for a while: is an operator running, \
             and do they open (keys check)?\n",
            self.left,
            keys.join(", ")
        ))?;
        Ok(ExitCode::from(3))
    }
}
