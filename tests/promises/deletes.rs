//! Promise 8: deletion can't hurt or hang.

mod orphans;

use std::time::Duration;

use graph_credential_operator::resources::conditions::{ConditionStatus, ConditionType};
use graph_credential_operator::resources::{MicrosoftGraphCredential, WoodpeckerAccount};
use kit::woodpecker::{Credential, Fault, Op};
use kube::Api;
use kube::api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::stage::{EXPIRY, Stage, TENANT, condition, eventually, message};

/// Waits for an event with these words; the last one comes after the object has gone.
async fn told(stage: &Stage, words: &[&str]) {
    eventually(&format!("an event says {words:?}"), || async {
        let events = stage.events("sales-eu").await;
        let is_there = events.iter().any(|event| words.iter().all(|word| event.contains(word)));
        if is_there { Ok(()) } else { Err(format!("{events:?}\n{}", stage.log())) }
    })
    .await;
}

#[tokio::test]
async fn retain_is_the_default_and_leaves_the_credential() {
    let stage = Stage::set().await;
    stage.credential("sales-eu", json!({})).await;
    let object = stage.wait_until_ready("sales-eu").await;
    assert_eq!(object.metadata.finalizers, None, "nothing to wait for");
    stage.delete("sales-eu").await;
    stage.wait_until_gone("sales-eu").await;
    assert_eq!(stage.remote().len(), 1);
    assert!(stage.woodpecker.requests("agency").iter().all(|request| request.op != Op::Delete));
}

#[tokio::test]
async fn delete_removes_what_the_object_made_and_nothing_else() {
    let stage = Stage::set().await;
    let stranger = Credential::new(TENANT, "00000000-0000-4000-8000-000000000001", "s", EXPIRY, "stranger");
    let strangers = stage.woodpecker.put("agency", stranger);
    stage.credential("sales-eu", json!({"deletionPolicy": "Delete"})).await;
    stage.wait_until_ready("sales-eu").await;
    assert_eq!(stage.remote().len(), 2);
    stage.delete("sales-eu").await;
    stage.wait_until_gone("sales-eu").await;
    let left: Vec<i64> = stage.remote().iter().map(|held| held.credential_id).collect();
    assert_eq!(left, [strangers]);
    told(&stage, &["Deleted"]).await;
}

#[tokio::test]
async fn the_finalizer_is_there_before_anything_is_created() {
    let stage = Stage::set().await;
    stage.woodpecker.fail_always(Op::Create, Fault::Http500Before);
    stage.credential("sales-eu", json!({"deletionPolicy": "Delete"})).await;
    let object = stage
        .wait_for("sales-eu", ConditionType::Registered, ConditionStatus::Unknown, "OutcomeUnknown")
        .await;
    assert_eq!(object.metadata.finalizers, Some(vec!["graph-credentials.io/registration".to_owned()]));
}

#[tokio::test]
async fn what_is_in_use_says_so_and_changing_to_retain_lets_go() {
    let stage = Stage::set().await;
    stage.credential("sales-eu", json!({"deletionPolicy": "Delete"})).await;
    let id = stage.wait_until_ready("sales-eu").await.status.unwrap().credential_id.unwrap();
    stage.woodpecker.mark_in_use(id);
    stage.delete("sales-eu").await;
    let object = stage.wait_for("sales-eu", ConditionType::Registered, ConditionStatus::False, "InUse").await;
    assert!(message(&object, ConditionType::Registered).contains("Retain"));
    stage.credential("sales-eu", json!({"deletionPolicy": "Retain"})).await;
    stage.wait_until_gone("sales-eu").await;
    assert_eq!(stage.remote().len(), 1);
}

#[tokio::test]
async fn a_credential_that_is_gone_already_does_not_hold_the_object() {
    let stage = Stage::set().await;
    stage.credential("sales-eu", json!({"deletionPolicy": "Delete"})).await;
    let id = stage.wait_until_ready("sales-eu").await.status.unwrap().credential_id.unwrap();
    stage.woodpecker.remove("agency", id);
    stage.delete("sales-eu").await;
    stage.wait_until_gone("sales-eu").await;
}

