//! Output of commands: tables for people, JSON and YAML for programs, names for shells.

mod text;

use std::io::{self, Write};

use anyhow::Context as _;
use clap::ValueEnum;
use serde_json::Value;

use crate::core::characters::is_shown;

pub(super) use self::text::{Style, Table, Text, sanitized};

/// Output format of a command that prints objects, with the names of kubectl.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// A table for people.
    #[default]
    Table,
    /// The same with more columns.
    Wide,
    /// One JSON value.
    Json,
    /// One YAML document.
    Yaml,
    /// Only the names, one on each line.
    Name,
}

/// Output format of a command that prints a report about something else than objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum ReportFormat {
    /// Text for people.
    #[default]
    Table,
    /// One JSON value.
    Json,
    /// One YAML document.
    Yaml,
}

/// What a command prints.
pub(super) trait Report {
    /// For people. `is_wide` asks for more columns.
    fn text(&self, is_wide: bool) -> Text;

    /// For programs.
    fn json(&self) -> Value;

    /// The names of the objects.
    fn names(&self) -> Vec<String> {
        Vec::new()
    }
}

// === impl Format ===

impl Format {
    pub(super) fn print(self, report: &impl Report) -> anyhow::Result<()> {
        match self {
            Self::Table => report.text(false).print(),
            Self::Wide => report.text(true).print(),
            Self::Json => print(&escaped(&format!("{:#}\n", report.json()))),
            Self::Yaml => {
                let json = report.json();
                let yaml = serde_saphyr::to_string(&json).context("failed to write YAML")?;
                // Every JSON text is YAML.
                if yaml.chars().all(is_printed) {
                    print(&yaml)
                } else {
                    print(&escaped(&format!("{json:#}\n")))
                }
            }
            Self::Name => report.names().into_iter().try_for_each(|name| print(&format!("{name}\n"))),
        }
    }
}

// === impl ReportFormat ===

impl ReportFormat {
    pub(super) fn print(self, report: &impl Report) -> anyhow::Result<()> {
        let format = match self {
            Self::Table => Format::Table,
            Self::Json => Format::Json,
            Self::Yaml => Format::Yaml,
        };
        format.print(report)
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
    Text::of(text).print()
}

/// Prints a generated script as it is: it may contain tabs.
pub(super) fn print_script(script: &[u8]) -> anyhow::Result<()> {
    write(&String::from_utf8_lossy(script))
}

/// Prints rows as comma-separated values.
pub(super) fn print_csv(rows: &[Vec<String>]) -> anyhow::Result<()> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in rows {
        writer.write_record(row).context("failed to write CSV")?;
    }
    let bytes = writer.into_inner().context("failed to write CSV")?;
    print(&String::from_utf8_lossy(&bytes))
}

/// Prints a line to standard error.
pub(super) fn note(text: &str) {
    // A failure cannot be reported anywhere.
    let _unwritten = io::stderr().write_all(format!("{}\n", text::printable(text)).as_bytes());
}

/// Writes to standard output what is safe to print.
fn write(text: &str) -> anyhow::Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        // The reader has closed the pipe.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        ended => ended.context("failed to write to standard output"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
