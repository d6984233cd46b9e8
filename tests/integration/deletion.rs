//! Deletion: what a deleted object removes and leaves, and that no deletion hangs.

mod orphans;

use std::time::Duration;

use graph_credential_operator::api::conditions::{ConditionStatus, ConditionType};
use graph_credential_operator::api::{MicrosoftGraphCredential, WoodpeckerAccount};
use kit::woodpecker::{Credential, Fault, Op};
use kube::Api;
use kube::api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::harness::{EXPIRY, TENANT, TestEnv, condition, eventually, message};

/// Waits for an event that contains these words. The last event is published after the object is deleted.
async fn event_is_emitted(env: &TestEnv, words: &[&str]) {
    eventually(&format!("an event says {words:?}"), || async {
        let events = env.events("sales-eu").await;
        let is_there = events.iter().any(|event| words.iter().all(|word| event.contains(word)));
        if is_there { Ok(()) } else { Err(format!("{events:?}\n{}", env.log())) }
    })
    .await;
}

#[tokio::test]
async fn retain_is_the_default_and_leaves_the_credential() {
    let env = TestEnv::start().await;
    env.credential("sales-eu", json!({})).await;
    let object = env.wait_until_ready("sales-eu").await;
    assert_eq!(object.metadata.finalizers, None, "nothing to wait for");
    env.delete("sales-eu").await;
    env.wait_until_gone("sales-eu").await;
    assert_eq!(env.remote().len(), 1);
    assert!(env.woodpecker.requests("agency").iter().all(|request| request.op != Op::Delete));
}

#[tokio::test]
async fn delete_removes_only_the_credential_of_the_object() {
    let unmanaged = Credential::new(TENANT, "00000000-0000-4000-8000-000000000001", "s", EXPIRY, "unmanaged");
    let (env, unmanaged) = TestEnv::start_after(|env| env.woodpecker.put("agency", unmanaged)).await;
    env.credential("sales-eu", json!({"deletionPolicy": "Delete"})).await;
    env.wait_until_ready("sales-eu").await;
    assert_eq!(env.remote().len(), 2);
    env.delete("sales-eu").await;
    env.wait_until_gone("sales-eu").await;
    let left: Vec<i64> = env.remote().iter().map(|held| held.credential_id).collect();
    assert_eq!(left, [unmanaged]);
    event_is_emitted(&env, &["Deleted"]).await;
}

#[tokio::test]
async fn the_finalizer_is_added_before_anything_is_created() {
    let env = TestEnv::start().await;
    env.woodpecker.fail_always(Op::Create, Fault::Http500Before);
    env.credential("sales-eu", json!({"deletionPolicy": "Delete"})).await;
    let object =
        env.wait_for("sales-eu", ConditionType::Registered, ConditionStatus::Unknown, "OutcomeUnknown").await;
    assert_eq!(object.metadata.finalizers, Some(vec!["graph-credentials.io/registration".to_owned()]));
}

#[tokio::test]
async fn a_credential_in_use_is_reported_and_retain_removes_the_finalizer() {
    let env = TestEnv::start().await;
    env.credential("sales-eu", json!({"deletionPolicy": "Delete"})).await;
    let id = env.wait_until_ready("sales-eu").await.status.unwrap().credential_id.unwrap();
    env.woodpecker.mark_in_use(id);
    env.delete("sales-eu").await;
    let object = env.wait_for("sales-eu", ConditionType::Registered, ConditionStatus::False, "InUse").await;
    assert!(message(&object, ConditionType::Registered).contains("Retain"));
    env.credential("sales-eu", json!({"deletionPolicy": "Retain"})).await;
    env.wait_until_gone("sales-eu").await;
    assert_eq!(env.remote().len(), 1);
}

#[tokio::test]
async fn a_missing_credential_does_not_block_the_deletion() {
    let env = TestEnv::start().await;
    env.credential("sales-eu", json!({"deletionPolicy": "Delete"})).await;
    let id = env.wait_until_ready("sales-eu").await.status.unwrap().credential_id.unwrap();
    env.woodpecker.remove("agency", id);
    env.delete("sales-eu").await;
    env.wait_until_gone("sales-eu").await;
}

