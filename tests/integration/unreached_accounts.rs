//! Accounts of which nothing is known yet, after a start: only what needs the account waits.

use graph_credential_operator::api::conditions::{ConditionStatus, ConditionType};
use graph_credential_operator::api::{MicrosoftGraphCredential, WoodpeckerAccount};
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use kit::woodpecker::{Fault, Op};
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use crate::harness::{CLIENT, EXPIRY, QUIET_TIME, TENANT, TestEnv, condition, eventually, message};
use crate::rest_api::fault_proxy::FaultProxy;

/// Stops the operator, makes the verification of the credential due, and takes Woodpecker down.
async fn stop_with_woodpecker_down(env: &mut TestEnv) {
    env.stop_operator().await;
    let old = Timestamp::now() - SignedDuration::from_hours(48);
    let old = old.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let patch = Patch::Merge(json!({"status": {"lastVerifiedTime": old}}));
    let credentials = env.api::<MicrosoftGraphCredential>();
    credentials.patch_status("sales-eu", &PatchParams::default(), &patch).await.unwrap();
    env.woodpecker.fail_always(Op::List, Fault::Html502);
}

#[tokio::test]
async fn secrets_are_verified_after_a_restart_while_woodpecker_is_down() {
    let mut env = TestEnv::start().await;
    env.credential("sales-eu", json!({})).await;
    env.wait_until_ready("sales-eu").await;
    stop_with_woodpecker_down(&mut env).await;
    let before = env.entra.count(TENANT, CLIENT);
    env.start_operator().await;
    eventually("the secret is verified again", || async {
        if env.entra.count(TENANT, CLIENT) > before { Ok(()) } else { Err(env.log()) }
    })
    .await;
    env.wait_for_account("agency", ConditionStatus::False, "WoodpeckerUnavailable").await;
    let object = env.read("sales-eu").await;
    assert_eq!(condition(&object, ConditionType::Ready).unwrap().status, ConditionStatus::True);

    // A new secret is verified as well, and waits for the account.
    env.entra.set_secrets(TENANT, CLIENT, &["s3cret-two"]);
    env.secret("sales-eu-graph", &[("client_secret", "s3cret-two"), ("secret_expires_at", EXPIRY)]).await;
    let object = env
        .wait_for("sales-eu", ConditionType::Registered, ConditionStatus::Unknown, "WoodpeckerUnavailable")
        .await;
    assert_eq!(condition(&object, ConditionType::Verified).unwrap().reason, "TokenIssued");
    let id = env.remote()[0].credential_id;
    env.woodpecker.clear_faults();
    env.wait_until_ready("sales-eu").await;
    assert!(env.woodpecker.secret_matches("agency", id, "s3cret-two"));
}

#[tokio::test]
async fn a_secret_expires_after_a_restart_while_woodpecker_is_down() {
    let mut env = TestEnv::start().await;
    let soon = Timestamp::now() + SignedDuration::from_secs(15);
    let soon = soon.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    env.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", &soon)]).await;
    env.credential("sales-eu", json!({})).await;
    env.wait_until_ready("sales-eu").await;
    env.stop_operator().await;
    env.woodpecker.fail_always(Op::List, Fault::Html502);
    env.start_operator().await;
    env.wait_for("sales-eu", ConditionType::Ready, ConditionStatus::False, "Expired").await;
}

#[tokio::test]
async fn a_rejected_rename_does_not_stop_verification() {
    let mut env = TestEnv::start().await;
    env.woodpecker.fail_always(Op::Rename, Fault::RefusedBefore(422, json!({"message": "NAME_TAKEN"})));
    env.credential("sales-eu", json!({})).await;
    env.wait_until_ready("sales-eu").await;
    env.credential("sales-eu", json!({"displayName": "Sales"})).await;
    env.wait_for("sales-eu", ConditionType::Registered, ConditionStatus::False, "UpdateRejected").await;
    let renames = env.woodpecker.writes("agency");
    let planned = env.read("sales-eu").await.status.unwrap().next_attempt_time;
    stop_with_woodpecker_down(&mut env).await;
    env.woodpecker.clear_faults();
    let before = env.entra.count(TENANT, CLIENT);
    env.start_operator().await;
    eventually("the secret is verified again", || async {
        if env.entra.count(TENANT, CLIENT) > before { Ok(()) } else { Err(env.log()) }
    })
    .await;
    env.entra.set_secrets(TENANT, CLIENT, &[]);
    let object = env
        .wait_until("sales-eu", "the verification is in the status", |object| {
            let verified = object.status.as_ref().and_then(|status| status.last_verified_time.as_ref());
            verified.is_some_and(|at| at.0 > Timestamp::now() - SignedDuration::from_hours(1))
        })
        .await;
    assert_eq!(object.status.as_ref().unwrap().next_attempt_time, planned, "the rename waits as before");
    assert_eq!(condition(&object, ConditionType::Registered).unwrap().reason, "UpdateRejected");
    assert_eq!(env.woodpecker.writes("agency"), renames);
}

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

#[tokio::test]
async fn an_account_in_a_namespace_that_is_not_served_is_named_as_such() {
    let env = TestEnv::start().await;
    let elsewhere =
        json!({"destination": {"woodpecker": {"accountRef": {"name": "agency", "namespace": "elsewhere"}}}});
    env.credential("sales-eu", elsewhere).await;
    let object =
        env.wait_for("sales-eu", ConditionType::Registered, ConditionStatus::False, "AccountNotFound").await;
    let text = message(&object, ConditionType::Registered);
    assert!(text.contains("elsewhere/agency") && text.contains("does not serve"), "{text}");
    assert!(!text.contains("does not exist"), "{text}");
}
