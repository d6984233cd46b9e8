//! Drift: the account does not match what is registered. Credentials are deleted or missing in a list, or the
//! key opens another account.

use graph_credential_operator::api::conditions::{ConditionStatus, ConditionType, find};
use graph_credential_operator::api::{
    CONFIRM_DELETED, MicrosoftGraphCredential, RECONCILE_REQUESTED_AT, WoodpeckerAccount,
};
use kit::woodpecker::{Credential, Fault, Op};
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::harness::{CLIENT, EXPIRY, QUIET_TIME, TENANT, TestEnv, eventually, message};

pub(crate) fn count(env: &TestEnv, op: Op) -> usize {
    env.woodpecker.requests("agency").iter().filter(|request| request.op == op).count()
}

/// Makes the operator check the account now.
pub(crate) async fn recheck_account(env: &TestEnv) {
    let lists = env.woodpecker.lists("agency");
    let touch =
        Patch::Merge(json!({"metadata": {"annotations": {RECONCILE_REQUESTED_AT: lists.to_string()}}}));
    env.api::<WoodpeckerAccount>().patch("agency", &PatchParams::default(), &touch).await.unwrap();
}

/// Creates this number of objects at the account, all Ready.
pub(crate) async fn several(env: &TestEnv, number: usize) {
    for n in 0..number {
        let client = format!("00000000-0000-4000-8000-{n:012}");
        env.entra.add_app(TENANT, &client);
        env.entra.set_secrets(TENANT, &client, &["s3cret-one"]);
        env.credential(&format!("app-{n}"), json!({"clientId": client})).await;
    }
    for n in 0..number {
        env.wait_until_ready(&format!("app-{n}")).await;
    }
}

#[tokio::test]
async fn a_credential_deleted_externally_is_registered_again() {
    let env = TestEnv::start().await;
    env.credential("sales-eu", json!({})).await;
    let before = env.wait_until_ready("sales-eu").await.status.unwrap().credential_id.unwrap();
    env.woodpecker.remove("agency", before);
    recheck_account(&env).await;
    let object = env
        .wait_until("sales-eu", "another id", |object| {
            object.status.as_ref().and_then(|status| status.credential_id).is_some_and(|id| id != before)
        })
        .await;
    env.wait_until_ready("sales-eu").await;
    assert_eq!(env.remote().len(), 1);
    assert_eq!(Some(env.remote()[0].credential_id), object.status.unwrap().credential_id);
    let events = env.wait_for_event("sales-eu", "DeletedRemotely").await;
    assert!(
        events
            .iter()
            .any(|event| event.starts_with("DeletedRemotely") && event.contains(&before.to_string())),
        "{events:?}"
    );
}

#[tokio::test]
async fn a_rotation_of_a_missing_credential_registers_it_again() {
    let env = TestEnv::start().await;
    env.credential("sales-eu", json!({})).await;
    let before = env.wait_until_ready("sales-eu").await.status.unwrap().credential_id.unwrap();
    env.woodpecker.remove("agency", before);
    env.entra.add_secret(TENANT, CLIENT, "s3cret-two");
    env.secret("sales-eu-graph", &[("client_secret", "s3cret-two"), ("secret_expires_at", EXPIRY)]).await;
    eventually("the new secret is registered", || async {
        let held = env.remote();
        let is_there =
            held.iter().any(|it| env.woodpecker.secret_matches("agency", it.credential_id, "s3cret-two"));
        if is_there && held.len() == 1 { Ok(()) } else { Err(format!("{held:#?}")) }
    })
    .await;
    env.wait_until_ready("sales-eu").await;
}

#[tokio::test]
async fn an_incomplete_list_re_creates_nothing_and_is_reported() {
    let env = TestEnv::start().await;
    env.credential("sales-eu", json!({})).await;
    let id = env.wait_until_ready("sales-eu").await.status.unwrap().credential_id.unwrap();
    env.woodpecker.fail_always(Op::List, Fault::ListingOmits(vec![id]));
    recheck_account(&env).await;
    env.wait_for_account("agency", ConditionStatus::False, "IncompleteList").await;
    env.wait_until_ready("sales-eu").await;
    assert_eq!((count(&env, Op::Create), env.remote().len()), (1, 1));
    // New credentials wait, and what is registered is maintained.
    let client = "00000000-0000-4000-8000-000000000077";
    env.entra.add_app(TENANT, client);
    env.entra.set_secrets(TENANT, client, &["s3cret-one"]);
    env.credential("another", json!({"clientId": client})).await;
    env.wait_for("another", ConditionType::Registered, ConditionStatus::False, "AccountNotReady").await;
    env.woodpecker.clear_faults();
    recheck_account(&env).await;
    env.wait_for_account("agency", ConditionStatus::True, "Authenticated").await;
    env.wait_until_ready("another").await;
}

/// A credential that existed before and is adopted from a list.
async fn taken_over() -> (TestEnv, i64) {
    let by_hand = Credential::new(TENANT, CLIENT, "s3cret-one", EXPIRY, "by hand");
    TestEnv::start_after(|env| env.woodpecker.put("agency", by_hand)).await
}

