//! The output of `kubectl get`: the API returns the cells, and this module lays them out as kubectl does.
//!
//! Source: `k8s.io/cli-runtime` v0.37, `pkg/printers/tableprinter.go` and `tabwriter.go`.

use std::iter;

use kube::Client;
use serde::Deserialize;
use serde_json::Value;

use super::{Error, access};

const ACCEPT: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";
/// The minimum width of a column, and the space after the widest cell of a wider one.
const MIN_WIDTH: usize = 6;
const PADDING: usize = 3;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Table {
    column_definitions: Vec<Column>,
    #[serde(default)]
    rows: Vec<Row>,
}

#[derive(Deserialize)]
struct Column {
    name: String,
    /// Columns with a priority other than 0 are for wide output.
    #[serde(default)]
    priority: i32,
}

#[derive(Deserialize)]
struct Row {
    cells: Vec<Value>,
    #[serde(default)]
    object: Object,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Object {
    metadata: Metadata,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Metadata {
    namespace: String,
}

pub(super) async fn get(client: &Client, path: &str, wide: bool) -> Result<String, Error> {
    let path = format!("/{}", path.trim_start_matches('/'));
    let body = access::get(client, &path, Some(ACCEPT)).await?;
    let table: Table =
        serde_json::from_str(&body).map_err(|source| Error::Table { path: path.clone(), source })?;
    Ok(table.render(wide, !is_in_one_namespace(&path)))
}

/// A cell as shown, and the length in bytes of its whole text, which kubectl uses to measure columns.
struct Cell {
    text: String,
    bytes: usize,
}

// === impl Table ===

impl Table {
    fn render(&self, wide: bool, across_namespaces: bool) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let columns = self.column_definitions.iter().enumerate();
        let shown: Vec<(usize, &Column)> =
            columns.filter(|(_, column)| wide || column.priority == 0).collect();
        let mut lines =
            vec![shown.iter().map(|(_, column)| Cell::new(&column.name.to_uppercase())).collect()];
        lines.extend(
            self.rows.iter().map(|row| shown.iter().map(|(at, _)| row.cell(*at)).collect::<Vec<_>>()),
        );

        let namespaces = || self.rows.iter().map(|row| row.object.metadata.namespace.as_str());
        if across_namespaces && namespaces().any(|namespace| !namespace.is_empty()) {
            for (line, cell) in lines.iter_mut().zip(iter::once("NAMESPACE").chain(namespaces())) {
                line.insert(0, Cell::new(cell));
            }
        }
        lay_out(&lines)
    }
}

// === impl Row ===

impl Row {
    fn cell(&self, column: usize) -> Cell {
        match self.cells.get(column) {
            None | Some(Value::Null) => Cell::new(""),
            Some(Value::String(text)) => Cell::new(text),
            Some(other) => Cell::new(&other.to_string()),
        }
    }
}

// === impl Cell ===

impl Cell {
    /// Shows the first line, with `...` if there are more, and escapes what a terminal would interpret.
    fn new(whole: &str) -> Self {
        let escaped = |text: &str| text.replace('\u{1b}', "^[");
        let text = match whole.split_once(['\n', '\r', '\u{c}']) {
            Some((first, _)) => format!("{}...", escaped(first)),
            None => escaped(whole),
        };
        Self { text, bytes: whole.len() }
    }
}

fn lay_out(lines: &[Vec<Cell>]) -> String {
    let last = lines.first().map_or(0, |line| line.len().saturating_sub(1));
    let mut text = String::new();
    for line in lines {
        for (column, cell) in line.iter().enumerate() {
            text.push_str(&cell.text);
            if column < last {
                let padding = width(lines, column).saturating_sub(cell.text.chars().count());
                text.extend(iter::repeat_n(' ', padding));
            }
        }
        text.push('\n');
    }
    text
}

/// The widest cell: by the bytes of its text or, if the `...` makes it longer, by what is shown.
fn width(lines: &[Vec<Cell>], column: usize) -> usize {
    let widths = lines.iter().map(|line| line[column].bytes.max(line[column].text.chars().count()));
    MIN_WIDTH.max(widths.max().unwrap_or_default() + PADDING)
}

/// Whether the path is below a namespace, or names one.
fn is_in_one_namespace(path: &str) -> bool {
    let path = path.split('?').next().unwrap_or_default();
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let resource = match parts.first() {
        Some(&"api") => 2,
        _ => 3,
    };
    parts.get(resource) == Some(&"namespaces") && parts.len() > resource + 1
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn table() -> Table {
        serde_json::from_value(json!({
            "columnDefinitions": [
                {"name": "Name", "priority": 0}, {"name": "Up", "priority": 0},
                {"name": "Message", "priority": 1}, {"name": "Age", "priority": 0},
            ],
            "rows": [
                {"cells": ["a", 1, "first\nsecond", "5s"], "object": {"metadata": {"namespace": "blue"}}},
                {"cells": ["a-longer-name", true, null, "10m"], "object": {"metadata": {"namespace": "green"}}},
            ],
        }))
        .unwrap()
    }

    #[test]
    fn columns_of_lower_priority_are_wide() {
        let narrow = "NAME            UP     AGE\na               1      5s\na-longer-name   true   10m\n";
        let wide = "NAME            UP     MESSAGE        AGE\n\
                    a               1      first...       5s\n\
                    a-longer-name   true                  10m\n";
        assert_eq!(table().render(false, false), narrow);
        assert_eq!(table().render(true, false), wide);
    }

    #[test]
    fn tables_of_several_namespaces_begin_with_the_namespace() {
        let text = table().render(false, true);
        assert!(text.starts_with("NAMESPACE   NAME            UP     AGE\nblue        a  "), "{text}");
    }

    #[test]
    fn paths_in_one_namespace_are_recognized() {
        for path in
            ["/api/v1/namespaces/x/secrets", "/apis/g/v1/namespaces/x/things/y", "/api/v1/namespaces/x"]
        {
            assert!(is_in_one_namespace(path), "{path}");
        }
        for path in
            ["/api/v1/secrets", "/api/v1/namespaces", "/apis/g/v1/things?limit=5", "/apis/g/v1/namespaces"]
        {
            assert!(!is_in_one_namespace(path), "{path}");
        }
    }

    #[test]
    fn no_rows_produce_no_text() {
        let empty: Table = serde_json::from_value(json!({"columnDefinitions": [{"name": "Name"}]})).unwrap();
        assert_eq!(empty.render(true, true), "");
    }
}
