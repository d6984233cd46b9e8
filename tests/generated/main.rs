//! Checks that generated files are up to date. `make generate` writes them.
#![allow(clippy::expect_used, clippy::panic)]

mod alerts;
mod configuration;
mod dashboard;
mod pages;
mod reference;
mod schemas;
mod workflows;

use std::fs;
use std::path::PathBuf;

use graph_credential_operator::api::conditions::ConditionType;
use graph_credential_operator::api::crds;
use graph_credential_operator::api::reasons::{ENTRIES, Entry, Kind};
use graph_credential_operator::rest::ErrorCode;

use self::reference::MetricFamily;

/// Each generated file with its content.
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
    let conditions = (root.join("docs/reference/conditions.md"), conditions_page());
    let metrics = (root.join("docs/reference/metrics.md"), metrics_page());
    crds.chain([conditions, metrics, configuration::generated(&root)])
        .chain(alerts::generated(&root))
        .chain(dashboard::generated(&root))
        .chain(pages::generated(&root))
        .chain(schemas::generated(&root))
        .collect()
}

const GENERATED: &str = "# Generated from src/api by `make generate`; do not edit.\n";

/// A CRD as a template of the chart, unchanged, because helm's own `toYaml` would sort and wrap it.
fn chart_template(crd: &str) -> String {
    assert!(!crd.contains("{{"), "helm would take it for a template: {crd}");
    let (head, rest) = crd.split_once("metadata:\n").expect("a CRD has metadata");
    let metadata = "metadata:\n  labels:\n    {{- include \"operator.labels\" . | nindent 4 }}\n  \
        {{- with include \"operator.crdAnnotations\" . }}\n  annotations:\n    {{- . | nindent 4 }}\n  {{- end }}\n";
    let start = "{{- include \"operator.defaults\" . -}}\n{{- if .Values.crds.enabled }}\n";
    format!("{start}{GENERATED}{head}{metadata}{rest}{{{{- end }}}}\n")
}

/// `docs/reference/conditions.md`, from the reason table.
fn conditions_page() -> String {
    let mut page = String::from(CONDITIONS_INTRO);
    for type_ in [
        ConditionType::SecretReady,
        ConditionType::Verified,
        ConditionType::Registered,
        ConditionType::Expiring,
        ConditionType::ExpiryConfirmed,
        ConditionType::RotationReady,
        ConditionType::UnknownOwnSecrets,
        ConditionType::Ready,
    ] {
        page.extend(["\n### ", type_.as_str(), "\n\n"]);
        page.push_str(&reasons_table(|entry| entry.kind == Kind::Credential && entry.condition == type_));
    }
    page.push_str(ACCOUNT_CONDITIONS_INTRO);
    for type_ in [ConditionType::Ready, ConditionType::MailboxesHealthy] {
        page.extend(["\n### ", type_.as_str(), " of an account\n\n"]);
        page.push_str(&reasons_table(|entry| entry.kind == Kind::Account && entry.condition == type_));
    }
    page.push_str(IDENTITY_CONDITIONS_INTRO);
    for type_ in [ConditionType::Ready, ConditionType::TenantsReady] {
        page.extend(["\n### ", type_.as_str(), " of an identity\n\n"]);
        page.push_str(&reasons_table(|entry| entry.kind == Kind::Identity && entry.condition == type_));
    }
    page.push_str(MAILBOXES_CONDITIONS_INTRO);
    page.push_str(&reasons_table(|entry| entry.kind == Kind::Mailboxes));
    page
}

fn reasons_table(is_wanted: impl Fn(&Entry) -> bool) -> String {
    let rows = ENTRIES.iter().filter(|entry| is_wanted(entry)).map(|entry| {
        let Entry { reason, status, description, actor, action, .. } = entry;
        format!("| `{reason}` | {status:?} | {description} | {} | {action} |\n", actor.as_str())
    });
    let head =
        "| reason | status | meaning | who acts | what to do |\n| --- | --- | --- | --- | --- |\n".to_owned();
    std::iter::once(head).chain(rows).collect()
}

/// `docs/reference/metrics.md`, from the registry.
fn metrics_page() -> String {
    let families = reference::families().expect("the metrics can be written");
    let is_first = |family: &&MetricFamily, prefixes: &[&str]| {
        prefixes.iter().any(|prefix| family.name.starts_with(prefix))
    };
    let mut page = String::from(METRICS_INTRO);
    let mut listed = 0;
    for (title, prefixes) in METRIC_GROUPS {
        page.extend([
            "\n## ",
            title,
            "\n\n| metric | type | labels | meaning |\n| --- | --- | --- | --- |\n",
        ]);
        for family in families.iter().filter(|family| is_first(family, prefixes)) {
            page.push_str(&metric_row(family));
            listed += 1;
        }
    }
    assert_eq!(listed, families.len(), "each metric is in one group");
    page
}