#[tokio::test]
async fn a_lost_response_to_the_existence_check_keeps_the_known_name() {
    let (env, id) = taken_over().await;
    env.credential("sales-eu", json!({})).await;
    env.wait_until_ready("sales-eu").await;
    env.woodpecker.fail_always(Op::List, Fault::ListingOmits(vec![id]));
    env.woodpecker.fail_next(Op::Rename, 1, Fault::ProcessedThenReset);
    recheck_account(&env).await;
    let lost =
        env.wait_for("sales-eu", ConditionType::Registered, ConditionStatus::Unknown, "OutcomeUnknown").await;
    assert_eq!(lost.status.unwrap().registration.unwrap().name, "by hand");
    let status = env.wait_until_ready("sales-eu").await.status.unwrap();
    let registration = status.registration.unwrap();
    assert_eq!((registration.name.as_str(), registration.update_sent_time), ("by hand", None));
    assert_eq!((count(&env, Op::Create), env.remote()[0].name.as_str()), (0, "by hand"));
}

#[tokio::test]
async fn a_missing_credential_without_a_known_name_is_reported_and_checked_by_the_name_of_the_spec() {
    let (env, id) = taken_over().await;
    env.woodpecker.fail_always(Op::List, Fault::ListingWithoutNames);
    env.credential("sales-eu", json!({})).await;
    let status = env.wait_until_ready("sales-eu").await.status.unwrap();
    assert_eq!(status.registration.unwrap().name, "");
    env.woodpecker.fail_always(Op::List, Fault::ListingOmits(vec![id]));
    recheck_account(&env).await;
    let object =
        env.wait_for("sales-eu", ConditionType::Registered, ConditionStatus::False, "UpdateRejected").await;
    let text = message(&object, ConditionType::Registered);
    assert!(text.contains("spec.displayName") && text.contains(CONFIRM_DELETED), "{text}");
    assert_eq!((count(&env, Op::Create), count(&env, Op::Rename)), (0, 0));
    env.credential("sales-eu", json!({"displayName": "MS Graph app"})).await;
    env.wait_until_ready("sales-eu").await;
    assert_eq!((count(&env, Op::Create), env.remote()[0].name.as_str()), (0, "MS Graph app"));
}

#[tokio::test]
async fn a_rejected_existence_check_re_creates_nothing_until_confirmed() {
    let env = TestEnv::start().await;
    env.credential("sales-eu", json!({})).await;
    let id = env.wait_until_ready("sales-eu").await.status.unwrap().credential_id.unwrap();
    env.woodpecker.remove("agency", id);
    env.woodpecker.fail_always(Op::Rename, Fault::RefusedBefore(422, json!({"message": "NOT_NOW"})));
    recheck_account(&env).await;
    let object =
        env.wait_for("sales-eu", ConditionType::Registered, ConditionStatus::False, "UpdateRejected").await;
    assert!(message(&object, ConditionType::Registered).contains(CONFIRM_DELETED));
    tokio::time::sleep(QUIET_TIME / 2).await;
    assert_eq!(count(&env, Op::Create), 1);
    env.woodpecker.clear_faults();
    let acknowledge = Patch::Merge(json!({"metadata": {"annotations": {CONFIRM_DELETED: id.to_string()}}}));
    env.api::<MicrosoftGraphCredential>()
        .patch("sales-eu", &PatchParams::default(), &acknowledge)
        .await
        .unwrap();
    env.wait_until_ready("sales-eu").await;
    assert_eq!(env.remote().len(), 1);
}

#[tokio::test]
async fn an_empty_list_for_many_objects_re_creates_nothing_until_confirmed() {
    let mut env = TestEnv::start().await;
    several(&env, 6).await;
    let held: Vec<i64> = env.remote().iter().map(|it| it.credential_id).collect();
    for id in &held {
        env.woodpecker.remove("agency", *id);
    }
    recheck_account(&env).await;
    let account = env.wait_for_account("agency", ConditionStatus::False, "UnexpectedRemoteState").await;
    let ready = find(&account.status.as_ref().unwrap().conditions, ConditionType::Ready).unwrap().clone();
    assert!(
        ready.message.contains("6 of the 6") && ready.message.contains(CONFIRM_DELETED),
        "{}",
        ready.message
    );
    env.wait_for("app-0", ConditionType::Registered, ConditionStatus::False, "AccountNotReady").await;
    env.stop_operator().await;
    env.start_operator().await;
    tokio::time::sleep(QUIET_TIME).await;
    assert_eq!((count(&env, Op::Create), env.remote().len()), (6, 0), "nor after a restart");
    let acknowledge = Patch::Merge(json!({"metadata": {"annotations": {CONFIRM_DELETED: "now"}}}));
    env.api::<WoodpeckerAccount>().patch("agency", &PatchParams::default(), &acknowledge).await.unwrap();
    for n in 0..6 {
        env.wait_until_ready(&format!("app-{n}")).await;
    }
    eventually("all are registered again", || async {
        if env.remote().len() == 6 { Ok(()) } else { Err(format!("{}\n{}", env.remote().len(), env.log())) }
    })
    .await;
}

