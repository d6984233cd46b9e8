//! What a command prints on standard output, for people or for programs.

use std::io::{self, Write};

use anyhow::Context as _;
use clap::ValueEnum;
use serde_json::Value;

/// Form of the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Text for people.
    #[default]
    Text,
    /// One JSON value for programs.
    Json,
}

// === impl Format ===

impl Format {
    /// Prints the text, or the value.
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

/// Prints the text as it is.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        // The reader has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        ended => ended.context("failed to write to standard output"),
    }
}

/// Says something beside the output, on standard error.
pub(super) fn note(text: &str) {
    // There is no better place left to tell that this failed.
    let _unwritten = io::stderr().write_all(format!("{text}\n").as_bytes());
}

/// A text of somebody else's as it may stand in a line: what could break the line, move the cursor or turn the
/// direction of reading is replaced.
pub(super) fn shown(text: &str) -> String {
    text.chars()
        .map(|letter| if is_harmless(letter) { letter } else { char::REPLACEMENT_CHARACTER })
        .collect()
}

fn is_harmless(letter: char) -> bool {
    let moves = matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
    !letter.is_control() && !moves
}

/// Columns under their heads, two spaces apart, each line after `indent`.
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
    fn a_name_of_somebody_else_cannot_break_its_line() {
        for odd in ["a\nb", "a\u{1b}b", "a\u{85}b", "a\u{2028}b", "a\u{202e}b", "a\u{feff}b"] {
            assert_eq!(shown(odd), "a\u{fffd}b", "{odd:?}");
        }
        assert_eq!(shown("Vertrieb \u{e4}\u{f6}\u{fc} \u{1f600}"), "Vertrieb \u{e4}\u{f6}\u{fc} \u{1f600}");
    }

    #[test]
    fn columns_stand_under_their_heads() {
        let rows = [vec!["1".to_owned(), "\u{e4}b".to_owned()], vec!["22".to_owned(), String::new()]];
        assert_eq!(table(" ", &["A", "B"], &rows), " A   B\n 1   \u{e4}b\n 22\n");
    }
}
