//! Accounts of which nothing is known yet, after a start: only what needs the account waits.

use graph_credential_operator::api::WoodpeckerAccount;
use graph_credential_operator::api::conditions::{ConditionStatus, ConditionType};
use http::StatusCode;
use kube::api::DeleteParams;
use serde_json::json;

use crate::harness::{EXPIRY, QUIET_TIME, TestEnv, condition, eventually};
use crate::rest_api::fault_proxy::FaultProxy;

#[tokio::test]
async fn a_first_failed_read_of_an_api_key_leaves_its_credentials_ready() {
    let mut env = TestEnv::bare().await;
    let proxy = FaultProxy::before(&mut env).await;
    env.start_operator().await;
    env.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    env.account("agency", json!({})).await;
    env.credential("sales-eu", json!({})).await;
    let since = env.wait_until_ready("sales-eu").await;
    let since = condition(&since, ConditionType::Ready).unwrap().last_transition_time.clone();
    env.stop_operator().await;
    proxy.respond_with("/secrets/agency-key", StatusCode::INTERNAL_SERVER_ERROR);
    env.start_operator().await;
    eventually("the read fails", || async {
        if proxy.count("GET", "/secrets/agency-key") > 3 { Ok(()) } else { Err(env.log()) }
    })
    .await;
    tokio::time::sleep(QUIET_TIME).await;
    proxy.recover();
    env.wait_for_account("agency", ConditionStatus::True, "Authenticated").await;
    let object = env.wait_until_ready("sales-eu").await;
    assert_eq!(condition(&object, ConditionType::Ready).unwrap().last_transition_time, since);
}

#[tokio::test]
async fn a_rejected_finalizer_of_an_account_is_reported_and_its_credentials_are_maintained() {
    let mut env = TestEnv::bare().await;
    let proxy = FaultProxy::before(&mut env).await;
    let part = format!(
        "PATCH /apis/graph-credentials.io/v1alpha1/namespaces/{}/woodpeckeraccounts/agency",
        env.namespace
    );
    proxy.respond_with(&part, StatusCode::FORBIDDEN);
    env.start_operator().await;
    env.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    env.account("agency", json!({})).await;
    env.credential("sales-eu", json!({"deletionPolicy": "Delete"})).await;
    env.wait_until_ready("sales-eu").await;
    let account = env.wait_for_account("agency", ConditionStatus::False, "FinalizerRejected").await;
    let text = format!("{:?}", account.status.unwrap().conditions);
    assert!(text.contains("account-protection") && text.contains("patch woodpeckeraccounts"), "{text}");
    proxy.recover();
    env.wait_for_account("agency", ConditionStatus::True, "Authenticated").await;
    env.delete("sales-eu").await;
    env.wait_until_gone("sales-eu").await;
    env.api::<WoodpeckerAccount>().delete("agency", &DeleteParams::default()).await.unwrap();
}
