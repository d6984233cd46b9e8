//! Values of the `PodMonitor` and of single alerts.

use serde_json::{Value, json};

use super::Case;

pub fn pod_monitor() -> Vec<Case> {
    let of = |part: &str| -> &'static str { format!("PodMonitor operator {part}").leak() };
    let endpoint = |part: &str| of(&format!("spec/podMetricsEndpoints/0/{part}"));
    let relabelings = json!([{"action": "labelmap"}]);
    vec![
        ("podMonitor.enabled", json!(true), endpoint("path"), json!("/metrics")),
        ("podMonitor.namespace", json!("monitoring"), of("metadata/namespace"), json!("monitoring")),
        ("podMonitor.interval", json!("7s"), endpoint("interval"), json!("7s")),
        ("podMonitor.scrapeTimeout", json!("7s"), endpoint("scrapeTimeout"), json!("7s")),
        ("podMonitor.additionalLabels", json!({"a": "b"}), of("metadata/labels/a"), json!("b")),
        ("podMonitor.honorLabels", json!(false), endpoint("honorLabels"), json!(false)),
        (
            "podMonitor.tlsConfig",
            json!({"serverName": "metrics"}),
            endpoint("tlsConfig/serverName"),
            json!("metrics"),
        ),
        (
            "podMonitor.authorization",
            json!({"credentials": {"name": "prometheus"}}),
            endpoint("authorization/credentials/name"),
            json!("prometheus"),
        ),
        ("podMonitor.relabelings", relabelings.clone(), endpoint("relabelings"), relabelings.clone()),
        ("podMonitor.metricRelabelings", relabelings.clone(), endpoint("metricRelabelings"), relabelings),
    ]
}

pub fn alerts() -> Vec<Case> {
    let first = |part: &str| -> &'static str {
        format!("PrometheusRule operator spec/groups/0/rules/0/{part}").leak()
    };
    let override_ = |fields: Value| json!({"GraphCredentialExpiresIn30Days": fields});
    vec![
        (
            "prometheusRule.disabled",
            override_(json!(true)),
            first("alert"),
            json!("GraphCredentialExpiresIn14Days"),
        ),
        ("prometheusRule.overrides", override_(json!({"for": "7m"})), first("for"), json!("7m")),
        ("prometheusRule.additionalRuleLabels", json!({"team": "mail"}), first("labels/team"), json!("mail")),
        (
            "prometheusRule.additionalRuleAnnotations",
            json!({"dashboard": "d"}),
            first("annotations/dashboard"),
            json!("d"),
        ),
    ]
}
