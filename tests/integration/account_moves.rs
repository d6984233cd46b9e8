//! Moves of credentials to another account.

use graph_credential_operator::api::conditions::{ConditionStatus, ConditionType};
use graph_credential_operator::api::{MicrosoftGraphCredential, Ownership, WoodpeckerAccount};
use kit::woodpecker::Op;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::drift::{count, recheck_account, several};
use crate::harness::{QUIET_TIME, TestEnv, eventually, message};

/// A test environment with a second account and another API key.
async fn with_branch() -> TestEnv {
    let env = TestEnv::start().await;
    env.woodpecker.add_account("branch", "1234.key-of-the-branch");
    env.secret("branch-key", &[("api_key", "1234.key-of-the-branch")]).await;
    env.apply_account("branch", json!({})).await;
    env
}

/// A spec with that account and deletion policy.
fn at(account: &str, policy: &str) -> Value {
    json!({"deletionPolicy": policy, "destination": {"woodpecker": {"accountRef": {"name": account}}}})
}

#[tokio::test]
async fn an_object_that_moves_is_registered_at_the_new_account_before_it_leaves_the_old_one() {
    let env = with_branch().await;
    env.credential("sales-eu", json!({"deletionPolicy": "Delete"})).await;
    let before = env.wait_until_ready("sales-eu").await.status.unwrap().credential_id.unwrap();
    env.woodpecker.mark_in_use(before);
    env.credential("sales-eu", at("branch", "Delete")).await;
    let object = env
        .wait_until("sales-eu", "registered at the branch", |object| {
            let registration = object.status.as_ref().and_then(|status| status.registration.as_ref());
            registration.and_then(|it| it.account.as_ref()).is_some_and(|account| account.name == "branch")
        })
        .await;
    assert_eq!(object.status.unwrap().previous_registrations.len(), 1);
    assert_eq!(env.woodpecker.credentials("branch").len(), 1);
    let text = format!("still to be deleted: credential {before}");
    env.wait_until("sales-eu", &text, |object| message(object, ConditionType::Registered).contains(&text))
        .await;
    env.wait_until_ready("sales-eu").await;
    env.woodpecker.clear_in_use(before);
    eventually("the old one is removed", || async {
        if env.remote().is_empty() { Ok(()) } else { Err(env.log()) }
    })
    .await;
    env.wait_until("sales-eu", "nothing is left to remove", |object| {
        object.status.as_ref().is_some_and(|status| status.previous_registrations.is_empty())
    })
    .await;
    env.delete("sales-eu").await;
    env.wait_until_gone("sales-eu").await;
    assert_eq!(env.woodpecker.credentials("branch").len(), 0);
}

#[tokio::test]
async fn with_retain_a_move_keeps_the_old_registration() {
    let env = with_branch().await;
    env.credential("sales-eu", json!({})).await;
    env.wait_until_ready("sales-eu").await;
    env.credential("sales-eu", at("branch", "Retain")).await;
    eventually("registered at the branch", || async {
        if env.woodpecker.credentials("branch").len() == 1 { Ok(()) } else { Err(env.log()) }
    })
    .await;
    env.wait_until_ready("sales-eu").await;
    assert_eq!(env.remote().len(), 1);
}

#[tokio::test]
async fn a_renamed_account_keeps_its_credentials() {
    check_renamed_account(json!({})).await;
}

#[tokio::test]
async fn a_renamed_account_keeps_its_credentials_with_create_only() {
    check_renamed_account(json!({"policy": "CreateOnly"})).await;
}

async fn check_renamed_account(adoption: serde_json::Value) {
    let env = TestEnv::start().await;
    let at = |account: &str| {
        let mut spec = at(account, "Delete");
        spec["destination"]["woodpecker"]["adoption"] = adoption.clone();
        spec
    };
    env.credential("sales-eu", at("agency")).await;
    let id = env.wait_until_ready("sales-eu").await.status.unwrap().credential_id.unwrap();
    env.apply_account("renamed", json!({"apiKeySecretRef": {"name": "agency-key"}})).await;
    env.credential("sales-eu", at("renamed")).await;
    let object = env
        .wait_until("sales-eu", "registered under the new name", |object| {
            let registration = object.status.as_ref().and_then(|status| status.registration.as_ref());
            registration.and_then(|it| it.account.as_ref()).is_some_and(|account| account.name == "renamed")
        })
        .await;
    let registration = object.status.unwrap().registration.unwrap();
    assert_eq!((registration.credential_id, registration.ownership), (id, Ownership::Created));
    env.wait_until_ready("sales-eu").await;
    tokio::time::sleep(QUIET_TIME / 2).await;
    assert_eq!((count(&env, Op::Delete), env.remote().len()), (0, 1));
    env.delete("sales-eu").await;
    env.wait_until_gone("sales-eu").await;
    assert_eq!(env.remote().len(), 0, "it is still the credential that this object created");
}

