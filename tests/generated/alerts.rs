//! Alert rules: their copies, their runbooks, and that each of them is tried.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use graph_credential_operator::resources::conditions::{ConditionType, Reason};
use graph_credential_operator::telemetry::metrics::reference::{self, MetricFamily};
use serde_json::Value;

const RULES: &str = "deploy/prometheus/rules.yaml";

const INDEX_HEAD: &str = "\
<!-- Generated from deploy/prometheus/rules.yaml by `make generate`; do not edit. -->

# Runbooks

A page for each alert of [rules.yaml](../../deploy/prometheus/rules.yaml): what it means, what to look at, what to do. The
reasons of conditions stand in [conditions.md](../conditions.md), the metrics in [metrics.md](../metrics.md).

| alert | severity | after | says |
| --- | --- | --- | --- |
";

/// An alert.
struct Alert {
    name: String,
    rule: Value,
}

/// Each file that is made from the rules and what must stand in it.
pub fn generated(root: &Path) -> Vec<(PathBuf, String)> {
    let text = read(&root.join(RULES));
    // Without the words about the file itself.
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
        (root.join("docs/runbooks/README.md"), format!("{INDEX_HEAD}{index}")),
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

/// The names of all files of a folder with that ending, without it.
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
        let after = self.rule["for"].as_str().unwrap_or("at once");
        // What a template puts in is named.
        let says = ["$labels.", "$value | humanizeDuration", "$value"]
            .into_iter()
            .zip(["", "time", "number"])
            .fold(self.text("/annotations/summary").to_owned(), |text, (word, name)| {
                text.replace(word, name)
            });
        let says = says.replace("{{ ", "‹").replace(" }}", "›");
        format!("| [{name}]({name}.md) | {severity} | {after} | {says} |\n")
    }

    /// The metrics that its expression asks for.
    fn metrics(&self) -> BTreeSet<&str> {
        let words = self.text("/expr").split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let starts =
            ["mgc_", "controller_runtime_", "leader_election_", "workqueue_", "rest_client_", "process_"];
        words.filter(|word| starts.iter().any(|start| word.starts_with(start))).collect()
    }
}

#[test]
fn every_alert_says_how_bad_it_is_and_has_a_runbook() {
    let root = root();
    let alerts = alerts(&root);
    let mut pages = stems(&root.join("docs/runbooks"), ".md");
    assert!(pages.remove("README"), "there is an index");
    for alert in &alerts {
        let name = &alert.name;
        assert!(["info", "warning", "critical"].contains(&alert.text("/labels/severity")), "{name}");
        assert!(
            !alert.text("/annotations/summary").is_empty()
                && !alert.text("/annotations/description").is_empty()
        );
        assert_eq!(alert.text("/annotations/runbook_url"), format!("docs/runbooks/{name}.md"));
        let page = read(&root.join("docs/runbooks").join(format!("{name}.md")));
        assert!(page.starts_with(&format!("# {name}\n")), "{name}");
        for part in ["## What it means", "## What to look at", "## What to do"] {
            assert!(page.contains(part), "{name} lacks {part}");
        }
    }
    let names: BTreeSet<String> = alerts.into_iter().map(|alert| alert.name).collect();
    assert_eq!(pages, names, "each page is of an alert, and each alert has a page");
}

#[test]
fn alerts_ask_for_metrics_that_there_are() {
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

#[test]
fn every_alert_is_seen_not_to_fire_to_fire_and_to_end() {
    let root = root();
    let mut stories: BTreeMap<String, BTreeSet<Vec<bool>>> = BTreeMap::new();
    for file in stems(&root.join("tests/alerts"), ".yaml") {
        let file = yaml(&root.join("tests/alerts").join(format!("{file}.yaml")));
        for test in list(&file, "/tests") {
            let mut story: BTreeMap<&str, Vec<bool>> = BTreeMap::new();
            for check in list(test, "/alert_rule_test") {
                let name = check["alertname"].as_str().expect("an alert is named");
                let fires = list(check, "/exp_alerts").next().is_some();
                let states = story.entry(name).or_default();
                if states.last() != Some(&fires) {
                    states.push(fires);
                }
            }
            for (name, states) in story {
                stories.entry(name.to_owned()).or_default().insert(states);
            }
        }
    }
    let whole = vec![false, true, false];
    for alert in alerts(&root) {
        let told = stories.remove(&alert.name).unwrap_or_default();
        assert!(told.contains(&whole), "{}: not, then firing, then not: {told:?}", alert.name);
    }
    assert!(stories.is_empty(), "tests of alerts that there are not: {:?}", stories.keys());
}

#[test]
fn every_reason_has_its_row_and_runbooks_name_none_that_is_gone() {
    let root = root();
    let conditions = read(&root.join("docs/conditions.md"));
    for reason in Reason::ALL {
        assert!(conditions.contains(&format!("| `{}` |", reason.as_str())), "{reason} has no row");
    }
    let others =
        ["MicrosoftGraphCredential", "WoodpeckerAccount", "SealedGraphCredential", "Secret", "NotObserved"];
    let types = [
        ConditionType::Ready,
        ConditionType::SourceReady,
        ConditionType::Verified,
        ConditionType::Registered,
        ConditionType::Expiring,
    ];
    let known: BTreeSet<&str> = Reason::ALL
        .iter()
        .map(|reason| reason.as_str())
        .chain(types.iter().map(|type_| type_.as_str()))
        .chain(others)
        .collect();
    for page in stems(&root.join("docs/runbooks"), ".md") {
        let text = read(&root.join("docs/runbooks").join(format!("{page}.md")));
        for word in text.split('`').skip(1).step_by(2) {
            let is_name = word.starts_with(|c: char| c.is_ascii_uppercase())
                && word.chars().all(|c| c.is_ascii_alphanumeric());
            assert!(!is_name || known.contains(word), "{page} names {word}");
        }
    }
}