#[tokio::test]
async fn a_confirmation_for_an_account_survives_a_restart() {
    let mut env = TestEnv::start().await;
    several(&env, 6).await;
    for credential in env.remote() {
        env.woodpecker.remove("agency", credential.credential_id);
    }
    env.woodpecker.fail_always(Op::Create, Fault::RefusedBefore(503, json!({})));
    recheck_account(&env).await;
    env.wait_for_account("agency", ConditionStatus::False, "UnexpectedRemoteState").await;
    let confirm = Patch::Merge(json!({"metadata": {"annotations": {CONFIRM_DELETED: "now"}}}));
    env.api::<WoodpeckerAccount>().patch("agency", &PatchParams::default(), &confirm).await.unwrap();
    let account = env.wait_for_account("agency", ConditionStatus::True, "Authenticated").await;
    assert_eq!(account.status.unwrap().confirmed_deleted_ids.len(), 6);
    env.stop_operator().await;
    env.woodpecker.clear_faults();
    env.start_operator().await;
    eventually("all are registered again", || async {
        if env.remote().len() == 6 { Ok(()) } else { Err(format!("{}\n{}", env.remote().len(), env.log())) }
    })
    .await;
    eventually("nothing is confirmed any longer", || async {
        let account = env.api::<WoodpeckerAccount>().get("agency").await.unwrap().status.unwrap();
        if account.confirmed_deleted_ids.is_empty() { Ok(()) } else { Err(format!("{account:#?}")) }
    })
    .await;
}

#[tokio::test]
async fn a_key_of_another_account_is_detected_and_registers_nothing_there() {
    let mut env = TestEnv::start().await;
    env.credential("sales-eu", json!({})).await;
    env.wait_until_ready("sales-eu").await;
    env.wait_for_account("agency", ConditionStatus::True, "Authenticated").await;
    env.woodpecker.add_account("other", "1234.key-of-another-account");
    env.stop_operator().await;
    env.secret("agency-key", &[("api_key", "1234.key-of-another-account")]).await;
    env.start_operator().await;
    let account = env.wait_for_account("agency", ConditionStatus::False, "UnexpectedRemoteState").await;
    let conditions = account.status.unwrap().conditions;
    assert!(find(&conditions, ConditionType::Ready).unwrap().message.contains("right account"));
    env.wait_for("sales-eu", ConditionType::Registered, ConditionStatus::False, "AccountNotReady").await;
    assert_eq!(env.woodpecker.writes("other"), 0);
    env.secret("agency-key", &[("api_key", crate::harness::API_KEY)]).await;
    env.wait_until_ready("sales-eu").await;
    assert_eq!(env.remote().len(), 1);
}

#[tokio::test]
async fn an_account_re_created_with_a_key_of_a_third_party_is_not_trusted() {
    let env = TestEnv::start().await;
    env.credential("sales-eu", json!({})).await;
    env.wait_until_ready("sales-eu").await;
    env.woodpecker.add_account("other", "1234.key-of-another-account");
    env.secret("agency-key", &[("api_key", "1234.key-of-another-account")]).await;
    let accounts = env.api::<WoodpeckerAccount>();
    accounts.delete("agency", &kube::api::DeleteParams::default()).await.unwrap();
    env.apply_account("agency", json!({})).await;
    env.wait_for_account("agency", ConditionStatus::False, "UnexpectedRemoteState").await;
    assert_eq!(env.woodpecker.writes("other"), 0);
    assert_eq!(env.remote().len(), 1);
}

#[tokio::test]
async fn a_new_key_is_not_used_before_the_account_is_listed_with_it() {
    let env = TestEnv::start().await;
    env.credential("sales-eu", json!({})).await;
    env.wait_until_ready("sales-eu").await;
    env.woodpecker.add_account("other", "1234.key-of-another-account");
    env.woodpecker.fail_account_always("other", Op::List, Fault::Html502);
    env.secret("agency-key", &[("api_key", "1234.key-of-another-account")]).await;
    env.wait_for_account("agency", ConditionStatus::False, "WoodpeckerUnavailable").await;
    env.entra.add_secret(TENANT, CLIENT, "s3cret-two");
    env.secret("sales-eu-graph", &[("client_secret", "s3cret-two"), ("secret_expires_at", EXPIRY)]).await;
    tokio::time::sleep(QUIET_TIME / 2).await;
    assert_eq!(env.woodpecker.writes("other"), 0, "no secret is sent to an account that may be another one");
    env.secret("agency-key", &[("api_key", crate::harness::API_KEY)]).await;
    let id = env.remote()[0].credential_id;
    eventually("the new secret is registered at the right account", || async {
        if env.woodpecker.secret_matches("agency", id, "s3cret-two") { Ok(()) } else { Err(env.log()) }
    })
    .await;
}
