//! Updates, renames and deletions end with exactly one registration, and credentials of third parties stay
//! unchanged.

use graph_credential_operator::api::conditions::{ConditionStatus, ConditionType};
use kit::woodpecker::{Fault, Op};
use serde_json::json;

use crate::harness::{CLIENT, EXPIRY, TENANT, TestEnv, condition, eventually, message};

#[tokio::test]
async fn a_rejected_create_leaves_no_intent_and_is_retried_once_the_cause_is_fixed() {
    let env = TestEnv::start().await;
    env.woodpecker.fail_next(Op::Create, 1, Fault::RefusedBefore(422, json!({"message": "NAME_TAKEN"})));
    env.credential("sales-eu", json!({})).await;
    let object =
        env.wait_for("sales-eu", ConditionType::Registered, ConditionStatus::False, "CreateRejected").await;
    assert!(message(&object, ConditionType::Registered).contains("NAME_TAKEN"));
    assert_eq!(object.status.unwrap().pending_create, None);
    env.credential("sales-eu", json!({"displayName": "another name"})).await;
    env.wait_until_ready("sales-eu").await;
    assert_eq!(env.remote().len(), 1);
}

#[tokio::test]
async fn a_throttled_create_is_sent_after_the_pause() {
    let env = TestEnv::start().await;
    env.woodpecker.fail_next(Op::Create, 1, Fault::Throttled { retry_after: None });
    env.credential("sales-eu", json!({})).await;
    env.wait_until_ready("sales-eu").await;
    assert_eq!(env.remote().len(), 1);
}

#[tokio::test]
async fn a_lost_rename_or_update_is_sent_again_to_the_same_credential() {
    let env = TestEnv::start().await;
    env.woodpecker.fail_next(Op::Rename, 1, Fault::ProcessedThenReset);
    env.credential("sales-eu", json!({"displayName": "MS Graph app"})).await;
    let id = env.wait_until_ready("sales-eu").await.status.unwrap().credential_id.unwrap();
    env.woodpecker.fail_next(Op::Update, 1, Fault::ProcessedThen500);
    env.entra.add_secret(TENANT, CLIENT, "s3cret-two");
    env.secret("sales-eu-graph", &[("client_secret", "s3cret-two"), ("secret_expires_at", "2028-01-31")])
        .await;
    env.wait_until("sales-eu", "the new expiry", |object| {
        object
            .status
            .as_ref()
            .and_then(|status| status.expires_at.as_ref())
            .is_some_and(|at| at.0.to_string() == "2028-01-31T23:59:59Z")
    })
    .await;
    let remote = env.remote();
    assert_eq!((remote.len(), remote[0].credential_id), (1, id));
    assert!(env.woodpecker.secret_matches("agency", id, "s3cret-two"));
    eventually("it has its name", || async {
        let name = env.remote()[0].name.clone();
        if name == "MS Graph app" { Ok(()) } else { Err(name) }
    })
    .await;
}

#[tokio::test]
async fn a_rejected_update_keeps_the_registration() {
    let env = TestEnv::start().await;
    env.credential("sales-eu", json!({})).await;
    let before = env.wait_until_ready("sales-eu").await.status.unwrap();
    env.woodpecker.fail_always(Op::Update, Fault::RefusedBefore(422, json!({"message": "SOMETHING_NEW"})));
    env.entra.add_secret(TENANT, CLIENT, "s3cret-two");
    env.secret("sales-eu-graph", &[("client_secret", "s3cret-two"), ("secret_expires_at", EXPIRY)]).await;
    let object =
        env.wait_for("sales-eu", ConditionType::Registered, ConditionStatus::False, "UpdateRejected").await;
    assert!(message(&object, ConditionType::Registered).contains("SOMETHING_NEW"));
    assert_eq!(object.status.unwrap().registration, before.registration);
}

