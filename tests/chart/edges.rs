//! Edge cases: extreme values still render manifests, and what protects data stays after an uninstall.

use serde_json::{Value, json};

use crate::rendering::render;

#[test]
fn a_probe_set_to_null_is_omitted() {
    let rendered = render(&json!({"livenessProbe": null, "startupProbe": null}));
    let container = &rendered.get("Deployment", "")["spec"]["template"]["spec"]["containers"][0];
    assert_eq!((&container["livenessProbe"], &container["startupProbe"]), (&Value::Null, &Value::Null));
    assert!(container["readinessProbe"].is_object());
}

#[test]
fn labels_of_the_chart_are_neither_duplicated_nor_changed() {
    let labels =
        json!({"app.kubernetes.io/name": "other", "app.kubernetes.io/component": "other", "team": "mail"});
    let rendered = render(&json!({"commonLabels": labels, "podLabels": labels}));
    // A ServiceMonitor selects the Service by this label.
    let service = rendered.get("Service", "-metrics");
    assert_eq!(service["metadata"]["labels"]["app.kubernetes.io/component"], "metrics");
    let deployment = rendered.get("Deployment", "");
    for labels in [&deployment["metadata"]["labels"], &deployment["spec"]["template"]["metadata"]["labels"]] {
        assert_eq!(labels["app.kubernetes.io/name"], "graph-credential-operator");
        assert_eq!(labels["team"], "mail");
    }
}

#[test]
fn annotations_for_the_crds_do_not_replace_those_that_protect_them() {
    let annotations = json!({"team": "mail", "helm.sh/resource-policy": "delete"});
    for (keep, policy) in [(true, "keep"), (false, "delete")] {
        let rendered = render(&json!({"crds": {"keep": keep, "annotations": annotations}}));
        let crds: Vec<&Value> =
            rendered.0.iter().filter(|it| it["kind"] == "CustomResourceDefinition").collect();
        assert_eq!(crds.len(), 5);
        for crd in crds {
            let found = &crd["metadata"]["annotations"];
            assert_eq!((&found["team"], &found["helm.sh/resource-policy"]), (&json!("mail"), &json!(policy)));
        }
        let policies = rendered.get("ValidatingAdmissionPolicy", "-accounts");
        assert!(policies.pointer("/metadata/annotations/team").is_none(), "{policies}");
    }
}

#[test]
fn crds_and_admission_policies_are_kept_on_uninstall() {
    let kept = |keep: bool| {
        let rendered = render(&json!({"crds": {"keep": keep}}));
        let is_kept = |it: &&Value| it["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep";
        rendered.0.iter().filter(is_kept).count()
    };
    assert_eq!((kept(true), kept(false)), (5 + 8 + 1, 0));
}
