//! Promise 6, in memory: ten seconds after a pass no writable page of the process holds the client secret, in
//! no form in which it passed through.

use std::time::Duration;

use graph_credential_operator::resources::conditions::{ConditionStatus, ConditionType};
use kit::memory::{Hit, search};
use serde_json::json;

use crate::stage::{API_KEY, CLIENT, EXPIRY, Stage, TENANT};

/// Longer than anything that a pass leaves behind may live.
const TEN_SECONDS: Duration = Duration::from_secs(10);

/// The forms in which a secret passes through the process.
fn forms(secret: &str) -> Vec<Vec<u8>> {
    use base64::Engine as _;
    let base64 = base64::engine::general_purpose::STANDARD.encode(secret);
    let form = form_urlencoded::byte_serialize(secret.as_bytes()).collect::<String>();
    let json = serde_json::to_string(secret).unwrap().trim_matches('"').to_owned();
    let mut forms: Vec<Vec<u8>> = [secret.to_owned(), base64, form, json].map(String::into_bytes).into();
    forms.sort();
    forms.dedup();
    forms
}

fn found(stage: &Stage, secrets: &[String]) -> Vec<Hit> {
    let forms: Vec<Vec<u8>> = secrets.iter().flat_map(|secret| forms(secret)).collect();
    let needles: Vec<&[u8]> = forms.iter().map(Vec::as_slice).collect();
    search(stage.operator.as_ref().unwrap().pid(), &needles).expect("the operator's memory can be read")
}

#[tokio::test]
async fn no_client_secret_is_in_memory_ten_seconds_after_a_pass() {
    let canary = |word: &str| format!("canary~{word}+%\"{:x}", std::process::id());
    let (first, refused, second) = (canary("first"), canary("refused"), canary("second"));
    let mut stage = Stage::bare().await;
    // Not dumpable, the process could be read by root alone.
    stage.extra_args = vec!["--allow-core-dumps".to_owned()];
    stage.entra.set_secrets(TENANT, CLIENT, &[&first, &second]);
    stage.start_operator().await;
    stage.account("agency", json!({})).await;
    let set = async |secret: &str, expiry: &str| {
        stage.secret("sales-eu-graph", &[("client_secret", secret), ("secret_expires_at", expiry)]).await;
    };
    set(&first, EXPIRY).await;
    stage.credential("sales-eu", json!({})).await;
    stage.wait_until_ready("sales-eu").await;
    set(&refused, EXPIRY).await;
    stage.wait_for("sales-eu", ConditionType::Verified, ConditionStatus::False, "InvalidClientSecret").await;
    set(&second, "2028-01-01T00:00:00Z").await;
    stage
        .wait_until("sales-eu", "the new expiry", |object| {
            object
                .status
                .as_ref()
                .and_then(|status| status.expires_at.as_ref())
                .is_some_and(|at| at.0.to_string() == "2028-01-01T00:00:00Z")
        })
        .await;
    tokio::time::sleep(TEN_SECONDS).await;

    // The API key is in memory on purpose: each request to Woodpecker needs it. That it is found shows that
    // the search works.
    let control = found(&stage, &[API_KEY.to_owned()]);
    assert!(!control.is_empty(), "the search finds what is there");
    let hits = found(&stage, &[first, refused, second]);
    assert!(hits.is_empty(), "{hits:#?}");
}

#[tokio::test]
async fn core_dumps_are_off_unless_they_are_allowed() {
    let limits = |stage: &Stage| {
        let pid = stage.operator.as_ref().unwrap().pid();
        let text = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        text.lines()
            .find(|line| line.starts_with("Max core file size"))
            .unwrap()
            .split_whitespace()
            .nth(4)
            .unwrap()
            .to_owned()
    };
    let mut stage = Stage::bare().await;
    stage.start_operator().await;
    assert_eq!(limits(&stage), "0");
    assert!(stage.log().contains("core dumps are off"), "{}", stage.log());
    stage.stop_operator().await;
    stage.extra_args = vec!["--allow-core-dumps".to_owned()];
    stage.start_operator().await;
    assert!(stage.log().contains("core dumps are allowed"), "{}", stage.log());
}