fn metric_row(family: &MetricFamily) -> String {
    let MetricFamily { kind, help, labels, .. } = family;
    let name = family.sample_name();
    let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
    let help = help.replace('<', "&lt;").replace('>', "&gt;");
    format!("| `{name}` | {kind} | {} | {help} |\n", labels.join(", "))
}

const CREDENTIAL_METRICS: &[&str] = &[
    "graph_credential_destination",
    "graph_credential_drift",
    "graph_credential_expiry",
    "graph_credential_orphans",
    "graph_credential_ready",
    "graph_credential_rotation",
    "graph_credential_suspended",
    "graph_credential_time_to_ready",
    "graph_credential_verified",
];

const METRIC_GROUPS: [(&str, &[&str]); 9] = [
    ("Credentials", CREDENTIAL_METRICS),
    (
        "Accounts and their queues",
        &["graph_credential_account", "graph_credential_queue", "graph_credential_operator_external"],
    ),
    ("Identities", &["graph_credential_identity"]),
    ("Mailboxes to connect", &["graph_credential_mailboxes"]),
    ("Encrypted store", &["graph_credential_records", "graph_credential_record_reencrypt"]),
    (
        "REST API",
        &["graph_credential_rest", "graph_credential_record_ready", "graph_credential_record_expiry"],
    ),
    (
        "Reconciliation and process state",
        &[
            "graph_credential_operator_build",
            "graph_credential_operator_not_ready",
            "graph_credential_operator_reconcile",
            "leader_election",
            "controller_runtime",
            "workqueue",
        ],
    ),
    ("Kubernetes API", &["rest_client", "graph_credential_operator_watch"]),
    ("Process", &["process"]),
];

const METRICS_INTRO: &str = "\
<!-- Generated from src/telemetry/metrics by `make generate`; do not edit. -->

# Metrics

`/metrics` on port 8080 (`--health-probe-bind-address`) serves OpenMetrics. Metrics with the same meaning as in
controller-runtime and client-go have the same names, so dashboards made for these work. Histograms have `_bucket`,
`_sum` and `_count`.

The operator computes the series of a single object at each scrape, from its current view of the objects. The series
disappear when the object is deleted. Records of the REST API are shown as of the last check of all records, every two
minutes. Only the leader shows objects; a standby replica shows the other metrics.

Labels other than names of objects, reasons and key ids have a few fixed values. No label contains tenant ids, client
ids, names of Secrets or anything secret. The label `namespace` is the namespace of an object, so scrape with
`honor_labels: true`, as the chart's ServiceMonitor does. Otherwise Prometheus renames the label.

`--metrics-bind-address` serves `/metrics` at an address of its own with TLS (`--metrics-tls-cert`,
`--metrics-tls-key`, reloaded every 30 s), and no longer at `--health-probe-bind-address`. With
`--metrics-require-authorization`, clients must send the bearer token of a user who can `get` the non-resource URL
`/metrics`, as with other controllers. The operator checks the token with TokenReview and SubjectAccessReview, for which
it needs `create` on both, and caches the result for a minute. The chart's values for this are under `metrics.tls`.

[conditions.md](conditions.md) describes the reasons. An object that the operator has not reconciled yet has the reason
`NotObserved`. The reason is a label of the series, so an alert with a `for` duration must aggregate over it:
`max without (reason) (graph_credential_ready) == 0`.
";

const ACCOUNT_CONDITIONS_INTRO: &str = "
## WoodpeckerAccount

`Ready` is about the API key and the listing of credentials, with `Reconciling` and `Stalled` as above.
`MailboxesHealthy` exists only with `spec.mailboxHealth`. `Ready` does not depend on it.
";

const MAILBOXES_CONDITIONS_INTRO: &str = "
## WoodpeckerMailboxes

Only `Ready`, with `Reconciling` and `Stalled` as above. Woodpecker's own texts are in `status.mailboxes` and
`status.lastRefusal`.

";

const IDENTITY_CONDITIONS_INTRO: &str = "
## EntraIdentity

`Ready` is about the home tenant. `TenantsReady` is about the other tenants of the grants, and absent without such
tenants. `status.tenants` has the reasons of `Ready` for each of these tenants. `Reconciling` and `Stalled` are as above.
";

const CONDITIONS_INTRO: &str = "\
<!-- Generated from src/api/reasons by `make generate`; do not edit. -->

# Conditions and reasons

