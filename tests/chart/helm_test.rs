//! `helm test`: its pod runs `check` with the settings of the operator's pod, and its rights are hooks as well.

use std::collections::BTreeSet;

use clap::CommandFactory as _;
use graph_credential_operator::cli::Cli;
use serde_json::{Value, json};

use crate::rendering::{NAMESPACE, Rendered, merge, nested, render, render_release};

fn hooks(rendered: &Rendered) -> Vec<&Value> {
    rendered.0.iter().filter(|it| it["metadata"]["annotations"]["helm.sh/hook"] == "test").collect()
}

/// The only container of the test's pod.
fn container(rendered: &Rendered) -> &Value {
    let containers = rendered.get("Pod", "-check")["spec"]["containers"].as_array().unwrap();
    assert_eq!(containers.len(), 1, "no sidecar");
    &containers[0]
}

fn args(container: &Value) -> Vec<&str> {
    container["args"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect()
}

/// The flags of a command.
fn flags(command: &str) -> BTreeSet<String> {
    let mut program = Cli::command();
    program.build();
    let command = program.find_subcommand(command).unwrap();
    command.get_arguments().filter_map(|it| it.get_long()).map(|it| format!("--{it}")).collect()
}

/// Those of these arguments whose flag both `run` and `check` have.
fn common(args: &[&str]) -> Vec<String> {
    let (run, check) = (flags("run"), flags("check"));
    let is_common = |arg: &&&str| {
        let flag = arg.split('=').next().unwrap_or_default();
        run.contains(flag) && check.contains(flag)
    };
    args.iter().filter(is_common).map(ToString::to_string).collect()
}

/// Values that both pods have.
fn shared_values() -> Vec<(&'static str, Value)> {
    vec![
        ("watchNamespaces", json!(["mail", "sales"])),
        ("leaderElection", json!({"enabled": false})),
        ("leaderElection", json!({"leaseName": "gco"})),
        ("keyringSecretName", json!("ring")),
        ("rbac", json!({"clusterWideCRDs": false})),
        ("allowedWoodpeckerUrls", json!(["https://w.test/rest", "https://v.test/rest"])),
        ("microsoftAuthority", json!("https://m.test")),
        ("dnsServers", json!(["10.0.0.10:53", "10.0.0.11:53"])),
        ("caBundle", json!({"configMapName": "corporate", "key": "bundle.pem"})),
        ("caBundle", json!({"secretName": "corporate"})),
        ("proxy", json!({"httpsProxy": "http://p:3128"})),
        ("proxy", json!({"httpsProxy": "http://p:3128", "noProxy": "example.com"})),
        ("extraEnv", json!([{"name": "GCO_CA_BUNDLE", "value": "/ca.pem"}])),
        ("extraEnvFrom", json!([{"configMapRef": {"name": "proxy"}}])),
    ]
}

#[test]
fn the_test_checks_with_the_settings_of_the_operators_pod() {
    let base = json!({"replicaCount": 1, "watchNamespaces": ["mail"]});
    let by_default = container(&render(&base)).clone();
    for (path, value) in shared_values() {
        let mut values = base.clone();
        merge(&mut values, nested(path, value));
        let rendered = render(&values);
        let test = container(&rendered);
        assert_ne!(*test, by_default, "{values} has no effect");
        let pod = &rendered.get("Deployment", "")["spec"]["template"]["spec"];
        let operator = &pod["containers"][0];
        assert_eq!(common(&args(test)), common(&args(operator)), "{values}");
        let mut env = operator["env"].as_array().unwrap().clone();
        env.retain(|variable| variable["name"] != "POD_NAME");
        assert_eq!(test["env"], json!(env), "{values}");
        for part in ["envFrom", "volumeMounts", "image", "imagePullPolicy", "securityContext", "resources"] {
            assert_eq!(test[part], operator[part], "{part}: {values}");
        }
        assert_eq!(rendered.get("Pod", "")["spec"]["volumes"], pod["volumes"], "{values}");
    }
}

#[test]
fn the_arguments_of_the_test_are_valid_and_about_the_operators_account() {
    for (values, access) in [
        (json!({}), "get"),
        (json!({"secretAccess": "watch", "serviceAccount": {"name": "other"}}), "watch"),
        (
            json!({"secretAccess": "named", "watchNamespaces": ["mail"], "rbac": {"clusterWideCRDs": false}}),
            "named",
        ),
    ] {
        let rendered = render_release("mail-operator", "mail", &values);
        let args = args(container(&rendered));
        let deployment = rendered.get("Deployment", "");
        let account = deployment["spec"]["template"]["spec"]["serviceAccountName"].as_str().unwrap();
        for argument in [
            format!("--service-account=$(GCO_OPERATOR_NAMESPACE)/{account}"),
            format!("--secret-access={access}"),
            "--only-if-release=mail-operator".to_owned(),
            format!("--deployment={}", deployment["metadata"]["name"].as_str().unwrap()),
        ] {
            assert!(args.contains(&argument.as_str()), "{argument} is not in {args:?}");
        }
        // As Kubernetes replaces it.
        let args = args.iter().map(|it| it.replace("$(GCO_OPERATOR_NAMESPACE)", "mail"));
        let parsed = Cli::command().try_get_matches_from(std::iter::once("gco".to_owned()).chain(args));
        assert!(parsed.is_ok(), "{}", parsed.unwrap_err());
    }
}

#[test]
fn the_rights_of_the_test_are_hooks_that_exist_before_its_pod_and_are_deleted_after_it() {
    let rendered = render(&json!({}));
    let mut kinds = Vec::new();
    for object in hooks(&rendered) {
        let kind = object["kind"].as_str().unwrap();
        let annotations = &object["metadata"]["annotations"];
        let policy = annotations["helm.sh/hook-delete-policy"].as_str().unwrap();
        assert!(policy.starts_with("before-hook-creation,hook-succeeded"), "{object}");
        assert_eq!(policy.contains("hook-failed"), kind != "Pod", "{object}");
        kinds.push((annotations["helm.sh/hook-weight"].as_str().unwrap().parse::<i32>().unwrap(), kind));
    }
    kinds.sort_unstable();
    let expected = [
        (-2, "ClusterRole"),
        (-2, "Role"),
        (-2, "ServiceAccount"),
        (-1, "ClusterRoleBinding"),
        (-1, "RoleBinding"),
        (0, "Pod"),
    ];
    assert_eq!(kinds, expected);
    let log = &rendered.get("Pod", "")["metadata"]["annotations"]["helm.sh/hook-output-log-policy"];
    assert_eq!(log, "hook-succeeded,hook-failed", "helm prints it");
}

#[test]
fn the_test_has_only_the_rights_that_fit_and_none_to_secrets() {
    let kinds = |values: Value| -> Vec<String> {
        let rendered = render(&values);
        assert!(!json!(hooks(&rendered)).to_string().contains("\"secrets\""), "{values}");
        hooks(&rendered).iter().map(|it| it["kind"].as_str().unwrap().to_owned()).collect()
    };
    let namespaced = json!({"watchNamespaces": ["mail"], "rbac": {"clusterWideCRDs": false}});
    assert_eq!(kinds(namespaced), ["ServiceAccount", "Role", "RoleBinding", "Pod"]);
    assert_eq!(kinds(json!({"rbac": {"create": false}})), ["ServiceAccount", "Pod"]);
    assert_eq!(kinds(json!({"helmTest": {"enabled": false}})), [""; 0]);
    let leases = |values: Value| render(&values).get("Role", "-check").to_string().contains("leases");
    assert!(leases(json!({})));
    assert!(!leases(json!({"leaderElection": {"enabled": false}, "replicaCount": 1})), "nobody holds one");
}

#[test]
fn no_service_and_no_budget_selects_the_pod_of_the_test() {
    let rendered = render(&json!({
        "restApi": {"enabled": true, "insecureHttp": true}, "podLabels": {"team": "mail"}, "commonLabels": {"group": "a"}
    }));
    let labels = &rendered.get("Pod", "")["metadata"]["labels"];
    assert_eq!((&labels["team"], &labels["group"]), (&json!("mail"), &json!("a")));
    let selectors = rendered.0.iter().filter_map(|it| match it["kind"].as_str()? {
        "Service" => it.pointer("/spec/selector"),
        "Deployment" | "PodDisruptionBudget" => it.pointer("/spec/selector/matchLabels"),
        _ => None,
    });
    let mut found = 0;
    for selector in selectors {
        let matches = selector.as_object().unwrap().iter().all(|(key, value)| labels[key] == *value);
        assert!(!matches, "{selector} matches {labels}");
        found += 1;
    }
    assert_eq!(found, 4);
}

#[test]
fn the_pod_of_the_test_is_scheduled_like_the_operator_and_gets_no_sidecar() {
    let inject = json!({"sidecar.istio.io/inject": "true", "linkerd.io/inject": "enabled", "a": "b"});
    let rendered = render(&json!({
        "podLabels": inject, "podAnnotations": inject, "affinity": {"nodeAffinity": {}},
        "nodeSelector": {"pool": "mail"}, "tolerations": [{"key": "k"}], "priorityClassName": "high",
        "hostAliases": [{"ip": "10.0.0.1"}], "dnsPolicy": "None", "dnsConfig": {"nameservers": ["10.0.0.2"]},
        "imagePullSecrets": [{"name": "p"}], "extraContainers": [{"name": "side"}]
    }));
    let pod = rendered.get("Pod", "-check");
    assert_eq!(
        (&pod["metadata"]["namespace"], &pod["spec"]["restartPolicy"]),
        (&json!(NAMESPACE), &json!("Never"))
    );
    let operator = &rendered.get("Deployment", "")["spec"]["template"]["spec"];
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
        "enableServiceLinks",
    ] {
        assert!(!pod["spec"][part].is_null(), "{part}");
        assert_eq!(pod["spec"][part], operator[part], "{part}");
    }
    container(&rendered);
    let metadata = &pod["metadata"];
    assert_eq!(metadata["labels"]["sidecar.istio.io/inject"], "false", "{metadata}");
    assert_eq!(metadata["annotations"]["sidecar.istio.io/inject"], "false", "{metadata}");
    assert_eq!(metadata["annotations"]["linkerd.io/inject"], "disabled", "{metadata}");
    assert_eq!(metadata["annotations"]["a"], "b");
}
