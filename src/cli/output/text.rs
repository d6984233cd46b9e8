//! Text for people, with the parts from elsewhere made safe: names and messages may contain characters that move the
//! cursor or change the direction of the text.

use std::io;

use anstream::{AutoStream, ColorChoice};
use comfy_table::{Attribute, Cell, Color, presets};

use super::{is_printed, write};
use crate::core::characters::is_shown;

/// Text that is safe to print. It is colored only on a terminal, and not if `NO_COLOR` is set.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::cli) struct Text(String);

/// Rows of cells in aligned columns.
#[derive(Debug)]
pub(in crate::cli) struct Table {
    heads: Vec<String>,
    rows: Vec<Vec<(String, Style)>>,
}

/// How urgent a cell looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Style {
    Plain,
    Good,
    Warning,
    Bad,
}

/// Makes an untrusted text safe to print in a line: replaces characters that break the line, move the cursor or change the
/// text direction.
pub(in crate::cli) fn sanitized(text: &str) -> String {
    replace_unless(text, is_shown)
}

/// The same for text of several lines.
pub(super) fn printable(text: &str) -> String {
    replace_unless(text, is_printed)
}

fn replace_unless(text: &str, is_kept: impl Fn(char) -> bool) -> String {
    text.chars().map(|letter| if is_kept(letter) { letter } else { char::REPLACEMENT_CHARACTER }).collect()
}

fn is_colored() -> bool {
    AutoStream::choice(&io::stdout()) != ColorChoice::Never
}

// === impl Text ===

impl Text {
    pub(in crate::cli) fn of(text: &str) -> Self {
        Self(printable(text))
    }

    pub(in crate::cli) fn push(&mut self, text: &str) {
        self.0.push_str(&printable(text));
    }

    /// Adds a table with `indent` before each line.
    pub(in crate::cli) fn push_table(&mut self, indent: &str, table: &Table) {
        self.0.push_str(&table.render(indent, is_colored()));
    }

    pub(in crate::cli) fn print(&self) -> anyhow::Result<()> {
        write(&self.0)
    }

    #[cfg(test)]
    pub(in crate::cli) fn as_str(&self) -> &str {
        &self.0
    }
}

// === impl Table ===

impl Table {
    pub(in crate::cli) fn new(heads: &[&str]) -> Self {
        Self { heads: heads.iter().map(|head| (*head).to_owned()).collect(), rows: Vec::new() }
    }

    /// A table of plain cells.
    pub(in crate::cli) fn of(heads: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> Self {
        let mut table = Self::new(heads);
        for row in rows {
            table.add(row.into_iter().map(|cell| (cell, Style::Plain)));
        }
        table
    }

    pub(in crate::cli) fn add(&mut self, cells: impl IntoIterator<Item = (String, Style)>) {
        self.rows.push(cells.into_iter().map(|(cell, style)| (sanitized(&cell), style)).collect());
    }

    fn render(&self, indent: &str, is_colored: bool) -> String {
        let mut table = comfy_table::Table::new();
        table.load_preset(presets::NOTHING);
        if is_colored {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        table.set_header(self.heads.iter().map(|head| Cell::new(head).add_attribute(Attribute::Bold)));
        for row in &self.rows {
            table.add_row(row.iter().map(|(cell, style)| style.apply(Cell::new(cell))));
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        let mut text = String::new();
        for line in table.lines() {
            text.extend([indent, line.trim_end(), "\n"]);
        }
        text
    }
}

// === impl Style ===

impl Style {
    fn apply(self, cell: Cell) -> Cell {
        match self {
            Self::Plain => cell,
            Self::Good => cell.fg(Color::Green),
            Self::Warning => cell.fg(Color::Yellow),
            Self::Bad => cell.fg(Color::Red),
        }
    }
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
        let table = Table::of(&["A", "B"], rows);
        assert_eq!(table.render(" ", false), " A   B\n 1   \u{e4}b\n 22\n");
    }

    #[test]
    fn only_the_style_of_the_table_reaches_a_terminal() {
        let mut table = Table::new(&["A"]);
        table.add([("x\u{1b}[31m".to_owned(), Style::Bad)]);
        let colored = table.render("", true);
        assert!(colored.contains("x\u{fffd}[31m") && colored.contains('\u{1b}'), "{colored:?}");
        assert!(!table.render("", false).contains('\u{1b}'));
    }
}
