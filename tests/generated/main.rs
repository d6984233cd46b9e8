//! Generated files are what the code generates. `make generate` writes them anew.
#![allow(clippy::expect_used, clippy::panic)]

mod alerts;
mod configuration;
mod dashboard;
mod reference;
mod workflows;

use std::fs;
use std::path::PathBuf;

use graph_credential_operator::resources::catalogue::{self, Entry, Kind};
use graph_credential_operator::resources::conditions::{ConditionType, Reason};
use graph_credential_operator::resources::crds;
use graph_credential_operator::rest::Refusal;

use self::reference::MetricFamily;

/// Each generated file and what must stand in it.
fn generated() -> Vec<(PathBuf, String)> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let crds = crds::all().into_iter().flat_map(|crd| {
        let file = format!("{}.yaml", crd.spec.names.plural);
        let text = crds::to_yaml(&crd).expect("a CRD can be written as YAML");
        let template = chart_template(&text);
        [
            (root.join("crds").join(&file), format!("{GENERATED}{text}")),
            (root.join("deploy/chart/templates/crds").join(&file), template),
        ]
    });
    let conditions = (root.join("docs").join("conditions.md"), conditions_page());
    let metrics = (root.join("docs").join("metrics.md"), metrics_page());
    crds.chain([conditions, metrics, configuration::generated(&root)])
        .chain(alerts::generated(&root))
        .chain(dashboard::generated(&root))
        .collect()
}

const GENERATED: &str = "# Generated from src/resources by `make generate`; do not edit.\n";

/// A CRD as a template of the chart: as it is, for helm's own `toYaml` would sort and wrap it.
fn chart_template(crd: &str) -> String {
    assert!(!crd.contains("{{"), "helm would take it for a template: {crd}");
    let (head, rest) = crd.split_once("metadata:\n").expect("a CRD has metadata");
    let metadata = "metadata:\n  labels:\n    {{- include \"operator.labels\" . | nindent 4 }}\n  \
        {{- if .Values.crds.keep }}\n  annotations:\n    {{- include \"operator.keep\" . | nindent 4 }}\n  {{- end }}\n";
    format!("{{{{- if .Values.crds.enabled }}}}\n{GENERATED}{head}{metadata}{rest}{{{{- end }}}}\n")
}

/// `docs/conditions.md`, from the catalogue of reasons.
fn conditions_page() -> String {
    let mut page = String::from(CONDITIONS_INTRO);
    for type_ in [
        ConditionType::SourceReady,
        ConditionType::Verified,
        ConditionType::Registered,
        ConditionType::Expiring,
        ConditionType::Ready,
    ] {
        page.extend(["\n### ", type_.as_str(), "\n\n"]);
        page.push_str(&reasons_table(|entry| entry.kind == Kind::Credential && entry.condition == type_));
    }
    page.push_str("\n## WoodpeckerAccount\n\n`Ready` alone, with `Reconciling` and `Stalled` as above.\n\n");
    page.push_str(&reasons_table(|entry| entry.kind == Kind::Account));
    page
}

fn reasons_table(is_wanted: impl Fn(&Entry) -> bool) -> String {
    let rows = Reason::ALL
        .iter()
        .map(|reason| (reason, catalogue::entry(*reason)))
        .filter(|(_, entry)| is_wanted(entry));
    let rows = rows.map(|(reason, entry)| {
        let Entry { status, meaning, actor, cure, .. } = entry;
        format!("| `{reason}` | {status:?} | {meaning} | {} | {cure} |\n", actor.as_str())
    });
    let head =
        "| reason | status | meaning | who acts | what to do |\n| --- | --- | --- | --- | --- |\n".to_owned();
    std::iter::once(head).chain(rows).collect()
}

