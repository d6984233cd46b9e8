//! JSON schemas of the kinds for editors and kubeconform, made from the CRDs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use boon::{Compiler, Schemas};
use graph_credential_operator::api::crds;
use serde_json::{Map, Value, json};

/// The draft that editors and kubeconform support.
const DRAFT: &str = "http://json-schema.org/draft-07/schema#";

/// What means the same in a JSON schema. The rest is for the API server, such as the validation rules.
const KEPT: [&str; 14] = [
    "description",
    "enum",
    "format",
    "maxItems",
    "maxLength",
    "maximum",
    "minItems",
    "minLength",
    "minimum",
    "pattern",
    "required",
    "title",
    "type",
    "uniqueItems",
];

/// The schema of each kind with its path, `GROUP/KIND_VERSION.json`.
pub fn generated(root: &Path) -> Vec<(PathBuf, String)> {
    let folder = root.join("docs/schemas");
    let files = crds::all().into_iter().flat_map(|crd| {
        let (group, kind) = (crd.spec.group, crd.spec.names.kind);
        let folder = folder.join(&group);
        crd.spec.versions.into_iter().map(move |version| {
            let file = format!("{}_{}.json", kind.to_lowercase(), version.name);
            let schema = version.schema.and_then(|it| it.open_api_v3_schema).expect("a version has a schema");
            let schema = serde_json::to_value(schema).expect("a schema is JSON");
            let schema = of_kind(&schema, &format!("{group}/{}", version.name), &kind);
            let text = serde_json::to_string_pretty(&sorted(schema)).expect("a schema is JSON");
            (folder.join(file), format!("{text}\n"))
        })
    });
    files.collect()
}

/// The schema of whole objects of a kind.
fn of_kind(schema: &Value, api_version: &str, kind: &str) -> Value {
    let mut converted = of_field(schema);
    converted["$schema"] = json!(DRAFT);
    converted["additionalProperties"] = json!(false);
    let properties = &mut converted["properties"];
    properties["apiVersion"] = json!({"const": api_version, "type": "string"});
    properties["kind"] = json!({"const": kind, "type": "string"});
    properties["metadata"] = json!({"type": "object"});
    converted["required"] = json!(["apiVersion", "kind", "metadata", "spec"]);
    converted
}

/// The schema of a field. Unknown fields are rejected where the API server does not keep them.
fn of_field(schema: &Value) -> Value {
    let mut converted: Map<String, Value> =
        KEPT.iter().filter_map(|key| Some(((*key).to_owned(), schema.get(*key)?.clone()))).collect();
    if let Some(properties) = schema["properties"].as_object() {
        let properties: Map<String, Value> =
            properties.iter().map(|(name, field)| (name.clone(), of_field(field))).collect();
        converted.insert("properties".into(), properties.into());
        if schema["x-kubernetes-preserve-unknown-fields"] != json!(true) {
            converted.insert("additionalProperties".into(), json!(false));
        }
    }
    for key in ["items", "additionalProperties"] {
        if schema[key].is_object() {
            converted.insert(key.into(), of_field(&schema[key]));
        }
    }
    if schema["nullable"] == json!(true) {
        converted.insert("type".into(), json!([schema["type"], "null"]));
    }
    converted.into()
}

/// The same with the keys of each object in order.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields: BTreeMap<String, Value> =
                fields.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            fields.into_iter().collect::<Map<_, _>>().into()
        }
        Value::Array(items) => items.into_iter().map(sorted).collect(),
        other => other,
    }
}

/// Every object of the operator's kinds in the examples and the docs, with its file.
fn examples() -> Vec<(String, Value)> {
    let root = kit::workspace();
    let mut texts = Vec::new();
    let mut unread = vec![root.join("examples")];
    while let Some(path) = unread.pop() {
        // The templates of a chart are no YAML.
        if path.is_dir() && !path.ends_with("templates") {
            unread.extend(
                fs::read_dir(path).expect("the folder can be read").map(|it| it.expect("a file").path()),
            );
        } else if path.extension().is_some_and(|it| it == "yaml") {
            texts
                .push((path.display().to_string(), fs::read_to_string(&path).expect("the file can be read")));
        }
    }
    for page in kit::docs::pages().expect("the pages can be found") {
        let text = fs::read_to_string(root.join(&page)).expect("the page can be read");
        for block in text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()) {
            texts.push((page.clone(), block.to_owned()));
        }
    }
    let mut found = Vec::new();
    for (file, text) in texts {
        let objects = kit::helm::parse(&text).unwrap_or_else(|error| panic!("{file}: {error}"));
        let of_operator =
            objects.into_iter().filter(|it| it["apiVersion"] == "graph-credentials.io/v1alpha1");
        found.extend(of_operator.map(|object| (file.clone(), object)));
    }
    found
}

