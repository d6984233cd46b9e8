//! The log says once for each pass what was decided, and what is logged changes while the operator runs.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::stage::{Stage, eventually};

/// The lines of the log.
fn lines(stage: &Stage) -> Vec<Value> {
    stage.log().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// How the passes ended, by the log.
fn endings(stage: &Stage) -> Vec<Value> {
    let is_ending = |line: &Value| {
        matches!(line["message"].as_str(), Some("pass ended" | "pass ended early" | "pass failed"))
    };
    lines(stage).into_iter().filter(is_ending).collect()
}

#[tokio::test]
async fn each_pass_leaves_one_line_with_what_was_decided() {
    let stage = Stage::set().await;
    stage.credential("sales-eu", json!({})).await;
    stage.wait_until_ready("sales-eu").await;
    let own = format!("{}/sales-eu", stage.namespace);
    let line = eventually("the pass is told", || async {
        let is_it = |line: &Value| line["span"]["object"] == own.as_str() && line["reason"] == "Ready";
        endings(&stage).into_iter().find(is_it).ok_or_else(|| stage.log())
    })
    .await;
    assert_eq!((&line["level"], &line["result"]), (&json!("INFO"), &json!("success")), "{line}");
    assert_eq!(
        (&line["generation"], &line["span"]["controller"]),
        (&json!(1), &json!("microsoftgraphcredential"))
    );
    let next: Timestamp = line["next_look"].as_str().unwrap().parse().unwrap();
    let told: Timestamp = line["timestamp"].as_str().unwrap().parse().unwrap();
    assert!(next >= told - jiff::SignedDuration::from_secs(1), "{line}");
    // Each pass, whatever became of it, and no pass twice.
    eventually("as many lines as passes", || async {
        let (_, metrics) = stage.get("/metrics").await;
        let counted = metrics.lines().filter(|line| line.starts_with("controller_runtime_reconcile_total{"));
        let counted: usize = counted.filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok()).sum();
        let told = endings(&stage).len();
        if counted == told { Ok(()) } else { Err(format!("{counted} passes, {told} lines")) }
    })
    .await;
}

#[tokio::test]
async fn what_is_logged_changes_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("filter");
    let mut stage = Stage::bare().await;
    stage.log_filter = "info";
    stage.extra_args = vec!["--log-filter-file".into(), file.display().to_string()];
    stage.start_operator().await;
    let levels = |level: &str| lines(&stage).iter().filter(|line| line["level"] == level).count();
    assert_eq!(levels("DEBUG"), 0, "there is no file, so --log holds:\n{}", stage.log());
    assert!(levels("INFO") > 0);
    std::fs::write(&file, "info,graph_credential_operator=debug\n").unwrap();
    stage.account("agency", json!({})).await;
    let told = |message: &str| lines(&stage).iter().filter(|line| line["message"] == message).count();
    let changed = "what is logged changes";
    let until = async |what: &str, message: &str, times: usize| {
        eventually(what, || async { if told(message) == times { Ok(()) } else { Err(stage.log()) } }).await;
    };
    until("the file is read", changed, 1).await;
    stage
        .secret(
            "sales-eu-graph",
            &[("client_secret", "s3cret-one"), ("secret_expires_at", crate::stage::EXPIRY)],
        )
        .await;
    stage.credential("sales-eu", json!({})).await;
    stage.wait_until_ready("sales-eu").await;
    assert!(levels("DEBUG") > 0, "{}", stage.log());
    std::fs::write(&file, "a=b=c").unwrap();
    until("it is told", "--log-filter-file holds no log filter; what was logged before is logged on", 1)
        .await;
    std::fs::write(&file, "warning").unwrap();
    until(
        "a misspelt level is told, and silences nothing",
        "--log-filter-file holds no log filter; what was logged before is logged on",
        2,
    )
    .await;
    assert!(stage.log().contains("\\\"warning\\\" is no level: give off, error, warn"), "{}", stage.log());
    std::fs::write(&file, "warn").unwrap();
    until("the file is read again", changed, 2).await;
    let before = levels("INFO") + levels("DEBUG");
    stage.request_pass("sales-eu").await;
    eventually("the pass is counted", || async {
        let handled = stage.read("sales-eu").await.status.unwrap().last_handled_reconcile_at;
        handled.ok_or_else(|| "not yet".to_owned())
    })
    .await;
    assert_eq!(levels("INFO") + levels("DEBUG"), before, "{}", stage.log());
    std::fs::remove_file(&file).unwrap();
    until("--log holds again", changed, 3).await;
}

#[tokio::test]
async fn a_warning_names_its_object_where_nothing_less_is_logged() {
    let mut stage = Stage::set().await;
    stage.stop_operator().await;
    // The address of the probes is told at INFO.
    stage.log_filter = "warn,graph_credential_operator::app=info";
    stage.start_operator().await;
    stage.entra.set_secrets(crate::stage::TENANT, crate::stage::CLIENT, &["another"]);
    stage.credential("sales-eu", json!({})).await;
    let own = format!("{}/sales-eu", stage.namespace);
    eventually("a warning within the pass", || async {
        let is_it = |line: &Value| line["level"] == "WARN" && line["span"]["object"] == own.as_str();
        lines(&stage).into_iter().find(is_it).ok_or_else(|| stage.log())
    })
    .await;
}
