//! Values of a parent chart (`global`), beside the chart's own.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::rendering::{NAMESPACE, Rendered, chart, helm, merge, render, try_render};

/// The pods of the Deployment, of the hook and of the test.
fn pods(rendered: &Rendered) -> [&Value; 3] {
    let [operator, hook] = [rendered.get("Deployment", ""), rendered.get("Job", "remove-finalizers")]
        .map(|it| &it["spec"]["template"]);
    [operator, hook, rendered.get("Pod", "-check")]
}

/// Copies a folder with everything in it.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Renders the chart as a part of another one with these values.
fn render_below_a_parent(values: &Value) -> Rendered {
    let parent = tempfile::tempdir().unwrap();
    fs::write(parent.path().join("Chart.yaml"), "apiVersion: v2\nname: parent\nversion: 1.0.0\n").unwrap();
    copy(&chart(), &parent.path().join("charts/graph-credential-operator"));
    Rendered(helm().objects(parent.path(), NAMESPACE, values).unwrap_or_else(|error| panic!("{error}")))
}

#[test]
fn values_of_a_parent_chart_reach_every_pod() {
    let rendered = render_below_a_parent(&json!({
        "global": {
            // As charts of Bitnami and of cert-manager write them.
            "imagePullSecrets": ["registry", {"name": "mirror"}], "imageRegistry": "mirror.example.com",
            "storageClass": "fast", "priorityClassName": "high", "tolerations": [{"key": "k"}],
            "nodeSelector": {"pool": "mail"}, "commonLabels": {"team": "mail"}
        },
        "graph-credential-operator": {"replicaCount": 3}
    }));
    assert_eq!(rendered.get("Deployment", "")["spec"]["replicas"], 3);
    for pod in pods(&rendered) {
        let spec = &pod["spec"];
        assert_eq!(spec["imagePullSecrets"], json!([{"name": "registry"}, {"name": "mirror"}]));
        assert!(
            spec["containers"][0]["image"].as_str().unwrap().starts_with("mirror.example.com/graph-"),
            "{spec}"
        );
        assert_eq!(
            (&spec["priorityClassName"], &spec["tolerations"][0]["key"]),
            (&json!("high"), &json!("k"))
        );
        assert_eq!(spec["nodeSelector"], json!({"pool": "mail", "kubernetes.io/os": "linux"}));
        assert_eq!(pod["metadata"]["labels"]["team"], "mail");
    }
    for account in rendered.0.iter().filter(|it| it["kind"] == "ServiceAccount") {
        assert_eq!(
            account["imagePullSecrets"],
            json!([{"name": "registry"}, {"name": "mirror"}]),
            "{account}"
        );
    }
    for object in &rendered.0 {
        assert_eq!(object["metadata"]["labels"]["team"], "mail", "{object}");
    }
}

#[test]
fn values_of_the_chart_win_over_those_of_the_parent() {
    let rendered = render(&json!({
        "global": {
            "imagePullSecrets": ["a", {"name": "b"}], "priorityClassName": "low", "tolerations": [{"key": "global"}],
            "nodeSelector": {"pool": "global", "zone": "1"},
            "commonLabels": {"team": "global", "empty": "global", "stage": "test", "app.kubernetes.io/name": "other"}
        },
        "imagePullSecrets": [{"name": "b"}], "priorityClassName": "high", "tolerations": [{"key": "own"}],
        "nodeSelector": {"pool": "own"}, "commonLabels": {"team": "own", "empty": ""}
    }));
    for pod in pods(&rendered) {
        let (spec, labels) = (&pod["spec"], &pod["metadata"]["labels"]);
        assert_eq!(spec["imagePullSecrets"], json!([{"name": "b"}, {"name": "a"}]), "each Secret once");
        assert_eq!(
            (&spec["priorityClassName"], &spec["tolerations"]),
            (&json!("high"), &json!([{"key": "own"}]))
        );
        assert_eq!(spec["nodeSelector"], json!({"pool": "own", "zone": "1", "kubernetes.io/os": "linux"}));
        assert_eq!([&labels["team"], &labels["empty"], &labels["stage"]], ["own", "", "test"]);
        assert_ne!(labels["app.kubernetes.io/name"], "other");
    }
}

#[test]
fn the_registry_of_the_parent_replaces_that_of_a_released_chart() {
    let digest = format!("sha256:{}", "0".repeat(64));
    let image = |values: Value| {
        let mut all =
            json!({"image": {"registry": "r.example.com", "repository": "mail/gco", "digest": digest}});
        merge(&mut all, values);
        let rendered = render(&all);
        pods(&rendered).map(|pod| pod["spec"]["containers"][0]["image"].clone())
    };
    for found in image(json!({"global": {"imageRegistry": "mirror.example.com"}})) {
        assert_eq!(found, format!("mirror.example.com/mail/gco@{digest}"));
    }
    for found in image(json!({"global": {"imageRegistry": ""}})) {
        assert_eq!(found, format!("r.example.com/mail/gco@{digest}"));
    }
}

#[test]
fn labels_of_the_parent_are_in_no_selector() {
    let selectors = |values: &Value| -> Vec<Value> {
        let rendered = render(values);
        let of_kinds = |it: &&Value| {
            ["Deployment", "Service", "PodDisruptionBudget"].iter().any(|kind| it["kind"] == *kind)
        };
        rendered.0.iter().filter(of_kinds).map(|it| it["spec"]["selector"].clone()).collect()
    };
    let with_labels = json!({"global": {"commonLabels": {"team": "mail"}}});
    assert_eq!(selectors(&with_labels), selectors(&json!({})), "a selector cannot be changed by an upgrade");
}

#[test]
fn other_global_values_of_a_parent_chart_are_accepted() {
    assert!(try_render(&json!({"global": {"anything": 1}})).is_ok());
}
