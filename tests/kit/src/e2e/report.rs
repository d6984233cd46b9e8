//! The output during the run, and the report after it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::time::{Duration, Instant};

use super::settings::Settings;

/// The steps, each with its duration.
#[derive(Debug)]
pub(super) struct Report {
    lines: String,
    started: Instant,
    last: Instant,
    /// Facts about the cluster for the reader.
    pub(super) cluster: String,
    /// The image of each version that ran.
    images: BTreeMap<String, String>,
}

// === impl Report ===

impl Default for Report {
    fn default() -> Self {
        let now = Instant::now();
        Self {
            lines: String::new(),
            started: now,
            last: now,
            cluster: String::new(),
            images: BTreeMap::new(),
        }
    }
}

impl Report {
    pub(super) fn profile(&mut self, name: &str) {
        eprintln!("\n{name}");
        let _ = write!(self.lines, "\n## {name}\n\n| step | seconds |\n| --- | --- |\n");
        self.last = Instant::now();
    }

    /// Records the image that a version runs as.
    pub(super) fn runs(&mut self, version: &str, image: &str) {
        self.images.insert(version.to_owned(), image.to_owned());
    }

    /// A step that passed.
    pub(super) fn step(&mut self, text: &str) {
        self.row(text, &seconds(self.last.elapsed()));
    }

    /// A step that the settings exclude.
    pub(super) fn not_run(&mut self, text: &str, why: &str) {
        self.row(&format!("{text}: not run, {why}"), "-");
    }

    pub(super) fn failed(&mut self, text: &str) {
        eprintln!("FAILED: {text}");
        let _ = write!(self.lines, "\nFailed: {text}\n");
    }

    fn row(&mut self, text: &str, time: &str) {
        eprintln!("  {text} ({time} s)");
        let _ = writeln!(self.lines, "| {text} | {time} |");
        self.last = Instant::now();
    }

    /// Writes the result to the file that the settings name.
    pub(super) fn save(&self, settings: &Settings, has_passed: bool) -> io::Result<()> {
        let result = if has_passed { "All steps passed" } else { "Some steps failed" };
        eprintln!("\n{result}, in {} s", seconds(self.started.elapsed()));
        let Some(path) = &settings.report else { return Ok(()) };
        let images: String =
            self.images.iter().map(|(version, id)| format!("| {version} | `{id}` |\n")).collect();
        let text = format!(
            "# Last full run of `make e2e`\n\n\
            helm installs the chart into a cluster with nodes. Test doubles of Microsoft and Woodpecker run as pods \
            and serve TLS.\n\
            Every duration of the operator is divided by {}.\n\n\
            {result}, in {} s, on {}.\n\n\
            `make e2e-images` builds both versions from one source, the second with the next number in `Cargo.toml`. \
            So everything\n\
            that contains a version differs: what the program reports in metrics and requests, its bill of materials, \
            the image,\n\
            the labels and the chart. The behavior of the program is the same in both.\n\n\
            | version | image id on the node |\n\
            | --- | --- |\n\
            {images}{}",
            super::fixture::TIME_SCALE,
            seconds(self.started.elapsed()),
            self.cluster,
            self.lines
        );
        std::fs::write(path, text)
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64())
}
