//! Reference pages: the fields of the CRDs, the AADSTS codes that the operator knows, and the sandbox.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use graph_credential_operator::api::crds;
use graph_credential_operator::core::aadsts::CODES;
use graph_credential_operator::{answers_page, sandbox_openapi};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray,
};

/// The pages with their paths.
pub fn generated(root: &Path) -> [(PathBuf, String); 4] {
    [
        (root.join("docs/reference/api.md"), fields_page()),
        (root.join("docs/reference/aadsts-codes.md"), codes_page()),
        (root.join("docs/reference/sandbox-answers.md"), answers_page()),
        (root.join("docs/reference/sandbox-openapi.json"), sandbox_description()),
    ]
}

const FIELDS_INTRO: &str = "\
<!-- Generated from src/api by `make generate`; do not edit. -->

# API reference

Every field of the operator's kinds, group `graph-credentials.io`, version `v1alpha1`. `kubectl explain` shows the same.
";

fn fields_page() -> String {
    let mut page = String::from(FIELDS_INTRO);
    for crd in crds::all() {
        let version = crd.spec.versions.first().expect("a CRD has a version");
        let schema = version.schema.as_ref().and_then(|it| it.open_api_v3_schema.as_ref());
        let root = schema.expect("a version has a schema");
        let _ = write!(page, "\n## {}\n\n{}\n", crd.spec.names.kind, text(root));
        for part in ["spec", "status"] {
            let Some(schema) = root.properties.as_ref().and_then(|all| all.get(part)) else { continue };
            let _ = write!(page, "\n### {part}\n\n| field | type | meaning |\n| --- | --- | --- |\n");
            rows(&mut page, "", schema);
        }
    }
    page
}

/// A row for each field below, in the order of their names, each followed by its own fields.
fn rows(page: &mut String, path: &str, schema: &JSONSchemaProps) {
    let required = schema.required.clone().unwrap_or_default();
    for (name, field) in schema.properties.iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let mark = if required.contains(name) { ", required" } else { "" };
        let _ = writeln!(page, "| `{path}` | {}{mark} | {} |", type_of(field), text(field));
        rows(page, &path, field);
        if let Some(JSONSchemaPropsOrArray::Schema(item)) = &field.items {
            rows(page, &format!("{path}[]"), item);
        }
    }
}

fn type_of(schema: &JSONSchemaProps) -> String {
    let words: Vec<String> =
        schema.enum_.iter().flatten().filter_map(|it| Some(format!("`{}`", it.0.as_str()?))).collect();
    if !words.is_empty() {
        return words.join(", ");
    }
    match &schema.items {
        Some(JSONSchemaPropsOrArray::Schema(item)) => format!("list of {}", type_of(item)),
        _ => schema.type_.clone().unwrap_or_default(),
    }
}

fn text(schema: &JSONSchemaProps) -> String {
    schema.description.clone().unwrap_or_default().replace('\n', " ").replace('|', "\\|")
}

fn sandbox_description() -> String {
    serde_json::to_string_pretty(&sandbox_openapi()).expect("it is JSON") + "\n"
}

const CODES_INTRO: &str = "\
<!-- Generated from src/core/aadsts.rs by `make generate`; do not edit. -->

# AADSTS codes

Microsoft's error codes that the operator knows, with the reason that each leads to. A row with `x` is for all other
codes of this form, with any digit for each `x`.
`graph-credential-operator explain CODE` prints a row of this table.

| code | Microsoft | reason | who acts | what to do |
| --- | --- | --- | --- | --- |
";

fn codes_page() -> String {
    let rows = CODES.iter().map(|code| {
        let remedy = code.remedy();
        let (reason, actor) = (code.reason(), remedy.actor.as_str());
        format!("| {} | {} | `{reason}` | {actor} | {} |\n", code.digits(), code.text, remedy.action)
    });
    std::iter::once(CODES_INTRO.to_owned()).chain(rows).collect()
}
