//! Maps of strings accept only strings, and every string stays one in YAML.

use serde_json::{Value, json};

use crate::rendering::{merge, nested, render, render_release, try_render};
use crate::values::described;

/// The values that are maps of strings.
fn maps_of_strings() -> Vec<String> {
    let ends = ["labels", "annotations", "nodeselector"];
    let is_map = |path: &str| ends.iter().any(|end| path.to_lowercase().ends_with(end));
    let maps = described().into_iter().filter(|it| it.default.is_object() && is_map(&it.path));
    maps.map(|it| it.path).collect()
}

#[test]
fn labels_annotations_and_selectors_accept_only_strings() {
    let maps = maps_of_strings();
    assert!(maps.len() >= 14, "{maps:?}");
    for path in &maps {
        for other in [json!(true), json!(1), json!(1.5), Value::Null, json!({"a": "b"}), json!(["a"])] {
            let values = nested(path, json!({"team": other}));
            let error = try_render(&values).err().unwrap_or_else(|| panic!("{values} is accepted"));
            let at = format!("/{}/team", path.replace('.', "/"));
            assert!(error.to_string().contains(&at), "{values}: {error}");
        }
    }
}

/// Strings that YAML would read as something else.
const AMBIGUOUS: [&str; 8] = ["true", "no", "null", "1", "1e3", "0x10", "", "2001-01-01"];

#[test]
fn strings_that_look_like_other_types_stay_strings() {
    for text in AMBIGUOUS {
        let mut values = json!({
            "serviceMonitor": {"enabled": true}, "prometheusRule": {"enabled": true},
            "grafanaDashboard": {"enabled": true}, "restApi": {"enabled": true, "insecureHttp": true}
        });
        for path in maps_of_strings() {
            merge(&mut values, nested(&path, json!({"team": text})));
        }
        let rendered = render(&values);
        let mut found = 0;
        for object in &rendered.0 {
            for_each(object, &mut |key, value| {
                if key == "team" {
                    assert_eq!(value, text, "{object}");
                    found += 1;
                }
            });
        }
        assert!(found > 30, "{found}");
    }
}

#[test]
fn names_that_look_like_numbers_stay_names() {
    let rendered = render_release(
        "123",
        "456",
        &json!({
            "fullnameOverride": "1e3", "nameOverride": "789", "keyringSecretName": "5", "watchNamespaces": ["1e2"],
            "namedSecrets": [{"namespace": "7", "names": ["8"]}], "priorityClassName": "9",
            "serviceAccount": {"name": "10"}, "caBundle": {"secretName": "11"}, "log": {"filterConfigMapName": "12"},
            "leaderElection": {"leaseName": "13"}, "networkPolicy": {"enabled": true},
            "metrics": {"tls": {"secretName": "14"}}, "serviceMonitor": {"enabled": true, "namespace": "15"},
            "restApi": {"enabled": true, "tlsSecretName": "16", "apiKeysSecretName": "17"}
        }),
    );
    let names = ["name", "namespace", "secretName", "serviceAccountName", "priorityClassName", "policyName"];
    let mut found = 0;
    for object in &rendered.0 {
        for_each(object, &mut |key, value| {
            if names.contains(&key) || key.starts_with("app.kubernetes.io/") {
                assert!(value.is_string() || value.is_object(), "{key}: {value} in {object}");
                found += 1;
            }
        });
        for name in ["resourceNames", "args", "matchNames"] {
            for_each(object, &mut |key, value| {
                let all_strings = value.as_array().is_none_or(|all| all.iter().all(Value::is_string));
                assert!(key != name || all_strings, "{key}: {value} in {object}");
            });
        }
    }
    assert!(found > 100, "{found}");
}

#[test]
fn values_of_a_parent_that_look_like_numbers_stay_strings() {
    let rendered = render(&json!({
        "namespaceOverride": "1", "podMonitor": {"enabled": true, "namespace": "2", "additionalLabels": {"team": "3"}},
        "global": {"imagePullSecrets": ["4"], "priorityClassName": "5", "nodeSelector": {"team": "6"}},
        "podSpec": {"runtimeClassName": "7"}, "preDeleteHook": {"podSpec": {"runtimeClassName": "8"}}
    }));
    let mut found = std::collections::BTreeSet::new();
    for object in &rendered.0 {
        for_each(object, &mut |key, value| {
            let names = ["name", "namespace", "priorityClassName", "runtimeClassName", "team"];
            if names.contains(&key) {
                // An object is the field of a schema.
                assert!(value.is_string() || value.is_object(), "{key}: {value} in {object}");
                found.extend(value.as_str().map(str::to_owned));
            }
        });
    }
    assert!((1..=8).all(|it| found.contains(&it.to_string())), "{found:?}");
    assert_eq!(rendered.get("PodMonitor", "")["spec"]["namespaceSelector"]["matchNames"], json!(["1"]));
}

#[test]
fn large_numbers_stay_integers() {
    let large = 1_000_000;
    let rendered = render(&json!({
        "replicaCount": large, "revisionHistoryLimit": large, "terminationGracePeriodSeconds": large,
        "preDeleteHook": {"activeDeadlineSeconds": large}, "podSecurityContext": {"runAsUser": 1_000_650_000}
    }));
    let [deployment, job] =
        [("Deployment", ""), ("Job", "")].map(|(kind, name)| &rendered.get(kind, name)["spec"]);
    for number in [
        &deployment["replicas"],
        &deployment["revisionHistoryLimit"],
        &deployment["template"]["spec"]["terminationGracePeriodSeconds"],
        &job["activeDeadlineSeconds"],
    ] {
        assert_eq!(number.as_i64(), Some(large), "{number}");
    }
    assert_eq!(job["template"]["spec"]["securityContext"]["runAsUser"].as_i64(), Some(1_000_650_000));
}

fn for_each(value: &Value, visit: &mut impl FnMut(&str, &Value)) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                visit(key, value);
                for_each(value, visit);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| for_each(value, visit)),
        _ => {}
    }
}
