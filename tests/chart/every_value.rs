//! Every value of the chart does what its description says: each is set alone, and one place of the rendered
//! objects is checked.

mod monitoring;
mod objects;
mod operator;
mod parent;

use std::collections::BTreeSet;

use serde_json::{Value, json};

use self::monitoring::{alerts, pod_monitor};
use self::objects::{beside, pods, rest_api, watched};
use self::operator::{names_and_images, rights, settings};
use self::parent::{global, placed};
use crate::rendering::{Rendered, merge, nested, render};
use crate::values::described;

/// A value of the chart, its setting, the place that shows it (see [`shown`]), and what that place must
/// contain.
type Case = (&'static str, Value, &'static str, Value);

/// Other values that a value needs to have an effect.
fn beside_it(path: &str) -> Vec<(&'static str, Value)> {
    let plain_rest = [("restApi.enabled", json!(true)), ("restApi.insecureHttp", json!(true))];
    match path {
        "leaderElection.enabled" => vec![("replicaCount", json!(1))],
        "serviceAccount.create" => vec![("serviceAccount.name", json!("other"))],
        "rbac.clusterWideCRDs" => vec![("watchNamespaces", json!(["mail"]))],
        "namedSecrets" => vec![("secretAccess", json!("named"))],
        "restApi.tlsSecretName" => vec![("restApi.enabled", json!(true))],
        "metrics.tls.requireAuthorization" => vec![("metrics.tls.secretName", json!("m"))],
        "serviceMonitor.tlsConfig" => {
            vec![("metrics.tls.secretName", json!("m")), ("serviceMonitor.enabled", json!(true))]
        }
        "serviceMonitor.authorization" => vec![
            ("metrics.tls.secretName", json!("m")),
            ("metrics.tls.requireAuthorization", json!(true)),
            ("serviceMonitor.enabled", json!(true)),
        ],
        "podMonitor.tlsConfig" => {
            vec![("metrics.tls.secretName", json!("m")), ("podMonitor.enabled", json!(true))]
        }
        "podMonitor.authorization" => vec![
            ("metrics.tls.secretName", json!("m")),
            ("metrics.tls.requireAuthorization", json!(true)),
            ("podMonitor.enabled", json!(true)),
        ],
        "entraIdentities.secretNames" => vec![("entraIdentities.enabled", json!(true))],
        "networkPolicy.restApiFrom" => {
            plain_rest.into_iter().chain([("networkPolicy.enabled", json!(true))]).collect()
        }
        _ if path.starts_with("restApi.") => plain_rest.to_vec(),
        _ if path.starts_with("serviceMonitor.") => vec![("serviceMonitor.enabled", json!(true))],
        _ if path.starts_with("podMonitor.") => vec![("podMonitor.enabled", json!(true))],
        _ if path.starts_with("prometheusRule.") => vec![("prometheusRule.enabled", json!(true))],
        _ if path.starts_with("grafanaDashboard.") => vec![("grafanaDashboard.enabled", json!(true))],
        _ if path.starts_with("networkPolicy.") => vec![("networkPolicy.enabled", json!(true))],
        _ => Vec::new(),
    }
}

/// The content of a place: `Kind name pointer`, where the name is the end of the whole name and `-` is any.
/// `pod` and `container` in the pointer are those of the template. `argument` is an argument of the operator
/// that is not there by default, `argument --x` the one of them that begins like this.
pub fn shown(rendered: &Rendered, place: &str, by_default: &Rendered) -> Value {
    let arguments = |rendered: &Rendered| -> Vec<Value> {
        rendered
            .get("Deployment", "")
            .pointer("/spec/template/spec/containers/0/args")
            .unwrap()
            .as_array()
            .unwrap()
            .clone()
    };
    if let Some(prefix) = place.strip_prefix("argument") {
        let before = arguments(by_default);
        let is_new = |it: &Value| !before.contains(it) && it.as_str().unwrap().starts_with(prefix.trim());
        return arguments(rendered).into_iter().find(is_new).unwrap_or_default();
    }
    let mut words = place.splitn(3, ' ');
    let mut word = || words.next().unwrap();
    let (kind, name, pointer) = (word(), word(), word());
    let pointer = match pointer.split_once('/') {
        Some(("pod", rest)) => format!("/spec/template/spec/{rest}"),
        Some(("container", rest)) => format!("/spec/template/spec/containers/0/{rest}"),
        _ => format!("/{pointer}"),
    };
    let name = if name == "-" { "" } else { name };
    rendered.find(kind, name).and_then(|object| object.pointer(&pointer)).cloned().unwrap_or_default()
}

#[test]
fn every_value_has_the_documented_effect() {
    let by_default = render(&json!({}));
    // Their effects are in `together` and `monitors`.
    let mut shown_values = BTreeSet::from([
        "caBundle.key",
        "serviceMonitor.renderMode",
        "podMonitor.renderMode",
        "prometheusRule.renderMode",
    ]);
    let cases = [
        names_and_images(),
        global(),
        placed(),
        rights(),
        settings(),
        pods(),
        watched(),
        pod_monitor(),
        alerts(),
        beside(),
        rest_api(),
    ];
    for (path, value, place, expected) in cases.into_iter().flatten() {
        let mut values = nested(path, value.clone());
        for (other, value) in beside_it(path) {
            merge(&mut values, nested(other, value));
        }
        assert_ne!(shown(&by_default, place, &by_default), expected, "{path}: so it is by default");
        let rendered = render(&values);
        assert_eq!(shown(&rendered, place, &by_default), expected, "{path} = {value}: {place}");
        shown_values.insert(path);
    }
    let all = described();
    let missing: Vec<&String> =
        all.iter().map(|it| &it.path).filter(|path| !shown_values.contains(path.as_str())).collect();
    assert!(missing.is_empty(), "no test shows what these values do: {missing:?}");
}
