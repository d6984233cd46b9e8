//! The dashboard: its copy in the chart, and that it uses only existing metrics.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::reference::{self, MetricFamily};

const DASHBOARD: &str = "deploy/grafana/dashboard.json";

/// The chart's copy, because helm reads no file outside of the chart.
pub fn generated(root: &Path) -> Vec<(PathBuf, String)> {
    let text = fs::read_to_string(root.join(DASHBOARD)).expect("the dashboard can be read");
    vec![(root.join("deploy/chart/dashboard.json"), text)]
}

fn panels() -> Vec<Value> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(DASHBOARD);
    let text = fs::read_to_string(path).expect("the dashboard can be read");
    let dashboard: Value = serde_json::from_str(&text).expect("the dashboard is JSON");
    dashboard["panels"].as_array().expect("panels").clone()
}

fn expressions(panel: &Value) -> impl Iterator<Item = &str> {
    panel["targets"].as_array().into_iter().flatten().map(|target| target["expr"].as_str().expect("a query"))
}

#[test]
fn every_panel_has_a_description_and_a_position() {
    let panels = panels();
    let ids: BTreeSet<i64> = panels.iter().filter_map(|panel| panel["id"].as_i64()).collect();
    assert_eq!(ids.len(), panels.len(), "each has an id of its own");
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        let title = panel["title"].as_str().expect("a title");
        assert!(panel["description"].as_str().is_some_and(|text| text.ends_with('.')), "{title}");
        assert!(expressions(panel).next().is_some(), "{title} asks for nothing");
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title} works with any data source");
    }
}

#[test]
fn the_dashboard_uses_existing_metrics_and_all_of_the_operator() {
    let families = reference::families().expect("the metrics can be written");
    let known: BTreeSet<String> = families.iter().map(MetricFamily::sample_name).collect();
    let mut used = BTreeSet::new();
    for panel in panels() {
        for expression in expressions(&panel) {
            let words = expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
            let starts = [
                "graph_credential_",
                "controller_runtime_",
                "leader_",
                "workqueue_",
                "rest_client_",
                "process_",
            ];
            for word in words.filter(|word| starts.iter().any(|start| word.starts_with(start))) {
                let name = word.strip_suffix("_bucket").unwrap_or(word);
                assert!(known.contains(name), "{} asks for {name}", panel["title"]);
                used.insert(name.to_owned());
            }
        }
    }
    // Shown by their reasons, or not worth a panel of their own.
    let left = [
        "graph_credential_verified",
        "graph_credential_expiry_confirmed",
        "graph_credential_suspended",
        "graph_credential_account_mailboxes",
        "graph_credential_account_mailboxes_healthy",
        "graph_credential_mailboxes",
        "graph_credential_identity_ready",
        "graph_credential_identity_tenants_ready",
        "graph_credential_queue_waiting",
        "graph_credential_queue_in_flight",
        "graph_credential_record_reencryptions_total",
        "graph_credential_operator_reconcile_outcomes_total",
        "graph_credential_operator_watch_opens_total",
        "graph_credential_operator_not_ready",
    ];
    let own =
        known.iter().filter(|name| name.starts_with("graph_credential_") && !left.contains(&name.as_str()));
    let missing: Vec<&String> = own.filter(|name| !used.contains(*name)).collect();
    assert!(missing.is_empty(), "no panel shows {missing:?}");
}
