//! What an account holds already: taken over by policy, with a proof of the very secret, and given back whole.

use graph_credential_operator::resources::Ownership;
use graph_credential_operator::resources::conditions::{ConditionStatus, ConditionType};
use kit::woodpecker::{Credential, Op};
use serde_json::{Value, json};

use crate::stage::{CLIENT, EXPIRY, Stage, TENANT, condition, message};

fn by_hand(stage: &Stage) -> i64 {
    stage.woodpecker.put("agency", Credential::new(&TENANT.to_uppercase(), CLIENT, "old", EXPIRY, "by hand"))
}

fn adoption(adoption: &Value) -> Value {
    json!({"destination": {"woodpecker": {"accountRef": {"name": "agency"}, "adoption": adoption}}})
}

#[tokio::test]
async fn the_one_credential_of_the_app_is_taken_over_and_keeps_its_name() {
    let stage = Stage::set().await;
    let id = by_hand(&stage);
    stage.credential("sales-eu", json!({"deletionPolicy": "Delete"})).await;
    let status = stage.wait_until_ready("sales-eu").await.status.unwrap();
    assert_eq!(status.credential_id, Some(id));
    assert_eq!(status.registration.unwrap().ownership, Ownership::Adopted);
    let object = stage.read("sales-eu").await;
    assert_eq!(condition(&object, ConditionType::Registered).unwrap().reason, "Adopted");
    assert!(stage.woodpecker.secret_matches("agency", id, "s3cret-one"));
    assert_eq!(stage.remote()[0].name, "by hand");
    stage.credential("sales-eu", json!({"deletionPolicy": "Delete", "displayName": "MS Graph app"})).await;
    crate::stage::eventually("it has the name that the spec gives", || async {
        if stage.remote()[0].name == "MS Graph app" { Ok(()) } else { Err(stage.log()) }
    })
    .await;
    stage.delete("sales-eu").await;
    stage.wait_until_gone("sales-eu").await;
    assert_eq!(stage.remote().len(), 1, "what this object did not make is not deleted");
}

#[tokio::test]
async fn with_its_ownership_taken_it_goes_with_the_object() {
    let stage = Stage::set().await;
    by_hand(&stage);
    let mut spec = adoption(&json!({"takeOwnership": true}));
    spec["deletionPolicy"] = json!("Delete");
    stage.credential("sales-eu", spec).await;
    stage.wait_until_ready("sales-eu").await;
    stage.delete("sales-eu").await;
    stage.wait_until_gone("sales-eu").await;
    assert_eq!(stage.remote().len(), 0);
}

#[tokio::test]
async fn a_wrong_secret_takes_nothing_over() {
    let stage = Stage::set().await;
    let id = by_hand(&stage);
    stage.secret("sales-eu-graph", &[("client_secret", "wrong"), ("secret_expires_at", EXPIRY)]).await;
    stage.credential("sales-eu", json!({})).await;
    stage.wait_for("sales-eu", ConditionType::Verified, ConditionStatus::False, "InvalidClientSecret").await;
    assert_eq!(stage.woodpecker.writes("agency"), 0);
    assert!(stage.woodpecker.secret_matches("agency", id, "old"));
}

#[tokio::test]
async fn of_several_the_named_one_is_taken_over() {
    let stage = Stage::set().await;
    let (one, other) = (by_hand(&stage), by_hand(&stage));
    stage.credential("sales-eu", json!({})).await;
    let object = stage
        .wait_for("sales-eu", ConditionType::Registered, ConditionStatus::False, "AmbiguousRemote")
        .await;
    let text = message(&object, ConditionType::Registered);
    assert!(text.contains(&one.to_string()) && text.contains("adoption.credentialId"), "{text}");
    assert_eq!(stage.woodpecker.writes("agency"), 0);
    stage.credential("sales-eu", adoption(&json!({"credentialId": other}))).await;
    let status = stage.wait_until_ready("sales-eu").await.status.unwrap();
    assert_eq!(status.credential_id, Some(other));
    assert!(stage.woodpecker.secret_matches("agency", one, "old"));
}

#[tokio::test]
async fn create_only_leaves_what_is_there_alone() {
    let stage = Stage::set().await;
    let id = by_hand(&stage);
    stage.credential("sales-eu", adoption(&json!({"policy": "CreateOnly"}))).await;
    let object =
        stage.wait_for("sales-eu", ConditionType::Registered, ConditionStatus::False, "AlreadyExists").await;
    assert!(message(&object, ConditionType::Registered).contains(&id.to_string()));
    assert_eq!(condition(&object, ConditionType::Verified).unwrap().reason, "TokenIssued");
    assert_eq!(stage.woodpecker.writes("agency"), 0);
    assert!(stage.woodpecker.secret_matches("agency", id, "old"));
    stage.woodpecker.remove("agency", id);
    stage.wait_until_ready("sales-eu").await;
}

#[tokio::test]
async fn adopt_only_waits_until_there_is_something() {
    let stage = Stage::set().await;
    stage.credential("sales-eu", adoption(&json!({"policy": "AdoptOnly"}))).await;
    stage.wait_for("sales-eu", ConditionType::Registered, ConditionStatus::False, "NothingToAdopt").await;
    assert_eq!(stage.woodpecker.writes("agency"), 0);
    let id = by_hand(&stage);
    let status = stage.wait_until_ready("sales-eu").await.status.unwrap();
    assert_eq!(status.credential_id, Some(id));
    assert!(stage.woodpecker.requests("agency").iter().all(|request| request.op != Op::Create));
}
