//! The dashboard and the alert rules, on a real Prometheus that scrapes the real operator.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use graph_credential_operator::api::WoodpeckerMailboxes;
use kit::prometheus::{Prometheus, Series};
use serde_json::{Value, json};

use crate::harness::{CLIENT, TENANT, TestEnv, address, eventually};
use crate::rest_api::{KEY, PATH, put_key, request_at, sample, serving};

/// A panel's title and one of its queries.
struct Query {
    panel: String,
    expression: String,
}

/// All queries of the dashboard, as Grafana would send them.
fn queries() -> Vec<Query> {
    let path = kit::workspace().join("deploy/grafana/dashboard.json");
    let dashboard: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().clone();
    panels
        .into_iter()
        .flat_map(|panel| {
            let title = panel["title"].as_str().unwrap().to_owned();
            let targets = panel["targets"].as_array().cloned().unwrap_or_default();
            targets.into_iter().map(move |target| Query {
                panel: title.clone(),
                expression: as_sent(target["expr"].as_str().unwrap()),
            })
        })
        .collect()
}

/// The metrics in the queries, one by one, because in one query a metric can hide that another one is
/// missing. Failed watches do not occur here.
fn queried_metrics() -> BTreeSet<String> {
    let starts = [
        "graph_credential_",
        "controller_runtime_",
        "leader_election_",
        "workqueue_",
        "rest_client_",
        "process_",
    ];
    let queries = queries();
    let words = queries
        .iter()
        .flat_map(|query| query.expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')))
        .filter(|word| starts.iter().any(|start| word.starts_with(start)));
    words.filter(|word| *word != "graph_credential_operator_watch_errors_total").map(str::to_owned).collect()
}

/// A query with values for Grafana's variables, and without the fallbacks that panels of the REST API use if
/// there are no series.
fn as_sent(expression: &str) -> String {
    let expression = expression.replace("$__rate_interval", "15s").replace("$namespace", ".*");
    if expression.contains("graph_credential_rest_request") {
        expression.replace(" or vector(0)", "")
    } else {
        expression
    }
}

fn rules() -> PathBuf {
    kit::workspace().join("deploy/prometheus/rules.yaml")
}

/// Whether a response contains data. Quantiles of nothing are NaN.
fn has_data(response: &[Series]) -> bool {
    response.iter().any(|series| series.points.iter().any(|(_, value)| value.is_finite()))
}

/// A Prometheus that scrapes the operator under test.
async fn prometheus(env: &TestEnv, rules: &[PathBuf]) -> Prometheus {
    let target = address(env.operator.as_ref().unwrap(), "serving probes and metrics")
        .expect("the operator serves metrics");
    let log = env.cluster.dir().join(format!("{}-prometheus.log", env.namespace));
    Prometheus::start(&target, rules, &log).await.expect("Prometheus starts")
}

#[tokio::test]
async fn every_dashboard_query_returns_data_and_every_rule_is_valid() {
    let mut env = TestEnv::start().await;
    env.credential("sealed", json!({"destination": {"woodpecker": null, "store": {}}})).await;
    env.wait_until_ready("sealed").await;
    // The operator counts records at the start, and rarely after it.
    env.stop_operator().await;
    put_key(&env, KEY).await;
    env.extra_args = ["--rest-bind-address", "127.0.0.1:0", "--mailboxes"].map(str::to_owned).to_vec();
    env.start_operator().await;
    let api = serving(env.operator.as_ref().unwrap()).await;
    let saved = request_at(&api, "POST", PATH, Some(sample(json!({})))).await;
    assert_eq!(saved.status, 201, "{saved:?}\n{}", env.log());
    let prometheus = prometheus(&env, &[rules()]).await;
    eventually("the scrape is taken: it is OpenMetrics by Prometheus' own parser", || async {
        let up = prometheus.query("up").await.map_err(|error| error.to_string())?;
        if up.iter().any(|series| series.points[0].1 > 0.0) { Ok(()) } else { Err(prometheus.log()) }
    })
    .await;
    env.credential("sales-eu", json!({})).await;
    env.credential("lost", json!({"secretRef": {"name": "nowhere"}})).await;
    env.wait_until_ready("sales-eu").await;
    rotation_and_mailboxes(&env).await;
    let other = "11111111-2222-4333-8444-555555555555";
    env.entra.add_app(TENANT, other);
    env.entra.set_secrets(TENANT, other, &["s3cret-one"]);
    let mut pending: Vec<Query> = queries();
    assert!(pending.len() > 40, "{} queries", pending.len());
    let mut round = 0;
    let deadline = tokio::time::Instant::now() + Duration::from_mins(1);
    while !pending.is_empty() {
        // Rates and quantiles need events between two scrapes.
        round += 1;
        let name = format!("late-{round}");
        let client = if round % 2 == 0 { CLIENT } else { other };
        let spec =
            json!({"clientId": client, "destination": {"woodpecker": {"accountRef": {"name": "agency"}}}});
        env.credential(&name, spec).await;
        env.request_reconcile("sales-eu").await;
        assert_eq!(request_at(&api, "GET", PATH, None).await.status, 200);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let mut left = Vec::new();
        for query in pending {
            let response = prometheus.query(&query.expression).await;
            let response = response.unwrap_or_else(|error| panic!("{}: {error}", query.panel));
            if !has_data(&response) {
                left.push(query);
            }
        }
        pending = left;
        if tokio::time::Instant::now() >= deadline {
            let empty = pending.iter().map(|query| format!("{}: {}", query.panel, query.expression));
            panic!("these show nothing: {:#?}", empty.collect::<Vec<_>>());
        }
    }

    for metric in queried_metrics() {
        let response = prometheus.query(&format!("count({metric})")).await.unwrap();
        assert!(has_data(&response), "a query asks for {metric}, and there is no such series");
    }

    let groups = prometheus.request("/api/v1/rules").await.unwrap();
    let rules =
        groups["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap());
    let mut seen = 0;
    for rule in rules {
        let (name, health) = (rule["name"].as_str().unwrap(), rule["health"].as_str().unwrap());
        assert_eq!(health, "ok", "{name}: {}", rule["lastError"]);
        // Credentials without a Secret are the only problem, and it is too recent for an alert.
        let firing = rule["state"].as_str().unwrap();
        let may_be_pending = name == "GraphCredentialNotReady";
        assert!(firing == "inactive" || may_be_pending && firing == "pending", "{name} is {firing}");
        seen += 1;
    }
    assert!(seen > 15, "{seen} rules");
}

/// A credential whose rotation has no identity yet, and a plan of mailboxes.
async fn rotation_and_mailboxes(env: &TestEnv) {
    let client = "11111111-2222-4333-8444-666666666666";
    let entra = json!({"identityRef": {"name": "nobody"}});
    let spec = json!({"clientId": client, "secretRef": null, "entra": entra, "rotation": {}});
    env.credential("rotating", spec).await;
    let mailboxes = json!([{"email": "jim@example.com"}]);
    let spec = json!({"credentialRef": {"name": "sales-eu"}, "mailboxes": mailboxes});
    env.apply::<WoodpeckerMailboxes>("team", json!({"spec": spec})).await.unwrap();
}

/// The response of Prometheus for one query of a panel.
fn drawn(target: &Value, response: &[Series]) -> Value {
    let series = response.iter().map(|series| json!({"labels": series.labels, "points": series.points}));
    json!({"legend": target["legendFormat"], "series": series.collect::<Vec<_>>()})
}

/// Objects for everything that the dashboard can show: secrets that expire sooner or later, account queues
/// with waiting requests, and a few objects that are not ready.
async fn fleet(env: &TestEnv) {
    let now = jiff::Timestamp::now();
    let days = [
        -1, 3, 5, 9, 12, 18, 22, 27, 41, 55, 63, 77, 84, 110, 131, 150, 164, 171, 190, 230, 300, 350, 410,
        520,
    ];
    for (number, days) in days.into_iter().enumerate() {
        let client = format!("11111111-2222-4333-8444-{number:012}");
        let secret = format!("a-secret-of-{number}");
        env.entra.add_app(TENANT, &client);
        env.entra.set_secrets(TENANT, &client, &[&secret]);
        // One secret expires during the recording.
        let left = if days < 0 { 40 } else { days * 86_400 };
        let expiry = now.checked_add(jiff::SignedDuration::from_secs(left)).unwrap();
        let expiry = expiry.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let name = format!("sales-{number:02}");
        env.secret(&name, &[("client_secret", &secret), ("secret_expires_at", &expiry)]).await;
        let destination = match number % 4 {
            3 => json!({"woodpecker": null, "store": {}}),
            2 => json!({"woodpecker": {"accountRef": {"name": "studio"}}}),
            _ => json!({"woodpecker": {"accountRef": {"name": "agency"}}}),
        };
        let secret_ref = if number == 20 { json!({"name": "nowhere"}) } else { json!({"name": name}) };
        if number == 21 {
            env.entra.disable_app(TENANT, &client);
        }
        let spec = json!({"clientId": client, "secretRef": secret_ref, "destination": destination});
        env.credential(&name, spec).await;
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
}

#[tokio::test]
#[ignore = "a minute and a half: `make pictures` draws the pictures of the docs from it"]
async fn query_results_for_the_pictures() {
    let env = TestEnv::start().await;
    env.woodpecker.add_account("studio", "5678.api-key-of-the-studio");
    env.secret("studio-key", &[("api_key", "5678.api-key-of-the-studio")]).await;
    env.apply_account("studio", json!({})).await;
    env.woodpecker.service_time(Duration::from_millis(700));
    let prometheus = prometheus(&env, &[]).await;
    let seconds = 80;
    let end = tokio::time::Instant::now() + Duration::from_secs(u64::from(seconds));
    fleet(&env).await;
    while tokio::time::Instant::now() < end {
        for number in [1, 5, 8, 13] {
            env.request_reconcile(&format!("sales-{number:02}")).await;
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    let path = kit::workspace().join("deploy/grafana/dashboard.json");
    let dashboard: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut panels = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let mut responses = Vec::new();
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = as_sent(target["expr"].as_str().unwrap());
            let response = if target["instant"] == true {
                prometheus.query(&expression).await
            } else {
                prometheus.query_range(&expression, seconds).await
            };
            responses.push(drawn(target, &response.unwrap()));
        }
        panels.push(json!({
            "title": panel["title"], "type": panel["type"], "place": panel["gridPos"],
            "unit": panel["fieldConfig"]["defaults"]["unit"], "responses": responses
        }));
    }
    let text = serde_json::to_string(&panels).unwrap();
    // The test namespace has a random name.
    let text = text.replace(&env.namespace, "mail");
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("dashboard.json");
    std::fs::write(path, text).expect("the responses can be kept");
}
