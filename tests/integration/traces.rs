//! Traces and logs are sent to an OpenTelemetry collector if the environment names one; nothing waits for it.

use std::time::{Duration, Instant};

use kit::collector::{Collector, Span};
use kit::tls::Authority;
use serde_json::{Value, json};

use crate::harness::{API_KEY, EXPIRY, TestEnv, eventually};
use crate::rest_api;

/// A test environment whose operator sends its telemetry to that collector.
async fn env(collector: &Collector, more: &[(&'static str, &str)]) -> TestEnv {
    let mut env = TestEnv::bare().await;
    env.extra_env = vec![
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url()),
        ("OTEL_BSP_SCHEDULE_DELAY", "200".into()),
        ("OTEL_BLRP_SCHEDULE_DELAY", "200".into()),
    ];
    env.extra_env.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
    env.start_operator().await;
    env.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    env.account("agency", json!({})).await;
    env
}

#[tokio::test]
async fn a_reconcile_is_a_trace_with_a_span_for_each_remote_call() {
    let collector = Collector::start().await;
    let env = env(&collector, &[("POD_NAME", "pod-1")]).await;
    env.credential("sales-eu", json!({})).await;
    env.wait_until_ready("sales-eu").await;
    let own = format!("{}/sales-eu", env.namespace);
    let is_of_object = |span: &Span| span.name == "reconcile" && span.attributes.get("object") == Some(&own);
    let calls_in = |reconcile: &Span| -> Vec<Span> {
        collector.spans().into_iter().filter(|span| span.parent_id == reconcile.span_id).collect()
    };
    // The reconciliation that created the credential.
    let (reconcile, calls) = eventually("the trace of the create", || async {
        let created = collector.spans().into_iter().filter(is_of_object).find_map(|reconcile| {
            let calls = calls_in(&reconcile);
            calls.iter().any(|call| call.name == "woodpecker create").then_some((reconcile, calls))
        });
        created.ok_or_else(|| format!("{:#?}", collector.spans()))
    })
    .await;
    assert_eq!(
        (reconcile.parent_id.as_str(), reconcile.is_error),
        ("", false),
        "a reconcile is a root: {reconcile:?}"
    );
    assert_eq!(reconcile.attributes["controller"], "microsoftgraphcredential");
    assert_eq!(reconcile.resource["service.name"], "graph-credential-operator");
    assert_eq!(reconcile.resource["service.instance.id"], "pod-1");
    let create = calls.iter().find(|call| call.name == "woodpecker create").unwrap();
    assert_eq!((create.attributes["outcome"].as_str(), create.is_error), ("ok", false));
    assert!(calls.iter().all(|call| call.trace_id == reconcile.trace_id));
    let spans = collector.spans();
    assert!(
        spans.iter().any(|span| span.name == "microsoft token" && span.attributes["outcome"] == "issued")
    );

    let line = |message: &str| {
        let lines = env.log();
        let lines = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.into_iter().find(|line| {
            line["message"] == message && line["span"]["trace_id"] == reconcile.trace_id.as_str()
        })
    };
    assert!(line("reconciled").is_some(), "the log names the trace {}:\n{}", reconcile.trace_id, env.log());
    eventually("the same line comes as a record", || async {
        let is_it = |record: &kit::collector::Record| {
            record.body == "reconciled" && record.trace_id == reconcile.trace_id
        };
        let found = collector.records().into_iter().find(is_it);
        found.filter(|record| record.severity == "INFO").ok_or_else(|| format!("{:#?}", collector.records()))
    })
    .await;
    let raw = collector.raw();
    for secret in ["s3cret-one", API_KEY] {
        assert!(!raw.windows(secret.len()).any(|part| part == secret.as_bytes()), "{secret} was sent");
    }
}

#[tokio::test]
async fn buffered_telemetry_is_sent_at_shutdown() {
    let collector = Collector::start().await;
    // So rarely that nothing would be sent before the exit.
    let rarely = [("OTEL_BSP_SCHEDULE_DELAY", "600000"), ("OTEL_BLRP_SCHEDULE_DELAY", "600000")];
    let mut env = env(&collector, &rarely).await;
    env.credential("sales-eu", json!({})).await;
    env.wait_until_ready("sales-eu").await;
    assert!(collector.spans().is_empty() && collector.records().is_empty());
    env.operator.as_mut().unwrap().stop().await.unwrap();
    let log = env.log();
    let lines: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let own = |line: &&Value| line["target"].as_str().unwrap().starts_with("graph_credential_operator");
    let written = lines
        .iter()
        .filter(own)
        .filter(|line| line["message"] != "exporting telemetry to an OpenTelemetry collector")
        .count();
    let sent = collector.records().len();
    assert!(sent >= written, "{written} lines were written and {sent} records were sent");
    assert!(collector.records().iter().any(|record| record.body == "ended"), "the last line as well");
    let endings = lines.iter().filter(|line| line["message"] == "reconciled").count();
    assert_eq!(collector.spans().iter().filter(|span| span.name == "reconcile").count(), endings);
}

#[tokio::test]
async fn an_unavailable_collector_delays_nothing() {
    let collector = Collector::start().await;
    collector.hang();
    let mut env = env(&collector, &[("OTEL_EXPORTER_OTLP_TIMEOUT", "1000")]).await;
    env.credential("sales-eu", json!({})).await;
    env.wait_until_ready("sales-eu").await;
    let warning = "failed to export telemetry to the collector; dropping it meanwhile";
    let times = |log: &str| log.matches(warning).count();
    eventually("it is logged", || async {
        let log = env.log();
        if times(&log) == 2 { Ok(()) } else { Err(log) }
    })
    .await;
    collector.reject();
    let requests = collector.requests();
    env.request_reconcile("sales-eu").await;
    eventually("it is tried again", || async {
        if collector.requests() > requests + 3 { Ok(()) } else { Err(collector.requests().to_string()) }
    })
    .await;
    assert_eq!(times(&env.log()), 2, "once for traces and once for logs:\n{}", env.log());
    collector.accept();
    env.request_reconcile("sales-eu").await;
    eventually("telemetry comes again", || async {
        if collector.spans().is_empty() { Err("none yet".to_owned()) } else { Ok(()) }
    })
    .await;
    collector.hang();
    let started = Instant::now();
    env.stop_operator().await;
    assert!(started.elapsed() < Duration::from_secs(12), "{:?}", started.elapsed());
}

#[tokio::test]
async fn without_a_collector_nothing_is_sent_and_unsupported_protocols_are_reported() {
    let collector = Collector::start().await;
    let mut env = TestEnv::bare().await;
    env.extra_env = vec![
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url()),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc".into()),
        ("OTEL_LOGS_EXPORTER", "none".into()),
    ];
    env.start_operator().await;
    let log = env.log();
    assert!(
        log.contains("OTEL_EXPORTER_OTLP_PROTOCOL=grpc for TRACES: only http/protobuf is supported"),
        "{log}"
    );
    env.stop_operator().await;
    assert_eq!(collector.requests(), 0);
    assert!(!log.contains("trace_id"), "{log}");
}

