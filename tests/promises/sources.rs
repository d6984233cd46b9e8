//! The Secret that a credential points to: every reason of `SourceReady`, each with its cure, and nothing
//! sent anywhere while one holds.

use graph_credential_operator::resources::MicrosoftGraphCredential;
use graph_credential_operator::resources::conditions::{ConditionStatus, ConditionType, find};
use serde_json::json;

use crate::stage::{EXPIRY, Stage, message};

/// Checks that the source is refused for that reason, with a message that holds `cure`, and that it becomes
/// Ready when the Secret is mended.
async fn refused_and_mended(values: &[(&str, &str)], reason: &str, cure: &str) {
    let stage = Stage::set().await;
    stage.secret_exactly("sales-eu-graph", values).await;
    stage.credential("sales-eu", json!({})).await;
    let object = stage.wait_for("sales-eu", ConditionType::SourceReady, ConditionStatus::False, reason).await;
    let text = message(&object, ConditionType::SourceReady);
    assert!(text.contains("sales-eu-graph") && text.contains(cure), "{text}");
    assert_eq!(message(&object, ConditionType::Ready), text);
    assert_eq!(stage.entra.requests().len(), 0, "nothing is sent to Microsoft");
    assert_eq!(stage.woodpecker.writes("agency"), 0, "nothing is sent to Woodpecker");
    stage
        .secret_exactly("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)])
        .await;
    stage.wait_until_ready("sales-eu").await;
}

#[tokio::test]
async fn a_missing_secret_is_waited_for() {
    let stage = Stage::set().await;
    stage.delete_secret("sales-eu-graph").await;
    stage.credential("sales-eu", json!({})).await;
    let object = stage
        .wait_for("sales-eu", ConditionType::SourceReady, ConditionStatus::False, "SecretNotFound")
        .await;
    assert!(message(&object, ConditionType::Ready).contains("create it"));
    let reconciling = find(&object.status.unwrap().conditions, ConditionType::Reconciling).cloned();
    assert!(reconciling.is_some(), "it may come with the next file: not stalled");
    stage.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    stage.wait_until_ready("sales-eu").await;
}

#[tokio::test]
async fn a_missing_key_is_named() {
    refused_and_mended(
        &[("password", "s3cret-one"), ("secret_expires_at", EXPIRY)],
        "KeyMissing",
        "client_secret",
    )
    .await;
}

#[tokio::test]
async fn an_empty_value_is_named() {
    refused_and_mended(&[("client_secret", ""), ("secret_expires_at", EXPIRY)], "EmptyValue", "is empty")
        .await;
}

#[tokio::test]
async fn a_stray_newline_is_named() {
    let values = [("client_secret", "s3cret-one\n"), ("secret_expires_at", EXPIRY)];
    refused_and_mended(&values, "SurroundingWhitespace", "echo -n").await;
}

#[tokio::test]
async fn a_missing_expiry_is_named() {
    refused_and_mended(&[("client_secret", "s3cret-one")], "ExpiryMissing", "secretExpiresAt").await;
}

#[tokio::test]
async fn an_expiry_that_is_no_date_is_named() {
    let values = [("client_secret", "s3cret-one"), ("secret_expires_at", "next year")];
    refused_and_mended(&values, "ExpiryInvalid", "2027-11-28T23:59:59Z").await;
}

#[tokio::test]
async fn a_new_secret_that_has_expired_already_is_not_sent() {
    let values = [("client_secret", "s3cret-one"), ("secret_expires_at", "2020-01-01")];
    refused_and_mended(&values, "ExpiryInPast", "2020-01-01").await;
}

#[tokio::test]
async fn a_secret_that_may_not_be_read_is_named() {
    let mut stage = Stage::bare().await;
    stage.limit_operator(&[]).await;
    stage.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    stage.account("agency", json!({})).await;
    stage.start_operator().await;
    stage.credential("sales-eu", json!({})).await;
    let object =
        stage.wait_for("sales-eu", ConditionType::SourceReady, ConditionStatus::False, "AccessDenied").await;
    assert!(message(&object, ConditionType::SourceReady).contains("grant"));
}

#[tokio::test]
async fn other_keys_and_the_expiry_of_the_spec_are_used_where_they_are_named() {
    let stage = Stage::set().await;
    stage.secret("other", &[("value", "s3cret-one")]).await;
    let spec = json!({"secretRef": {"name": "other", "clientSecretKey": "value"}, "secretExpiresAt": "2027-05-01T12:00:00+02:00"});
    stage.credential("sales-eu", spec).await;
    let status = stage.wait_until_ready("sales-eu").await.status.unwrap();
    assert_eq!(status.expires_at.unwrap().0.to_string(), "2027-05-01T10:00:00Z");
    assert_eq!(stage.remote()[0].secret_expires_at, "2027-05-01T10:00:00Z");
    let source = serde_json::to_value(status.expiry_source).unwrap();
    assert_eq!(source, json!("Spec"));
}

#[tokio::test]
async fn a_vanished_secret_never_takes_the_registration_along() {
    let stage = Stage::set().await;
    stage.credential("sales-eu", json!({"deletionPolicy": "Delete"})).await;
    let before = stage.wait_until_ready("sales-eu").await;
    stage.delete_secret("sales-eu-graph").await;
    let after: MicrosoftGraphCredential = stage
        .wait_for("sales-eu", ConditionType::SourceReady, ConditionStatus::False, "SecretNotFound")
        .await;
    assert_eq!(after.status.unwrap().registration, before.status.unwrap().registration);
    assert_eq!(stage.remote().len(), 1);
}
