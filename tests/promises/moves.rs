//! Credentials that move to another account on purpose.

use graph_credential_operator::resources::conditions::{ConditionStatus, ConditionType};
use graph_credential_operator::resources::{Ownership, WoodpeckerAccount};
use kit::woodpecker::Op;
use serde_json::{Value, json};

use crate::drifts::{count, look_again, several};
use crate::stage::{A_WHILE, Stage, eventually, message};

/// A stage with a second account, of another key.
async fn with_branch() -> Stage {
    let stage = Stage::set().await;
    stage.woodpecker.add_account("branch", "1234.key-of-the-branch");
    stage.secret("branch-key", &[("api_key", "1234.key-of-the-branch")]).await;
    stage.apply_account("branch", json!({})).await;
    stage
}

/// A spec with that account and deletion policy.
fn at(account: &str, policy: &str) -> Value {
    json!({"deletionPolicy": policy, "destination": {"woodpecker": {"accountRef": {"name": account}}}})
}

#[tokio::test]
async fn an_object_that_moves_is_registered_at_the_new_account_before_it_leaves_the_old_one() {
    let stage = with_branch().await;
    stage.credential("sales-eu", json!({"deletionPolicy": "Delete"})).await;
    let before = stage.wait_until_ready("sales-eu").await.status.unwrap().credential_id.unwrap();
    stage.woodpecker.mark_in_use(before);
    stage.credential("sales-eu", at("branch", "Delete")).await;
    let object = stage
        .wait_until("sales-eu", "registered at the branch", |object| {
            let registration = object.status.as_ref().and_then(|status| status.registration.as_ref());
            registration.and_then(|it| it.account.as_ref()).is_some_and(|account| account.name == "branch")
        })
        .await;
    assert_eq!(object.status.unwrap().retiring.len(), 1);
    assert_eq!(stage.woodpecker.credentials("branch").len(), 1);
    let told = format!("still to be removed: credential {before}");
    stage
        .wait_until("sales-eu", &told, |object| message(object, ConditionType::Registered).contains(&told))
        .await;
    stage.wait_until_ready("sales-eu").await;
    stage.woodpecker.release(before);
    eventually("the old one goes", || async {
        if stage.remote().is_empty() { Ok(()) } else { Err(stage.log()) }
    })
    .await;
    stage
        .wait_until("sales-eu", "nothing is left to remove", |object| {
            object.status.as_ref().is_some_and(|status| status.retiring.is_empty())
        })
        .await;
    stage.delete("sales-eu").await;
    stage.wait_until_gone("sales-eu").await;
    assert_eq!(stage.woodpecker.credentials("branch").len(), 0);
}

#[tokio::test]
async fn with_retain_a_move_leaves_the_old_registration_where_it_is() {
    let stage = with_branch().await;
    stage.credential("sales-eu", json!({})).await;
    stage.wait_until_ready("sales-eu").await;
    stage.credential("sales-eu", at("branch", "Retain")).await;
    eventually("registered at the branch", || async {
        if stage.woodpecker.credentials("branch").len() == 1 { Ok(()) } else { Err(stage.log()) }
    })
    .await;
    stage.wait_until_ready("sales-eu").await;
    assert_eq!(stage.remote().len(), 1);
}

#[tokio::test]
async fn an_account_that_got_another_name_keeps_its_credentials() {
    let stage = Stage::set().await;
    stage.credential("sales-eu", json!({"deletionPolicy": "Delete"})).await;
    let id = stage.wait_until_ready("sales-eu").await.status.unwrap().credential_id.unwrap();
    stage.apply_account("renamed", json!({"apiKeySecretRef": {"name": "agency-key"}})).await;
    stage.credential("sales-eu", at("renamed", "Delete")).await;
    let object = stage
        .wait_until("sales-eu", "registered under the new name", |object| {
            let registration = object.status.as_ref().and_then(|status| status.registration.as_ref());
            registration.and_then(|it| it.account.as_ref()).is_some_and(|account| account.name == "renamed")
        })
        .await;
    let registration = object.status.unwrap().registration.unwrap();
    assert_eq!((registration.credential_id, registration.ownership), (id, Ownership::Created));
    stage.wait_until_ready("sales-eu").await;
    tokio::time::sleep(A_WHILE / 2).await;
    assert_eq!((count(&stage, Op::Delete), stage.remote().len()), (0, 1));
    stage.delete("sales-eu").await;
    stage.wait_until_gone("sales-eu").await;
    assert_eq!(stage.remote().len(), 0, "it is still what this object made");
}

