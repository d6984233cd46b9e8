//! Idle objects: no requests and no writes while nothing changes, not even after a restart.

use graph_credential_operator::api::conditions::{ConditionStatus, ConditionType};
use serde_json::json;

use crate::harness::{EXPIRY, QUIET_TIME, TestEnv, condition};

#[tokio::test]
async fn a_restart_without_changes_sends_and_writes_nothing() {
    let mut env = TestEnv::start().await;
    env.credential("sales-eu", json!({})).await;
    env.credential(
        "no-secret",
        json!({"secretRef": {"name": "missing"}, "clientId": "00000000-0000-4000-8000-000000000009"}),
    )
    .await;
    let before = env.wait_until_ready("sales-eu").await;
    env.wait_for("no-secret", ConditionType::SecretReady, ConditionStatus::False, "SecretNotFound").await;
    let account = env.wait_for_account("agency", ConditionStatus::True, "Authenticated").await;
    crate::harness::eventually("the account counts the credential", || async {
        let account: graph_credential_operator::api::WoodpeckerAccount =
            env.api().get("agency").await.unwrap();
        if account.status.as_ref().and_then(|status| status.managed) == Some(1) {
            Ok(())
        } else {
            Err(format!("{account:?}"))
        }
    })
    .await;
    drop(account);
    env.stop_operator().await;

    let mark = env.cluster.audit_mark().unwrap();
    let (tokens, writes, lists) =
        (env.entra.requests().len(), env.woodpecker.writes("agency"), env.woodpecker.lists("agency"));
    env.start_operator().await;
    tokio::time::sleep(QUIET_TIME).await;
    assert_eq!(env.entra.requests().len(), tokens, "no token request");
    assert_eq!(env.woodpecker.writes("agency"), writes, "no write to Woodpecker");
    assert!(env.woodpecker.lists("agency") <= lists + 1, "at most one list request");
    assert_eq!(env.status_writes(mark), Vec::<String>::new(), "no write to the API server");
    let after = env.read("sales-eu").await;
    assert_eq!(after.metadata.resource_version, before.metadata.resource_version);
}

#[tokio::test]
async fn a_secret_that_never_expires_is_registered_once() {
    let env = TestEnv::start().await;
    let never = [("client_secret", "s3cret-one"), ("secret_expires_at", "9999-12-31")];
    env.secret("sales-eu-graph", &never).await;
    env.credential("sales-eu", json!({})).await;
    let ready = env.wait_until_ready("sales-eu").await;
    let status = ready.status.unwrap();
    assert_eq!(status.expires_at.map(|at| at.0.to_string()).as_deref(), Some("9999-01-01T00:00:00Z"));
    let (mark, writes) = (env.cluster.audit_mark().unwrap(), env.woodpecker.writes("agency"));
    env.secret("sales-eu-graph", &[never[0], never[1], ("note", "another key")]).await;
    tokio::time::sleep(QUIET_TIME).await;
    assert_eq!(env.woodpecker.writes("agency"), writes);
    let of_it = |write: &String| write.contains("sales-eu\"");
    assert_eq!(env.status_writes(mark).into_iter().filter(of_it).collect::<Vec<_>>(), Vec::<String>::new());
}

#[tokio::test]
async fn a_changed_label_or_an_equal_secret_changes_nothing() {
    let env = TestEnv::start().await;
    env.credential("sales-eu", json!({})).await;
    env.wait_until_ready("sales-eu").await;
    let (tokens, writes) = (env.entra.requests().len(), env.woodpecker.writes("agency"));
    let values = [("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY), ("note", "another key")];
    env.secret("sales-eu-graph", &values).await;
    tokio::time::sleep(QUIET_TIME).await;
    assert_eq!(env.entra.requests().len(), tokens);
    assert_eq!(env.woodpecker.writes("agency"), writes);
}

#[tokio::test]
async fn suspend_stops_all_work_and_resume_continues_it() {
    let env = TestEnv::start().await;
    env.credential("sales-eu", json!({})).await;
    env.wait_until_ready("sales-eu").await;
    env.credential("sales-eu", json!({"suspend": true})).await;
    let object = env
        .wait_until("sales-eu", "Ready says suspended", |object| {
            condition(object, ConditionType::Ready)
                .is_some_and(|ready| ready.message.starts_with("suspended"))
        })
        .await;
    assert_eq!(
        condition(&object, ConditionType::Ready).unwrap().status,
        ConditionStatus::True,
        "the last state is kept"
    );
    assert_eq!(object.status.as_ref().unwrap().observed_generation, object.metadata.generation.unwrap());

    let (tokens, writes) = (env.entra.requests().len(), env.woodpecker.writes("agency"));
    env.secret("sales-eu-graph", &[("client_secret", "typo"), ("secret_expires_at", EXPIRY)]).await;
    tokio::time::sleep(QUIET_TIME).await;
    assert_eq!((env.entra.requests().len(), env.woodpecker.writes("agency")), (tokens, writes));

    env.credential("sales-eu", json!({"suspend": false})).await;
    env.wait_for("sales-eu", ConditionType::Verified, ConditionStatus::False, "InvalidClientSecret").await;
}

#[tokio::test]
async fn a_requested_reconcile_verifies_again_and_is_recorded_once() {
    let env = TestEnv::start().await;
    env.credential("sales-eu", json!({})).await;
    env.wait_until_ready("sales-eu").await;
    let tokens = env.entra.requests().len();
    let annotation = json!({"metadata": {"annotations": {"graph-credentials.io/reconcile-requested-at": "2026-11-24T08:00"}}});
    env.apply::<graph_credential_operator::api::MicrosoftGraphCredential>("sales-eu", {
        let mut body = annotation;
        crate::harness::merge(&mut body, json!({"spec": crate::harness::plain_spec(json!({}))}));
        body
    })
    .await
    .unwrap();
    env.wait_until("sales-eu", "the request is noted", |object| {
        object.status.as_ref().and_then(|status| status.last_handled_reconcile_at.as_deref())
            == Some("2026-11-24T08:00")
    })
    .await;
    assert_eq!(env.entra.requests().len(), tokens + 1);
    tokio::time::sleep(QUIET_TIME).await;
    assert_eq!(env.entra.requests().len(), tokens + 1, "one request, one verification");
}

#[tokio::test]
async fn nothing_is_written_over_hours_without_a_new_verification() {
    let mut env = TestEnv::start().await;
    env.credential("sales-eu", json!({})).await;
    let before = env.wait_until_ready("sales-eu").await;
    env.stop_operator().await;
    let (tokens, writes) = (env.entra.requests().len(), env.woodpecker.writes("agency"));
    // An hour takes eighteen seconds.
    env.time_scale = 200;
    // Its lease would last half a second, which is too short for a busy machine.
    env.extra_args.push("--leader-elect=false".to_owned());
    env.start_operator().await;
    tokio::time::sleep(std::time::Duration::from_secs(40)).await;
    let reconciles =
        env.log().lines().filter(|line| line.contains("reconciled") && line.contains("sales-eu")).count();
    assert!(reconciles >= 3, "it was reconciled {reconciles} times");
    let after = env.read("sales-eu").await;
    assert_eq!(after.metadata.resource_version, before.metadata.resource_version);
    assert_eq!((env.entra.requests().len(), env.woodpecker.writes("agency")), (tokens, writes));
}
