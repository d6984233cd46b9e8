//! Many records sealed anew under another primary key, beside the same number of bare updates.

use std::time::{Duration, Instant};

use futures::StreamExt;
use graph_credential_operator::resources::SealedGraphCredential;
use graph_credential_operator::store::keyring::KeyId;
use kube::ResourceExt;
use kube::api::{ListParams, PostParams};

use crate::stage::Stage;
use crate::vault::{KEYRING, keyring, left, make_records};
use crate::{PATIENCE, Report};

/// Records in the store.
const RECORDS: i64 = 5000;

/// What sealing anew does at the same time, and so do the bare updates.
const AT_A_TIME: usize = 4;

/// How many times as long as bare updates of the same records it may take.
const MOST_TIMES: f64 = 2.0;

/// Most memory of the whole operator at any time, in MiB.
const MOST_MEMORY: u64 = 128;

/// Five thousand records under a fresh key.
pub(crate) async fn five_thousand_records_under_another_key(report: &mut Report) {
    let mut stage = Stage::bare().await;
    stage.time_scale = 1;
    stage.log_filter = "warn,graph_credential_operator=info";
    stage.start_operator().await;
    make_records(&stage, RECORDS).await;
    report.section(&format!("{RECORDS} records sealed anew"));
    let bare = bare_updates(&stage).await;
    let (took, key) = rotation(&stage).await;
    assert_eq!(left(&stage, key).await, 0);
    let rate = |took: Duration| f64::from(i32::try_from(RECORDS).unwrap()) / took.as_secs_f64();
    let times = took.as_secs_f64() / bare.as_secs_f64();
    report.figure(&format!(
        "{:.0} records a second; bare updates of the same records, read page by page and {AT_A_TIME} written at a time: {:.0} a second; {times:.2} times as long (bound: {MOST_TIMES})",
        rate(took),
        rate(bare)
    ));
    let peak = peak_memory(stage.operator.as_ref().unwrap().pid());
    report.figure(&format!("{peak} MiB of memory at most, the whole operator (bound: {MOST_MEMORY} MiB)"));
    assert!(times <= MOST_TIMES, "{times:.2}");
    assert!(peak <= MOST_MEMORY, "{peak} MiB");
}

/// Reads all records page by page and replaces each, as sealing anew does, without opening or sealing anything.
async fn bare_updates(stage: &Stage) -> Duration {
    let api = stage.api::<SealedGraphCredential>();
    let started = Instant::now();
    let mut page = ListParams::default().limit(500);
    loop {
        let list = api.list(&page).await.unwrap();
        let writes = list.items.into_iter().map(|mut record| {
            // As long as it was, and another one.
            record.spec.name = record.spec.name.replace("credential", "Credential");
            let api = api.clone();
            async move { api.replace(&record.name_any(), &PostParams::default(), &record).await.unwrap() }
        });
        futures::stream::iter(writes).buffer_unordered(AT_A_TIME).for_each(async |_| ()).await;
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return started.elapsed(),
        }
    }
}

/// Makes another key primary. Returns how long the operator took from the first record to the last, by its own log.
async fn rotation(stage: &Stage) -> (Duration, KeyId) {
    let mut keyring = keyring(stage).await;
    let key = keyring.rotate(jiff::Timestamp::now()).unwrap();
    let json = keyring.to_json().unwrap();
    stage.secret(KEYRING, &[("keyring.json", std::str::from_utf8(json.expose()).unwrap())]).await;
    let operator = stage.operator.as_ref().unwrap();
    operator.wait_for_log("all records are sealed under the primary key", PATIENCE).await.unwrap();
    let log = operator.log();
    let at = |message: &str| {
        let line = log.lines().find(|line| line.contains(message)).unwrap();
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        line["timestamp"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap()
    };
    let took = at("all records are sealed under the primary key")
        .duration_since(at("records are sealed anew under the primary key"));
    (took.unsigned_abs(), key)
}

/// The most memory that a process ever had, in MiB.
fn peak_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}
