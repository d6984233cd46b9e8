//! `namespaceOverride`: everything is in that namespace, and refers to it.

use serde_json::{Value, json};

use crate::rendering::{render, render_release};

/// Values with every object of the chart that has a namespace.
fn everything(namespace: &str) -> Value {
    json!({
        "namespaceOverride": namespace, "watchNamespaces": ["mail"], "networkPolicy": {"enabled": true},
        "metrics": {"tls": {"secretName": "m", "requireAuthorization": true}},
        "serviceMonitor": {"enabled": true}, "prometheusRule": {"enabled": true}, "grafanaDashboard": {"enabled": true},
        "restApi": {"enabled": true, "insecureHttp": true}
    })
}

#[test]
fn the_namespace_of_the_release_is_nowhere_if_another_one_is_set() {
    for rights in [json!({}), json!({"clusterWideCRDs": false})] {
        let mut values = everything("operators");
        values["rbac"] = rights;
        let moved = render_release("graph-credential-operator", "of-the-release", &values);
        values["namespaceOverride"] = json!("");
        let expected = render_release("graph-credential-operator", "operators", &values);
        assert_eq!(moved.0, expected.0, "as a release in that namespace");
        assert!(moved.0.len() > 25, "{}", moved.0.len());
        assert!(!json!(moved.0).to_string().contains("of-the-release"));
    }
}

#[test]
fn values_that_name_a_namespace_of_their_own_keep_it() {
    let mut values = everything("operators");
    for monitoring in ["serviceMonitor", "prometheusRule", "grafanaDashboard"] {
        values[monitoring]["namespace"] = json!("monitoring");
    }
    let rendered = render(&values);
    for (kind, name) in [("ServiceMonitor", ""), ("PrometheusRule", ""), ("ConfigMap", "-dashboard")] {
        assert_eq!(rendered.get(kind, name)["metadata"]["namespace"], "monitoring", "{kind}");
    }
    let selected = &rendered.get("ServiceMonitor", "")["spec"]["namespaceSelector"]["matchNames"];
    assert_eq!(*selected, json!(["operators"]));
    assert_eq!(rendered.get("Role", "-secrets")["metadata"]["namespace"], "mail");
    assert_eq!(rendered.get("RoleBinding", "-secrets")["subjects"][0]["namespace"], "operators");
}
