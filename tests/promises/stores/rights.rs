//! What is told where the operator may not touch records.

use super::*;

/// Leaves the limited operator what it needs to start, and takes its other rights to records.
async fn take_rights(stage: &Stage) {
    let role: Role = stage.api().get("limited").await.unwrap();
    let mut rules = serde_json::to_value(role.rules.unwrap()).unwrap();
    rules[0]["apiGroups"] = json!(["events.k8s.io"]);
    let (group, all) = (json!(["graph-credentials.io"]), json!(["*"]));
    let served = json!([
        "microsoftgraphcredentials",
        "microsoftgraphcredentials/status",
        "woodpeckeraccounts",
        "woodpeckeraccounts/status"
    ]);
    let rules = rules.as_array_mut().unwrap();
    rules.push(json!({"apiGroups": group, "resources": served, "verbs": all}));
    rules.push(json!({"apiGroups": group, "resources": ["sealedgraphcredentials"], "verbs": ["list"]}));
    stage.apply::<Role>("limited", json!({"rules": rules})).await.unwrap();
}

#[tokio::test]
async fn without_the_rights_to_records_woodpecker_is_served_and_the_store_says_what_is_missing() {
    let mut stage = Stage::bare().await;
    stage.limit_operator(&["get"]).await;
    take_rights(&stage).await;
    put_secret(&stage, "s3cret-one", EXPIRY).await;
    stage.account("agency", json!({})).await;
    stage.start_operator().await;
    stage.credential("sales-eu", json!({})).await;
    stage.credential("sealed", store(json!({}))).await;
    stage.wait_until_ready("sales-eu").await;
    eventually("an event says what is missing", || async {
        let events = stage.events("sealed").await;
        let is_told =
            |event: &String| event.starts_with("PassFailed") && event.contains("SealedGraphCredentials");
        if events.iter().any(is_told) { Ok(()) } else { Err(format!("{events:#?}\n{}", stage.log())) }
    })
    .await;
}

#[tokio::test]
async fn a_deletion_without_the_rights_to_records_waits_until_told_to_retain() {
    let mut stage = Stage::bare().await;
    stage.limit_operator(&["get"]).await;
    put_secret(&stage, "s3cret-one", EXPIRY).await;
    stage.start_operator().await;
    stage.credential("sales-eu", store(json!({"deletionPolicy": "Delete"}))).await;
    is_sealed(&stage, "sales-eu").await;
    take_rights(&stage).await;
    stage.delete("sales-eu").await;
    eventually("an event says what is missing", || async {
        let events = stage.events("sales-eu").await;
        let is_told =
            |event: &String| event.starts_with("PassFailed") && event.contains("SealedGraphCredentials");
        if events.iter().any(is_told) { Ok(()) } else { Err(format!("{events:#?}\n{}", stage.log())) }
    })
    .await;
    assert!(stage.read("sales-eu").await.metadata.deletion_timestamp.is_some());
    stage.credential("sales-eu", store(json!({"deletionPolicy": "Retain"}))).await;
    stage.wait_until_gone("sales-eu").await;
    record(&stage).await;
}
