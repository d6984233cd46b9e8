//! The Secret that a credential refers to: every reason of `SecretReady`, each with what to do, and no
//! request to a remote service while one holds.

use graph_credential_operator::api::conditions::{ConditionStatus, ConditionType, find};
use graph_credential_operator::api::{MicrosoftGraphCredential, WoodpeckerAccount};
use serde_json::json;

use crate::harness::{EXPIRY, TestEnv, eventually, message};

/// Checks that the Secret is refused for that reason with a message that contains `remedy`, and that the object
/// becomes Ready when the Secret is fixed.
async fn rejected_and_fixed(values: &[(&str, &str)], reason: &str, remedy: &str) {
    let env = TestEnv::start().await;
    env.secret_exactly("sales-eu-graph", values).await;
    env.credential("sales-eu", json!({})).await;
    let object = env.wait_for("sales-eu", ConditionType::SecretReady, ConditionStatus::False, reason).await;
    let text = message(&object, ConditionType::SecretReady);
    assert!(text.contains("sales-eu-graph") && text.contains(remedy), "{text}");
    assert_eq!(message(&object, ConditionType::Ready), text);
    assert_eq!(env.entra.requests().len(), 0, "nothing is sent to Microsoft");
    assert_eq!(env.woodpecker.writes("agency"), 0, "nothing is sent to Woodpecker");
    env.secret_exactly("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)])
        .await;
    env.wait_until_ready("sales-eu").await;
}

#[tokio::test]
async fn a_missing_secret_is_waited_for() {
    let env = TestEnv::start().await;
    env.delete_secret("sales-eu-graph").await;
    env.credential("sales-eu", json!({})).await;
    let object =
        env.wait_for("sales-eu", ConditionType::SecretReady, ConditionStatus::False, "SecretNotFound").await;
    assert!(
        message(&object, ConditionType::Ready)
            .contains("create it with the keys client_secret and secret_expires_at")
    );
    let reconciling = find(&object.status.unwrap().conditions, ConditionType::Reconciling).cloned();
    assert!(reconciling.is_some(), "it may come with the next file: not stalled");
    env.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    env.wait_until_ready("sales-eu").await;
}

#[tokio::test]
async fn a_missing_key_is_named() {
    rejected_and_fixed(
        &[("password", "s3cret-one"), ("secret_expires_at", EXPIRY)],
        "KeyMissing",
        "client_secret",
    )
    .await;
}

#[tokio::test]
async fn a_new_secret_without_its_values_is_waited_for_before_a_person_must_act() {
    let env = TestEnv::start().await;
    env.secret_exactly("sales-eu-graph", &[]).await;
    env.secret_exactly("agency-key", &[("api_key", "")]).await;
    env.credential("sales-eu", json!({})).await;
    let object =
        env.wait_for("sales-eu", ConditionType::SecretReady, ConditionStatus::False, "KeyMissing").await;
    let is = |object: &MicrosoftGraphCredential, type_| {
        find(&object.status.as_ref().unwrap().conditions, type_).is_some()
    };
    assert!(is(&object, ConditionType::Reconciling) && !is(&object, ConditionType::Stalled), "{object:#?}");
    let account = env.wait_for_account("agency", ConditionStatus::False, "EmptyValue").await;
    let conditions = account.status.unwrap().conditions;
    assert!(find(&conditions, ConditionType::Reconciling).is_some(), "{conditions:#?}");
    env.wait_until("sales-eu", "nobody has filled the Secret", |it| is(it, ConditionType::Stalled)).await;
    eventually("the account needs a person too", || async {
        let account: WoodpeckerAccount = env.api().get("agency").await.map_err(|error| error.to_string())?;
        let conditions = account.status.unwrap().conditions;
        find(&conditions, ConditionType::Stalled).map(|_| ()).ok_or(format!("{conditions:#?}"))
    })
    .await;
    env.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    env.account("agency", json!({})).await;
    env.wait_until_ready("sales-eu").await;
}

#[tokio::test]
async fn an_empty_value_is_named() {
    rejected_and_fixed(&[("client_secret", ""), ("secret_expires_at", EXPIRY)], "EmptyValue", "is empty")
        .await;
}

#[tokio::test]
async fn an_invisible_character_inside_is_named() {
    let values = [("client_secret", "s3cret\u{200b}-one"), ("secret_expires_at", EXPIRY)];
    rejected_and_fixed(&values, "InvalidCharacters", "U+200B zero width space as character 7").await;
}

#[tokio::test]
async fn an_invisible_character_in_the_expiry_is_named() {
    let values = [("client_secret", "s3cret-one"), ("secret_expires_at", "\u{feff}2027-11-28")];
    rejected_and_fixed(&values, "InvalidCharacters", "secret_expires_at").await;
}

#[tokio::test]
async fn a_value_that_is_too_long_is_not_sent() {
    let long = "x".repeat(8193);
    let values = [("client_secret", long.as_str()), ("secret_expires_at", EXPIRY)];
    rejected_and_fixed(&values, "ValueTooLong", "longer than 8192 bytes").await;
}

#[tokio::test]
async fn a_stray_newline_is_named() {
    let values = [("client_secret", "s3cret-one\n"), ("secret_expires_at", EXPIRY)];
    rejected_and_fixed(&values, "InvalidCharacters", "U+000A line feed as character 11").await;
}

#[tokio::test]
async fn a_missing_expiry_is_named() {
    rejected_and_fixed(&[("client_secret", "s3cret-one")], "ExpiryMissing", "secretExpiresAt").await;
}

#[tokio::test]
async fn an_invalid_expiry_is_named() {
    let values = [("client_secret", "s3cret-one"), ("secret_expires_at", "next year")];
    rejected_and_fixed(&values, "ExpiryInvalid", "2027-11-28T23:59:59Z").await;
}

#[tokio::test]
async fn a_new_secret_that_has_expired_already_is_not_sent() {
    let values = [("client_secret", "s3cret-one"), ("secret_expires_at", "2020-01-01")];
    rejected_and_fixed(&values, "ExpiryInPast", "2020-01-01").await;
}

#[tokio::test]
async fn a_forbidden_secret_is_named() {
    let mut env = TestEnv::bare().await;
    env.limit_operator(&[]).await;
    env.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    env.account("agency", json!({})).await;
    env.start_operator().await;
    env.credential("sales-eu", json!({})).await;
    let object =
        env.wait_for("sales-eu", ConditionType::SecretReady, ConditionStatus::False, "AccessDenied").await;
    assert!(message(&object, ConditionType::SecretReady).contains("grant"));
}

#[tokio::test]
async fn configured_keys_and_the_expiry_of_the_spec_are_used() {
    let env = TestEnv::start().await;
    env.secret("other", &[("value", "s3cret-one")]).await;
    let spec = json!({"secretRef": {"name": "other", "clientSecretKey": "value"}, "secretExpiresAt": "2027-05-01T12:00:00+02:00"});
    env.credential("sales-eu", spec).await;
    let status = env.wait_until_ready("sales-eu").await.status.unwrap();
    assert_eq!(status.expires_at.unwrap().0.to_string(), "2027-05-01T10:00:00Z");
    assert_eq!(env.remote()[0].secret_expires_at, "2027-05-01T10:00:00Z");
    let source = serde_json::to_value(status.expiry_source).unwrap();
    assert_eq!(source, json!("Spec"));
}

#[tokio::test]
async fn a_deleted_secret_does_not_delete_the_registration() {
    let env = TestEnv::start().await;
    env.credential("sales-eu", json!({"deletionPolicy": "Delete"})).await;
    let before = env.wait_until_ready("sales-eu").await;
    env.delete_secret("sales-eu-graph").await;
    let after: MicrosoftGraphCredential =
        env.wait_for("sales-eu", ConditionType::SecretReady, ConditionStatus::False, "SecretNotFound").await;
    assert_eq!(after.status.unwrap().registration, before.status.unwrap().registration);
    assert_eq!(env.remote().len(), 1);
}
