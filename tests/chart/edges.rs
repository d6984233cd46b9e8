//! Edge cases: extreme values still render manifests, and what protects data stays after an uninstall.

use serde_json::{Value, json};

use crate::rendering::render;

#[test]
fn a_probe_that_is_taken_away_is_not_there() {
    let rendered = render(&json!({"livenessProbe": null, "startupProbe": null}));
    let container = &rendered.get("Deployment", "")["spec"]["template"]["spec"]["containers"][0];
    assert_eq!((&container["livenessProbe"], &container["startupProbe"]), (&Value::Null, &Value::Null));
    assert!(container["readinessProbe"].is_object());
}

#[test]
fn labels_that_the_chart_sets_itself_are_neither_doubled_nor_changed() {
    let labels = json!({"app.kubernetes.io/name": "other", "team": "mail"});
    let rendered = render(&json!({"commonLabels": labels, "podLabels": labels}));
    let deployment = rendered.get("Deployment", "");
    for labels in [&deployment["metadata"]["labels"], &deployment["spec"]["template"]["metadata"]["labels"]] {
        assert_eq!(labels["app.kubernetes.io/name"], "graph-credential-operator");
        assert_eq!(labels["team"], "mail");
    }
}

#[test]
fn crds_and_admission_policies_stay_when_the_release_goes() {
    let kept = |keep: bool| {
        let rendered = render(&json!({"crds": {"keep": keep}}));
        let is_kept = |it: &&Value| it["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep";
        rendered.0.iter().filter(is_kept).count()
    };
    assert_eq!((kept(true), kept(false)), (3 + 4, 0));
}
