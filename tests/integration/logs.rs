//! The log: one line for each reconciliation, and a log level that changes while the operator runs.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::harness::{TestEnv, eventually};

/// The lines of the log.
fn lines(env: &TestEnv) -> Vec<Value> {
    env.log().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// The results of the reconciliations in the log.
fn endings(env: &TestEnv) -> Vec<Value> {
    let is_ending = |line: &Value| {
        matches!(line["message"].as_str(), Some("reconciled" | "requeued" | "reconcile failed"))
    };
    lines(env).into_iter().filter(is_ending).collect()
}

#[tokio::test]
async fn each_reconcile_logs_one_line_with_its_decision() {
    let env = TestEnv::start().await;
    env.credential("sales-eu", json!({})).await;
    env.wait_until_ready("sales-eu").await;
    let own = format!("{}/sales-eu", env.namespace);
    let line = eventually("the reconcile is logged", || async {
        let is_it = |line: &Value| line["span"]["object"] == own.as_str() && line["reason"] == "Ready";
        endings(&env).into_iter().find(is_it).ok_or_else(|| env.log())
    })
    .await;
    assert_eq!((&line["level"], &line["result"]), (&json!("INFO"), &json!("success")), "{line}");
    assert_eq!(
        (&line["generation"], &line["span"]["controller"]),
        (&json!(1), &json!("microsoftgraphcredential"))
    );
    let next: Timestamp = line["requeue_at"].as_str().unwrap().parse().unwrap();
    let logged: Timestamp = line["timestamp"].as_str().unwrap().parse().unwrap();
    assert!(next >= logged - jiff::SignedDuration::from_secs(1), "{line}");
    // One line for each reconciliation, with any result, and none twice.
    eventually("as many lines as reconciles", || async {
        let (_, metrics) = env.get("/metrics").await;
        let counted = metrics.lines().filter(|line| line.starts_with("controller_runtime_reconcile_total{"));
        let counted: usize = counted.filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok()).sum();
        let logged = endings(&env).len();
        if counted == logged { Ok(()) } else { Err(format!("{counted} reconciles, {logged} lines")) }
    })
    .await;
}

#[tokio::test]
async fn the_log_filter_changes_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("filter");
    let mut env = TestEnv::bare().await;
    env.log_filter = "info";
    env.extra_args = vec!["--log-filter-file".into(), file.display().to_string()];
    env.start_operator().await;
    let levels = |level: &str| lines(&env).iter().filter(|line| line["level"] == level).count();
    assert_eq!(levels("DEBUG"), 0, "there is no file, so --log-level holds:\n{}", env.log());
    assert!(levels("INFO") > 0);
    std::fs::write(&file, "info,graph_credential_operator=debug\n").unwrap();
    env.account("agency", json!({})).await;
    let count = |message: &str| lines(&env).iter().filter(|line| line["message"] == message).count();
    let changed = "changing the log filter";
    let until = async |what: &str, message: &str, times: usize| {
        eventually(what, || async { if count(message) == times { Ok(()) } else { Err(env.log()) } }).await;
    };
    until("the file is read", changed, 1).await;
    env.secret(
        "sales-eu-graph",
        &[("client_secret", "s3cret-one"), ("secret_expires_at", crate::harness::EXPIRY)],
    )
    .await;
    env.credential("sales-eu", json!({})).await;
    env.wait_until_ready("sales-eu").await;
    assert!(levels("DEBUG") > 0, "{}", env.log());
    std::fs::write(&file, "a=b=c").unwrap();
    until("it is logged", "--log-filter-file contains no valid log filter; the current one stays in use", 1)
        .await;
    std::fs::write(&file, "warning").unwrap();
    until(
        "an invalid level is logged, and changes nothing",
        "--log-filter-file contains no valid log filter; the current one stays in use",
        2,
    )
    .await;
    assert!(env.log().contains("\\\"warning\\\" is not a level: use off, error, warn"), "{}", env.log());
    std::fs::write(&file, "warn").unwrap();
    until("the file is read again", changed, 2).await;
    // The new filter applies only after the line that reports it.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let before = levels("INFO") + levels("DEBUG");
    env.request_reconcile("sales-eu").await;
    eventually("the reconcile is counted", || async {
        let handled = env.read("sales-eu").await.status.unwrap().last_handled_reconcile_at;
        handled.ok_or_else(|| "not yet".to_owned())
    })
    .await;
    assert_eq!(levels("INFO") + levels("DEBUG"), before, "{}", env.log());
    std::fs::remove_file(&file).unwrap();
    until("--log-level holds again", changed, 3).await;
}

#[tokio::test]
async fn warnings_name_their_object_at_log_level_warn() {
    let mut env = TestEnv::start().await;
    env.stop_operator().await;
    // The address of the probes is logged at INFO.
    env.log_filter = "warn,graph_credential_operator::runtime=info";
    env.start_operator().await;
    env.entra.set_secrets(crate::harness::TENANT, crate::harness::CLIENT, &["another"]);
    env.credential("sales-eu", json!({})).await;
    let own = format!("{}/sales-eu", env.namespace);
    eventually("a warning within the reconcile", || async {
        let is_it = |line: &Value| line["level"] == "WARN" && line["span"]["object"] == own.as_str();
        lines(&env).into_iter().find(is_it).ok_or_else(|| env.log())
    })
    .await;
}
