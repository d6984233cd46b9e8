//! Output of commands, as text or JSON.

use crate::core::characters::is_shown;
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
            Self::Json => escaped(&format!("{:#}\n", json())),
        })
    }
}

/// JSON in which the characters that [`print`] replaces are escaped.
fn escaped(json: &str) -> String {
    let escape = |letter: char| -> String {
        let mut units = [0; 2];
        let units = letter.encode_utf16(&mut units).iter();
        units.fold(String::new(), |text, unit| format!("{text}\\u{unit:04x}"))
    };
    json.chars().map(|letter| if is_printed(letter) { letter.to_string() } else { escape(letter) }).collect()
}

fn is_printed(letter: char) -> bool {
    is_shown(letter) || letter == '\n'
}

/// Prints to standard output, with replacements for characters that could deceive at a terminal.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    match io::stdout().write_all(printable(text).as_bytes()) {
        // The reader has closed the pipe.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        ended => ended.context("failed to write to standard output"),
    }
}

/// Prints a line to standard error.
pub(super) fn note(text: &str) {
    // A failure cannot be reported anywhere.
    let _unwritten = io::stderr().write_all(format!("{}\n", printable(text)).as_bytes());
}

/// Makes an untrusted text safe to print in a line: replaces characters that break the line, move the cursor or change the
/// text direction.
pub(super) fn sanitized(text: &str) -> String {
    replace_unless(text, is_shown)
}

fn printable(text: &str) -> String {
    replace_unless(text, is_printed)
}

fn replace_unless(text: &str, is_kept: impl Fn(char) -> bool) -> String {
    text.chars().map(|letter| if is_kept(letter) { letter } else { char::REPLACEMENT_CHARACTER }).collect()
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
    fn json_is_the_same_value_without_characters_that_deceive_at_a_terminal() {
        let value = serde_json::json!({"name": "a\u{202e}b\u{9b}c\u{e0041}d\u{7f}\n\u{e4}"});
        let text = escaped(&format!("{value:#}\n"));
        assert!(text.chars().all(is_printed), "{text:?}");
        assert!(
            text.contains("\\u202e") && text.contains("\\udb40\\udc41") && text.contains('\u{e4}'),
            "{text}"
        );
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
    }

    #[test]
    fn columns_are_aligned_with_their_headings() {
        let rows = [vec!["1".to_owned(), "\u{e4}b".to_owned()], vec!["22".to_owned(), String::new()]];
        assert_eq!(table(" ", &["A", "B"], &rows), " A   B\n 1   \u{e4}b\n 22\n");
    }
}
