//! What `/metrics` shows, for the reference page: every metric of the registry with its labels, read from an exposition
//! in which each of them has a series.

use std::collections::BTreeSet;
use std::fmt::Error;
use std::sync::{Arc, Weak};
use std::time::Duration;

use graph_credential_operator::telemetry::metrics::{
    AccountSeries, CredentialSeries, Drift, Held, LaneSeries, Metrics, Objects, RecordSeries, Standing,
};
use graph_credential_operator::telemetry::readiness::Readiness;

/// A metric, as the reference page has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricFamily {
    /// Its name without the suffixes of its samples, such as `_total`.
    pub name: String,
    /// `counter`, `gauge`, `histogram` or `info`.
    pub kind: String,
    /// What it says.
    pub help: String,
    /// The labels of its series, in their order; `le` of histograms aside.
    pub labels: Vec<String>,
}

// === impl MetricFamily ===

impl MetricFamily {
    /// The name that queries ask for: with `_total` or `_info`; that of a histogram wants `_bucket`, `_sum` or `_count`.
    pub fn sample_name(&self) -> String {
        let suffix = match self.kind.as_str() {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        format!("{}{suffix}", self.name)
    }
}

/// Every metric that the operator can show, by name.
pub fn families() -> Result<Vec<MetricFamily>, Error> {
    let mut families = read(&exposition()?);
    families.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(families)
}

/// What a scrape shows where each metric has a series.
pub fn exposition() -> Result<String, Error> {
    let readiness = Readiness::default();
    readiness.wait_for("keyring", "it is not there");
    let metrics = Metrics::of("run", readiness);
    let example = Arc::new(Example);
    let weak: Weak<Example> = Arc::downgrade(&example);
    metrics.objects.show(weak);
    exercise(&metrics);
    metrics.render()
}

/// The metrics of an exposition.
pub fn read(exposition: &str) -> Vec<MetricFamily> {
    let mut families: Vec<MetricFamily> = Vec::new();
    for line in exposition.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            let (name, help) = (name.to_owned(), help.to_owned());
            families.push(MetricFamily { name, help, kind: String::new(), labels: Vec::new() });
        } else if let Some((_, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            if let Some(family) = families.last_mut() {
                kind.clone_into(&mut family.kind);
            }
        } else if let (false, Some(family)) = (line.starts_with('#'), families.last_mut()) {
            let known: BTreeSet<String> = family.labels.iter().cloned().collect();
            family.labels.extend(label_names(line).filter(|name| name != "le" && !known.contains(name)));
        }
    }
    families
}

/// The names of the labels of a sample.
fn label_names(sample: &str) -> impl Iterator<Item = String> {
    let labels = sample.split_once('{').and_then(|(_, rest)| rest.rsplit_once('}')).map_or("", |(it, _)| it);
    // What stands before each `="`, after the last comma.
    labels.match_indices("=\"").filter_map(|(at, _)| {
        let before = labels.get(..at)?;
        let name = before.rsplit([',', '"']).next()?;
        let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        is_name.then(|| name.to_owned())
    })
}

/// Gives each metric a series.
fn exercise(metrics: &Metrics) {
    let (controller, time) = ("microsoftgraphcredential", Duration::from_secs(1));
    metrics.passes.bounded(controller, 16);
    metrics.passes.started(controller);
    metrics.passes.ended(controller, "success", time);
    metrics.queues.added(controller, 1);
    metrics.queues.waiting(controller, 1);
    metrics.queues.started(controller, "a/b", time);
    metrics.queues.ended(controller, "a/b", true);
    metrics.remote.ended("woodpecker", "list", "ok", time);
    metrics.kubernetes.answered("host", "GET", Some(200));
    metrics.kubernetes.watch_opened("Secret");
    metrics.kubernetes.watch_failed("Secret");
    metrics.lanes.waiting("new", 1);
    metrics.credentials.drifted(Drift::Vanished);
    metrics.credentials.orphaned("suspended");
    metrics.store.sealed(std::iter::once(("k1".to_owned(), 1)));
    metrics.store.resealed("sealed");
    metrics.rest.answered("GET", "other", Some(404), time);
    metrics.rest.show_record(&RecordSeries {
        namespace: "a".into(),
        name: "r-1".into(),
        is_ready: true,
        reason: "Ready".into(),
        expires_at: Some(1),
    });
    metrics.leader.leads("lease", true);
}

/// An object of each kind with everything that can be told of it.
struct Example;

// === impl Example ===

impl Objects for Example {
    fn credentials(&self) -> Vec<CredentialSeries> {
        let standing = || Standing { is_true: true, reason: "Ready".into() };
        vec![CredentialSeries {
            namespace: "a".into(),
            name: "b".into(),
            destination: Some("woodpecker"),
            account: Some(("a".into(), "c".into())),
            ready: standing(),
            verified: Some(standing()),
            is_suspended: false,
            expires_at: Some(1),
            verified_at: Some(1),
        }]
    }

    fn accounts(&self) -> Vec<AccountSeries> {
        vec![AccountSeries {
            namespace: "a".into(),
            name: "c".into(),
            ready: Standing { is_true: true, reason: "Authenticated".into() },
            held: Some(Held { managed: 1, unclaimed: 0, foreign: 0 }),
            listed_at: Some(1),
            lane: Some(LaneSeries::default()),
        }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_a_kind_a_help_text_and_its_labels() {
        let families = families().unwrap();
        assert!(families.len() > 35, "{}", families.len());
        for family in &families {
            assert!(!family.kind.is_empty() && family.help.ends_with('.'), "{family:?}");
            assert!(!family.help.contains(['\\', '|']), "it stands in a table: {family:?}");
        }
        let names: BTreeSet<&str> = families.iter().map(|family| family.name.as_str()).collect();
        assert_eq!(names.len(), families.len(), "no metric stands there twice");
        let ready = families.iter().find(|family| family.name == "mgc_credential_ready").unwrap();
        assert_eq!(ready.labels, ["namespace", "name", "reason"]);
        let requests = families.iter().find(|family| family.name == "rest_client_requests").unwrap();
        assert_eq!(requests.labels, ["code", "method", "host"]);
    }

    #[test]
    fn a_label_is_no_part_of_a_value() {
        let names: Vec<String> = label_names(r#"x{a="b,c=d",le="1"} 1"#).collect();
        assert_eq!(names, ["a", "le"]);
    }
}