#[tokio::test]
async fn a_request_to_the_rest_api_is_a_trace_too() {
    let collector = Collector::start().await;
    let mut env = TestEnv::bare().await;
    env.extra_env = vec![
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url()),
        ("OTEL_BSP_SCHEDULE_DELAY", "200".into()),
        ("OTEL_BLRP_SCHEDULE_DELAY", "200".into()),
    ];
    env.secret(rest_api::KEYS, &[(&format!("{}.ci", env.namespace), rest_api::KEY)]).await;
    let server = env.launch_with(&["serve", "--rest-bind-address", "127.0.0.1:0"]).await;
    let address = rest_api::serving(&server).await;
    let response =
        rest_api::request_at(&address, "POST", rest_api::PATH, Some(rest_api::sample(json!({})))).await;
    assert_eq!(response.status, 201, "{response:?}");
    let request = eventually("the trace of the request", || async {
        let spans = collector.spans();
        let of = |name: &str| spans.iter().find(|span| span.name == name);
        match (of("request"), of("microsoft token")) {
            (Some(request), Some(call)) if call.parent_id == request.span_id => Ok(request.clone()),
            _ => Err(format!("{spans:#?}")),
        }
    })
    .await;
    assert_eq!((request.parent_id.as_str(), request.attributes["method"].as_str()), ("", "POST"));
    let log = server.log();
    for message in ["saved a credential", "request"] {
        let line = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let line = line.into_iter().find(|line| line["message"] == message).expect(message);
        assert_eq!(line["span"]["trace_id"], request.trace_id.as_str(), "{line}");
    }
}

#[tokio::test]
async fn a_collector_behind_tls_is_trusted_by_the_operators_own_certificates() {
    let collector = Collector::start().await;
    let authority = Authority::new().unwrap();
    let relay = authority.relay(&["127.0.0.1"], collector.url().trim_start_matches("http://")).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.crt");
    std::fs::write(&ca, authority.pem()).unwrap();
    let mut env = TestEnv::bare().await;
    env.extra_env = vec![
        ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("https://127.0.0.1:{}", relay.port())),
        ("OTEL_BLRP_SCHEDULE_DELAY", "200".into()),
    ];
    env.extra_args = vec!["--ca-bundle".into(), ca.display().to_string()];
    env.start_operator().await;
    eventually("the log comes", || async {
        if collector.records().is_empty() { Err(env.log()) } else { Ok(()) }
    })
    .await;
}