A condition has a reason (one stable word, for alerts and scripts) and a message for people, with the problem and what
to do. Neither contains anything that differs between attempts: trace ids, times and response texts are in the log and
in events. `graph-credential-operator explain REASON` prints a row of these tables.

## MicrosoftGraphCredential

Conditions are always in the same order: `Ready`, `SecretReady`, `Verified`, `Registered`, `Expiring`, `ExpiryConfirmed`
(only with `spec.entra`), `RotationReady` (only with `spec.rotation`, and while client secrets from an earlier one are
left), `UnknownOwnSecrets` (only while True), `Reconciling`, `Stalled`. `Ready` is the summary: it has the reason and
message of the first of `SecretReady`, `Verified` and `Registered` that is not True, or of `Expiring` once the secret
has expired. It does not depend on `ExpiryConfirmed`, `RotationReady` and `UnknownOwnSecrets`: while a rotation fails,
the registered secret still works.

`Reconciling` is True while the operator continues automatically. `Stalled` is True while only a person can continue.
Both have the reason of `Ready`, are absent otherwise, and are never True while `Ready` is True (kstatus).

A new object has `status.observedGeneration: -1` until the operator has processed it. A suspended object keeps its
conditions, and the message of `Ready` says that it is suspended.
";

#[test]
fn generated_files_are_up_to_date() {
    let write = std::env::var_os("GENERATE").is_some();
    for (path, expected) in generated() {
        if write {
            fs::create_dir_all(path.parent().expect("a file has a folder"))
                .expect("the folder can be created");
            fs::write(&path, &expected).expect("the file can be written");
        }
        let found = fs::read_to_string(&path).unwrap_or_default();
        assert!(found == expected, "{} is stale: run `make generate` and commit the result", path.display());
    }
}

#[test]
fn schemas_contain_no_default_except_the_observed_generation() {
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
fn every_rejection_of_the_rest_api_is_documented() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/reference/rest-api.md"))
        .expect("docs/reference/rest-api.md can be read");
    let rows = page
        .lines()
        .filter(|line| line.starts_with("| `") && line.split('`').nth(1).is_some_and(is_constant));
    let documented: Vec<&str> = rows.filter_map(|row| row.split('`').nth(1)).collect();
    let expected: Vec<&str> = ErrorCode::ALL.iter().map(|refusal| refusal.as_str()).collect();
    assert_eq!(documented, expected);
}

fn is_constant(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
}

#[test]
fn every_test_and_duration_that_a_design_page_names_exists() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut tests = String::new();
    let mut unread = vec![root.join("tests"), root.join("src")];
    while let Some(path) = unread.pop() {
        match fs::read_dir(&path) {
            Ok(inside) => unread.extend(inside.map(|file| file.expect("a file can be found").path())),
            Err(_) => tests += &fs::read_to_string(&path).unwrap_or_default(),
        }
    }
    let mut named = 0;
    for entry in fs::read_dir(root.join("docs/design")).expect("the folder can be read") {
        let page = entry.expect("the folder can be read").path();
        let text = fs::read_to_string(&page).expect("the page can be read");
        let parts = text.split('`').skip(1).step_by(2).filter(|it| it.matches('_').count() > 3);
        for name in
            parts.filter(|it| it.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_'))
        {
            assert!(tests.contains(&format!("fn {name}(")), "{} names {name}", page.display());
            named += 1;
        }
        for duration in text.split("`Timing::").skip(1).filter_map(|rest| rest.split('`').next()) {
            let is_there = tests.contains(&format!("    {duration} = Duration::"));
            assert!(is_there, "{} names Timing::{duration}", page.display());
        }
    }
    assert!(named > 50, "{named} names");
}

#[test]
fn every_behavior_in_the_docs_has_its_test() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut tests = String::new();
    let mut unread = vec![root.join("tests/integration"), root.join("tests/chart")];
    while let Some(path) = unread.pop() {
        match fs::read_dir(&path) {
            Ok(inside) => unread.extend(inside.map(|file| file.expect("a test can be found").path())),
            Err(_) => tests += &fs::read_to_string(&path).expect("a test can be read"),
        }
    }
    let mut named = 0;
    for page in ["reference/behavior.md", "security/threat-model.md"] {
        let page = fs::read_to_string(root.join("docs").join(page)).expect("the page can be read");
        for table in
            page.split("\n\n").filter(|part| part.lines().next().is_some_and(|it| it.ends_with("| test |")))
        {
            for row in table.lines().skip(2) {
                let name = row.trim_end_matches([' ', '|']).rsplit('`').nth(1).unwrap_or_default();
                assert!(tests.contains(&format!("fn {name}()")), "no test shows: {row}");
                named += 1;
            }
        }
    }
    assert!(named > 100, "{named} rows");
}
