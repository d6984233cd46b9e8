//! Verification first: nothing reaches Woodpecker before Microsoft has issued a token for the secret, and a
//! rejected new secret never replaces a working registration.

use graph_credential_operator::api::conditions::{ConditionStatus, ConditionType};
use kit::entra::{Fault, Outcome};
use kit::woodpecker::Op;
use serde_json::json;

use crate::harness::{CLIENT, EXPIRY, TENANT, TestEnv, eventually, message};

#[tokio::test]
async fn an_applied_credential_becomes_ready_with_id_and_expiry() {
    let env = TestEnv::start().await;
    env.credential("sales-eu", json!({"displayName": "MS Graph app"})).await;
    let object = env.wait_until_ready("sales-eu").await;
    let status = object.status.unwrap();
    let remote = env.remote();
    assert_eq!(remote.len(), 1);
    assert_eq!(status.credential_id, Some(remote[0].credential_id));
    assert_eq!(status.expires_at.unwrap().0.to_string(), EXPIRY);
    assert_eq!(remote[0].secret_expires_at, EXPIRY);
    assert!(env.woodpecker.secret_matches("agency", remote[0].credential_id, "s3cret-one"));
    assert_eq!(status.pending_create, None);
    assert_eq!(status.pending_secret, None);

    let verification =
        env.entra.requests().into_iter().find(|request| request.outcome == Outcome::Issued).unwrap();
    let create =
        env.woodpecker.requests("agency").into_iter().find(|request| request.op == Op::Create).unwrap();
    assert!(verification.at < create.at, "verified at {} and sent at {}", verification.at, create.at);
    assert_eq!(verification.scope, "https://graph.microsoft.com/.default");
    assert!(verification.client_request_id.is_some());
    eventually("it has its name, for which Ready does not wait", || async {
        let name = env.remote()[0].name.clone();
        if name == "MS Graph app" { Ok(()) } else { Err(name) }
    })
    .await;
}

#[tokio::test]
async fn a_rotated_secret_is_updated_under_the_same_id() {
    let env = TestEnv::start().await;
    env.credential("sales-eu", json!({})).await;
    let before = env.wait_until_ready("sales-eu").await.status.unwrap();

    env.entra.set_secrets(TENANT, CLIENT, &["s3cret-one", "s3cret-two"]);
    env.secret("sales-eu-graph", &[("client_secret", "s3cret-two"), ("secret_expires_at", "2028-01-31")])
        .await;
    let after = env
        .wait_until("sales-eu", "the new expiry", |object| {
            object.status.as_ref().is_some_and(|status| status.expires_at != before.expires_at)
        })
        .await
        .status
        .unwrap();
    assert_eq!(after.credential_id, before.credential_id);
    let id = after.credential_id.unwrap();
    assert!(env.woodpecker.secret_matches("agency", id, "s3cret-two"));
    assert_eq!(env.remote()[0].secret_expires_at, "2028-01-31T23:59:59Z");
    let updates =
        env.woodpecker.requests("agency").into_iter().filter(|request| request.op == Op::Update).count();
    assert_eq!(updates, 1);
}

#[tokio::test]
async fn a_rejected_rotation_keeps_the_old_registration() {
    let env = TestEnv::start().await;
    env.credential("sales-eu", json!({})).await;
    let before = env.wait_until_ready("sales-eu").await.status.unwrap();
    let writes = env.woodpecker.writes("agency");

    env.secret("sales-eu-graph", &[("client_secret", "typo"), ("secret_expires_at", EXPIRY)]).await;
    env.wait_for("sales-eu", ConditionType::Verified, ConditionStatus::Unknown, "AwaitingPropagation").await;
    let object = env
        .wait_for("sales-eu", ConditionType::Verified, ConditionStatus::False, "InvalidClientSecret")
        .await;
    assert!(message(&object, ConditionType::Verified).contains("AADSTS7000215"));
    assert!(message(&object, ConditionType::Ready).contains("Certificates & secrets"));
    let status = object.status.as_ref().unwrap();
    assert_eq!(status.registration, before.registration);
    assert_eq!(status.credential_id, before.credential_id);
    assert_eq!(env.woodpecker.writes("agency"), writes);
    assert!(env.woodpecker.secret_matches("agency", before.credential_id.unwrap(), "s3cret-one"));

    env.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    let object = env.wait_until_ready("sales-eu").await;
    assert_eq!(object.status.unwrap().credential_id, before.credential_id);
    assert_eq!(env.woodpecker.writes("agency"), writes, "the old secret is registered still");
}