#[tokio::test]
async fn a_404_that_the_list_contradicts_is_not_treated_as_deleted() {
    let env = TestEnv::start().await;
    env.credential("sales-eu", json!({"deletionPolicy": "Delete"})).await;
    env.wait_until_ready("sales-eu").await;
    env.woodpecker.fail_next(
        Op::Delete,
        1,
        Fault::RefusedBefore(404, json!({"title": "Not Found", "status": 404})),
    );
    env.delete("sales-eu").await;
    env.wait_for("sales-eu", ConditionType::Registered, ConditionStatus::False, "InUse").await;
    assert_eq!(env.remote().len(), 1);
    env.wait_until_gone("sales-eu").await;
    assert_eq!(env.remote().len(), 0);
}

#[tokio::test]
async fn an_outage_delays_a_deletion_and_a_deletion_survives_it() {
    let env = TestEnv::start().await;
    env.credential("sales-eu", json!({"deletionPolicy": "Delete"})).await;
    env.wait_until_ready("sales-eu").await;
    env.woodpecker.fail_always(Op::Delete, Fault::Html502);
    env.delete("sales-eu").await;
    env.wait_for("sales-eu", ConditionType::Registered, ConditionStatus::Unknown, "WoodpeckerUnavailable")
        .await;
    env.woodpecker.clear_faults();
    env.wait_until_gone("sales-eu").await;
    assert_eq!(env.remote().len(), 0);
}

/// Waits until the account has the finalizer that keeps it while something must be removed there.
async fn wait_until_deletion_is_blocked(env: &TestEnv) {
    eventually("the account has its finalizer", || async {
        let account =
            env.api::<WoodpeckerAccount>().get("agency").await.map_err(|error| error.to_string())?;
        account.metadata.finalizers.map(drop).ok_or_else(|| env.log())
    })
    .await;
}

#[tokio::test]
async fn an_account_is_deleted_after_the_credentials_to_remove_there() {
    let env = TestEnv::start().await;
    env.credential("sales-eu", json!({"deletionPolicy": "Delete"})).await;
    env.wait_until_ready("sales-eu").await;
    let accounts = env.api::<WoodpeckerAccount>();
    wait_until_deletion_is_blocked(&env).await;
    // In any order, as for a whole namespace or a folder of manifests.
    accounts.delete("agency", &DeleteParams::default()).await.unwrap();
    env.delete_secret("agency-key").await;
    env.wait_for_account("agency", ConditionStatus::False, "SecretNotFound").await;
    env.delete_secret("sales-eu-graph").await;
    env.delete("sales-eu").await;
    env.wait_until_gone("sales-eu").await;
    assert_eq!(env.remote().len(), 0, "the last good key served to the end");
    eventually("the account is deleted", || async {
        let found = accounts.get_opt("agency").await.map_err(|error| error.to_string())?;
        found.map_or(Ok(()), |found| Err(format!("{found:#?}\n{}", env.log())))
    })
    .await;
}

#[tokio::test]
async fn an_account_with_nothing_to_remove_is_deleted_immediately() {
    let env = TestEnv::start().await;
    env.credential("sales-eu", json!({})).await;
    env.wait_until_ready("sales-eu").await;
    let accounts = env.api::<WoodpeckerAccount>();
    accounts.delete("agency", &DeleteParams::default()).await.unwrap();
    assert!(accounts.get_opt("agency").await.unwrap().is_none());
    env.wait_for("sales-eu", ConditionType::Registered, ConditionStatus::False, "AccountNotFound").await;
}

#[tokio::test]
async fn an_account_in_a_terminating_namespace_is_deleted_after_a_limit() {
    let env = TestEnv::start().await;
    env.credential("sales-eu", json!({"deletionPolicy": "Delete"})).await;
    env.wait_until_ready("sales-eu").await;
    env.woodpecker.fail_always(Op::Delete, Fault::Html502);
    env.delete_namespace().await;
    env.delete("sales-eu").await;
    env.api::<WoodpeckerAccount>().delete("agency", &DeleteParams::default()).await.unwrap();
    env.wait_until_gone("sales-eu").await;
    eventually("the account is deleted", || async {
        let found =
            env.api::<WoodpeckerAccount>().get_opt("agency").await.map_err(|error| error.to_string())?;
        found.map_or(Ok(()), |found| Err(format!("{found:#?}\n{}", env.log())))
    })
    .await;
    assert_eq!(env.remote().len(), 1);
}