/// `docs/metrics.md`, from the registry.
fn metrics_page() -> String {
    let families = reference::families().expect("the metrics can be written");
    let is_first = |family: &&MetricFamily, prefixes: &[&str]| {
        prefixes.iter().any(|prefix| family.name.starts_with(prefix))
    };
    let mut page = String::from(METRICS_INTRO);
    let mut told = 0;
    for (title, prefixes) in METRIC_GROUPS {
        page.extend([
            "\n## ",
            title,
            "\n\n| metric | type | labels | meaning |\n| --- | --- | --- | --- |\n",
        ]);
        for family in families.iter().filter(|family| is_first(family, prefixes)) {
            page.push_str(&metric_row(family));
            told += 1;
        }
    }
    assert_eq!(told, families.len(), "each metric stands in one group");
    page
}

fn metric_row(family: &MetricFamily) -> String {
    let MetricFamily { kind, help, labels, .. } = family;
    let name = family.sample_name();
    let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
    let help = help.replace('<', "&lt;").replace('>', "&gt;");
    format!("| `{name}` | {kind} | {} | {help} |\n", labels.join(", "))
}

const METRIC_GROUPS: [(&str, &[&str]); 7] = [
    ("Credentials", &["mgc_credential", "mgc_drift", "mgc_orphans"]),
    ("Accounts and their lanes", &["mgc_account", "mgc_lane", "mgc_external"]),
    ("The encrypted store", &["mgc_sealed", "mgc_reseal"]),
    ("The REST API", &["mgc_rest"]),
    (
        "The operator at work",
        &["mgc_build", "mgc_waiting", "leader_election", "controller_runtime", "workqueue"],
    ),
    ("The Kubernetes API", &["rest_client", "mgc_watch"]),
    ("The process", &["process"]),
];

const METRICS_INTRO: &str = "\
<!-- Generated from src/telemetry/metrics by `make generate`; do not edit. -->

# Metrics

`/metrics` on port 8080 (`--listen`) speaks OpenMetrics. Where the meaning is the same the names are those of
controller-runtime and client-go, so that dashboards made for them work. Histograms have `_bucket`, `_sum` and `_count`.

What belongs to a single object is made at the moment of a scrape, from the objects as the operator knows them then:
the series of an object that is gone are gone with it; the records of the REST API are shown as they were at the last look
at all of them, every two minutes. Only the leader shows objects; a replica that stands by shows the
rest. Labels other than names of objects, reasons and key ids have a few fixed values. Tenant and client ids, names of
Secrets and anything secret are in no label. The label `namespace` is that of an object, so scrape with
`honor_labels: true`, as the chart's ServiceMonitor does; Prometheus would rename it otherwise.

`--metrics-listen` serves `/metrics` at an address of its own, under TLS (`--metrics-tls-cert`, `--metrics-tls-key`, read
again every 30 seconds), and no longer at `--listen`. With `--metrics-authorize` only those see it who send the token of
somebody who may `get` the non-resource URL `/metrics`, as with other controllers: the operator asks the Kubernetes API by
TokenReview and SubjectAccessReview, for which it needs `create` on both, and remembers an answer for a minute. The chart
has both as `metrics.tls`.

Reasons are those of [conditions.md](conditions.md); an object that the operator has not looked at yet has the reason
`NotObserved`. A reason is part of its series, so an alert that is to hold for a time leaves it out: `max without (reason)
(mgc_credential_ready) == 0`.
";

const CONDITIONS_INTRO: &str = "\
<!-- Generated from src/resources/catalogue.rs by `make generate`; do not edit. -->

# Conditions and their reasons

A condition says what is true now, with a reason (one stable word, for alerts and scripts) and a message (problem and
cure, for people). Nothing that differs on each try stands in one: trace ids, times and remote texts are in the log and
in events. `graph-credential-operator explain REASON` prints a row of these tables.

## MicrosoftGraphCredential

