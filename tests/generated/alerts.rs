//! Alert rules: their copies, their runbooks, and that each of them is tested.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use graph_credential_operator::api::RECONCILE_REQUESTED_AT;
use graph_credential_operator::api::conditions::{ConditionStatus, ConditionType, Reason};
use graph_credential_operator::api::reasons::{ENTRIES, Entry, Kind};
use graph_credential_operator::telemetry::metrics::Drift;
use serde_json::Value;

use crate::reference::{self, MetricFamily};

const RULES: &str = "deploy/prometheus/rules.yaml";

const INDEX_HEAD: &str = "\
<!-- Generated from deploy/prometheus/rules.yaml by `make generate`; do not edit. -->

# Runbooks

Each alert of [rules.yaml](../../../deploy/prometheus/rules.yaml) has a page: what it means, what to look at, and what
to do. The reasons of conditions are in [conditions.md](../../reference/conditions.md), the metrics in
[metrics.md](../../reference/metrics.md).

| alert | severity | after | summary |
| --- | --- | --- | --- |
";

/// An alert.
struct Alert {
    name: String,
    rule: Value,
}

/// Each file that is generated from the rules, with its content.
pub fn generated(root: &Path) -> Vec<(PathBuf, String)> {
    let text = read(&root.join(RULES));
    // Without the comments about the file itself.
    let groups: String =
        text.lines().skip_while(|line| !line.starts_with("groups:")).collect::<Vec<_>>().join("\n") + "\n";
    let head = "# Generated from deploy/prometheus/rules.yaml by `make generate`; do not edit.\n";
    let indented: String = groups
        .lines()
        .map(|line| if line.is_empty() { "\n".to_owned() } else { format!("  {line}\n") })
        .collect();
    let rule = format!(
        "{head}apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: graph-credential-operator\nspec:\n{indented}"
    );
    let index: String = alerts(root).iter().map(Alert::row).collect();
    vec![
        (root.join("deploy/prometheus/prometheusrule.yaml"), rule),
        (root.join("deploy/chart/rules.yaml"), groups),
        (root.join("docs/operations/runbooks/README.md"), format!("{INDEX_HEAD}{index}")),
    ]
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn yaml(path: &Path) -> Value {
    serde_saphyr::from_str(&read(path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn list<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

fn alerts(root: &Path) -> Vec<Alert> {
    let rules = yaml(&root.join(RULES));
    let rules = list(&rules, "/groups").flat_map(|group| list(group, "/rules"));
    rules
        .map(|rule| Alert { name: rule["alert"].as_str().expect("an alert").to_owned(), rule: rule.clone() })
        .collect()
}

/// The checks of each test of the rules, in order of time.
fn checks(root: &Path) -> Vec<Vec<Value>> {
    let folder = root.join("tests/alerts");
    let files = stems(&folder, ".yaml").into_iter().map(|name| yaml(&folder.join(format!("{name}.yaml"))));
    let tests = files.flat_map(|file| list(&file, "/tests").cloned().collect::<Vec<_>>());
    tests.map(|test| list(&test, "/alert_rule_test").cloned().collect()).collect()
}

/// The names of all files of a folder with that extension, without it.
fn stems(folder: &Path, ending: &str) -> BTreeSet<String> {
    let files = fs::read_dir(folder).expect("the folder can be read");
    let names = files.map(|file| file.expect("a file").file_name().to_string_lossy().into_owned());
    names.filter_map(|name| name.strip_suffix(ending).map(str::to_owned)).collect()
}

// === impl Alert ===

impl Alert {
    fn text(&self, pointer: &str) -> &str {
        self.rule
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_else(|| panic!("{} has no {pointer}", self.name))
    }

    /// Its row in the index.
    fn row(&self) -> String {
        let (name, severity) = (&self.name, self.text("/labels/severity"));
        let after = self.rule["for"].as_str().unwrap_or("immediately");
        // Placeholders show what a template inserts.
        let says = ["or $labels.exported_namespace ", "$labels.", "$value | humanizeDuration", "$value"]
            .into_iter()
            .zip(["", "", "time", "number"])
            .fold(self.text("/annotations/summary").to_owned(), |text, (word, name)| {
                text.replace(word, name)
            });
        let says = says.replace("{{ ", "‹").replace(" }}", "›");
        format!("| [{name}]({name}.md) | {severity} | {after} | {says} |\n")
    }

    /// The names of the labels that it sets.
    fn labels(&self) -> impl Iterator<Item = &str> {
        self.rule["labels"].as_object().into_iter().flatten().map(|(name, _)| name.as_str())
    }

    /// Whether it fires at each check, without repeated values. Rules of one name are distinguished by the
    /// labels that any of them sets.
    fn firing_at(&self, labels: &BTreeSet<&str>, checks: &[Value]) -> Vec<bool> {
        let own = &self.rule["labels"];
        let mut states = Vec::new();
        for check in checks.iter().filter(|check| check["alertname"] == self.name.as_str()) {
            let is_it = |fired: &Value| labels.iter().all(|name| fired["exp_labels"][name] == own[name]);
            let fires = list(check, "/exp_alerts").any(is_it);
            if states.last() != Some(&fires) {
                states.push(fires);
            }
        }
        states
    }

    /// The metrics in its expression.
    fn metrics(&self) -> BTreeSet<&str> {
        let words = self.text("/expr").split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let starts = [
            "graph_credential_",
            "controller_runtime_",
            "leader_election_",
            "workqueue_",
            "rest_client_",
            "process_",
        ];
        words.filter(|word| starts.iter().any(|start| word.starts_with(start))).collect()
    }
}

#[test]
fn every_alert_has_a_severity_and_a_runbook() {
    let root = root();
    let alerts = alerts(&root);
    let mut pages = stems(&root.join("docs/operations/runbooks"), ".md");
    assert!(pages.remove("README"), "there is an index");
    for alert in &alerts {
        let name = &alert.name;
        assert!(["info", "warning", "critical"].contains(&alert.text("/labels/severity")), "{name}");
        assert!(
            !alert.text("/annotations/summary").is_empty()
                && !alert.text("/annotations/description").is_empty()
        );
        assert_eq!(alert.text("/annotations/runbook_url"), format!("docs/operations/runbooks/{name}.md"));
        let page = read(&root.join("docs/operations/runbooks").join(format!("{name}.md")));
        assert!(page.starts_with(&format!("# {name}\n")), "{name}");
        for part in ["## What it means", "## What to look at", "## What to do"] {
            assert!(page.contains(part), "{name} lacks {part}");
        }
    }
    for alert in alerts.iter().filter(|alert| alert.rule["for"].is_string()) {
        let page = read(&root.join("docs/operations/runbooks").join(format!("{}.md", alert.name)));
        let waits = format!("`for: {}`", alert.text("/for"));
        assert!(page.contains(&waits), "{} does not say that it waits {waits}", alert.name);
    }
    let names: BTreeSet<String> = alerts.into_iter().map(|alert| alert.name).collect();
    assert_eq!(pages, names, "each page is of an alert, and each alert has a page");
}

#[test]
fn alerts_use_existing_metrics() {
    let known = reference::families().expect("the metrics can be written");
    let known: BTreeSet<String> = known.iter().map(MetricFamily::sample_name).collect();
    for alert in alerts(&root()) {
        let metrics = alert.metrics();
        assert!(!metrics.is_empty(), "{}", alert.name);
        for metric in metrics {
            assert!(known.contains(metric), "{} asks for {metric}", alert.name);
        }
    }
}

/// The label matchers of expressions and series: the metric, the label, and the words of the value.
fn matchers(text: &str) -> Vec<(String, String, Vec<String>)> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices('{') {
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let metric = text[..at].rsplit(|c| !is_name(c)).next().unwrap_or_default();
        let Some((inside, _)) = text[at + 1..].split_once('}') else { continue };
        for matcher in inside.split(", ").filter(|_| !metric.is_empty()) {
            let Some((label, value)) = matcher.split_once('"') else { continue };
            let words = value.trim_end_matches('"').split('|').map(str::to_owned);
            found.push((
                metric.to_owned(),
                label.trim_end_matches(['=', '!', '~']).to_owned(),
                words.collect(),
            ));
        }
    }
    found
}

#[test]
fn alerts_and_their_tests_use_existing_labels_and_reasons() {
    let families = reference::families().expect("the metrics can be written");
    let drifts: Vec<&str> = Drift::ALL.iter().map(|drift| drift.as_str()).collect();
    let expressions = alerts(&root()).iter().map(|alert| alert.text("/expr").to_owned()).collect::<Vec<_>>();
    let folder = root().join("tests/alerts");
    let series = stems(&folder, ".yaml").into_iter().flat_map(|name| {
        let file = yaml(&folder.join(format!("{name}.yaml")));
        let tests: Vec<Value> = list(&file, "/tests").cloned().collect();
        let series = tests.iter().flat_map(|test| list(test, "/input_series"));
        series.map(|series| series["series"].as_str().expect("a series").to_owned()).collect::<Vec<_>>()
    });
    let mut seen = 0;
    for (metric, label, words) in series.chain(expressions).flat_map(|text| matchers(&text)) {
        let family = families.iter().find(|family| family.sample_name() == metric);
        let family = family.unwrap_or_else(|| panic!("{metric} is no metric"));
        // What Prometheus adds to a target.
        let of_targets = ["job", "instance", "pod", "cluster", "namespace", "exported_namespace"];
        let is_known = family.labels.contains(&label) || of_targets.contains(&label.as_str());
        assert!(is_known, "{metric} has no label {label}");
        for word in &words {
            let is_known = match label.as_str() {
                "reason" => word == "NotObserved" || Reason::ALL.iter().any(|reason| reason.as_str() == word),
                "kind" if metric == "graph_credential_drift_total" => drifts.contains(&word.as_str()),
                _ => true,
            };
            assert!(is_known, "{metric}: {label} {word}");
        }
        seen += 1;
    }
    assert!(seen > 100, "{seen}");
}

#[test]
fn the_rejection_alert_does_not_fire_while_waiting_for_microsoft() {
    let alerts = alerts(&root());
    let is_wait = (ConditionType::Verified, ConditionStatus::Unknown);
    let waits: BTreeSet<String> = ENTRIES
        .iter()
        .filter(|entry| (entry.condition, entry.status) == is_wait)
        .map(|entry| entry.reason.as_str().to_owned())
        .collect();
    let left_out = alerts
        .iter()
        .filter(|alert| alert.name == "GraphCredentialVerificationFailing")
        .flat_map(|alert| matchers(alert.text("/expr")))
        .find(|(metric, label, _)| metric == "graph_credential_verified" && label == "reason");
    assert_eq!(left_out.map(|(_, _, words)| words.into_iter().collect()), Some(waits));
}

#[test]
fn every_alert_is_tested_before_during_and_after_firing() {
    let root = root();
    let checks = checks(&root);
    let alerts = alerts(&root);
    for alert in &alerts {
        let others = alerts.iter().filter(|other| other.name == alert.name);
        let labels: BTreeSet<&str> = others.flat_map(Alert::labels).collect();
        let firing: BTreeSet<Vec<bool>> =
            checks.iter().map(|checks| alert.firing_at(&labels, checks)).collect();
        let (name, own) = (&alert.name, &alert.rule["labels"]);
        let expected = vec![false, true, false];
        assert!(firing.contains(&expected), "{name} {own}: not, then firing, then not: {firing:?}");
    }
    for check in checks.iter().flatten() {
        let name = check["alertname"].as_str().expect("an alert is named");
        assert!(alerts.iter().any(|alert| alert.name == name), "a test of {name}, which does not exist");
    }
}

#[test]
fn every_reason_is_documented_and_runbooks_name_existing_ones() {
    let root = root();
    let conditions = read(&root.join("docs/reference/conditions.md"));
    for reason in Reason::ALL {
        assert!(conditions.contains(&format!("| `{}` |", reason.as_str())), "{reason} has no row");
    }
    let others = [
        "MicrosoftGraphCredential",
        "WoodpeckerAccount",
        "EntraIdentity",
        "WoodpeckerMailboxes",
        "SealedGraphCredential",
        "Secret",
        "NotObserved",
    ];
    let known: BTreeSet<&str> = Reason::ALL
        .iter()
        .map(|reason| reason.as_str())
        .chain(ConditionType::ALL.iter().map(|type_| type_.as_str()))
        .chain(others)
        .collect();
    for page in stems(&root.join("docs/operations/runbooks"), ".md") {
        let text = read(&root.join("docs/operations/runbooks").join(format!("{page}.md")));
        for word in text.split('`').skip(1).step_by(2) {
            let is_name = word.starts_with(|c: char| c.is_ascii_uppercase())
                && word.chars().all(|c| c.is_ascii_alphanumeric());
            assert!(!is_name || known.contains(word), "{page} names {word}");
        }
    }
}

/// The part of the page about one step that describes a failing condition; none for other kinds.
fn part_about(entry: &Entry) -> Option<String> {
    let is_abnormal_while_true =
        matches!(entry.condition, ConditionType::Expiring | ConditionType::UnknownOwnSecrets);
    if (entry.status == ConditionStatus::True) != is_abnormal_while_true {
        return None;
    }
    match (entry.kind, entry.condition) {
        (Kind::Account, _) => Some("WoodpeckerAccount".to_owned()),
        (Kind::Identity, _) => Some("EntraIdentity".to_owned()),
        (Kind::Mailboxes, _) => Some("WoodpeckerMailboxes".to_owned()),
        (Kind::Credential, ConditionType::Expiring | ConditionType::Ready) => {
            Some("MicrosoftGraphCredential: Expiring and Ready".to_owned())
        }
        (Kind::Credential, condition) => Some(format!("MicrosoftGraphCredential: {}", condition.as_str())),
    }
}

#[test]
fn each_failing_reason_and_each_alert_is_followed_by_one_step() {
    let page = read(&root().join("docs/evidence/walk.md"));
    let mut seen = 0;
    for (entry, heading) in ENTRIES.iter().filter_map(|entry| Some((entry, part_about(entry)?))) {
        let part = page.split(&format!("\n## {heading}\n")).nth(1).unwrap_or_else(|| panic!("no {heading}"));
        let part = part.split("\n## ").next().unwrap_or_default();
        let mut names = part.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
        let reason = format!("`{}`", entry.reason);
        assert!(names.any(|name| name.split(", ").any(|it| it == reason)), "{heading} lacks {reason}");
        seen += 1;
    }
    assert!(seen > 55, "{seen}");
    for Alert { name, .. } in alerts(&root()) {
        assert!(page.contains(&format!("| [{name}](../operations/runbooks/{name}.md) |")), "{name}");
    }
}

#[test]
fn argo_cd_scripts_use_existing_conditions_and_annotations() {
    let script = read(&root().join("deploy/argocd/argocd-cm.yaml"));
    let used: BTreeSet<&str> =
        script.split("found[\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert_eq!(used, BTreeSet::from(["Expiring", "Ready", "Stalled"]));
    for condition in used {
        assert!(ConditionType::ALL.iter().any(|it| it.as_str() == condition), "{condition}");
    }
    let annotations = script.split("annotations[\"").skip(1).filter_map(|rest| rest.split('"').next());
    let annotations: BTreeSet<&str> = annotations.collect();
    assert_eq!(annotations, BTreeSet::from([RECONCILE_REQUESTED_AT]));
}

/// Each text that a runbook looks for in the log.
#[test]
fn a_runbook_looks_for_texts_that_the_operator_logs() {
    let mut source = String::new();
    let mut folders = vec![root().join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { source += &read(&path) }
        }
    }
    let mut found = 0;
    for alert in alerts(&root()) {
        let path = root().join(format!("docs/operations/runbooks/{}.md", alert.name));
        for text in read(&path).split("grep '").skip(1).filter_map(|rest| rest.split('\'').next()) {
            assert!(source.contains(text), "{}: nothing logs {text:?}", alert.name);
            found += 1;
        }
    }
    assert!(found >= 3, "{found}");
}