#[tokio::test]
async fn two_objects_for_one_app_create_one_registration_and_the_second_takes_over() {
    let env = TestEnv::start().await;
    tokio::join!(env.credential("first", json!({})), env.credential("second", json!({})));
    let (winner, loser) =
        crate::harness::eventually("one of them is registered and the other waits", || async {
            let reason = |object: &_| {
                condition(object, ConditionType::Ready).map(|ready| ready.reason.clone()).unwrap_or_default()
            };
            let (first, second) = (env.read("first").await, env.read("second").await);
            match (reason(&first).as_str(), reason(&second).as_str()) {
                ("Ready", "AlreadyManaged") => Ok(("first", "second")),
                ("AlreadyManaged", "Ready") => Ok(("second", "first")),
                reasons => Err(format!("{reasons:?}")),
            }
        })
        .await;
    assert!(
        message(&env.read(loser).await, ConditionType::Ready)
            .contains(&format!("{}/{winner}", env.namespace))
    );
    assert_eq!(env.remote().len(), 1);

    env.credential(winner, json!({"deletionPolicy": "Delete"})).await;
    env.wait_until(winner, "the finalizer", |object| object.metadata.finalizers.is_some()).await;
    env.delete(winner).await;
    env.wait_until_gone(winner).await;
    env.wait_until_ready(loser).await;
    assert_eq!(env.remote().len(), 1);
}

#[tokio::test]
async fn one_request_at_a_time_reaches_an_account() {
    let env = TestEnv::start().await;
    env.woodpecker.service_time(std::time::Duration::from_millis(30));
    let clients: Vec<String> = (0..8).map(|n| format!("00000000-0000-4000-8000-00000000000{n}")).collect();
    for (n, client) in clients.iter().enumerate() {
        env.entra.add_app(TENANT, client);
        env.entra.set_secrets(TENANT, client, &["s3cret-one"]);
        env.credential(&format!("app-{n}"), json!({"clientId": client})).await;
    }
    for n in 0..clients.len() {
        env.wait_until_ready(&format!("app-{n}")).await;
    }
    assert_eq!(env.woodpecker.max_in_flight("agency"), 1);
    assert_eq!(env.remote().len(), clients.len());
}

#[tokio::test]
async fn a_secret_rejected_by_woodpecker_is_retried_during_the_propagation_window() {
    let env = TestEnv::start().await;
    let refusal = json!({"message": "INVALID_CLIENT_SECRET"});
    env.woodpecker.fail_always(Op::Create, Fault::RefusedBefore(422, refusal));
    env.credential("sales-eu", json!({})).await;
    let object = env
        .wait_for("sales-eu", ConditionType::Verified, ConditionStatus::Unknown, "AwaitingPropagation")
        .await;
    assert!(message(&object, ConditionType::Verified).contains("Woodpecker"));
    let object =
        env.wait_for("sales-eu", ConditionType::Registered, ConditionStatus::False, "CreateRejected").await;
    assert!(message(&object, ConditionType::Registered).contains("although Microsoft accepts it"));
    env.woodpecker.clear_faults();
    env.entra.add_secret(TENANT, CLIENT, "s3cret-two");
    env.secret("sales-eu-graph", &[("client_secret", "s3cret-two"), ("secret_expires_at", EXPIRY)]).await;
    env.wait_until_ready("sales-eu").await;
}

#[tokio::test]
async fn unusual_rejections_are_reported_with_their_details() {
    for (body, word) in [
        (json!({"message": "SOMETHING_NEW"}), Some("SOMETHING_NEW")),
        (json!({"code": "E_ODD", "details": []}), Some("E_ODD")),
        (json!({"message": "tenant 4711 is not liked"}), None),
        (json!({"message": 5}), None),
        (json!({}), None),
    ] {
        let env = TestEnv::start().await;
        env.woodpecker.fail_always(Op::Create, Fault::RefusedBefore(422, body.clone()));
        env.credential("sales-eu", json!({})).await;
        let object = env
            .wait_for("sales-eu", ConditionType::Registered, ConditionStatus::False, "CreateRejected")
            .await;
        let text = message(&object, ConditionType::Registered);
        assert!(text.contains("HTTP 422") && !text.contains("4711"), "{text}");
        assert!(word.is_none_or(|word| text.contains(word)), "{body}: {text}");
        assert_eq!(object.status.unwrap().pending_create, None);
    }
}

