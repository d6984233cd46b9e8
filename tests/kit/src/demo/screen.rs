//! The output of the demo: the same on each run except for times and ids, with color only on a terminal.

use std::io::{self, IsTerminal, Write};

/// Standard output.
#[derive(Debug)]
pub(super) struct Screen {
    has_color: bool,
}

// === impl Screen ===

impl Screen {
    pub(super) fn new() -> Self {
        let has_color = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { has_color }
    }

    pub(super) fn title(&self, text: &str) {
        self.put(&format!("\n{}\n", self.styled("1", text)));
    }

    /// The headline of a step.
    pub(super) fn step(&self, number: usize, text: &str) {
        self.put(&format!("\n{} {}\n", self.styled("1;36", &format!("{number}.")), self.styled("1", text)));
    }

    pub(super) fn line(&self, text: &str) {
        self.put(&format!("   {text}\n"));
    }

    /// A text of several lines under a label.
    pub(super) fn block(&self, label: &str, text: &str) {
        self.put(&format!("   {}\n", self.styled("2", label)));
        for line in text.lines() {
            self.put(&format!("     {line}\n"));
        }
    }

    pub(super) fn passed(&self, text: &str) {
        self.put(&format!("   {} {text}\n", self.styled("32", "✓")));
    }

    pub(super) fn failed(&self, text: &str) {
        self.put(&format!("   {} {text}\n", self.styled("1;31", "✗ DIFFERS:")));
    }

    pub(super) fn error(&self, text: &str) {
        // There is no better place to report this failure.
        let _unwritten = writeln!(io::stderr(), "demo: {text}");
    }

    fn styled(&self, code: &str, text: &str) -> String {
        if self.has_color { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    /// A closed pipe ends the output, not the demo.
    fn put(&self, text: &str) {
        let mut out = io::stdout();
        let _unseen = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}
