//! Figures as Markdown tables.

use crate::figures::Figures;

/// A table whose rows are prefixes of figures, and whose columns are the rest of their names.
pub fn table(
    first: &str,
    columns: &[(&str, &str)],
    rows: impl Iterator<Item = (String, String)>,
    figures: &Figures,
) -> String {
    let heads: String = columns.iter().map(|(head, _)| format!(" {head} |")).collect();
    let mut table = format!("| {first} |{heads}\n| --- |{}\n", " --- |".repeat(columns.len()));
    for (name, prefix) in rows {
        let cells = columns
            .iter()
            .map(|(_, figure)| format!(" {} |", cell(figures.get(&format!("{prefix}{figure}")))));
        table += &format!("| {name} |{}\n", cells.collect::<String>());
    }
    table
}

/// Rounds to three significant digits.
pub fn cell(value: Option<f64>) -> String {
    match value {
        None => "–".to_owned(),
        Some(value) if value.abs() >= 100.0 || value.fract() == 0.0 => format!("{value:.0}"),
        Some(value) if value.abs() >= 10.0 => format!("{value:.1}"),
        Some(value) => format!("{value:.2}"),
    }
}