#[tokio::test]
async fn an_object_that_moves_back_keeps_its_credential() {
    let env = with_branch().await;
    env.credential("sales-eu", at("agency", "Delete")).await;
    let id = env.wait_until_ready("sales-eu").await.status.unwrap().credential_id.unwrap();
    env.woodpecker.mark_in_use(id);
    env.credential("sales-eu", at("branch", "Delete")).await;
    env.wait_until("sales-eu", "still to be deleted", |object| {
        message(object, ConditionType::Registered).contains("still to be deleted")
    })
    .await;
    env.credential("sales-eu", at("agency", "Delete")).await;
    env.wait_until("sales-eu", "back again", |object| {
        object.status.as_ref().and_then(|status| status.credential_id) == Some(id)
    })
    .await;
    env.woodpecker.clear_in_use(id);
    eventually("the branch holds nothing", || async {
        if env.woodpecker.credentials("branch").is_empty() { Ok(()) } else { Err(env.log()) }
    })
    .await;
    env.wait_until_ready("sales-eu").await;
    let held: Vec<i64> = env.remote().iter().map(|it| it.credential_id).collect();
    assert_eq!(held, [id]);
}

#[tokio::test]
async fn a_previous_credential_of_another_object_is_left_and_reported() {
    let mut env = with_branch().await;
    env.credential("sales-eu", at("agency", "Delete")).await;
    env.credential("sales-us", at("branch", "Delete")).await;
    let registration = env.wait_until_ready("sales-eu").await.status.unwrap().registration.unwrap();
    env.wait_until_ready("sales-us").await;
    env.stop_operator().await;
    // As after a restore of an older state.
    let status = json!({"status": {"previousRegistrations": [registration]}});
    env.api::<MicrosoftGraphCredential>()
        .patch_status("sales-us", &PatchParams::default(), &Patch::Merge(status))
        .await
        .unwrap();
    env.start_operator().await;
    let left = format!("the previous credential {} at", registration.credential_id);
    eventually("an event says that it is left", || async {
        let events = env.events("sales-us").await;
        let is_it = |event: &String| event.starts_with("Retained: ") && event.contains(&left);
        if events.iter().any(is_it) { Ok(()) } else { Err(format!("{events:#?}")) }
    })
    .await;
    env.wait_until_ready("sales-us").await;
    assert_eq!((count(&env, Op::Delete), env.remote().len()), (0, 1));
}

#[tokio::test]
async fn with_retain_nothing_is_removed_from_an_earlier_account() {
    let env = with_branch().await;
    env.credential("sales-eu", json!({"deletionPolicy": "Delete"})).await;
    let id = env.wait_until_ready("sales-eu").await.status.unwrap().credential_id.unwrap();
    env.woodpecker.mark_in_use(id);
    env.credential("sales-eu", at("branch", "Delete")).await;
    env.wait_until("sales-eu", "still to be deleted", |object| {
        message(object, ConditionType::Registered).contains("still to be deleted")
    })
    .await;
    env.credential("sales-eu", at("branch", "Retain")).await;
    env.wait_until("sales-eu", "nothing is to be removed", |object| {
        object.status.as_ref().is_some_and(|status| status.previous_registrations.is_empty())
    })
    .await;
    env.woodpecker.clear_in_use(id);
    tokio::time::sleep(QUIET_TIME / 2).await;
    assert_eq!(env.remote().len(), 1);
}

#[tokio::test]
async fn objects_that_move_away_do_not_make_their_account_incomplete() {
    let env = with_branch().await;
    several(&env, 6).await;
    for n in 0..4 {
        let client = format!("00000000-0000-4000-8000-{n:012}");
        let mut spec = at("branch", "Delete");
        spec["clientId"] = json!(client);
        env.credential(&format!("app-{n}"), spec).await;
    }
    eventually("four have moved", || async {
        let (here, there) = (env.remote().len(), env.woodpecker.credentials("branch").len());
        if (here, there) == (2, 4) { Ok(()) } else { Err(format!("{here} and {there}")) }
    })
    .await;
    recheck_account(&env).await;
    eventually("the counts follow", || async {
        let account: WoodpeckerAccount = env.api().get("agency").await.map_err(|error| error.to_string())?;
        let status = account.status.unwrap_or_default();
        if (status.managed, status.remote) == (Some(2), Some(2)) {
            Ok(())
        } else {
            Err(format!("{status:?}"))
        }
    })
    .await;
    env.wait_for_account("agency", ConditionStatus::True, "Authenticated").await;
}
