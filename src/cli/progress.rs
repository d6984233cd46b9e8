//! Progress of long work on standard error: a bar on a terminal, and a line for each quarter elsewhere.

use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::output;

/// Counts what is done.
pub(super) struct Progress {
    total: usize,
    /// What is counted, in the plural.
    noun: &'static str,
    /// What is done with each of them.
    participle: &'static str,
    bar: ProgressBar,
    /// The quarters that were printed without a terminal.
    printed_quarters: usize,
}

// === impl Progress ===

impl Progress {
    pub(super) fn new(total: usize, noun: &'static str, participle: &'static str) -> Self {
        let bar = ProgressBar::new(total as u64);
        // The template is fixed and well formed; the default one is the fallback.
        let template = format!("{{bar:40}} {{pos}} of {{len}} {noun}, {{eta}} remaining");
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style);
        }
        bar.tick();
        Self { total, noun, participle, bar, printed_quarters: 0 }
    }

    /// Whether the bar is visible, because standard error is a terminal.
    pub(super) fn is_visible(&self) -> bool {
        !self.bar.is_hidden()
    }

    pub(super) fn set_total(&mut self, total: usize) {
        self.total = total;
        self.bar.set_length(total as u64);
    }

    pub(super) fn update(&mut self, done: usize) {
        self.bar.set_position(done as u64);
        let quarter = done * 4 / self.total.max(1);
        if self.bar.is_hidden() && quarter > self.printed_quarters && done < self.total {
            self.printed_quarters = quarter;
            output::note(&format!("{done} of {} {} are {}", self.total, self.noun, self.participle));
        }
    }

    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// Leaves the bar as it is.
    pub(super) fn abandon(&self) {
        self.bar.abandon();
    }
}
