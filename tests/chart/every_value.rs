//! Every value of the chart does what its description says: set alone, it makes this of that part of that object.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::rendering::{Rendered, nested, render};
use crate::values::described;

/// A value of the chart, what it is set to, where that shows (see [`shown`]), and what is there then.
type Case = (&'static str, Value, &'static str, Value);

fn names_and_images() -> Vec<Case> {
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
        ("image.tag", json!("v9"), "Job release container/image", json!("graph-credential-operator:v9")),
        ("image.digest", json!(digest), IMAGE, by_digest),
        ("image.pullPolicy", json!("Always"), "Deployment - container/imagePullPolicy", json!("Always")),
        ("imagePullSecrets", json!([{"name": "p"}]), "Job release pod/imagePullSecrets/0/name", json!("p")),
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

fn rights() -> Vec<Case> {
    let get = json!(["get"]);
    vec![
        ("crds.enabled", json!(false), "CustomResourceDefinition - kind", Value::Null),
        ("crds.keep", json!(false), "CustomResourceDefinition - metadata/annotations", Value::Null),
        ("admissionPolicies.enabled", json!(false), "ValidatingAdmissionPolicy - kind", Value::Null),
        ("rbac.create", json!(false), "Role -own kind", Value::Null),
        ("ownKindsClusterRole", json!(false), "argument --finalizers", json!("--finalizers=false")),
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

fn settings() -> Vec<Case> {
    let argument = |path, value: Value, expected: &str| (path, value, "argument", json!(expected));
    vec![
        argument("leaderElection.enabled", json!(false), "--leader-elect=false"),
        argument("leaderElection.leaseName", json!("gco"), "--leader-election-lease=gco"),
        argument("keyringSecretName", json!("ring"), "--keyring-secret=ring"),
        argument(
            "woodpeckerBaseUrls",
            json!(["https://w.test/rest"]),
            "--woodpecker-base-url=https://w.test/rest",
        ),
        argument("microsoftAuthority", json!("https://m.test"), "--microsoft-authority=https://m.test"),
        argument("dnsServers", json!(["10.0.0.10:53"]), "--dns-server=10.0.0.10:53"),
        argument("allowUnverified", json!(true), "--allow-unverified"),
        argument("propagationWindow", json!("30m"), "--propagation-window=30m"),
        argument("maxConcurrentPasses", json!(4), "--max-concurrent-passes=4"),
        argument("listenAddress", json!("::"), "--listen=[::]:8080"),
        argument("log.level", json!("debug"), "--log=debug"),
        argument("log.format", json!("text"), "--log-format=text"),
        ("log.filterConfigMapName", json!("log"), "Deployment - pod/volumes/0/configMap/name", json!("log")),
        argument("extraArgs", json!(["--allow-core-dumps"]), "--allow-core-dumps"),
        (
            "proxy.httpsProxy",
            json!("http://p:3128"),
            "Deployment - container/env/1/value",
            json!("http://p:3128"),
        ),
        ("proxy.noProxy", json!("example.com"), "Deployment - container/env/1/value", json!("example.com")),
        ("extraCA.configMapName", json!("ca"), "Deployment - pod/volumes/0/configMap/name", json!("ca")),
        ("extraCA.secretName", json!("ca"), "Deployment - pod/volumes/0/secret/secretName", json!("ca")),
        ("extraEnv", json!([{"name": "A", "value": "b"}]), "Deployment - container/env/1/name", json!("A")),
        (
            "extraEnvFrom",
            json!([{"configMapRef": {"name": "a"}}]),
            "Deployment - container/envFrom/0/configMapRef/name",
            json!("a"),
        ),
    ]
}

fn pods() -> Vec<Case> {
    let probe = json!({"periodSeconds": 7});
    let object = |value: Value| json!([value]);
    vec![
        ("replicaCount", json!(3), "Deployment - spec/replicas", json!(3)),
        ("revisionHistoryLimit", json!(1), "Deployment - spec/revisionHistoryLimit", json!(1)),
        ("updateStrategy", json!({"type": "Recreate"}), "Deployment - spec/strategy/type", json!("Recreate")),
        ("podSecurityContext", json!({"fsGroup": 7}), "Job release pod/securityContext/fsGroup", json!(7)),
        (
            "securityContext",
            json!({"runAsUser": 7}),
            "Job release container/securityContext/runAsUser",
            json!(7),
        ),
        ("resources", json!({"limits": {"cpu": 1}}), "Deployment - container/resources/limits/cpu", json!(1)),
        ("livenessProbe", probe.clone(), "Deployment - container/livenessProbe/periodSeconds", json!(7)),
        ("readinessProbe", probe.clone(), "Deployment - container/readinessProbe/periodSeconds", json!(7)),
        ("startupProbe", probe, "Deployment - container/startupProbe/periodSeconds", json!(7)),
        (
            "terminationGracePeriodSeconds",
            json!(7),
            "Deployment - pod/terminationGracePeriodSeconds",
            json!(7),
        ),
        ("nodeSelector", json!({"a": "b"}), "Job release pod/nodeSelector/a", json!("b")),
        ("tolerations", object(json!({"key": "a"})), "Job release pod/tolerations/0/key", json!("a")),
        ("affinity", json!({"nodeAffinity": {}}), "Deployment - pod/affinity/nodeAffinity", json!({})),
        (
            "topologySpreadConstraints",
            object(json!({"topologyKey": "zone", "labelSelector": {"matchLabels": {"a": "b"}}})),
            "Deployment - pod/topologySpreadConstraints/0/labelSelector/matchLabels/a",
            json!("b"),
        ),
        ("priorityClassName", json!("high"), "Deployment - pod/priorityClassName", json!("high")),
        (
            "hostAliases",
            object(json!({"ip": "10.0.0.1"})),
            "Deployment - pod/hostAliases/0/ip",
            json!("10.0.0.1"),
        ),
        ("dnsPolicy", json!("Default"), "Deployment - pod/dnsPolicy", json!("Default")),
        ("dnsConfig", json!({"searches": ["a"]}), "Deployment - pod/dnsConfig/searches/0", json!("a")),
        ("extraVolumes", object(json!({"name": "v"})), "Deployment - pod/volumes/0/name", json!("v")),
        (
            "extraVolumeMounts",
            object(json!({"name": "v"})),
            "Deployment - container/volumeMounts/0/name",
            json!("v"),
        ),
        (
            "extraContainers",
            object(json!({"name": "side"})),
            "Deployment - pod/containers/1/name",
            json!("side"),
        ),
    ]
}

fn watched() -> Vec<Case> {
    let monitor = "ServiceMonitor operator";
    let rule = "PrometheusRule operator";
    let dashboard = "ConfigMap -dashboard";
    let of = |object: &str, part: &str| -> &'static str { format!("{object} {part}").leak() };
    vec![
        ("metrics.service.enabled", json!(false), "Service - kind", Value::Null),
        ("metrics.service.port", json!(9090), "Service - spec/ports/0/port", json!(9090)),
        ("metrics.service.annotations", json!({"a": "b"}), "Service - metadata/annotations/a", json!("b")),
        ("metrics.service.labels", json!({"a": "b"}), "Service - metadata/labels/a", json!("b")),
        ("metrics.tls.secretName", json!("m"), "Service -metrics spec/ports/0/targetPort", json!("metrics")),
        (
            "metrics.tls.authorize",
            json!(true),
            "ClusterRole -scrapers rules/0/resources/0",
            json!("tokenreviews"),
        ),
        (
            "serviceMonitor.tlsConfig",
            json!({"serverName": "metrics"}),
            of(monitor, "spec/endpoints/0/tlsConfig/serverName"),
            json!("metrics"),
        ),
        ("serviceMonitor.enabled", json!(true), of(monitor, "spec/endpoints/0/path"), json!("/metrics")),
        (
            "serviceMonitor.namespace",
            json!("monitoring"),
            of(monitor, "metadata/namespace"),
            json!("monitoring"),
        ),
        ("serviceMonitor.interval", json!("7s"), of(monitor, "spec/endpoints/0/interval"), json!("7s")),
        (
            "serviceMonitor.scrapeTimeout",
            json!("7s"),
            of(monitor, "spec/endpoints/0/scrapeTimeout"),
            json!("7s"),
        ),
        ("serviceMonitor.additionalLabels", json!({"a": "b"}), of(monitor, "metadata/labels/a"), json!("b")),
        (
            "serviceMonitor.honorLabels",
            json!(false),
            of(monitor, "spec/endpoints/0/honorLabels"),
            json!(false),
        ),
        (
            "serviceMonitor.relabelings",
            json!([{"a": 1}]),
            of(monitor, "spec/endpoints/0/relabelings/0/a"),
            json!(1),
        ),
        (
            "serviceMonitor.metricRelabelings",
            json!([{"a": 1}]),
            of(monitor, "spec/endpoints/0/metricRelabelings/0/a"),
            json!(1),
        ),
        (
            "prometheusRule.enabled",
            json!(true),
            of(rule, "spec/groups/0/rules/0/labels/severity"),
            json!("info"),
        ),
        (
            "prometheusRule.namespace",
            json!("monitoring"),
            of(rule, "metadata/namespace"),
            json!("monitoring"),
        ),
        ("prometheusRule.additionalLabels", json!({"a": "b"}), of(rule, "metadata/labels/a"), json!("b")),
        (
            "prometheusRule.runbookBaseUrl",
            json!("https://runbooks.example.com/gco/"),
            of(rule, "spec/groups/0/rules/0/annotations/runbook_url"),
            json!("https://runbooks.example.com/gco/GraphCredentialExpiresIn30Days.md"),
        ),
        ("grafanaDashboard.enabled", json!(true), of(dashboard, "kind"), json!("ConfigMap")),
        (
            "grafanaDashboard.namespace",
            json!("monitoring"),
            of(dashboard, "metadata/namespace"),
            json!("monitoring"),
        ),
        ("grafanaDashboard.labels", json!({"a": "b"}), of(dashboard, "metadata/labels/a"), json!("b")),
        (
            "grafanaDashboard.annotations",
            json!({"a": "b"}),
            of(dashboard, "metadata/annotations/a"),
            json!("b"),
        ),
    ]
}

fn beside() -> Vec<Case> {
    let policy = "NetworkPolicy operator";
    let config_map =
        json!([{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-x"}}]);
    let of = |object: &str, part: &str| -> &'static str { format!("{object} {part}").leak() };
    vec![
        ("podDisruptionBudget.enabled", json!(false), "PodDisruptionBudget - kind", Value::Null),
        (
            "podDisruptionBudget.maxUnavailable",
            json!("50%"),
            "PodDisruptionBudget - spec/maxUnavailable",
            json!("50%"),
        ),
        ("podDisruptionBudget.minAvailable", json!(1), "PodDisruptionBudget - spec/minAvailable", json!(1)),
        ("networkPolicy.restApiFrom", json!([{"a": 1}]), of(policy, "spec/ingress/1/from/0/a"), json!(1)),
        ("networkPolicy.enabled", json!(true), of(policy, "spec/policyTypes"), json!(["Ingress", "Egress"])),
        ("networkPolicy.metricsFrom", json!([{"a": 1}]), of(policy, "spec/ingress/0/from/0/a"), json!(1)),
        (
            "networkPolicy.apiServerPorts",
            json!([8443]),
            of(policy, "spec/egress/1/ports/0/port"),
            json!(8443),
        ),
        ("networkPolicy.dnsTo", json!([{"a": 1}]), of(policy, "spec/egress/0/to/0/a"), json!(1)),
        ("networkPolicy.extraEgress", json!([{"a": 1}]), of(policy, "spec/egress/3/a"), json!(1)),
        ("preDeleteHook.enabled", json!(false), "Job release kind", Value::Null),
        ("preDeleteHook.activeDeadlineSeconds", json!(7), "Job release spec/activeDeadlineSeconds", json!(7)),
        ("extraObjects", config_map, "ConfigMap -x metadata/name", json!("graph-credential-operator-x")),
    ]
}

fn rest_api() -> Vec<Case> {
    vec![
        ("restApi.enabled", json!(true), "Service -rest spec/ports/0/targetPort", json!("rest")),
        ("restApi.plainHttp", json!(true), "argument --rest-plain", json!("--rest-plain-http")),
        (
            "restApi.tlsSecretName",
            json!("rest-tls"),
            "Deployment - pod/volumes/0/secret/secretName",
            json!("rest-tls"),
        ),
        ("restApi.keysSecretName", json!("keys"), "Role -own rules/2/resourceNames/0", json!("keys")),
        ("restApi.maxConnections", json!(7), "argument --rest-max", json!("--rest-max-connections=7")),
        ("restApi.service.type", json!("NodePort"), "Service -rest spec/type", json!("NodePort")),
        ("restApi.service.port", json!(8443), "Service -rest spec/ports/0/port", json!(8443)),
        (
            "restApi.service.annotations",
            json!({"a": "b"}),
            "Service -rest metadata/annotations/a",
            json!("b"),
        ),
        ("restApi.service.labels", json!({"a": "b"}), "Service -rest metadata/labels/a", json!("b")),
    ]
}

/// Values that show only together with others: those.
fn beside_it(path: &str) -> Vec<(&'static str, Value)> {
    let plain_rest = [("restApi.enabled", json!(true)), ("restApi.plainHttp", json!(true))];
    match path {
        "leaderElection.enabled" => vec![("replicaCount", json!(1))],
        "serviceAccount.create" => vec![("serviceAccount.name", json!("other"))],
        "ownKindsClusterRole" => vec![("watchNamespaces", json!(["mail"]))],
        "namedSecrets" => vec![("secretAccess", json!("named"))],
        "restApi.tlsSecretName" => vec![("restApi.enabled", json!(true))],
        "metrics.tls.authorize" => vec![("metrics.tls.secretName", json!("m"))],
        "serviceMonitor.tlsConfig" => {
            vec![("metrics.tls.secretName", json!("m")), ("serviceMonitor.enabled", json!(true))]
        }
        "networkPolicy.restApiFrom" => {
            plain_rest.into_iter().chain([("networkPolicy.enabled", json!(true))]).collect()
        }
        _ if path.starts_with("restApi.") => plain_rest.to_vec(),
        _ if path.starts_with("serviceMonitor.") => vec![("serviceMonitor.enabled", json!(true))],
        _ if path.starts_with("prometheusRule.") => vec![("prometheusRule.enabled", json!(true))],
        _ if path.starts_with("grafanaDashboard.") => vec![("grafanaDashboard.enabled", json!(true))],
        _ if path.starts_with("networkPolicy.") => vec![("networkPolicy.enabled", json!(true))],
        _ => Vec::new(),
    }
}

/// What is at a place: `Kind name pointer`, where the name is an end of the whole one and `-` any; `pod` and `container`
/// in the pointer are those of the template. `argument` is what the operator is told beyond what it is told by default,
/// `argument --x` of that what begins so.
fn shown(rendered: &Rendered, place: &str, by_default: &Rendered) -> Value {
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
fn every_value_shows_where_its_description_says() {
    let by_default = render(&json!({}));
    let mut shown_values = BTreeSet::from(["extraCA.key"]);
    for (path, value, place, expected) in
        [names_and_images(), rights(), settings(), pods(), watched(), beside(), rest_api()]
            .into_iter()
            .flatten()
    {
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

#[test]
fn what_is_logged_is_mounted_where_the_operator_reads_it_again() {
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
fn metrics_under_tls_are_scraped_with_a_token_where_it_is_asked_for() {
    let values = json!({
        "metrics": {"tls": {"secretName": "metrics-tls", "authorize": true}},
        "serviceMonitor": {"enabled": true}, "networkPolicy": {"enabled": true}
    });
    let rendered = render(&values);
    let container = &rendered.get("Deployment", "")["spec"]["template"]["spec"]["containers"][0];
    let arguments: Vec<&str> =
        container["args"].as_array().unwrap().iter().filter_map(|it| it.as_str()).collect();
    let folder = container["volumeMounts"][0]["mountPath"].as_str().unwrap();
    for argument in [
        "--metrics-listen=0.0.0.0:8444",
        &format!("--metrics-tls-cert={folder}/tls.crt"),
        &format!("--metrics-tls-key={folder}/tls.key"),
        "--metrics-authorize",
    ] {
        assert!(arguments.contains(&argument), "{argument} is not in {arguments:?}");
    }
    let endpoint = &rendered.get("ServiceMonitor", "")["spec"]["endpoints"][0];
    assert_eq!(endpoint["scheme"], "https");
    assert!(endpoint["bearerTokenFile"].is_string(), "{endpoint}");
    let ports = &rendered.get("NetworkPolicy", "")["spec"]["ingress"][0]["ports"];
    assert_eq!(ports[1]["port"], "metrics", "{ports}");
}

#[test]
fn further_ca_certificates_are_mounted_and_named_to_the_operator() {
    let values = json!({"extraCA": {"configMapName": "corporate", "key": "bundle.pem"}});
    let rendered = render(&values);
    let file = "/etc/graph-credential-operator/ca/bundle.pem";
    let argument = shown(&rendered, "argument", &render(&json!({})));
    assert_eq!(argument, json!(format!("--extra-ca={file}")));
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
fn how_pods_are_replaced_is_always_said_in_full() {
    let strategy = |values: Value| render(&values).get("Deployment", "")["spec"]["strategy"].clone();
    let rolling = |surge: Value| json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": "25%"}});
    assert_eq!(strategy(json!({})), rolling(json!("25%")));
    let surge = json!({"updateStrategy": {"rollingUpdate": {"maxSurge": 1}}});
    assert_eq!(strategy(surge), rolling(json!(1)));
    // Beside it the API server takes nothing.
    let recreate = json!({"updateStrategy": {"type": "Recreate"}});
    assert_eq!(strategy(recreate), json!({"type": "Recreate"}));
}

fn merge(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over,
    }
}
