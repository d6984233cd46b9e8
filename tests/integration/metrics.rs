//! Metrics: series of each object, in bounded number, which end with the object.

use std::collections::BTreeSet;

use graph_credential_operator::api::MicrosoftGraphCredential;
use jiff::Timestamp;
use kit::entra::AppState;
use kube::api::DeleteParams;
use serde_json::json;

use crate::harness::{API_KEY, CLIENT, EXPIRY, TENANT, TestEnv, eventually};
use crate::reference::{self, MetricFamily};

/// The body of `/metrics`.
async fn scrape(env: &TestEnv) -> String {
    let (status, text) = env.get("/metrics").await;
    assert_eq!(status, 200, "{text}");
    text
}

/// The value of the sample whose name and labels start like this.
fn value(text: &str, start: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.starts_with(start))?;
    line.rsplit(' ').next()?.parse().ok()
}

/// Waits until `/metrics` meets the condition.
async fn scrape_until(env: &TestEnv, what: &str, is_so: impl Fn(&str) -> bool) -> String {
    eventually(what, || async {
        let text = scrape(env).await;
        if is_so(&text) { Ok(text) } else { Err(text) }
    })
    .await
}

#[tokio::test]
async fn a_scrape_reports_each_object() {
    let env = TestEnv::start().await;
    env.credential("sales-eu", json!({})).await;
    let object = env.wait_until_ready("sales-eu").await;
    let entra = json!({"identityRef": {"name": "reader"}});
    env.credential("store", json!({"destination": {"woodpecker": null, "store": {}}, "entra": entra})).await;
    env.wait_until_ready("store").await;
    let store = format!("{{namespace=\"{}\",name=\"store\"", env.namespace);
    let own = format!("{{namespace=\"{}\",name=\"sales-eu\"", env.namespace);
    let text = scrape_until(&env, "both are ready", |text| {
        ["sales-eu", "store"].iter().all(|name| {
            let series = format!("graph_credential_ready{{namespace=\"{}\",name=\"{name}\"", env.namespace);
            value(text, &series) == Some(1.0)
        })
    })
    .await;
    let expiry: Timestamp = EXPIRY.parse().unwrap();
    let last_verified_time = object.status.unwrap().last_verified_time.unwrap().0.as_second();
    for (sample, expected) in [
        (format!("graph_credential_ready{own},reason=\"Ready\"}}"), "1".to_owned()),
        (format!("graph_credential_verified{own},reason=\"TokenIssued\"}}"), "1".to_owned()),
        (format!("graph_credential_suspended{own}}}"), "0".to_owned()),
        // The operator uses no identities.
        (format!("graph_credential_expiry_confirmed{store},reason=\"GrantMissing\"}}"), "0".to_owned()),
        (format!("graph_credential_expiry_timestamp_seconds{own}}}"), expiry.as_second().to_string()),
        (format!("graph_credential_verified_timestamp_seconds{own}}}"), last_verified_time.to_string()),
        (
            format!(
                "graph_credential_destination{own},destination=\"woodpecker\",account_namespace=\"{}\",account=\"agency\"}}",
                env.namespace
            ),
            "1".to_owned(),
        ),
    ] {
        assert!(text.contains(&format!("{sample} {expected}\n")), "{sample} {expected}\n{text}");
    }
    let account = format!("{{namespace=\"{}\",name=\"agency\"", env.namespace);
    assert_eq!(
        value(&text, &format!("graph_credential_account_ready{account},reason=\"Authenticated\"}}")),
        Some(1.0)
    );
    assert_eq!(value(&text, &format!("graph_credential_account_queue_waiting{account}}}")), Some(0.0));
    let responses = value(&text, &format!("graph_credential_account_queue_responses_total{account}}}"));
    assert!(responses.is_some_and(|responses| responses >= 2.0), "a list and a create: {responses:?}");
    let now = Timestamp::now().as_second();
    for time in [
        format!("graph_credential_account_listed_timestamp_seconds{account}}}"),
        "process_start_time_seconds".into(),
    ] {
        let at = value(&text, &time).expect(&text);
        assert!((at - f64::from(i32::try_from(now).unwrap())).abs() < 120.0, "{time} {at}");
    }
    for counted in [
        "graph_credential_time_to_ready_seconds_count",
        "graph_credential_operator_watch_opens_total{kind=\"MicrosoftGraphCredential\"}",
        "graph_credential_operator_watch_opens_total{kind=\"WoodpeckerAccount\"}",
        "graph_credential_operator_external_requests_total{target=\"microsoft\",operation=\"token\",outcome=\"issued\"}",
        "graph_credential_operator_external_requests_total{target=\"woodpecker\",operation=\"create\",outcome=\"ok\"}",
        "rest_client_requests_total{code=\"200\",method=\"GET\"",
        "workqueue_adds_total{controller=\"microsoftgraphcredential\",name=\"microsoftgraphcredential\"}",
        "process_resident_memory_bytes",
        "process_cpu_seconds_total",
        "process_open_fds",
    ] {
        assert!(value(&text, counted).is_some_and(|count| count > 0.0), "{counted}\n{text}");
    }
    for metric in metrics_of_alerts() {
        assert!(value(&text, &metric).is_some(), "an alert asks for {metric}\n{text}");
    }
    for secret in ["s3cret-one", API_KEY, TENANT, CLIENT] {
        assert!(!text.contains(secret), "{secret} is in the metrics:\n{text}");
    }
    scrape_until(&env, "the queues are empty", |text| {
        let depths = text.lines().filter(|line| line.starts_with("workqueue_depth{"));
        depths.clone().count() == 2 && depths.clone().all(|line| line.ends_with(" 0"))
    })
    .await;
    keep(&text);
}

