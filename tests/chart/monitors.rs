//! Objects of the Prometheus operator: when they are rendered, and that the two monitors scrape the same.

use serde_json::{Value, json};

use crate::rendering::{NAMESPACE, Rendered, chart, helm, render, try_render};

const GROUP: &str = "monitoring.coreos.com/v1";

/// The values of each object, with its kind.
const KINDS: [(&str, &str); 3] = [
    ("serviceMonitor", "ServiceMonitor"),
    ("podMonitor", "PodMonitor"),
    ("prometheusRule", "PrometheusRule"),
];

/// Renders for a cluster that serves this kind of the Prometheus operator.
fn render_with_kind(values: &Value, kind: &str) -> Rendered {
    let args = ["--api-versions", &format!("{GROUP}/{kind}")];
    let text = helm().template(&chart(), NAMESPACE, values, &args).unwrap_or_else(|error| panic!("{error}"));
    Rendered(kit::helm::parse(&text).unwrap())
}

fn with_mode(value: &str, mode: &str) -> Value {
    json!({ value: {"enabled": true, "renderMode": mode} })
}

#[test]
fn by_default_an_object_is_rendered_whatever_the_cluster_serves() {
    for (value, kind) in KINDS {
        for values in [json!({ value: {"enabled": true} }), with_mode(value, "alwaysRender")] {
            render(&values).get(kind, "");
        }
        assert!(render(&json!({})).find(kind, "").is_none(), "{kind} is opt-in");
    }
}

#[test]
fn an_object_is_left_out_if_the_cluster_does_not_serve_its_kind() {
    for (value, kind) in KINDS {
        let values = with_mode(value, "skipIfMissing");
        assert_eq!(render(&values).0, render(&json!({})).0, "{kind}");
        render_with_kind(&values, kind).get(kind, "");
        let other = KINDS.iter().find(|(_, other)| *other != kind).unwrap().1;
        assert!(
            render_with_kind(&values, other).find(kind, "").is_none(),
            "{other} is another kind than {kind}"
        );
    }
}

#[test]
fn a_kind_that_the_cluster_does_not_serve_is_an_error_on_request() {
    for (value, kind) in KINDS {
        let values = with_mode(value, "failIfMissing");
        let error = try_render(&values).err().unwrap_or_else(|| panic!("{values} is taken")).to_string();
        for part in [&format!("{value}.renderMode"), &format!("--api-versions {GROUP}/{kind}")] {
            assert!(error.contains(part), "{part}: {error}");
        }
        render_with_kind(&values, kind).get(kind, "");
        let disabled = json!({ value: {"enabled": false, "renderMode": "failIfMissing"} });
        assert!(try_render(&disabled).is_ok(), "{disabled}");
    }
}

#[test]
fn a_pod_monitor_scrapes_what_a_service_monitor_does() {
    let settings = json!({
        "enabled": true, "interval": "15s", "scrapeTimeout": "5s", "honorLabels": false,
        "tlsConfig": {"serverName": "metrics"}, "authorization": {"credentials": {"name": "p", "key": "token"}},
        "relabelings": [{"action": "labelmap"}], "metricRelabelings": [{"action": "labeldrop"}],
        "additionalLabels": {"release": "prometheus"}
    });
    for tls in
        [json!({}), json!({"secretName": "m"}), json!({"secretName": "m", "requireAuthorization": true})]
    {
        let [service, pod] = ["serviceMonitor", "podMonitor"]
            .map(|value| render(&json!({ value: settings, "metrics": {"tls": tls} })));
        let [of_service, of_pod] = [service.get("ServiceMonitor", ""), pod.get("PodMonitor", "")];
        assert_eq!(of_pod["metadata"], of_service["metadata"]);
        assert_eq!(of_pod["spec"]["namespaceSelector"], of_service["spec"]["namespaceSelector"]);
        let mut endpoint = of_service["spec"]["endpoints"][0].clone();
        // The one is the port of the Service, the other that of the pod behind it.
        endpoint["port"] = service.get("Service", "-metrics")["spec"]["ports"][0]["targetPort"].clone();
        assert_eq!(of_pod["spec"]["podMetricsEndpoints"], json!([endpoint]), "{tls}");
        let template = &pod.get("Deployment", "")["spec"]["template"];
        let ports = template["spec"]["containers"][0]["ports"].as_array().unwrap();
        assert!(ports.iter().any(|port| port["name"] == endpoint["port"]), "{ports:?}");
        for (key, value) in of_pod["spec"]["selector"]["matchLabels"].as_object().unwrap() {
            assert_eq!(template["metadata"]["labels"][key], *value, "it selects the operator's pods");
            for (owner, other) in pod.pods().into_iter().filter(|(owner, _)| !owner.contains("Deployment")) {
                let label = &other["metadata"]["labels"][key];
                assert!(key != "app.kubernetes.io/name" || label != value, "and not that of {owner}");
            }
        }
    }
}

#[test]
fn a_pod_monitor_needs_no_service() {
    let values = json!({"podMonitor": {"enabled": true}, "metrics": {"service": {"enabled": false}}});
    let rendered = render(&values);
    assert!(rendered.find("PodMonitor", "").is_some() && rendered.find("Service", "").is_none());
}

#[test]
fn a_pod_monitor_with_authorization_needs_a_token() {
    let values = json!({
        "podMonitor": {"enabled": true}, "metrics": {"tls": {"secretName": "m", "requireAuthorization": true}}
    });
    let error = try_render(&values).err().expect("it has no token").to_string();
    assert!(error.contains("podMonitor.authorization"), "{error}");
}