#[tokio::test]
async fn an_object_that_moves_back_keeps_what_it_had_there() {
    let stage = with_branch().await;
    stage.credential("sales-eu", at("agency", "Delete")).await;
    let id = stage.wait_until_ready("sales-eu").await.status.unwrap().credential_id.unwrap();
    stage.woodpecker.mark_in_use(id);
    stage.credential("sales-eu", at("branch", "Delete")).await;
    stage
        .wait_until("sales-eu", "still to be removed", |object| {
            message(object, ConditionType::Registered).contains("still to be removed")
        })
        .await;
    stage.credential("sales-eu", at("agency", "Delete")).await;
    stage
        .wait_until("sales-eu", "back again", |object| {
            object.status.as_ref().and_then(|status| status.credential_id) == Some(id)
        })
        .await;
    stage.woodpecker.release(id);
    eventually("the branch holds nothing", || async {
        if stage.woodpecker.credentials("branch").is_empty() { Ok(()) } else { Err(stage.log()) }
    })
    .await;
    stage.wait_until_ready("sales-eu").await;
    let held: Vec<i64> = stage.remote().iter().map(|it| it.credential_id).collect();
    assert_eq!(held, [id]);
}

#[tokio::test]
async fn with_retain_nothing_is_removed_from_an_earlier_account_any_more() {
    let stage = with_branch().await;
    stage.credential("sales-eu", json!({"deletionPolicy": "Delete"})).await;
    let id = stage.wait_until_ready("sales-eu").await.status.unwrap().credential_id.unwrap();
    stage.woodpecker.mark_in_use(id);
    stage.credential("sales-eu", at("branch", "Delete")).await;
    stage
        .wait_until("sales-eu", "still to be removed", |object| {
            message(object, ConditionType::Registered).contains("still to be removed")
        })
        .await;
    stage.credential("sales-eu", at("branch", "Retain")).await;
    stage
        .wait_until("sales-eu", "nothing is to be removed", |object| {
            object.status.as_ref().is_some_and(|status| status.retiring.is_empty())
        })
        .await;
    stage.woodpecker.release(id);
    tokio::time::sleep(A_WHILE / 2).await;
    assert_eq!(stage.remote().len(), 1);
}

#[tokio::test]
async fn objects_that_move_away_do_not_make_their_account_look_robbed() {
    let stage = with_branch().await;
    several(&stage, 6).await;
    for n in 0..4 {
        let client = format!("00000000-0000-4000-8000-{n:012}");
        let mut spec = at("branch", "Delete");
        spec["clientId"] = json!(client);
        stage.credential(&format!("app-{n}"), spec).await;
    }
    eventually("four have moved", || async {
        let (here, there) = (stage.remote().len(), stage.woodpecker.credentials("branch").len());
        if (here, there) == (2, 4) { Ok(()) } else { Err(format!("{here} and {there}")) }
    })
    .await;
    look_again(&stage).await;
    eventually("the counts follow", || async {
        let account: WoodpeckerAccount =
            stage.api().get("agency").await.map_err(|error| error.to_string())?;
        let status = account.status.unwrap_or_default();
        if (status.managed, status.remote) == (Some(2), Some(2)) {
            Ok(())
        } else {
            Err(format!("{status:?}"))
        }
    })
    .await;
    stage.wait_for_account("agency", ConditionStatus::True, "Authenticated").await;
}
