//! The rendered network policies, evaluated for every pod of the chart in a namespace that denies everything else.

use serde_json::{Value, json};

use crate::rendering::{Rendered, merge, render};

/// Whether a label selector matches these labels.
fn selects(selector: &Value, labels: &Value) -> bool {
    let equal =
        selector["matchLabels"].as_object().into_iter().flatten().all(|(key, value)| labels[key] == *value);
    let is_met = |expression: &Value| {
        let label = &labels[expression["key"].as_str().unwrap()];
        assert_eq!(expression["operator"], "In", "extend this test");
        expression["values"].as_array().unwrap().contains(label)
    };
    equal && selector["matchExpressions"].as_array().into_iter().flatten().all(is_met)
}

/// Whether a pod with these labels may send to this port of any address.
fn may_send(rendered: &Rendered, labels: &Value, protocol: &str, port: u16) -> bool {
    let policies = rendered.0.iter().filter(|it| it["kind"] == "NetworkPolicy");
    let selecting = policies.map(|it| &it["spec"]).filter(|it| selects(&it["podSelector"], labels));
    let egress = selecting.filter(|it| it["policyTypes"].as_array().unwrap().contains(&json!("Egress")));
    let rules = egress.filter_map(|it| it["egress"].as_array()).flatten().filter(|it| it.get("to").is_none());
    let is_port = |it: &Value| it["port"] == port && it["protocol"] == protocol;
    rules.filter_map(|it| it["ports"].as_array()).flatten().any(is_port)
}

#[test]
fn every_pod_reaches_dns_and_the_api_server_where_everything_else_is_denied() {
    for more in [
        json!({}),
        json!({"nameOverride": "gco", "fullnameOverride": "operator", "restApi": {"enabled": true, "insecureHttp": true}}),
        json!({"podLabels": {"app.kubernetes.io/name": "other"}, "watchNamespaces": ["mail"]}),
    ] {
        let mut values = json!({"networkPolicy": {"enabled": true}});
        merge(&mut values, more);
        let rendered = render(&values);
        let pods = rendered.pods();
        assert_eq!(pods.len(), 3, "the Deployment's, the hook's and the test's");
        for (owner, pod) in pods {
            let labels = &pod["metadata"]["labels"];
            // DNS, also behind the Service on OpenShift, and the API server.
            for (protocol, port) in
                [("UDP", 53), ("TCP", 53), ("UDP", 5353), ("TCP", 5353), ("TCP", 443), ("TCP", 6443)]
            {
                assert!(may_send(&rendered, labels, protocol, port), "{owner}: {protocol} {port}: {values}");
            }
            assert!(!may_send(&rendered, labels, "TCP", 25), "{owner}");
        }
    }
}

#[test]
fn a_pod_of_another_release_is_not_selected() {
    let rendered = render(&json!({"networkPolicy": {"enabled": true}}));
    let labels =
        json!({"app.kubernetes.io/name": "graph-credential-operator", "app.kubernetes.io/instance": "other"});
    assert!(!may_send(&rendered, &labels, "UDP", 53));
}
