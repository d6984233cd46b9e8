//! What the operator reports if it lacks rights to records.

use super::*;

/// Leaves the limited operator what it needs to start, and removes its other rights to records.
async fn revoke_rights(env: &TestEnv) {
    let role: Role = env.api().get("limited").await.unwrap();
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
    env.apply::<Role>("limited", json!({"rules": rules})).await.unwrap();
}

#[tokio::test]
async fn without_rights_to_records_only_the_store_fails_and_names_the_missing_rights() {
    let mut env = TestEnv::bare().await;
    env.limit_operator(&["get"]).await;
    revoke_rights(&env).await;
    put_secret(&env, "s3cret-one", EXPIRY).await;
    env.account("agency", json!({})).await;
    env.start_operator().await;
    env.credential("sales-eu", json!({})).await;
    env.credential("sealed", store(json!({}))).await;
    env.wait_until_ready("sales-eu").await;
    let object =
        env.wait_for("sealed", ConditionType::Registered, ConditionStatus::False, "StorageForbidden").await;
    let text = message(&object, ConditionType::Registered);
    assert!(
        text.contains("get, list, watch, create, update, patch and delete on sealedgraphcredentials"),
        "{text}"
    );
    assert_eq!(
        env.entra.requests().len(),
        2,
        "one token each, and none again while nothing can be encrypted"
    );
}

#[tokio::test]
async fn revoked_rights_to_records_are_reported_until_they_are_granted_again() {
    let mut env = TestEnv::bare().await;
    env.limit_operator(&["get"]).await;
    put_secret(&env, "s3cret-one", EXPIRY).await;
    env.start_operator().await;
    env.credential("sales-eu", store(json!({}))).await;
    is_sealed(&env, "sales-eu").await;
    revoke_rights(&env).await;
    env.request_reconcile("sales-eu").await;
    env.wait_for("sales-eu", ConditionType::Ready, ConditionStatus::False, "StorageForbidden").await;
    env.grant(&["get"]).await;
    env.request_reconcile("sales-eu").await;
    is_sealed(&env, "sales-eu").await;
}

#[tokio::test]
async fn a_record_missing_from_the_status_is_not_orphaned_by_missing_rights() {
    let mut env = TestEnv::bare().await;
    env.limit_operator(&["get"]).await;
    put_secret(&env, "s3cret-one", EXPIRY).await;
    env.start_operator().await;
    env.credential("sales-eu", store(json!({"deletionPolicy": "Delete"}))).await;
    is_sealed(&env, "sales-eu").await;
    env.stop_operator().await;
    key_retirement::forget_registration(&env).await;
    revoke_rights(&env).await;
    env.delete("sales-eu").await;
    env.start_operator().await;
    env.wait_for("sales-eu", ConditionType::Registered, ConditionStatus::False, "StorageForbidden").await;
    env.grant(&["get"]).await;
    env.request_reconcile("sales-eu").await;
    env.wait_until_gone("sales-eu").await;
    assert_eq!(records(&env).await.len(), 0);
}

#[tokio::test]
async fn a_deletion_without_rights_to_records_waits_until_set_to_retain() {
    let mut env = TestEnv::bare().await;
    env.limit_operator(&["get"]).await;
    put_secret(&env, "s3cret-one", EXPIRY).await;
    env.start_operator().await;
    env.credential("sales-eu", store(json!({"deletionPolicy": "Delete"}))).await;
    is_sealed(&env, "sales-eu").await;
    revoke_rights(&env).await;
    env.delete("sales-eu").await;
    let object =
        env.wait_for("sales-eu", ConditionType::Registered, ConditionStatus::False, "StorageForbidden").await;
    assert!(message(&object, ConditionType::Registered).contains("or set deletionPolicy to Retain"));
    assert!(env.read("sales-eu").await.metadata.deletion_timestamp.is_some());
    env.credential("sales-eu", store(json!({"deletionPolicy": "Retain"}))).await;
    env.wait_until_gone("sales-eu").await;
    record(&env).await;
}
