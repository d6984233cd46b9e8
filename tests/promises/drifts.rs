//! What the account holds does not agree with what is registered: gone, missing in a listing, another
//! account, or moved on purpose.

use graph_credential_operator::resources::conditions::{ConditionStatus, ConditionType, find};
use graph_credential_operator::resources::{
    ACKNOWLEDGE_GONE, MicrosoftGraphCredential, RECONCILE_REQUESTED_AT, WoodpeckerAccount,
};
use kit::woodpecker::{Fault, Op};
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::stage::{A_WHILE, Stage, TENANT, eventually, message};

fn count(stage: &Stage, op: Op) -> usize {
    stage.woodpecker.requests("agency").iter().filter(|request| request.op == op).count()
}

/// Makes the account look again now.
async fn look_again(stage: &Stage) {
    let asked = stage.woodpecker.lists("agency");
    let touch =
        Patch::Merge(json!({"metadata": {"annotations": {RECONCILE_REQUESTED_AT: asked.to_string()}}}));
    stage.api::<WoodpeckerAccount>().patch("agency", &PatchParams::default(), &touch).await.unwrap();
}

/// Some Ready objects at the account.
async fn several(stage: &Stage, number: usize) {
    for n in 0..number {
        let client = format!("00000000-0000-4000-8000-{n:012}");
        stage.entra.add_app(TENANT, &client);
        stage.entra.set_secrets(TENANT, &client, &["s3cret-one"]);
        stage.credential(&format!("app-{n}"), json!({"clientId": client})).await;
    }
    for n in 0..number {
        stage.wait_until_ready(&format!("app-{n}")).await;
    }
}

#[tokio::test]
async fn what_others_removed_is_registered_anew() {
    let stage = Stage::set().await;
    stage.credential("sales-eu", json!({})).await;
    let before = stage.wait_until_ready("sales-eu").await.status.unwrap().credential_id.unwrap();
    stage.woodpecker.remove("agency", before);
    look_again(&stage).await;
    let object = stage
        .wait_until("sales-eu", "another id", |object| {
            object.status.as_ref().and_then(|status| status.credential_id).is_some_and(|id| id != before)
        })
        .await;
    stage.wait_until_ready("sales-eu").await;
    assert_eq!(stage.remote().len(), 1);
    assert_eq!(Some(stage.remote()[0].credential_id), object.status.unwrap().credential_id);
    let events = stage.events("sales-eu").await;
    assert!(
        events.iter().any(|event| event.starts_with("Vanished") && event.contains(&before.to_string())),
        "{events:?}"
    );
}

#[tokio::test]
async fn a_rotation_that_meets_nothing_is_registered_anew() {
    let stage = Stage::set().await;
    stage.credential("sales-eu", json!({})).await;
    let before = stage.wait_until_ready("sales-eu").await.status.unwrap().credential_id.unwrap();
    stage.woodpecker.remove("agency", before);
    stage.entra.add_secret(TENANT, crate::stage::CLIENT, "s3cret-two");
    stage
        .secret(
            "sales-eu-graph",
            &[("client_secret", "s3cret-two"), ("secret_expires_at", crate::stage::EXPIRY)],
        )
        .await;
    eventually("the new secret is registered", || async {
        let held = stage.remote();
        let is_there =
            held.iter().any(|it| stage.woodpecker.secret_matches("agency", it.credential_id, "s3cret-two"));
        if is_there && held.len() == 1 { Ok(()) } else { Err(format!("{held:#?}")) }
    })
    .await;
    stage.wait_until_ready("sales-eu").await;
}

#[tokio::test]
async fn a_listing_that_lacks_what_is_there_makes_nothing_anew_and_is_told() {
    let stage = Stage::set().await;
    stage.credential("sales-eu", json!({})).await;
    let id = stage.wait_until_ready("sales-eu").await.status.unwrap().credential_id.unwrap();
    stage.woodpecker.fail_always(Op::List, Fault::ListingOmits(vec![id]));
    look_again(&stage).await;
    stage.wait_for_account("agency", ConditionStatus::False, "ListingIncomplete").await;
    stage.wait_until_ready("sales-eu").await;
    assert_eq!((count(&stage, Op::Create), stage.remote().len()), (1, 1));
    // What would be created waits, and what is registered is kept up.
    let client = "00000000-0000-4000-8000-000000000077";
    stage.entra.add_app(TENANT, client);
    stage.entra.set_secrets(TENANT, client, &["s3cret-one"]);
    stage.credential("another", json!({"clientId": client})).await;
    stage.wait_for("another", ConditionType::Registered, ConditionStatus::False, "AccountNotReady").await;
    stage.woodpecker.heal();
    look_again(&stage).await;
    stage.wait_for_account("agency", ConditionStatus::True, "Authenticated").await;
    stage.wait_until_ready("another").await;
}

