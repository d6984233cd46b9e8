//! Values that are null, or that an earlier release did not have yet (`--reuse-values`).

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};

use crate::rendering::{chart, nested, render, try_render};
use crate::values::described;

/// Every value, and every group of values.
fn paths() -> BTreeSet<String> {
    let values: Vec<String> = described().into_iter().map(|it| it.path).collect();
    let groups =
        values.iter().flat_map(|path| path.match_indices('.').map(|(end, _)| path[..end].to_owned()));
    groups.chain(values.iter().cloned()).collect()
}

fn nulls(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::Null => found.push(at.to_owned()),
        Value::Object(fields) => {
            fields.iter().for_each(|(key, value)| nulls(value, &format!("{at}/{key}"), found));
        }
        Value::Array(values) => values.iter().for_each(|value| nulls(value, at, found)),
        _ => {}
    }
}

#[test]
fn every_value_and_group_can_be_null() {
    for path in paths() {
        let values = nested(&path, Value::Null);
        let rendered = try_render(&values).unwrap_or_else(|error| panic!("{path}: {error}"));
        for object in &rendered.0 {
            let mut found = Vec::new();
            nulls(object, "", &mut found);
            assert!(found.is_empty(), "{path}: {found:?} in {object}");
        }
    }
}

#[test]
fn null_is_the_default_of_a_scalar_and_an_empty_map_or_list() {
    let by_default = render(&json!({}));
    let pod = |values: Value| render(&values).get("Deployment", "")["spec"]["template"]["spec"].clone();
    for values in [
        json!({"metrics": null, "image": null, "leaderElection": null, "crds": null, "podDisruptionBudget": null}),
        json!({"replicaCount": null, "updateStrategy": null, "keyringSecretName": null, "log": {"level": null}}),
    ] {
        assert_eq!(render(&values).0, by_default.0, "{values}");
    }
    let empty = pod(json!({"nodeSelector": null, "topologySpreadConstraints": null, "resources": null}));
    for part in ["/nodeSelector", "/topologySpreadConstraints", "/containers/0/resources"] {
        assert!(empty.pointer(part).is_none(), "{part}");
        assert!(pod(json!({})).pointer(part).is_some(), "{part} is there by default");
    }
}

#[test]
fn a_value_that_is_false_zero_or_empty_keeps_that_value() {
    let rendered = render(
        &json!({"crds": {"keep": false}, "replicaCount": 0, "metrics": {"service": {"enabled": false}}}),
    );
    assert!(!rendered.0.iter().any(|it| it.to_string().contains("helm.sh/resource-policy")));
    assert_eq!(rendered.get("Deployment", "")["spec"]["replicas"], 0);
    assert!(rendered.find("Service", "").is_none());
}

#[test]
fn every_template_sets_the_defaults_first() {
    let mut templates = 0;
    let mut folders = vec![chart().join("templates")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let extension = path.extension().map(|it| it.to_string_lossy().into_owned()).unwrap_or_default();
            match extension.as_str() {
                "" if path.is_dir() => folders.push(path),
                // They define what the others include.
                "tpl" => {}
                _ => {
                    let text = fs::read_to_string(&path).unwrap();
                    assert!(
                        text.starts_with("{{- include \"operator.defaults\" . -}}\n"),
                        "{}",
                        path.display()
                    );
                    templates += 1;
                }
            }
        }
    }
    assert!(templates > 20, "{templates}");
}