/// Why an object does not match the schema of its kind; empty if it does.
fn problem(object: &Value) -> String {
    let kind = object["kind"].as_str().expect("an object has a kind").to_lowercase();
    let (path, text) = generated(&kit::workspace())
        .into_iter()
        .find(|(path, _)| path.ends_with(format!("{kind}_v1alpha1.json")))
        .expect("the kind has a schema");
    let schema: Value = serde_json::from_str(&text).expect("a schema is JSON");
    let (mut compiler, mut schemas) = (Compiler::new(), Schemas::new());
    let name = path.display().to_string();
    compiler.add_resource(&name, schema).expect("a schema is a JSON schema");
    let index = compiler.compile(&name, &mut schemas).unwrap_or_else(|error| panic!("{error:#}"));
    schemas.validate(object, index).map_or_else(|error| format!("{error:#}"), |()| String::new())
}

#[test]
fn examples_match_the_json_schemas() {
    let examples = examples();
    assert!(examples.len() > 14, "{} objects", examples.len());
    for (file, object) in &examples {
        assert_eq!(problem(object), "", "{file}: {object:#}");
    }
    assert!(examples.iter().any(|(file, _)| file.contains("examples/one-team")));
}

#[test]
fn json_schemas_reject_what_an_editor_should_mark() {
    let object = |change: &dyn Fn(&mut Value)| {
        let mut object = json!({
            "apiVersion": "graph-credentials.io/v1alpha1", "kind": "MicrosoftGraphCredential", "metadata": {"name": "a"},
            "spec": {
                "tenantId": "bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32",
                "clientId": "e1c6ac69-480e-4a17-9b85-3467967bd179",
                "secretRef": {"name": "a"}, "destination": {"store": {}}
            },
            "status": {"observedGeneration": 1, "fieldOfALaterVersion": true}
        });
        change(&mut object);
        problem(&object)
    };
    assert_eq!(object(&|_| {}), "");
    assert_eq!(object(&|it| it["spec"]["displayName"] = json!("name")), "");
    for (change, words) in [
        ((|it| it["spec"]["displayname"] = json!("name")) as fn(&mut Value), "displayname"),
        (|it| it["sepc"] = json!({}), "sepc"),
        (|it| it["spec"]["secretRef"] = json!({}), "name"),
        (|it| it["spec"]["secretRef"] = json!("a"), "secretRef"),
        (|it| it["spec"]["deletionPolicy"] = json!("Keep"), "deletionPolicy"),
        (|it| it["apiVersion"] = json!("graph-credentials.io/v1"), "apiVersion"),
        (|it| drop(it["spec"].take()), "spec"),
    ] {
        let problem = object(&change);
        assert!(problem.contains(words), "{words}: {problem:?}");
    }
}

#[test]
fn first_lines_for_editors_name_the_schema_of_the_kind() {
    let root = kit::workspace();
    let mut named = 0;
    for (file, object) in examples().into_iter().filter(|(file, _)| file.contains("/examples/")) {
        let text = fs::read_to_string(&file).expect("the file can be read");
        let Some(line) = text.lines().next().filter(|line| line.contains("yaml-language-server")) else {
            continue;
        };
        let path = line.strip_prefix("# yaml-language-server: $schema=").expect("the line has its form");
        let folder = Path::new(&file).parent().expect("a file has a folder");
        let schema =
            folder.join(path).canonicalize().unwrap_or_else(|error| panic!("{file}: {path}: {error}"));
        let kind = object["kind"].as_str().expect("an object has a kind").to_lowercase();
        let wanted = format!("docs/schemas/graph-credentials.io/{kind}_v1alpha1.json");
        assert_eq!(schema, root.join(wanted).canonicalize().expect("it exists"), "{file}");
        named += 1;
    }
    assert!(named >= 4, "{named} lines");
}