/// The metrics in the alert rules, except for those that exist only after a failure, while something is not
/// ready, or for identities, mailboxes or the REST API.
fn metrics_of_alerts() -> Vec<String> {
    let rules = std::fs::read_to_string(kit::workspace().join("deploy/prometheus/rules.yaml")).unwrap();
    let expressions = rules.lines().filter(|line| line.starts_with("          "));
    let words = expressions.flat_map(|line| line.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')));
    let starts = ["graph_credential_", "controller_runtime_", "leader_election_"];
    let metrics = words.filter(|word| starts.iter().any(|start| word.starts_with(start)));
    let metrics: BTreeSet<String> = metrics.map(str::to_owned).collect();
    assert!(metrics.len() > 10, "{metrics:?}");
    let is_shown = |metric: &String| {
        !["graph_credential_operator_watch_errors_total", "graph_credential_operator_not_ready"]
            .contains(&metric.as_str())
            && !metric.starts_with("graph_credential_identity_")
            && !metric.starts_with("graph_credential_record_")
            && !metric.starts_with("graph_credential_rotation_")
            && !metric.starts_with("graph_credential_account_mailboxes_")
            && !metric.starts_with("graph_credential_mailboxes_")
    };
    metrics.into_iter().filter(is_shown).collect()
}

/// Keeps an exposition for `make openmetrics`, and another one with a series of each existing metric.
fn keep(text: &str) {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let all = reference::exposition().expect("the metrics can be written");
    for (name, text) in [("metrics.txt", text), ("every-metric.txt", &all)] {
        std::fs::write(folder.join(name), text).expect("the exposition can be kept");
    }
}

#[tokio::test]
async fn series_are_removed_with_their_object_and_reasons_replaced() {
    let env = TestEnv::start().await;
    env.entra.disable_app(TENANT, CLIENT);
    env.credential("sales-eu", json!({})).await;
    let start = format!("graph_credential_ready{{namespace=\"{}\",name=\"sales-eu\"", env.namespace);
    let is_refused = |text: &str| {
        text.lines()
            .any(|line| line.starts_with(&start) && line.ends_with("reason=\"ApplicationDisabled\"} 0"))
    };
    scrape_until(&env, "it is refused", is_refused).await;
    env.entra.set_state(TENANT, CLIENT, AppState::Active);
    env.request_reconcile("sales-eu").await;
    env.wait_until_ready("sales-eu").await;
    let text = scrape_until(&env, "it is ready", |text| {
        text.lines().any(|line| line.starts_with(&start) && line.ends_with("reason=\"Ready\"} 1"))
    })
    .await;
    let series = text.lines().filter(|line| line.starts_with(&start)).count();
    assert_eq!(series, 1, "the earlier reason has no series:\n{text}");
    env.api::<MicrosoftGraphCredential>()
        .delete("sales-eu", &DeleteParams::default())
        .await
        .expect("it can be deleted");
    scrape_until(&env, "it has no series", |text| !text.contains("name=\"sales-eu\"")).await;
}

#[tokio::test]
async fn every_metric_is_documented_and_objects_add_a_fixed_number() {
    let env = TestEnv::start().await;
    let known = reference::families().unwrap();
    for name in ["one", "two", "three"] {
        let spec = json!({"destination": {"woodpecker": null, "store": {}}});
        env.credential(name, spec).await;
        env.wait_until_ready(name).await;
    }
    let text = scrape_until(&env, "all are shown as ready", |text| {
        text.lines()
            .filter(|line| line.starts_with("graph_credential_ready{") && line.ends_with(" 1"))
            .count()
            == 3
    })
    .await;
    for family in reference::read(&text) {
        let MetricFamily { name, kind, help, labels } = &family;
        let described = known.iter().find(|known| known.name == *name).expect(name);
        assert_eq!((kind, help), (&described.kind, &described.help), "{name}");
        assert!(labels.iter().all(|label| described.labels.contains(label)), "{name} {labels:?}");
    }
    let of = |object: &str| {
        let mark = format!("name=\"{object}\"");
        let lines = text.lines().filter(|line| line.contains(&mark));
        lines.filter_map(|line| line.split('{').next()).map(str::to_owned).collect::<Vec<String>>()
    };
    assert_eq!(of("one"), of("two"));
    assert_eq!(of("one"), of("three"));
    let names = of("one");
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "one series of each: {names:?}");
    assert!(names.len() <= 8, "{names:?}");
}