#[tokio::test]
async fn a_wrong_secret_of_a_new_object_is_sent_only_to_microsoft() {
    let env = TestEnv::start().await;
    env.secret("sales-eu-graph", &[("client_secret", TENANT), ("secret_expires_at", EXPIRY)]).await;
    env.credential("sales-eu", json!({})).await;
    let object = env
        .wait_for("sales-eu", ConditionType::Verified, ConditionStatus::False, "InvalidClientSecret")
        .await;
    assert!(message(&object, ConditionType::Verified).contains("the value is the tenant ID"));
    assert_eq!(env.woodpecker.writes("agency"), 0);
    assert!(object.status.unwrap().next_verification_time.is_some());
}

#[tokio::test]
async fn a_rejected_secret_is_described_at_once_if_it_is_something_else() {
    let env = TestEnv::start().await;
    let encrypted = "ENC[AES256_GCM,data:p673w,iv:YY=,tag:UQ==,type:str]";
    env.secret("sales-eu-graph", &[("client_secret", encrypted), ("secret_expires_at", EXPIRY)]).await;
    env.credential("sales-eu", json!({})).await;
    let object = env
        .wait_for("sales-eu", ConditionType::Verified, ConditionStatus::Unknown, "AwaitingPropagation")
        .await;
    let text = message(&object, ConditionType::Verified);
    assert!(text.contains("SOPS") && !text.contains("p673w"), "{text}");
    let object = env
        .wait_for("sales-eu", ConditionType::Verified, ConditionStatus::False, "InvalidClientSecret")
        .await;
    assert!(message(&object, ConditionType::Ready).contains("SOPS"));
    // Microsoft decides: what it accepts is registered, whatever it looks like.
    env.entra.set_secrets(TENANT, CLIENT, &["<no value>"]);
    env.secret("sales-eu-graph", &[("client_secret", "<no value>"), ("secret_expires_at", EXPIRY)]).await;
    env.wait_until_ready("sales-eu").await;
}

#[tokio::test]
async fn an_unknown_app_and_an_unknown_tenant_have_different_reasons() {
    let env = TestEnv::start().await;
    env.credential("no-app", json!({"clientId": "00000000-0000-4000-8000-000000000001"})).await;
    env.credential("no-tenant", json!({"tenantId": "00000000-0000-4000-8000-000000000002"})).await;
    env.wait_for("no-app", ConditionType::Verified, ConditionStatus::False, "ApplicationNotFound").await;
    env.wait_for("no-tenant", ConditionType::Verified, ConditionStatus::False, "TenantNotFound").await;
    assert_eq!(env.woodpecker.writes("agency"), 0);
}

#[tokio::test]
async fn an_outage_of_microsoft_is_waited_for() {
    let env = TestEnv::start().await;
    env.entra.fail_always(Fault::Reset);
    env.credential("sales-eu", json!({})).await;
    env.wait_for("sales-eu", ConditionType::Verified, ConditionStatus::Unknown, "MicrosoftUnavailable").await;
    assert_eq!(env.woodpecker.writes("agency"), 0);
    env.entra.fail_always(Fault::Html503);
    env.entra.clear_faults();
    env.wait_until_ready("sales-eu").await;
}

#[tokio::test]
async fn a_secret_that_propagates_slowly_is_retried() {
    let env = TestEnv::start().await;
    env.entra.propagate_after(TENANT, CLIENT, "s3cret-one", 2);
    env.credential("sales-eu", json!({})).await;
    env.wait_for("sales-eu", ConditionType::Verified, ConditionStatus::Unknown, "AwaitingPropagation").await;
    env.wait_until_ready("sales-eu").await;
    assert_eq!(env.entra.count(TENANT, CLIENT), 3);
    assert_eq!(env.remote().len(), 1);
}
