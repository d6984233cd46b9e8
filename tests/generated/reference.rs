//! The metrics for the reference page: every metric of the registry with its labels, read from an exposition
//! in which each of them has a series.

use std::collections::BTreeSet;
use std::fmt::Error;
use std::sync::{Arc, Weak};
use std::time::Duration;

use graph_credential_operator::core::orphan::OrphanCause;
use graph_credential_operator::telemetry::metrics::{
    AccountSeries, ConditionSample, CredentialCounts, CredentialSeries, Drift, IdentitySeries,
    MailboxesSeries, Metrics, ObjectSource, QueueSeries, RecordSeries,
};
use graph_credential_operator::telemetry::readiness::Readiness;

/// A metric on the reference page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricFamily {
    /// Its name without the suffixes of its samples, such as `_total`.
    pub name: String,
    /// `counter`, `gauge`, `histogram` or `info`.
    pub kind: String,
    /// The help text.
    pub help: String,
    /// The labels of its series, in order, without `le` of histograms.
    pub labels: Vec<String>,
}

// === impl MetricFamily ===

impl MetricFamily {
    /// The name for queries: with `_total` or `_info`; a histogram also needs `_bucket`, `_sum` or `_count`.
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

/// An exposition in which each metric has a series.
pub fn exposition() -> Result<String, Error> {
    let readiness = Readiness::default();
    readiness.pending("keyring", "it is not there");
    let metrics = Metrics::of("run", readiness);
    let example = Arc::new(Example);
    let weak: Weak<Example> = Arc::downgrade(&example);
    metrics.objects.set_source(weak);
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
    // The text before each `="`, after the last comma.
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
    metrics.reconciles.set_max_concurrent(controller, 16);
    metrics.reconciles.started(controller);
    metrics.reconciles.ended(controller, "success", "success", time);
    metrics.queues.added(controller, 1);
    metrics.queues.set_depth(controller, 1);
    metrics.queues.started(controller, "a/b", time);
    metrics.queues.ended(controller, "a/b", true);
    metrics.remote.ended("woodpecker", "list", "ok", time);
    metrics.kubernetes.responded("host", "GET", Some(200));
    metrics.kubernetes.watch_opened("Secret");
    metrics.kubernetes.watch_failed("Secret");
    metrics.account_queues.add_waiting("new", 1);
    metrics.credentials.drifted(Drift::Deleted);
    metrics.credentials.orphaned(OrphanCause::Suspended);
    metrics.store.set_records_by_key(std::iter::once(("k1".to_owned(), 1)));
    metrics.store.reencrypted("reencrypted");
    metrics.rest.responded("GET", "other", Some(404), time);
    metrics.rest.set_record(&RecordSeries {
        namespace: "a".into(),
        name: "r-1".into(),
        is_ready: true,
        reason: "Ready".into(),
        expires_at: Some(1),
    });
    metrics.leader.set_leader("lease", true);
}

/// An object of each kind with every possible value.
struct Example;

// === impl Example ===

impl ObjectSource for Example {
    fn credentials(&self) -> Vec<CredentialSeries> {
        let condition = || ConditionSample { is_true: true, reason: "Ready".into() };
        vec![CredentialSeries {
            namespace: "a".into(),
            name: "b".into(),
            destination: Some("woodpecker"),
            account: Some(("a".into(), "c".into())),
            ready: condition(),
            verified: Some(condition()),
            expiry_confirmed: Some(condition()),
            rotation_ready: Some(condition()),
            unknown_secrets: Some(1),
            is_suspended: false,
            expires_at: Some(1),
            last_verified_time: Some(1),
        }]
    }

    fn accounts(&self) -> Vec<AccountSeries> {
        vec![AccountSeries {
            namespace: "a".into(),
            name: "c".into(),
            ready: ConditionSample { is_true: true, reason: "Authenticated".into() },
            counts: Some(CredentialCounts { managed: 1, adoptable: 0, unmanaged: 0 }),
            listed_at: Some(1),
            mailboxes: Some([
                ("healthy", 1),
                ("degraded", 0),
                ("failing", 0),
                ("inactive", 0),
                ("frozen", 0),
            ]),
            mailboxes_healthy: Some(ConditionSample { is_true: true, reason: "MailboxesHealthy".into() }),
            account_queue: Some(QueueSeries::default()),
        }]
    }

    fn identities(&self) -> Vec<IdentitySeries> {
        let condition = || ConditionSample { is_true: true, reason: "Authenticated".into() };
        vec![IdentitySeries {
            namespace: "a".into(),
            name: "d".into(),
            ready: condition(),
            tenants_ready: Some(condition()),
        }]
    }

    fn mailboxes(&self) -> Vec<MailboxesSeries> {
        vec![MailboxesSeries {
            namespace: "a".into(),
            name: "e".into(),
            ready: ConditionSample { is_true: true, reason: "MailboxesConnected".into() },
            counts: Some([
                ("connected", 1),
                ("already_connected", 0),
                ("not_connected", 0),
                ("submitted", 0),
                ("refused", 0),
                ("unconfirmed", 0),
                ("stopped", 0),
            ]),
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
            assert!(!family.help.contains(['\\', '|']), "the text is for a table: {family:?}");
        }
        let names: BTreeSet<&str> = families.iter().map(|family| family.name.as_str()).collect();
        assert_eq!(names.len(), families.len(), "each metric is listed once");
        let ready = families.iter().find(|family| family.name == "graph_credential_ready").unwrap();
        assert_eq!(ready.labels, ["namespace", "name", "reason"]);
        let requests = families.iter().find(|family| family.name == "rest_client_requests").unwrap();
        assert_eq!(requests.labels, ["code", "method", "host"]);
    }

    #[test]
    fn a_label_is_not_parsed_as_part_of_a_value() {
        let names: Vec<String> = label_names(r#"x{a="b,c=d",le="1"} 1"#).collect();
        assert_eq!(names, ["a", "le"]);
    }
}
