//! Output of commands, as text or JSON.

use crate::core::characters::is_invisible;
use std::io::{self, Write};

use anyhow::Context as _;
use clap::ValueEnum;
use serde_json::Value;

/// Output format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Human-readable text.
    #[default]
    Text,
    /// One JSON value.
    Json,
}

// === impl Format ===

impl Format {
    pub(super) fn print(
        self,
        text: impl FnOnce() -> String,
        json: impl FnOnce() -> Value,
    ) -> anyhow::Result<()> {
        print(&match self {
            Self::Text => text(),
            Self::Json => format!("{:#}\n", json()),
        })
    }
}

/// Prints to standard output.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        // The reader has closed the pipe.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        ended => ended.context("failed to write to standard output"),
    }
}

/// Prints a line to standard error.
pub(super) fn note(text: &str) {
    // A failure cannot be reported anywhere.
    let _unwritten = io::stderr().write_all(format!("{text}\n").as_bytes());
}

/// Makes an untrusted text safe to print in a line: replaces characters that break the line, move the cursor or change the
/// text direction.
pub(super) fn sanitized(text: &str) -> String {
    text.chars()
        .map(|letter| if is_harmless(letter) { letter } else { char::REPLACEMENT_CHARACTER })
        .collect()
}

fn is_harmless(letter: char) -> bool {
    !letter.is_control() && !is_invisible(letter)
}

/// A table with columns two spaces apart, and `indent` before each line.
pub(super) fn table(indent: &str, heads: &[&str], rows: &[Vec<String>]) -> String {
    let heads: Vec<String> = heads.iter().map(|head| (*head).to_owned()).collect();
    let lines = || std::iter::once(&heads).chain(rows);
    let width = |column: usize| {
        lines().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let mut text = String::new();
    for line in lines() {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(indent);
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_untrusted_name_cannot_break_its_line() {
        for odd in ["a\nb", "a\u{1b}b", "a\u{85}b", "a\u{2028}b", "a\u{202e}b", "a\u{feff}b"] {
            assert_eq!(sanitized(odd), "a\u{fffd}b", "{odd:?}");
        }
        assert_eq!(
            sanitized("Vertrieb \u{e4}\u{f6}\u{fc} \u{1f600}"),
            "Vertrieb \u{e4}\u{f6}\u{fc} \u{1f600}"
        );
    }

    #[test]
    fn columns_are_aligned_with_their_headings() {
        let rows = [vec!["1".to_owned(), "\u{e4}b".to_owned()], vec!["22".to_owned(), String::new()]];
        assert_eq!(table(" ", &["A", "B"], &rows), " A   B\n 1   \u{e4}b\n 22\n");
    }
}