Conditions always stand in the same order: `Ready`, `SourceReady`, `Verified`, `Registered`, `Expiring`, `Reconciling`,
`Stalled`. `Ready` is the summary: it takes reason and message of the first of `SourceReady`, `Verified` and `Registered`
that is not True, or of `Expiring` once the secret has expired. `Reconciling` is True while the operator goes on by
itself, `Stalled` while only a person can go on; both repeat the reason of `Ready`, are absent otherwise, and never True
beside a True `Ready` (kstatus). A new object has `status.observedGeneration: -1` until the operator has seen it. A
suspended object keeps its conditions, and the message of `Ready` says so.
";

#[test]
fn generated_files_are_up_to_date() {
    let write = std::env::var_os("GENERATE").is_some();
    for (path, expected) in generated() {
        if write {
            fs::create_dir_all(path.parent().expect("a file has a folder")).expect("the folder can be made");
            fs::write(&path, &expected).expect("the file can be written");
        }
        let found = fs::read_to_string(&path).unwrap_or_default();
        assert!(found == expected, "{} is stale: run `make generate` and commit the result", path.display());
    }
}

#[test]
fn schemas_hold_no_defaults_but_the_generation_not_yet_observed() {
    for crd in crds::all() {
        let text = crds::to_yaml(&crd).expect("a CRD can be written as YAML");
        let defaults: Vec<&str> =
            text.lines().filter(|line| line.trim_start().starts_with("default:")).collect();
        assert_eq!(defaults.len(), 1, "{}: {defaults:?}", crd.spec.names.kind);
        assert!(text.contains("observedGeneration: -1"), "{}", crd.spec.names.kind);
    }
}

#[test]
fn every_field_has_a_description() {
    fn check(path: &str, schema: &serde_json::Value, undescribed: &mut Vec<String>) {
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            if property["description"].as_str().is_none_or(str::is_empty) {
                undescribed.push(path.clone());
            }
            check(&path, property, undescribed);
        }
        if schema["items"].is_object() {
            check(&format!("{path}[]"), &schema["items"], undescribed);
        }
    }
    let mut undescribed = Vec::new();
    for crd in crds::all() {
        let schema = serde_json::to_value(&crd).expect("a CRD is JSON");
        let schema = &schema["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
        for part in ["spec", "status"] {
            check(&format!("{}.{part}", crd.spec.names.kind), &schema[part], &mut undescribed);
        }
    }
    assert!(undescribed.is_empty(), "fields without a description: {undescribed:?}");
}

#[test]
fn every_refusal_of_the_rest_api_is_documented() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let page =
        fs::read_to_string(root.join("docs").join("rest-api.md")).expect("docs/rest-api.md can be read");
    let rows = page
        .lines()
        .filter(|line| line.starts_with("| `") && line.split('`').nth(1).is_some_and(is_constant));
    let documented: Vec<&str> = rows.filter_map(|row| row.split('`').nth(1)).collect();
    let expected: Vec<&str> = Refusal::ALL.iter().map(|refusal| refusal.as_str()).collect();
    assert_eq!(documented, expected);
}

fn is_constant(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
}

#[test]
fn every_behaviour_in_the_docs_has_its_test() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut tests = String::new();
    let mut unread = vec![root.join("tests").join("promises")];
    while let Some(path) = unread.pop() {
        match fs::read_dir(&path) {
            Ok(inside) => unread.extend(inside.map(|file| file.expect("a test can be found").path())),
            Err(_) => tests += &fs::read_to_string(&path).expect("a test can be read"),
        }
    }
    let mut named = 0;
    for page in ["behaviour.md", "security.md"] {
        let page = fs::read_to_string(root.join("docs").join(page)).expect("the page can be read");
        for table in
            page.split("\n\n").filter(|part| part.lines().next().is_some_and(|it| it.ends_with("| test |")))
        {
            for row in table.lines().skip(2) {
                let name = row.trim_end_matches([' ', '|']).rsplit('`').nth(1).unwrap_or_default();
                assert!(tests.contains(&format!("async fn {name}()")), "no test shows: {row}");
                named += 1;
            }
        }
    }
    assert!(named > 100, "{named} rows");
}
