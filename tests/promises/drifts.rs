//! What the account holds does not agree with what is registered: gone, missing in a listing, another
//! account, or moved on purpose.

use graph_credential_operator::resources::conditions::{ConditionStatus, ConditionType, find};
use graph_credential_operator::resources::{
    ACKNOWLEDGE_GONE, MicrosoftGraphCredential, RECONCILE_REQUESTED_AT, WoodpeckerAccount,
};
use kit::woodpecker::{Credential, Fault, Op};
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::stage::{A_WHILE, CLIENT, EXPIRY, Stage, TENANT, eventually, message};

pub(crate) fn count(stage: &Stage, op: Op) -> usize {
    stage.woodpecker.requests("agency").iter().filter(|request| request.op == op).count()
}

/// Makes the account look again now.
pub(crate) async fn look_again(stage: &Stage) {
    let asked = stage.woodpecker.lists("agency");
    let touch =
        Patch::Merge(json!({"metadata": {"annotations": {RECONCILE_REQUESTED_AT: asked.to_string()}}}));
    stage.api::<WoodpeckerAccount>().patch("agency", &PatchParams::default(), &touch).await.unwrap();
}

/// Some Ready objects at the account.
pub(crate) async fn several(stage: &Stage, number: usize) {
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
    stage.entra.add_secret(TENANT, CLIENT, "s3cret-two");
    stage.secret("sales-eu-graph", &[("client_secret", "s3cret-two"), ("secret_expires_at", EXPIRY)]).await;
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

/// A credential that was there before, and is taken over from a listing.
async fn taken_over() -> (Stage, i64) {
    let stage = Stage::set().await;
    let by_hand = Credential::new(TENANT, CLIENT, "s3cret-one", EXPIRY, "by hand");
    let id = stage.woodpecker.put("agency", by_hand);
    (stage, id)
}

#[tokio::test]
async fn a_lost_answer_to_the_question_whether_it_is_there_leaves_its_name_known() {
    let (stage, id) = taken_over().await;
    stage.credential("sales-eu", json!({})).await;
    stage.wait_until_ready("sales-eu").await;
    stage.woodpecker.fail_always(Op::List, Fault::ListingOmits(vec![id]));
    stage.woodpecker.fail_next(Op::Rename, 1, Fault::ProcessedThenReset);
    look_again(&stage).await;
    let lost = stage
        .wait_for("sales-eu", ConditionType::Registered, ConditionStatus::Unknown, "OutcomeUnknown")
        .await;
    assert_eq!(lost.status.unwrap().registration.unwrap().name, "by hand");
    let status = stage.wait_until_ready("sales-eu").await.status.unwrap();
    let registration = status.registration.unwrap();
    assert_eq!((registration.name.as_str(), registration.change_sent_at), ("by hand", None));
    assert_eq!((count(&stage, Op::Create), stage.remote()[0].name.as_str()), (0, "by hand"));
}

#[tokio::test]
async fn what_has_no_known_name_and_is_missing_is_told_and_asked_for_by_the_name_of_the_spec() {
    let (stage, id) = taken_over().await;
    stage.woodpecker.fail_always(Op::List, Fault::ListingWithoutNames);
    stage.credential("sales-eu", json!({})).await;
    let status = stage.wait_until_ready("sales-eu").await.status.unwrap();
    assert_eq!(status.registration.unwrap().name, "");
    stage.woodpecker.fail_always(Op::List, Fault::ListingOmits(vec![id]));
    look_again(&stage).await;
    let object =
        stage.wait_for("sales-eu", ConditionType::Registered, ConditionStatus::False, "UpdateRejected").await;
    let told = message(&object, ConditionType::Registered);
    assert!(told.contains("spec.displayName") && told.contains(ACKNOWLEDGE_GONE), "{told}");
    assert_eq!((count(&stage, Op::Create), count(&stage, Op::Rename)), (0, 0));
    stage.credential("sales-eu", json!({"displayName": "MS Graph app"})).await;
    stage.wait_until_ready("sales-eu").await;
    assert_eq!((count(&stage, Op::Create), stage.remote()[0].name.as_str()), (0, "MS Graph app"));
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
    stage.request_pass("sales-eu").await;
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
async fn an_account_made_anew_with_a_strangers_key_is_not_trusted() {
    let stage = Stage::set().await;
    stage.credential("sales-eu", json!({})).await;
    stage.wait_until_ready("sales-eu").await;
    stage.woodpecker.add_account("stranger", "1234.key-of-a-stranger");
    stage.secret("agency-key", &[("api_key", "1234.key-of-a-stranger")]).await;
    let accounts = stage.api::<WoodpeckerAccount>();
    accounts.delete("agency", &kube::api::DeleteParams::default()).await.unwrap();
    stage.apply_account("agency", json!({})).await;
    stage.wait_for_account("agency", ConditionStatus::False, "RemoteDiverged").await;
    assert_eq!(stage.woodpecker.writes("stranger"), 0);
    assert_eq!(stage.remote().len(), 1);
}

#[tokio::test]
async fn a_new_key_is_not_used_before_the_account_was_seen_with_it() {
    let stage = Stage::set().await;
    stage.credential("sales-eu", json!({})).await;
    stage.wait_until_ready("sales-eu").await;
    stage.woodpecker.add_account("stranger", "1234.key-of-a-stranger");
    stage.woodpecker.fail_account_always("stranger", Op::List, Fault::Html502);
    stage.secret("agency-key", &[("api_key", "1234.key-of-a-stranger")]).await;
    stage.wait_for_account("agency", ConditionStatus::False, "Unreachable").await;
    stage.entra.add_secret(TENANT, CLIENT, "s3cret-two");
    stage.secret("sales-eu-graph", &[("client_secret", "s3cret-two"), ("secret_expires_at", EXPIRY)]).await;
    tokio::time::sleep(A_WHILE / 2).await;
    assert_eq!(
        stage.woodpecker.writes("stranger"),
        0,
        "no secret goes to an account that may be another one"
    );
    stage.secret("agency-key", &[("api_key", crate::stage::API_KEY)]).await;
    let id = stage.remote()[0].credential_id;
    eventually("the new secret is registered at the right account", || async {
        if stage.woodpecker.secret_matches("agency", id, "s3cret-two") { Ok(()) } else { Err(stage.log()) }
    })
    .await;
}
