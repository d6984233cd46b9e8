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
    let object =
        stage.wait_for("sealed", ConditionType::Registered, ConditionStatus::False, "StoreRefused").await;
    let told = message(&object, ConditionType::Registered);
    assert!(
        told.contains("get, list, watch, create, update, patch and delete on sealedgraphcredentials"),
        "{told}"
    );
    assert_eq!(stage.entra.requests().len(), 2, "one token each, and none again while nothing can be sealed");
}

#[tokio::test]
async fn rights_that_are_taken_are_told_on_what_was_ready_and_their_return_heals_it() {
    let mut stage = Stage::bare().await;
    stage.limit_operator(&["get"]).await;
    put_secret(&stage, "s3cret-one", EXPIRY).await;
    stage.start_operator().await;
    stage.credential("sales-eu", store(json!({}))).await;
    is_sealed(&stage, "sales-eu").await;
    take_rights(&stage).await;
    stage.request_pass("sales-eu").await;
    stage.wait_for("sales-eu", ConditionType::Ready, ConditionStatus::False, "StoreRefused").await;
    stage.grant(&["get"]).await;
    stage.request_pass("sales-eu").await;
    is_sealed(&stage, "sales-eu").await;
}

#[tokio::test]
async fn a_record_that_the_status_does_not_know_of_is_not_forgotten_for_want_of_rights() {
    let mut stage = Stage::bare().await;
    stage.limit_operator(&["get"]).await;
    put_secret(&stage, "s3cret-one", EXPIRY).await;
    stage.start_operator().await;
    stage.credential("sales-eu", store(json!({"deletionPolicy": "Delete"}))).await;
    is_sealed(&stage, "sales-eu").await;
    stage.stop_operator().await;
    endings::forget_registration(&stage).await;
    take_rights(&stage).await;
    stage.delete("sales-eu").await;
    stage.start_operator().await;
    stage.wait_for("sales-eu", ConditionType::Registered, ConditionStatus::False, "StoreRefused").await;
    stage.grant(&["get"]).await;
    stage.request_pass("sales-eu").await;
    stage.wait_until_gone("sales-eu").await;
    assert_eq!(records(&stage).await.len(), 0);
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
    let object =
        stage.wait_for("sales-eu", ConditionType::Registered, ConditionStatus::False, "StoreRefused").await;
    assert!(message(&object, ConditionType::Registered).contains("or set deletionPolicy to Retain"));
    assert!(stage.read("sales-eu").await.metadata.deletion_timestamp.is_some());
    stage.credential("sales-eu", store(json!({"deletionPolicy": "Retain"}))).await;
    stage.wait_until_gone("sales-eu").await;
    record(&stage).await;
}