#[tokio::test]
async fn a_deletion_waits_for_a_missing_account_until_set_to_retain() {
    let env = TestEnv::start().await;
    env.credential("sales-eu", json!({"deletionPolicy": "Delete"})).await;
    env.wait_until_ready("sales-eu").await;
    let accounts = env.api::<WoodpeckerAccount>();
    wait_until_deletion_is_blocked(&env).await;
    accounts.delete("agency", &DeleteParams::default()).await.unwrap();
    // Deletes it by force.
    let none = kube::api::Patch::Merge(json!({"metadata": {"finalizers": null}}));
    accounts.patch("agency", &kube::api::PatchParams::default(), &none).await.unwrap();
    env.delete("sales-eu").await;
    env.wait_until("sales-eu", "AccountNotFound with what to do", |object| {
        let registered = condition(object, ConditionType::Registered);
        registered.is_some_and(|found| found.reason == "AccountNotFound" && found.message.contains("Retain"))
    })
    .await;
    env.apply_account("agency", json!({})).await;
    env.wait_until_gone("sales-eu").await;
    assert_eq!(env.remote().len(), 0);
}

#[tokio::test]
async fn a_policy_changed_to_delete_applies_while_the_secret_is_invalid() {
    let env = TestEnv::start().await;
    env.credential("sales-eu", json!({})).await;
    env.wait_until_ready("sales-eu").await;
    env.delete_secret("sales-eu-graph").await;
    env.wait_for("sales-eu", ConditionType::SecretReady, ConditionStatus::False, "SecretNotFound").await;
    env.credential("sales-eu", json!({"deletionPolicy": "Delete"})).await;
    env.wait_until("sales-eu", "the finalizer", |object| object.metadata.finalizers.is_some()).await;
    env.delete("sales-eu").await;
    env.wait_until_gone("sales-eu").await;
    assert_eq!(env.remote().len(), 0);
}

#[tokio::test]
async fn a_key_of_another_account_deletes_nothing_there() {
    let env = TestEnv::start().await;
    env.credential("sales-eu", json!({"deletionPolicy": "Delete"})).await;
    let id = env.wait_until_ready("sales-eu").await.status.unwrap().credential_id.unwrap();
    env.woodpecker.add_account("other", "1234.key-of-another-account");
    let other_client = "00000000-0000-4000-8000-000000000001";
    let mut held = Credential::new(TENANT, other_client, "other", EXPIRY, "other");
    held.credential_id = id;
    env.woodpecker.put("other", held);
    env.secret("agency-key", &[("api_key", "1234.key-of-another-account")]).await;
    eventually("the other key is in use", || async {
        if env.woodpecker.lists("other") > 0 { Ok(()) } else { Err(env.log()) }
    })
    .await;
    env.delete("sales-eu").await;
    let object =
        env.wait_for("sales-eu", ConditionType::Registered, ConditionStatus::False, "AccountNotReady").await;
    assert!(message(&object, ConditionType::Registered).contains("another account"));
    assert_eq!(env.woodpecker.credentials("other").len(), 1);
    assert_eq!(env.woodpecker.writes("other"), 0);
    env.secret("agency-key", &[("api_key", crate::harness::API_KEY)]).await;
    env.wait_until_gone("sales-eu").await;
    assert_eq!(env.remote().len(), 0);
}

#[tokio::test]
async fn a_deletion_needs_no_right_to_read_namespaces() {
    let mut env = TestEnv::bare().await;
    env.limit_operator(&["get"]).await;
    env.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    env.account("agency", json!({})).await;
    env.start_operator().await;
    env.credential("sales-eu", json!({"deletionPolicy": "Delete"})).await;
    env.wait_until_ready("sales-eu").await;
    env.delete("sales-eu").await;
    env.wait_until_gone("sales-eu").await;
    assert_eq!(env.remote().len(), 0);
    assert!(env.log().contains("allow its ServiceAccount get on namespaces"), "{}", env.log());
}
