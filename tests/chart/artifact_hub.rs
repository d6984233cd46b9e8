//! The annotations of `Chart.yaml` for Artifact Hub. Source: <https://artifacthub.io/docs/topics/annotations/helm/>

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};

use crate::rendering::{chart, render};

/// The names that Artifact Hub knows, and the form of each value.
const KNOWN: [(&str, Form); 16] = [
    ("alternativeName", Form::Text),
    ("category", Form::Category),
    ("changes", Form::List),
    ("containsSecurityUpdates", Form::Boolean),
    ("crds", Form::List),
    ("crdsExamples", Form::List),
    ("images", Form::List),
    ("license", Form::Text),
    ("links", Form::List),
    ("maintainers", Form::List),
    ("operator", Form::Boolean),
    ("operatorCapabilities", Form::Capability),
    ("prerelease", Form::Boolean),
    ("recommendations", Form::List),
    ("screenshots", Form::List),
    ("signKey", Form::Object),
];

const CATEGORIES: [&str; 9] = [
    "ai-machine-learning",
    "database",
    "integration-delivery",
    "monitoring-logging",
    "networking",
    "security",
    "skip-prediction",
    "storage",
    "streaming-messaging",
];

const CAPABILITIES: [&str; 5] =
    ["basic install", "seamless upgrades", "full lifecycle", "deep insights", "auto pilot"];

const CHANGES: [&str; 6] = ["added", "changed", "deprecated", "removed", "fixed", "security"];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Form {
    Text,
    Boolean,
    Category,
    Capability,
    /// YAML in a string.
    List,
    Object,
}

/// `Chart.yaml`.
pub fn about(text: &str) -> Value {
    kit::helm::parse(text).unwrap_or_else(|error| panic!("{error}")).remove(0)
}

fn of_the_chart() -> Value {
    about(&fs::read_to_string(chart().join("Chart.yaml")).unwrap())
}

/// The value of an annotation that is YAML in a string.
fn yaml(about: &Value, name: &str) -> Vec<Value> {
    let text = about["annotations"][format!("artifacthub.io/{name}")]
        .as_str()
        .unwrap_or_else(|| panic!("no {name}"));
    kit::helm::parse(text)
        .unwrap_or_else(|error| panic!("{name}: {error}"))
        .remove(0)
        .as_array()
        .unwrap()
        .clone()
}

fn texts<'a>(object: &'a Value, field: &str) -> &'a str {
    let text = object[field].as_str().unwrap_or_else(|| panic!("{object} has no {field}"));
    assert!(!text.trim().is_empty(), "{object}: {field} is empty");
    text
}

/// Every annotation is known to Artifact Hub and has the form that it reads.
pub fn check(about: &Value) {
    let mut found = 0;
    for (name, value) in about["annotations"].as_object().expect("there are annotations") {
        let Some(name) = name.strip_prefix("artifacthub.io/") else { continue };
        let form =
            KNOWN.iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("{name} is unknown")).1;
        let text = value.as_str().unwrap_or_else(|| panic!("{name} is no string"));
        match form {
            Form::Text => assert!(!text.is_empty(), "{name}"),
            Form::Boolean => assert!(["true", "false"].contains(&text), "{name}: {text}"),
            Form::Category => assert!(CATEGORIES.contains(&text), "{text}"),
            Form::Capability => assert!(CAPABILITIES.contains(&text), "{text}"),
            Form::List => assert!(!yaml(about, name).is_empty(), "{name}"),
            Form::Object => panic!("extend this test for {name}"),
        }
        found += 1;
    }
    assert!(found >= 9, "{found}");
    for change in yaml(about, "changes") {
        assert!(CHANGES.contains(&texts(&change, "kind")), "{change}");
        texts(&change, "description");
    }
}

#[test]
fn the_annotations_are_those_that_artifact_hub_reads() {
    check(&of_the_chart());
}

#[test]
fn the_license_is_that_of_the_program() {
    assert_eq!(of_the_chart()["annotations"]["artifacthub.io/license"], env!("CARGO_PKG_LICENSE"));
}

#[test]
fn the_crds_are_exactly_those_of_the_chart() {
    let rendered = render(&json!({}));
    let crds = rendered.0.iter().filter(|it| it["kind"] == "CustomResourceDefinition");
    let expected: BTreeSet<[String; 3]> = crds
        .flat_map(|crd| {
            let versions = crd["spec"]["versions"].as_array().unwrap().iter();
            versions.filter(|version| version["served"] == true).map(|version| {
                [&crd["spec"]["names"]["kind"], &version["name"], &crd["metadata"]["name"]]
                    .map(|it| it.as_str().unwrap().to_owned())
            })
        })
        .collect();
    let listed = yaml(&of_the_chart(), "crds");
    let found: BTreeSet<[String; 3]> = listed
        .iter()
        .map(|crd| ["kind", "version", "name"].map(|field| texts(crd, field).to_owned()))
        .collect();
    assert_eq!((found, listed.len()), (expected.clone(), expected.len()));
    for crd in &listed {
        texts(crd, "displayName");
        texts(crd, "description");
    }
}

/// Checks fields and required fields of an object against its schema.
fn fits(value: &Value, schema: &Value, at: &str) {
    for field in schema["required"].as_array().into_iter().flatten() {
        assert!(value.get(field.as_str().unwrap()).is_some(), "{at} lacks {field}");
    }
    for (field, value) in value.as_object().into_iter().flatten() {
        let at = format!("{at}.{field}");
        let schema = schema["properties"].get(field).unwrap_or_else(|| panic!("{at} is no field"));
        if let Some(pattern) = schema["type"].as_str() {
            let is_type = match pattern {
                "string" => value.is_string(),
                "object" => value.is_object(),
                "boolean" => value.is_boolean(),
                "array" => value.is_array(),
                other => panic!("{at}: extend this test for {other}"),
            };
            assert!(is_type, "{at}: {value}");
        }
        for item in value.as_array().into_iter().flatten() {
            fits(item, &schema["items"], &at);
        }
        fits(value, schema, &at);
    }
}

#[test]
fn each_kind_that_users_write_has_an_example_with_existing_fields() {
    let rendered = render(&json!({}));
    let examples = yaml(&of_the_chart(), "crdsExamples");
    let kinds: BTreeSet<&str> = examples.iter().map(|example| texts(example, "kind")).collect();
    assert_eq!(
        kinds,
        BTreeSet::from([
            "EntraIdentity",
            "MicrosoftGraphCredential",
            "WoodpeckerAccount",
            "WoodpeckerMailboxes"
        ])
    );
    for example in &examples {
        let crds = rendered.0.iter().filter(|it| it["kind"] == "CustomResourceDefinition");
        let crd = crds
            .clone()
            .find(|it| it["spec"]["names"]["kind"] == example["kind"])
            .expect("a kind of the chart");
        let version = &crd["spec"]["versions"][0];
        let api = format!("{}/{}", crd["spec"]["group"].as_str().unwrap(), version["name"].as_str().unwrap());
        assert_eq!(example["apiVersion"], api);
        texts(&example["metadata"], "name");
        fits(&example["spec"], &version["schema"]["openAPIV3Schema"]["properties"]["spec"], "spec");
    }
}