#[tokio::test]
async fn a_secret_restored_after_a_lost_update_is_sent_again() {
    let mut env = TestEnv::start().await;
    env.credential("sales-eu", json!({})).await;
    let id = env.wait_until_ready("sales-eu").await.status.unwrap().credential_id.unwrap();
    // The other secret takes effect, but no response reports it.
    env.woodpecker.fail_always(Op::Update, Fault::ProcessedThenReset);
    env.entra.add_secret(TENANT, CLIENT, "s3cret-two");
    env.secret("sales-eu-graph", &[("client_secret", "s3cret-two"), ("secret_expires_at", EXPIRY)]).await;
    env.wait_for("sales-eu", ConditionType::Registered, ConditionStatus::Unknown, "OutcomeUnknown").await;
    assert!(env.woodpecker.secret_matches("agency", id, "s3cret-two"));
    // A third one is rejected, and the operator restarts, before the first comes back.
    env.secret("sales-eu-graph", &[("client_secret", "s3cret-bad"), ("secret_expires_at", EXPIRY)]).await;
    env.wait_for("sales-eu", ConditionType::Verified, ConditionStatus::Unknown, "AwaitingPropagation").await;
    env.stop_operator().await;
    env.woodpecker.clear_faults();
    env.start_operator().await;
    env.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    env.wait_until_ready("sales-eu").await;
    assert!(env.woodpecker.secret_matches("agency", id, "s3cret-one"));
    assert_eq!(env.remote().len(), 1);
}

#[tokio::test]
async fn a_rejected_name_does_not_block_a_new_secret() {
    let env = TestEnv::start().await;
    env.credential("sales-eu", json!({})).await;
    let id = env.wait_until_ready("sales-eu").await.status.unwrap().credential_id.unwrap();
    env.woodpecker.fail_always(Op::Rename, Fault::RefusedBefore(422, json!({"message": "NAME_TAKEN"})));
    env.credential("sales-eu", json!({"displayName": "taken"})).await;
    env.wait_for("sales-eu", ConditionType::Registered, ConditionStatus::False, "UpdateRejected").await;
    env.entra.add_secret(TENANT, CLIENT, "s3cret-two");
    env.secret("sales-eu-graph", &[("client_secret", "s3cret-two"), ("secret_expires_at", EXPIRY)]).await;
    crate::harness::eventually("the new secret is stored", || async {
        if env.woodpecker.secret_matches("agency", id, "s3cret-two") { Ok(()) } else { Err(env.log()) }
    })
    .await;
    let object =
        env.wait_for("sales-eu", ConditionType::Registered, ConditionStatus::False, "UpdateRejected").await;
    let text = message(&object, ConditionType::Registered);
    assert!(text.contains("NAME_TAKEN") && text.contains("reconcile-requested-at"), "{text}");
}

#[tokio::test]
async fn an_older_object_that_cannot_register_does_not_block_a_newer_one() {
    let env = TestEnv::start().await;
    let adopt_only = json!({"destination": {"woodpecker": {"accountRef": {"name": "agency"}, "adoption": {"policy": "AdoptOnly"}}}});
    env.credential("elder", adopt_only).await;
    env.wait_for("elder", ConditionType::Registered, ConditionStatus::False, "NoMatchToAdopt").await;
    env.credential("younger", json!({})).await;
    env.wait_until_ready("younger").await;
    env.wait_for("elder", ConditionType::Registered, ConditionStatus::False, "AlreadyManaged").await;
}

#[tokio::test]
async fn a_suspended_older_object_does_not_block_a_newer_one() {
    let env = TestEnv::start().await;
    env.woodpecker.fail_always(Op::Create, Fault::RefusedBefore(422, json!({"message": "NOT_NOW"})));
    env.credential("elder", json!({})).await;
    env.wait_for("elder", ConditionType::Registered, ConditionStatus::False, "CreateRejected").await;
    // Creation times have whole seconds.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    env.credential("younger", json!({})).await;
    env.wait_for("younger", ConditionType::Registered, ConditionStatus::False, "AlreadyManaged").await;
    env.woodpecker.clear_faults();
    env.credential("elder", json!({"suspend": true})).await;
    env.wait_until_ready("younger").await;
}
