//! Reads the chart's values with their descriptions, and generates a table, a schema and the template of defaults from
//! them.

use std::fs;

use serde_json::{Map, Value, json};

use crate::rendering::{chart, merge, nested};

/// A value with its description.
#[derive(Debug)]
pub struct Described {
    /// Such as `image.tag`.
    pub path: String,
    /// What it means.
    pub text: String,
    /// The default.
    pub default: Value,
    /// Its schema beyond the type.
    schema: Map<String, Value>,
}

/// All values, in the order of the file. Each value has a description, or is a group of such values.
pub fn described() -> Vec<Described> {
    let text = fs::read_to_string(chart().join("values.yaml")).expect("values.yaml can be read");
    let values = kit::helm::parse(&text).expect("values.yaml is YAML").remove(0);
    let mut found = Vec::new();
    let mut groups: Vec<(usize, &str)> = Vec::new();
    // Everything below this indentation belongs to a value that is described as a whole.
    let mut inside: Option<usize> = None;
    let mut comment: Vec<&str> = Vec::new();
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        let line = line.trim();
        if line.is_empty() {
            comment.clear();
            continue;
        }
        if inside.is_some_and(|depth| indent > depth) {
            continue;
        }
        inside = None;
        if let Some(words) = line.strip_prefix("# ") {
            comment.push(words);
            continue;
        }
        let (key, rest) = line.split_once(':').unwrap_or_else(|| panic!("{line} is no value"));
        groups.retain(|(depth, _)| *depth < indent);
        let path = groups.iter().map(|(_, group)| *group).chain([key]).collect::<Vec<_>>().join(".");
        let lines = std::mem::take(&mut comment);
        if lines.first().is_some_and(|first| first.starts_with("-- ")) {
            let pointer = format!("/{}", path.replace('.', "/"));
            let default = values.pointer(&pointer).unwrap_or_else(|| panic!("{path}: no value")).clone();
            found.push(Described::new(path, &lines, default));
            inside = Some(indent);
        } else {
            assert!(rest.trim().is_empty(), "{path} has no description: write `# -- …` above it");
            groups.push((indent, key));
        }
    }
    found
}

// === impl Described ===

impl Described {
    fn new(path: String, lines: &[&str], default: Value) -> Self {
        let (schema, text): (Vec<&str>, Vec<&str>) = lines.iter().partition(|it| it.starts_with("@schema "));
        let schema = schema.first().map_or("{}", |it| it.trim_start_matches("@schema "));
        Self {
            schema: serde_json::from_str(schema).unwrap_or_else(|error| panic!("{path}: @schema: {error}")),
            text: text.join(" ").trim_start_matches("-- ").to_owned(),
            default,
            path,
        }
    }

    /// A JSON schema: the type of the default, narrowed by the comment.
    fn schema(&self) -> Value {
        let type_ = match self.default {
            Value::Null | Value::Object(_) => "object",
            Value::Bool(_) => "boolean",
            Value::Number(_) => "integer",
            Value::String(_) => "string",
            Value::Array(_) => "array",
        };
        let mut schema = self.schema.clone();
        schema.entry("type").or_insert(json!(type_));
        schema.insert("description".into(), json!(self.text));
        Value::Object(schema)
    }
}

/// `values.schema.json`. It rejects unknown values, which are usually typos.
pub fn schema() -> String {
    let mut root = group();
    for value in described() {
        let mut place = &mut root;
        let mut keys: Vec<&str> = value.path.split('.').collect();
        let last = keys.pop().unwrap_or_default();
        for key in keys {
            let properties = place["properties"].as_object_mut().expect("a group has properties");
            place = properties.entry(key).or_insert_with(group);
        }
        place["properties"][last] = value.schema();
    }
    root["$schema"] = json!("https://json-schema.org/draft-07/schema#");
    // A parent chart has other values there, too.
    root["properties"]["global"]["additionalProperties"] = json!(true);
    serde_json::to_string_pretty(&root).expect("a schema is JSON") + "\n"
}

/// `_defaults.tpl`. helm deletes a value that a user sets to null, and with `--reuse-values` a release lacks the values
/// that the chart has gained since. Both then have the chart's default, except for a map or a list, which is empty.
pub fn defaults() -> String {
    let mut all = json!({});
    for value in described() {
        let default = match value.default {
            Value::Null | Value::Object(_) => json!({}),
            Value::Array(_) => json!([]),
            scalar => scalar,
        };
        merge(&mut all, nested(&value.path, default));
    }
    let all = serde_json::to_string_pretty(&all).expect("values are JSON");
    format!(
        "{{{{/* Generated from values.yaml by `make generate`; do not edit. Sets each value that is null or missing to its \
         default, a map or a list to an empty one. Every template includes it first. */}}}}\n\
         {{{{- define \"operator.defaults\" -}}}}\n{{{{- $defaults := fromJson `{all}` -}}}}\n\
         {{{{- $_ := set . \"Values\" (mergeOverwrite $defaults .Values) -}}}}\n{{{{- end -}}}}\n"
    )
}

fn group() -> Value {
    json!({"type": "object", "additionalProperties": false, "properties": {}})
}

/// The table of `README.md`.
pub fn table() -> String {
    let row = |value: Described| {
        let default = value.default.to_string().replace('|', "\\|");
        format!("| `{}` | {} | `{default}` |\n", value.path, value.text.replace('|', "\\|"))
    };
    let head = "| value | description | default |\n| --- | --- | --- |\n".to_owned();
    std::iter::once(head).chain(described().into_iter().map(row)).collect()
}