#[tokio::test]
async fn a_404_that_the_listing_contradicts_is_not_taken_for_gone() {
    let stage = Stage::set().await;
    stage.credential("sales-eu", json!({"deletionPolicy": "Delete"})).await;
    stage.wait_until_ready("sales-eu").await;
    stage.woodpecker.fail_next(
        Op::Delete,
        1,
        Fault::RefusedBefore(404, json!({"title": "Not Found", "status": 404})),
    );
    stage.delete("sales-eu").await;
    stage.wait_for("sales-eu", ConditionType::Registered, ConditionStatus::False, "InUse").await;
    assert_eq!(stage.remote().len(), 1);
    stage.wait_until_gone("sales-eu").await;
    assert_eq!(stage.remote().len(), 0);
}

#[tokio::test]
async fn an_outage_delays_a_deletion_and_a_deletion_survives_it() {
    let stage = Stage::set().await;
    stage.credential("sales-eu", json!({"deletionPolicy": "Delete"})).await;
    stage.wait_until_ready("sales-eu").await;
    stage.woodpecker.fail_always(Op::Delete, Fault::Html502);
    stage.delete("sales-eu").await;
    stage
        .wait_for("sales-eu", ConditionType::Registered, ConditionStatus::Unknown, "WoodpeckerUnavailable")
        .await;
    stage.woodpecker.heal();
    stage.wait_until_gone("sales-eu").await;
    assert_eq!(stage.remote().len(), 0);
}

/// Waits until the account has the finalizer that keeps it while something is to be removed there.
async fn wait_until_held(stage: &Stage) {
    eventually("the account is held", || async {
        let account =
            stage.api::<WoodpeckerAccount>().get("agency").await.map_err(|error| error.to_string())?;
        account.metadata.finalizers.map(drop).ok_or_else(|| stage.log())
    })
    .await;
}

#[tokio::test]
async fn an_account_waits_for_what_is_to_be_removed_there_and_then_goes() {
    let stage = Stage::set().await;
    stage.credential("sales-eu", json!({"deletionPolicy": "Delete"})).await;
    stage.wait_until_ready("sales-eu").await;
    let accounts = stage.api::<WoodpeckerAccount>();
    wait_until_held(&stage).await;
    // In whatever order things go, as with a whole namespace or a folder of manifests.
    accounts.delete("agency", &DeleteParams::default()).await.unwrap();
    stage.delete_secret("agency-key").await;
    stage.wait_for_account("agency", ConditionStatus::False, "ApiKeyMissing").await;
    stage.delete_secret("sales-eu-graph").await;
    stage.delete("sales-eu").await;
    stage.wait_until_gone("sales-eu").await;
    assert_eq!(stage.remote().len(), 0, "the last good key served to the end");
    eventually("the account is gone", || async {
        let found = accounts.get_opt("agency").await.map_err(|error| error.to_string())?;
        found.map_or(Ok(()), |found| Err(format!("{found:#?}\n{}", stage.log())))
    })
    .await;
}

#[tokio::test]
async fn an_account_that_nothing_is_to_be_removed_from_goes_at_once() {
    let stage = Stage::set().await;
    stage.credential("sales-eu", json!({})).await;
    stage.wait_until_ready("sales-eu").await;
    let accounts = stage.api::<WoodpeckerAccount>();
    accounts.delete("agency", &DeleteParams::default()).await.unwrap();
    assert!(accounts.get_opt("agency").await.unwrap().is_none());
    stage.wait_for("sales-eu", ConditionType::Registered, ConditionStatus::False, "AccountNotFound").await;
}

#[tokio::test]
async fn a_terminating_namespace_lets_its_account_go_in_the_end() {
    let stage = Stage::set().await;
    stage.credential("sales-eu", json!({"deletionPolicy": "Delete"})).await;
    stage.wait_until_ready("sales-eu").await;
    stage.woodpecker.fail_always(Op::Delete, Fault::Html502);
    stage.delete_namespace().await;
    stage.delete("sales-eu").await;
    stage.api::<WoodpeckerAccount>().delete("agency", &DeleteParams::default()).await.unwrap();
    stage.wait_until_gone("sales-eu").await;
    eventually("the account is gone", || async {
        let found =
            stage.api::<WoodpeckerAccount>().get_opt("agency").await.map_err(|error| error.to_string())?;
        found.map_or(Ok(()), |found| Err(format!("{found:#?}\n{}", stage.log())))
    })
    .await;
    assert_eq!(stage.remote().len(), 1);
}

