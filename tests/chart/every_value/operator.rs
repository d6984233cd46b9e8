//! Values of the operator's name, rights and arguments.

use serde_json::{Value, json};

use super::Case;

pub fn names_and_images() -> Vec<Case> {
    let digest = format!("sha256:{}", "0".repeat(64));
    let by_digest = json!(format!("graph-credential-operator@{digest}"));
    vec![
        ("nameOverride", json!("gco"), "Deployment - metadata/labels/app.kubernetes.io~1name", json!("gco")),
        ("fullnameOverride", json!("mgc"), "Deployment mgc metadata/name", json!("mgc")),
        ("commonLabels", json!({"team": "mail"}), "Role -own metadata/labels/team", json!("mail")),
        (
            "image.registry",
            json!("r.example.com"),
            IMAGE,
            json!("r.example.com/graph-credential-operator:0.1.0"),
        ),
        ("image.repository", json!("mail/gco"), IMAGE, json!("mail/gco:0.1.0")),
        (
            "image.tag",
            json!("v9"),
            "Job remove-finalizers container/image",
            json!("graph-credential-operator:v9"),
        ),
        ("image.digest", json!(digest), IMAGE, by_digest),
        ("image.pullPolicy", json!("Always"), "Deployment - container/imagePullPolicy", json!("Always")),
        (
            "imagePullSecrets",
            json!([{"name": "p"}]),
            "Job remove-finalizers pod/imagePullSecrets/0/name",
            json!("p"),
        ),
        ("deploymentAnnotations", json!({"a": "b"}), "Deployment - metadata/annotations/a", json!("b")),
        (
            "podAnnotations",
            json!({"a": "b"}),
            "Deployment - spec/template/metadata/annotations/a",
            json!("b"),
        ),
        ("podLabels", json!({"a": "b"}), "Deployment - spec/template/metadata/labels/a", json!("b")),
    ]
}

const IMAGE: &str = "Deployment - container/image";

pub fn rights() -> Vec<Case> {
    let get = json!(["get"]);
    vec![
        ("mailboxes.enabled", json!(true), "argument --mailboxes", json!("--mailboxes")),
        ("entraIdentities.enabled", json!(true), "argument --entra-identities", json!("--entra-identities")),
        (
            "entraIdentities.secretNames",
            json!(["graph-cert"]),
            "Role -own rules/4/resourceNames",
            json!(["graph-cert"]),
        ),
        (
            "entraIdentities.otherServiceAccounts",
            json!(["other"]),
            "ValidatingAdmissionPolicy -identities spec/variables/0/expression",
            json!(format!(
                "{} || {}",
                in_namespace_of("graph-credential-operator"),
                in_namespace_of("other")
            )),
        ),
        ("crds.enabled", json!(false), "CustomResourceDefinition - kind", Value::Null),
        ("crds.keep", json!(false), "CustomResourceDefinition - metadata/annotations", Value::Null),
        ("admissionPolicies.enabled", json!(false), "ValidatingAdmissionPolicy - kind", Value::Null),
        ("rbac.create", json!(false), "Role -own kind", Value::Null),
        (
            "rbac.clusterWideCRDs",
            json!(false),
            "argument --enable-finalizers",
            json!("--enable-finalizers=false"),
        ),
        (
            "rbac.namespaceSelectors",
            json!(true),
            "ClusterRole -namespaces rules/0/verbs",
            json!(["list", "watch"]),
        ),
        ("rbac.aggregateClusterRoles", json!(false), "ClusterRole -edit kind", Value::Null),
        ("watchNamespaces", json!(["mail"]), "argument", json!("--watch-namespace=mail")),
        (
            "secretAccess",
            json!("watch"),
            "ClusterRole -secrets rules/0/verbs",
            json!(["get", "list", "watch"]),
        ),
        ("namedSecrets", json!([{"namespace": "mail", "names": ["a"]}]), "Role -secrets rules/0/verbs", get),
        ("serviceAccount.create", json!(false), "ServiceAccount operator kind", Value::Null),
        ("serviceAccount.name", json!("other"), "Deployment - pod/serviceAccountName", json!("other")),
        (
            "serviceAccount.annotations",
            json!({"a": "b"}),
            "ServiceAccount operator metadata/annotations/a",
            json!("b"),
        ),
        ("serviceAccount.labels", json!({"a": "b"}), "ServiceAccount operator metadata/labels/a", json!("b")),
    ]
}

/// Whether a namespace has an operator's ServiceAccount of that name, in CEL.
fn in_namespace_of(account: &str) -> String {
    let account = format!("authorizer.serviceAccount(object.metadata.namespace, '{account}')");
    let credentials = ".group('graph-credentials.io').resource('microsoftgraphcredentials')";
    format!(
        "{account} {credentials}.subresource('status').check('update').allowed() || {account} {credentials}.check('write-state').allowed()"
    )
}

pub fn settings() -> Vec<Case> {
    let argument = |path, value: Value, expected: &str| (path, value, "argument", json!(expected));
    vec![
        argument("leaderElection.enabled", json!(false), "--leader-elect=false"),
        argument("leaderElection.leaseName", json!("gco"), "--leader-election-lease=gco"),
        argument("keyringSecretName", json!("ring"), "--keyring-secret=ring"),
        argument(
            "allowedWoodpeckerUrls",
            json!(["https://w.test/rest"]),
            "--allowed-woodpecker-url=https://w.test/rest",
        ),
        argument("microsoftAuthority", json!("https://m.test"), "--microsoft-authority=https://m.test"),
        argument("microsoftGraph", json!("https://g.test"), "--microsoft-graph=https://g.test"),
        argument("dnsServers", json!(["10.0.0.10:53"]), "--dns-server=10.0.0.10:53"),
        argument("allowUnverified", json!(true), "--allow-unverified"),
        argument("propagationWindow", json!("30m"), "--propagation-window=30m"),
        argument("maxConcurrentReconciles", json!(4), "--max-concurrent-reconciles=4"),
        argument("listenAddress", json!("::"), "--health-probe-bind-address=[::]:8080"),
        argument("log.level", json!("debug"), "--log-level=debug"),
        argument("log.format", json!("text"), "--log-format=text"),
        ("log.filterConfigMapName", json!("log"), "Deployment - pod/volumes/0/configMap/name", json!("log")),
        argument("extraArgs", json!(["--allow-core-dumps"]), "--allow-core-dumps"),
        (
            "proxy.httpsProxy",
            json!("http://p:3128"),
            "Deployment - container/env/2/value",
            json!("http://p:3128"),
        ),
        ("proxy.noProxy", json!("example.com"), "Deployment - container/env/2/value", json!("example.com")),
        ("caBundle.configMapName", json!("ca"), "Deployment - pod/volumes/0/configMap/name", json!("ca")),
        ("caBundle.secretName", json!("ca"), "Deployment - pod/volumes/0/secret/secretName", json!("ca")),
        ("extraEnv", json!([{"name": "A", "value": "b"}]), "Deployment - container/env/2/name", json!("A")),
        (
            "extraEnvFrom",
            json!([{"configMapRef": {"name": "a"}}]),
            "Deployment - container/envFrom/0/configMapRef/name",
            json!("a"),
        ),
    ]
}
