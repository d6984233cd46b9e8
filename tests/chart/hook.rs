//! The hook before an uninstall: its log is shown, and its pod can run wherever the operator's can.

use serde_json::{Value, json};

use crate::rendering::{render, render_release};

#[test]
fn the_log_of_the_hook_is_shown_before_its_job_is_deleted() {
    let rendered = render(&json!({}));
    let annotations = &rendered.get("Job", "remove-finalizers")["metadata"]["annotations"];
    assert_eq!(annotations["helm.sh/hook-output-log-policy"], "hook-succeeded,hook-failed");
}

#[test]
fn the_pod_of_the_hook_is_scheduled_like_the_operator() {
    let rendered = render(&json!({
        "podLabels": {"team": "mail"}, "podAnnotations": {"a": "b"}, "affinity": {"nodeAffinity": {}},
        "nodeSelector": {"pool": "mail"}, "tolerations": [{"key": "k"}], "priorityClassName": "high",
        "hostAliases": [{"ip": "10.0.0.1"}], "dnsPolicy": "None", "dnsConfig": {"nameservers": ["10.0.0.2"]},
        "imagePullSecrets": [{"name": "p"}]
    }));
    let [operator, hook] = [rendered.get("Deployment", ""), rendered.get("Job", "remove-finalizers")]
        .map(|it| &it["spec"]["template"]);
    for part in [
        "affinity",
        "nodeSelector",
        "tolerations",
        "priorityClassName",
        "hostAliases",
        "dnsPolicy",
        "dnsConfig",
        "imagePullSecrets",
        "securityContext",
    ] {
        assert!(!hook["spec"][part].is_null(), "{part}");
        assert_eq!(hook["spec"][part], operator["spec"][part], "{part}");
    }
    assert_eq!(hook["metadata"]["annotations"]["a"], "b");
    assert_eq!(hook["metadata"]["labels"]["team"], "mail");
    let name = "app.kubernetes.io/name";
    assert_ne!(
        hook["metadata"]["labels"][name], operator["metadata"]["labels"][name],
        "no Service sends it anything"
    );
}

#[test]
fn without_rbac_of_the_chart_the_hook_has_none() {
    let rendered = render(&json!({"rbac": {"create": false, "aggregateClusterRoles": false}}));
    for kind in ["ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"] {
        assert!(rendered.find(kind, "").is_none(), "{kind}");
    }
}

#[test]
fn the_hook_acts_only_on_a_deployment_that_helm_installed_as_its_release() {
    let rendered = render_release("mail-operator", "mail", &json!({"fullnameOverride": "gco"}));
    let args = &rendered.get("Job", "")["spec"]["template"]["spec"]["containers"][0]["args"];
    let args: Vec<&str> = args.as_array().unwrap().iter().filter_map(Value::as_str).collect();
    for argument in ["--only-if-release=mail-operator", "--stop-deployment=gco"] {
        assert!(args.contains(&argument), "{argument} is not in {args:?}");
    }
}

#[test]
fn no_mesh_injects_a_sidecar_into_the_pod_of_the_hook() {
    let inject = json!({"sidecar.istio.io/inject": "true", "linkerd.io/inject": "enabled"});
    for values in [json!({}), json!({"podLabels": inject, "podAnnotations": inject})] {
        let rendered = render(&values);
        let metadata = &rendered.get("Job", "")["spec"]["template"]["metadata"];
        assert_eq!(metadata["labels"]["sidecar.istio.io/inject"], "false", "{metadata}");
        assert_eq!(metadata["annotations"]["sidecar.istio.io/inject"], "false", "{metadata}");
        assert_eq!(metadata["annotations"]["linkerd.io/inject"], "disabled", "{metadata}");
    }
}

#[test]
fn the_rights_of_the_hook_are_deleted_also_if_it_fails_and_its_job_is_kept_then() {
    let rendered = render(&json!({}));
    let is_hook = |object: &&Value| object["metadata"]["annotations"]["helm.sh/hook"] == "pre-delete";
    let hooks: Vec<&Value> = rendered.0.iter().filter(is_hook).collect();
    assert_eq!(hooks.len(), 6);
    for object in hooks {
        let policy = object["metadata"]["annotations"]["helm.sh/hook-delete-policy"].as_str().unwrap();
        assert!(policy.starts_with("before-hook-creation,hook-succeeded"), "{object}");
        assert_eq!(policy.contains("hook-failed"), object["kind"] != "Job", "{object}");
    }
}