#[tokio::test]
async fn a_deletion_waits_for_an_account_that_is_gone_until_told_to_retain() {
    let stage = Stage::set().await;
    stage.credential("sales-eu", json!({"deletionPolicy": "Delete"})).await;
    stage.wait_until_ready("sales-eu").await;
    let accounts = stage.api::<WoodpeckerAccount>();
    wait_until_held(&stage).await;
    accounts.delete("agency", &DeleteParams::default()).await.unwrap();
    // By force.
    let none = kube::api::Patch::Merge(json!({"metadata": {"finalizers": null}}));
    accounts.patch("agency", &kube::api::PatchParams::default(), &none).await.unwrap();
    stage.delete("sales-eu").await;
    stage
        .wait_until("sales-eu", "AccountNotFound with the way out", |object| {
            let registered = condition(object, ConditionType::Registered);
            registered
                .is_some_and(|found| found.reason == "AccountNotFound" && found.message.contains("Retain"))
        })
        .await;
    stage.apply_account("agency", json!({})).await;
    stage.wait_until_gone("sales-eu").await;
    assert_eq!(stage.remote().len(), 0);
}

#[tokio::test]
async fn a_policy_changed_to_delete_counts_even_while_the_secret_is_broken() {
    let stage = Stage::set().await;
    stage.credential("sales-eu", json!({})).await;
    stage.wait_until_ready("sales-eu").await;
    stage.delete_secret("sales-eu-graph").await;
    stage.wait_for("sales-eu", ConditionType::SourceReady, ConditionStatus::False, "SecretNotFound").await;
    stage.credential("sales-eu", json!({"deletionPolicy": "Delete"})).await;
    stage.wait_until("sales-eu", "the finalizer", |object| object.metadata.finalizers.is_some()).await;
    stage.delete("sales-eu").await;
    stage.wait_until_gone("sales-eu").await;
    assert_eq!(stage.remote().len(), 0);
}

#[tokio::test]
async fn a_key_of_another_account_deletes_nothing_there() {
    let stage = Stage::set().await;
    stage.credential("sales-eu", json!({"deletionPolicy": "Delete"})).await;
    let id = stage.wait_until_ready("sales-eu").await.status.unwrap().credential_id.unwrap();
    stage.woodpecker.add_account("stranger", "1234.key-of-a-stranger");
    let theirs = "00000000-0000-4000-8000-000000000001";
    let mut held = Credential::new(TENANT, theirs, "theirs", EXPIRY, "theirs");
    held.credential_id = id;
    stage.woodpecker.put("stranger", held);
    stage.secret("agency-key", &[("api_key", "1234.key-of-a-stranger")]).await;
    eventually("the other key is in use", || async {
        if stage.woodpecker.lists("stranger") > 0 { Ok(()) } else { Err(stage.log()) }
    })
    .await;
    stage.delete("sales-eu").await;
    let object = stage
        .wait_for("sales-eu", ConditionType::Registered, ConditionStatus::False, "AccountNotReady")
        .await;
    assert!(message(&object, ConditionType::Registered).contains("another account"));
    assert_eq!(stage.woodpecker.credentials("stranger").len(), 1);
    assert_eq!(stage.woodpecker.writes("stranger"), 0);
    stage.secret("agency-key", &[("api_key", crate::stage::API_KEY)]).await;
    stage.wait_until_gone("sales-eu").await;
    assert_eq!(stage.remote().len(), 0);
}

#[tokio::test]
async fn a_deletion_needs_no_right_to_read_namespaces() {
    let mut stage = Stage::bare().await;
    stage.limit_operator(&["get"]).await;
    stage.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    stage.account("agency", json!({})).await;
    stage.start_operator().await;
    stage.credential("sales-eu", json!({"deletionPolicy": "Delete"})).await;
    stage.wait_until_ready("sales-eu").await;
    stage.delete("sales-eu").await;
    stage.wait_until_gone("sales-eu").await;
    assert_eq!(stage.remote().len(), 0);
    assert!(stage.log().contains("grant its ServiceAccount get on namespaces"), "{}", stage.log());
}
