//! Settings elsewhere that a value needs to take effect.

use serde_json::{Value, json};

use crate::every_value::shown;
use crate::rendering::{merge, render};

#[test]
fn the_log_filter_is_mounted_where_the_operator_reloads_it() {
    let rendered = render(&json!({"log": {"filterConfigMapName": "log"}}));
    let argument = shown(&rendered, "argument", &render(&json!({})));
    let file = "/etc/graph-credential-operator/log/filter";
    assert_eq!(argument, json!(format!("--log-filter-file={file}")));
    // A file below a subPath would never change.
    let mount =
        &rendered.get("Deployment", "")["spec"]["template"]["spec"]["containers"][0]["volumeMounts"][0];
    assert_eq!((mount["mountPath"].as_str(), mount.get("subPath")), (file.strip_suffix("/filter"), None));
}

#[test]
fn metrics_under_tls_are_scraped_with_a_token_if_configured() {
    let values = json!({
        "metrics": {"tls": {"secretName": "metrics-tls", "requireAuthorization": true}},
        "serviceMonitor": {"enabled": true}, "networkPolicy": {"enabled": true}
    });
    let rendered = render(&values);
    let container = &rendered.get("Deployment", "")["spec"]["template"]["spec"]["containers"][0];
    let arguments: Vec<&str> =
        container["args"].as_array().unwrap().iter().filter_map(|it| it.as_str()).collect();
    let folder = container["volumeMounts"][0]["mountPath"].as_str().unwrap();
    for argument in [
        "--metrics-bind-address=0.0.0.0:8444",
        &format!("--metrics-tls-cert={folder}/tls.crt"),
        &format!("--metrics-tls-key={folder}/tls.key"),
        "--metrics-require-authorization",
    ] {
        assert!(arguments.contains(&argument), "{argument} is not in {arguments:?}");
    }
    let endpoint = &rendered.get("ServiceMonitor", "")["spec"]["endpoints"][0];
    assert_eq!(endpoint["scheme"], "https");
    assert!(endpoint["bearerTokenFile"].is_string() && endpoint["authorization"].is_null(), "{endpoint}");
    let mut kept = values;
    let credentials = json!({"credentials": {"name": "prometheus", "key": "token"}});
    kept["serviceMonitor"]["authorization"] = credentials.clone();
    let with_kept = render(&kept);
    let endpoint = &with_kept.get("ServiceMonitor", "")["spec"]["endpoints"][0];
    assert!(endpoint["bearerTokenFile"].is_null() && endpoint["authorization"] == credentials, "{endpoint}");
    let ports = &rendered.get("NetworkPolicy", "")["spec"]["ingress"][0]["ports"];
    assert_eq!(ports[1]["port"], "metrics", "{ports}");
}

#[test]
fn additional_ca_certificates_are_mounted_and_passed_to_the_operator() {
    let values = json!({"caBundle": {"configMapName": "corporate", "key": "bundle.pem"}});
    let rendered = render(&values);
    let file = "/etc/graph-credential-operator/ca/bundle.pem";
    let argument = shown(&rendered, "argument", &render(&json!({})));
    assert_eq!(argument, json!(format!("--ca-bundle={file}")));
    let mount = shown(&rendered, "Deployment - container/volumeMounts/0/mountPath", &rendered);
    assert!(file.starts_with(mount.as_str().unwrap()), "{mount}");
}

#[test]
fn without_election_there_is_no_right_to_a_lease_of_the_leader() {
    let updates = |elects: bool| {
        let rendered = render(&json!({"leaderElection": {"enabled": elects}, "replicaCount": 1}));
        rendered.get("Role", "-own").to_string().contains("update")
    };
    assert!(updates(true) && !updates(false));
}

#[test]
fn without_election_no_two_pods_overlap() {
    for values in [json!({}), json!({"updateStrategy": {"type": "RollingUpdate"}})] {
        let mut values = values;
        merge(&mut values, json!({"leaderElection": {"enabled": false}, "replicaCount": 1}));
        let rendered = render(&values);
        assert_eq!(rendered.get("Deployment", "")["spec"]["strategy"], json!({"type": "Recreate"}));
    }
}

#[test]
fn the_update_strategy_is_always_complete() {
    let strategy = |values: Value| render(&values).get("Deployment", "")["spec"]["strategy"].clone();
    let rolling = |surge: Value| json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": "25%"}});
    assert_eq!(strategy(json!({})), rolling(json!("25%")));
    let surge = json!({"updateStrategy": {"rollingUpdate": {"maxSurge": 1}}});
    assert_eq!(strategy(surge), rolling(json!(1)));
    let no_surge = json!({"updateStrategy": {"rollingUpdate": {"maxSurge": 0}}});
    assert_eq!(strategy(no_surge), rolling(json!(0)), "nothing is a number as well");
    // The API server accepts nothing beside it.
    let recreate = json!({"updateStrategy": {"type": "Recreate"}});
    assert_eq!(strategy(recreate), json!({"type": "Recreate"}));
}
