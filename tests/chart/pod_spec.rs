//! `podSpec`: fields over the generated pod specs.

use serde_json::{Value, json};

use crate::rendering::{merge, nested, render};

/// The pod specs of the Deployment, of the hook and of the test.
fn specs(values: &Value) -> [Value; 3] {
    let rendered = render(values);
    let [operator, hook] = [rendered.get("Deployment", ""), rendered.get("Job", "")]
        .map(|it| it["spec"]["template"]["spec"].clone());
    [operator, hook, rendered.get("Pod", "")["spec"].clone()]
}

#[test]
fn a_pod_spec_is_merged_over_the_generated_one_and_leaves_the_other_pods() {
    // Every part of the generated pod spec.
    let mut values = json!({
        "caBundle": {"configMapName": "ca"}, "restApi": {"enabled": true, "tlsSecretName": "rest"},
        "metrics": {"tls": {"secretName": "m"}}, "imagePullSecrets": [{"name": "1e3"}],
        "podSecurityContext": {"runAsUser": 1_000_650_000}, "log": {"level": "0x10"}
    });
    let fields = json!({
        "hostNetwork": true, "runtimeClassName": "gvisor", "terminationGracePeriodSeconds": 120,
        "securityContext": {"fsGroup": 7, "runAsNonRoot": false}, "nodeSelector": {"pool": "mail"}
    });
    let generated = specs(&values);
    for (pod, path) in ["podSpec", "preDeleteHook.podSpec", "helmTest.podSpec"].into_iter().enumerate() {
        let mut changed = values.clone();
        merge(&mut changed, nested(path, fields.clone()));
        let mut expected = generated.clone();
        merge(&mut expected[pod], fields.clone());
        assert_eq!(specs(&changed), expected, "{path}");
    }
    values["podSpec"] = json!({});
    assert_eq!(specs(&values), generated, "nothing changes nothing");
}

#[test]
fn a_list_in_a_pod_spec_is_replaced_as_a_whole() {
    let [operator, ..] = specs(&json!({
        "tolerations": [{"key": "a"}, {"key": "b"}], "podSpec": {"tolerations": [{"key": "c"}], "initContainers": [{"name": "i"}]}
    }));
    assert_eq!(operator["tolerations"], json!([{"key": "c"}]));
    assert_eq!(operator["initContainers"], json!([{"name": "i"}]));
    assert_eq!(operator["containers"][0]["name"], "operator");
    let [operator, ..] = specs(&json!({"tolerations": [{"key": "a"}], "podSpec": {"tolerations": []}}));
    assert_eq!(operator["tolerations"], json!([]), "also by an empty one");
}

#[test]
fn null_removes_a_field_of_the_generated_pod_spec() {
    let [before, ..] = specs(&json!({}));
    let fields =
        json!({"nodeSelector": null, "securityContext": {"seccompProfile": null}, "runtimeClassName": null});
    let [mut after, ..] = specs(&json!({"podSpec": fields}));
    for part in ["/nodeSelector", "/securityContext/seccompProfile"] {
        assert!(before.pointer(part).is_some() && after.pointer(part).is_none(), "{part}: {after}");
    }
    assert!(after.get("runtimeClassName").is_none(), "{after}");
    merge(
        &mut after,
        json!({"nodeSelector": before["nodeSelector"], "securityContext": before["securityContext"]}),
    );
    assert_eq!(after, before, "everything else stays");
}
