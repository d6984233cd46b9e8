//! The hook before an uninstall: its log is shown, and its pod can run wherever the operator's can.

use serde_json::json;

use crate::rendering::render;

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
    assert_eq!(hook["metadata"]["annotations"], json!({"a": "b"}));
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