#[tokio::test]
async fn a_refusal_to_say_whether_it_is_there_makes_nothing_anew_until_acknowledged() {
    let stage = Stage::set().await;
    stage.credential("sales-eu", json!({})).await;
    let id = stage.wait_until_ready("sales-eu").await.status.unwrap().credential_id.unwrap();
    stage.woodpecker.remove("agency", id);
    stage.woodpecker.fail_always(Op::Rename, Fault::RefusedBefore(422, json!({"message": "NOT_NOW"})));
    look_again(&stage).await;
    let object =
        stage.wait_for("sales-eu", ConditionType::Registered, ConditionStatus::False, "UpdateRejected").await;
    assert!(message(&object, ConditionType::Registered).contains(ACKNOWLEDGE_GONE));
    tokio::time::sleep(A_WHILE / 2).await;
    assert_eq!(count(&stage, Op::Create), 1);
    stage.woodpecker.heal();
    let acknowledge = Patch::Merge(json!({"metadata": {"annotations": {ACKNOWLEDGE_GONE: id.to_string()}}}));
    stage
        .api::<MicrosoftGraphCredential>()
        .patch("sales-eu", &PatchParams::default(), &acknowledge)
        .await
        .unwrap();
    let request = Patch::Merge(
        json!({"metadata": {"annotations": {"graph-credentials.io/reconcile-requested-at": "now"}}}),
    );
    stage
        .api::<MicrosoftGraphCredential>()
        .patch("sales-eu", &PatchParams::default(), &request)
        .await
        .unwrap();
    stage.wait_until_ready("sales-eu").await;
    assert_eq!(stage.remote().len(), 1);
}

#[tokio::test]
async fn an_empty_listing_for_many_makes_nothing_anew_until_acknowledged() {
    let mut stage = Stage::set().await;
    several(&stage, 6).await;
    let held: Vec<i64> = stage.remote().iter().map(|it| it.credential_id).collect();
    for id in &held {
        stage.woodpecker.remove("agency", *id);
    }
    look_again(&stage).await;
    let account = stage.wait_for_account("agency", ConditionStatus::False, "RemoteDiverged").await;
    let ready = find(&account.status.as_ref().unwrap().conditions, ConditionType::Ready).unwrap().clone();
    assert!(
        ready.message.contains("6 of the 6") && ready.message.contains(ACKNOWLEDGE_GONE),
        "{}",
        ready.message
    );
    stage.wait_for("app-0", ConditionType::Registered, ConditionStatus::False, "AccountNotReady").await;
    stage.stop_operator().await;
    stage.start_operator().await;
    tokio::time::sleep(A_WHILE).await;
    assert_eq!((count(&stage, Op::Create), stage.remote().len()), (6, 0), "nor after a restart");
    let acknowledge = Patch::Merge(json!({"metadata": {"annotations": {ACKNOWLEDGE_GONE: "now"}}}));
    stage.api::<WoodpeckerAccount>().patch("agency", &PatchParams::default(), &acknowledge).await.unwrap();
    for n in 0..6 {
        stage.wait_until_ready(&format!("app-{n}")).await;
    }
    eventually("all are registered anew", || async {
        if stage.remote().len() == 6 {
            Ok(())
        } else {
            Err(format!("{}\n{}", stage.remote().len(), stage.log()))
        }
    })
    .await;
}

#[tokio::test]
async fn a_key_of_another_account_is_noticed_and_registers_nothing_there() {
    let mut stage = Stage::set().await;
    stage.credential("sales-eu", json!({})).await;
    stage.wait_until_ready("sales-eu").await;
    stage.wait_for_account("agency", ConditionStatus::True, "Authenticated").await;
    stage.woodpecker.add_account("stranger", "1234.key-of-a-stranger");
    stage.stop_operator().await;
    stage.secret("agency-key", &[("api_key", "1234.key-of-a-stranger")]).await;
    stage.start_operator().await;
    let account = stage.wait_for_account("agency", ConditionStatus::False, "RemoteDiverged").await;
    let conditions = account.status.unwrap().conditions;
    assert!(find(&conditions, ConditionType::Ready).unwrap().message.contains("right account"));
    stage.wait_for("sales-eu", ConditionType::Registered, ConditionStatus::False, "AccountNotReady").await;
    assert_eq!(stage.woodpecker.writes("stranger"), 0);
    stage.secret("agency-key", &[("api_key", crate::stage::API_KEY)]).await;
    stage.wait_until_ready("sales-eu").await;
    assert_eq!(stage.remote().len(), 1);
}

#[tokio::test]
async fn an_object_that_moves_is_registered_at_the_new_account_before_it_leaves_the_old_one() {
    let stage = Stage::set().await;
    stage.woodpecker.add_account("branch", "1234.key-of-the-branch");
    stage.secret("branch-key", &[("api_key", "1234.key-of-the-branch")]).await;
    stage.apply_account("branch", json!({})).await;
    stage.credential("sales-eu", json!({"deletionPolicy": "Delete"})).await;
    let before = stage.wait_until_ready("sales-eu").await.status.unwrap().credential_id.unwrap();
    stage.woodpecker.mark_in_use(before);
    let moved = json!({"deletionPolicy": "Delete", "destination": {"woodpecker": {"accountRef": {"name": "branch"}}}});
    stage.credential("sales-eu", moved).await;
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
    let stage = Stage::set().await;
    stage.woodpecker.add_account("branch", "1234.key-of-the-branch");
    stage.secret("branch-key", &[("api_key", "1234.key-of-the-branch")]).await;
    stage.apply_account("branch", json!({})).await;
    stage.credential("sales-eu", json!({})).await;
    stage.wait_until_ready("sales-eu").await;
    stage
        .credential("sales-eu", json!({"destination": {"woodpecker": {"accountRef": {"name": "branch"}}}}))
        .await;
    eventually("registered at the branch", || async {
        if stage.woodpecker.credentials("branch").len() == 1 { Ok(()) } else { Err(stage.log()) }
    })
    .await;
    stage.wait_until_ready("sales-eu").await;
    assert_eq!(stage.remote().len(), 1);
}
