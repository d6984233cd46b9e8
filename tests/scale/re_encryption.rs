//! Re-encryption of many records under another primary key, compared with the same number of plain updates.

use std::time::{Duration, Instant};

use futures::StreamExt;
use graph_credential_operator::api::SealedGraphCredential;
use graph_credential_operator::store::keyring::KeyId;
use kube::ResourceExt;
use kube::api::{ListParams, PostParams};

use crate::harness::TestEnv;
use crate::keyring_access::{KEYRING, keyring, left, make_records};
use crate::{Report, TIMEOUT};

/// Records in the store.
const RECORDS: i64 = 5000;

/// Concurrent writes of the re-encryption, and of the plain updates.
const AT_A_TIME: usize = 4;

/// How many times as long as plain updates of the same records it may take.
const MOST_TIMES: f64 = 2.0;

/// Maximum memory of the whole operator at any time, in MiB.
const MOST_MEMORY: u64 = 128;

/// Five thousand records under a new key.
pub(crate) async fn five_thousand_records_under_another_key(report: &mut Report) {
    let mut env = TestEnv::bare().await;
    env.time_scale = 1;
    env.log_filter = "warn,graph_credential_operator=info";
    env.start_operator().await;
    make_records(&env, RECORDS).await;
    report.section(&format!("{RECORDS} records re-encrypted"));
    let bare = bare_updates(&env).await;
    let (took, key) = rotation(&env).await;
    assert_eq!(left(&env, key).await, 0);
    let rate = |took: Duration| f64::from(i32::try_from(RECORDS).unwrap()) / took.as_secs_f64();
    let times = took.as_secs_f64() / bare.as_secs_f64();
    report.figure(&format!(
        "{:.0} records per second; plain updates of the same records, read page by page and written {AT_A_TIME} at a time: {:.0} per second; {times:.2} times as long (bound: {MOST_TIMES})",
        rate(took),
        rate(bare)
    ));
    let peak = peak_memory(env.operator.as_ref().unwrap().pid());
    report.figure(&format!("peak memory of the operator: {peak} MiB (bound: {MOST_MEMORY} MiB)"));
    assert!(times <= MOST_TIMES, "{times:.2}");
    assert!(peak <= MOST_MEMORY, "{peak} MiB");
}

/// Reads all records page by page and replaces each, as re-encryption does, without decrypting or encrypting
/// anything.
async fn bare_updates(env: &TestEnv) -> Duration {
    let api = env.api::<SealedGraphCredential>();
    let started = Instant::now();
    let mut page = ListParams::default().limit(500);
    loop {
        let list = api.list(&page).await.unwrap();
        let writes = list.items.into_iter().map(|mut record| {
            // Another name of the same length.
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

/// Makes another key primary. Returns how long the operator took from the first record to the last, by its
/// own log.
async fn rotation(env: &TestEnv) -> (Duration, KeyId) {
    let mut keyring = keyring(env).await;
    let key = keyring.rotate(jiff::Timestamp::now()).unwrap();
    let json = keyring.to_json().unwrap();
    env.secret(KEYRING, &[("keyring.json", std::str::from_utf8(json.expose()).unwrap())]).await;
    let operator = env.operator.as_ref().unwrap();
    operator.wait_for_log("all records are encrypted with the primary key", TIMEOUT).await.unwrap();
    let log = operator.log();
    let at = |message: &str| {
        let line = log.lines().find(|line| line.contains(message)).unwrap();
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        line["timestamp"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap()
    };
    let took = at("all records are encrypted with the primary key")
        .duration_since(at("re-encrypting records with the primary key"));
    (took.unsigned_abs(), key)
}

/// Peak memory of a process, in MiB.
fn peak_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}
