//! Values of pods and the objects around them.

use serde_json::{Value, json};

use super::Case;

pub fn pods() -> Vec<Case> {
    let probe = json!({"periodSeconds": 7});
    let object = |value: Value| json!([value]);
    vec![
        ("replicaCount", json!(3), "Deployment - spec/replicas", json!(3)),
        ("revisionHistoryLimit", json!(1), "Deployment - spec/revisionHistoryLimit", json!(1)),
        ("updateStrategy", json!({"type": "Recreate"}), "Deployment - spec/strategy/type", json!("Recreate")),
        (
            "podSecurityContext",
            json!({"fsGroup": 7}),
            "Job remove-finalizers pod/securityContext/fsGroup",
            json!(7),
        ),
        (
            "securityContext",
            json!({"runAsUser": 7}),
            "Job remove-finalizers container/securityContext/runAsUser",
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
        ("nodeSelector", json!({"a": "b"}), "Job remove-finalizers pod/nodeSelector/a", json!("b")),
        (
            "tolerations",
            object(json!({"key": "a"})),
            "Job remove-finalizers pod/tolerations/0/key",
            json!("a"),
        ),
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

pub fn watched() -> Vec<Case> {
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
            "metrics.tls.requireAuthorization",
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
        (
            "serviceMonitor.authorization",
            json!({"credentials": {"name": "prometheus"}}),
            of(monitor, "spec/endpoints/0/authorization/credentials/name"),
            json!("prometheus"),
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

pub fn beside() -> Vec<Case> {
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
        ("preDeleteHook.enabled", json!(false), "Job remove-finalizers kind", Value::Null),
        (
            "preDeleteHook.activeDeadlineSeconds",
            json!(7),
            "Job remove-finalizers spec/activeDeadlineSeconds",
            json!(7),
        ),
        ("helmTest.enabled", json!(false), "Pod -check kind", Value::Null),
        ("extraObjects", config_map, "ConfigMap -x metadata/name", json!("graph-credential-operator-x")),
    ]
}

pub fn rest_api() -> Vec<Case> {
    vec![
        ("restApi.enabled", json!(true), "Service -rest spec/ports/0/targetPort", json!("rest")),
        ("restApi.insecureHttp", json!(true), "argument --rest-insecure", json!("--rest-insecure-http")),
        (
            "restApi.tlsSecretName",
            json!("rest-tls"),
            "Deployment - pod/volumes/0/secret/secretName",
            json!("rest-tls"),
        ),
        ("restApi.apiKeysSecretName", json!("keys"), "Role -own rules/2/resourceNames/0", json!("keys")),
        (
            "restApi.maxConnections",
            json!(7),
            "argument --rest-max-connections",
            json!("--rest-max-connections=7"),
        ),
        (
            "restApi.maxCredentials",
            json!(7),
            "argument --rest-max-credentials",
            json!("--rest-max-credentials=7"),
        ),
        ("restApi.separateReplicas", json!(3), "argument --processes", json!("--processes=5")),
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
