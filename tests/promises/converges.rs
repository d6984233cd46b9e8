//! Promise 2: exactly one registration, none leaked, none of a stranger's touched.

use graph_credential_operator::resources::conditions::{ConditionStatus, ConditionType};
use kit::woodpecker::{Fault, Op};
use serde_json::json;

use crate::stage::{CLIENT, EXPIRY, Stage, TENANT, condition, eventually, message};

#[tokio::test]
async fn a_refused_create_leaves_no_intent_and_is_made_when_the_cause_is_gone() {
    let stage = Stage::set().await;
    stage.woodpecker.fail_next(Op::Create, 1, Fault::RefusedBefore(422, json!({"message": "NAME_TAKEN"})));
    stage.credential("sales-eu", json!({})).await;
    let object = stage
        .wait_for("sales-eu", ConditionType::Registered, ConditionStatus::False, "RejectedByWoodpecker")
        .await;
    assert!(message(&object, ConditionType::Registered).contains("NAME_TAKEN"));
    assert_eq!(object.status.unwrap().pending, None);
    stage.credential("sales-eu", json!({"displayName": "another name"})).await;
    stage.wait_until_ready("sales-eu").await;
    assert_eq!(stage.remote().len(), 1);
}

#[tokio::test]
async fn a_throttled_create_is_made_after_the_pause() {
    let stage = Stage::set().await;
    stage.woodpecker.fail_next(Op::Create, 1, Fault::Throttled { retry_after: None });
    stage.credential("sales-eu", json!({})).await;
    stage.wait_until_ready("sales-eu").await;
    assert_eq!(stage.remote().len(), 1);
}

#[tokio::test]
async fn a_lost_rename_or_update_is_sent_again_to_the_same_credential() {
    let stage = Stage::set().await;
    stage.woodpecker.fail_next(Op::Rename, 1, Fault::ProcessedThenReset);
    stage.credential("sales-eu", json!({"displayName": "MS Graph app"})).await;
    let id = stage.wait_until_ready("sales-eu").await.status.unwrap().credential_id.unwrap();
    stage.woodpecker.fail_next(Op::Update, 1, Fault::ProcessedThen500);
    stage.entra.add_secret(TENANT, CLIENT, "s3cret-two");
    stage
        .secret("sales-eu-graph", &[("client_secret", "s3cret-two"), ("secret_expires_at", "2028-01-31")])
        .await;
    stage
        .wait_until("sales-eu", "the new expiry", |object| {
            object
                .status
                .as_ref()
                .and_then(|status| status.expires_at.as_ref())
                .is_some_and(|at| at.0.to_string() == "2028-01-31T00:00:00Z")
        })
        .await;
    let remote = stage.remote();
    assert_eq!((remote.len(), remote[0].credential_id), (1, id));
    assert!(stage.woodpecker.secret_matches("agency", id, "s3cret-two"));
    eventually("it has its name", || async {
        let name = stage.remote()[0].name.clone();
        if name == "MS Graph app" { Ok(()) } else { Err(name) }
    })
    .await;
}

#[tokio::test]
async fn a_refused_update_keeps_what_is_registered() {
    let stage = Stage::set().await;
    stage.credential("sales-eu", json!({})).await;
    let before = stage.wait_until_ready("sales-eu").await.status.unwrap();
    stage.woodpecker.fail_always(Op::Update, Fault::RefusedBefore(422, json!({"message": "SOMETHING_NEW"})));
    stage.entra.add_secret(TENANT, CLIENT, "s3cret-two");
    stage.secret("sales-eu-graph", &[("client_secret", "s3cret-two"), ("secret_expires_at", EXPIRY)]).await;
    let object =
        stage.wait_for("sales-eu", ConditionType::Registered, ConditionStatus::False, "UpdateRejected").await;
    assert!(message(&object, ConditionType::Registered).contains("SOMETHING_NEW"));
    assert_eq!(object.status.unwrap().registration, before.registration);
}

#[tokio::test]
async fn two_objects_for_one_app_make_one_registration_and_the_second_takes_over() {
    let stage = Stage::set().await;
    tokio::join!(stage.credential("first", json!({})), stage.credential("second", json!({})));
    let (winner, loser) =
        crate::stage::eventually("one of them is registered and the other waits", || async {
            let reason = |object: &_| {
                condition(object, ConditionType::Ready).map(|ready| ready.reason.clone()).unwrap_or_default()
            };
            let (first, second) = (stage.read("first").await, stage.read("second").await);
            match (reason(&first).as_str(), reason(&second).as_str()) {
                ("Ready", "DuplicateClaim") => Ok(("first", "second")),
                ("DuplicateClaim", "Ready") => Ok(("second", "first")),
                reasons => Err(format!("{reasons:?}")),
            }
        })
        .await;
    assert!(
        message(&stage.read(loser).await, ConditionType::Ready)
            .contains(&format!("{}/{winner}", stage.namespace))
    );
    assert_eq!(stage.remote().len(), 1);

    stage.credential(winner, json!({"deletionPolicy": "Delete"})).await;
    stage.wait_until(winner, "the finalizer", |object| object.metadata.finalizers.is_some()).await;
    stage.delete(winner).await;
    stage.wait_until_gone(winner).await;
    stage.wait_until_ready(loser).await;
    assert_eq!(stage.remote().len(), 1);
}

#[tokio::test]
async fn one_request_at_a_time_reaches_an_account() {
    let stage = Stage::set().await;
    stage.woodpecker.service_time(std::time::Duration::from_millis(30));
    let clients: Vec<String> = (0..8).map(|n| format!("00000000-0000-4000-8000-00000000000{n}")).collect();
    for (n, client) in clients.iter().enumerate() {
        stage.entra.add_app(TENANT, client);
        stage.entra.set_secrets(TENANT, client, &["s3cret-one"]);
        stage.credential(&format!("app-{n}"), json!({"clientId": client})).await;
    }
    for n in 0..clients.len() {
        stage.wait_until_ready(&format!("app-{n}")).await;
    }
    assert_eq!(stage.woodpecker.max_in_flight("agency"), 1);
    assert_eq!(stage.remote().len(), clients.len());
}

#[tokio::test]
async fn a_refusal_of_the_secret_by_woodpecker_has_the_window_of_a_new_secret_and_then_counts() {
    let stage = Stage::set().await;
    let refusal = json!({"message": "INVALID_CLIENT_SECRET"});
    stage.woodpecker.fail_always(Op::Create, Fault::RefusedBefore(422, refusal));
    stage.credential("sales-eu", json!({})).await;
    let object = stage
        .wait_for("sales-eu", ConditionType::Verified, ConditionStatus::Unknown, "AwaitingPropagation")
        .await;
    assert!(message(&object, ConditionType::Verified).contains("Woodpecker"));
    let object = stage
        .wait_for("sales-eu", ConditionType::Registered, ConditionStatus::False, "RejectedByWoodpecker")
        .await;
    assert!(message(&object, ConditionType::Registered).contains("although Microsoft accepts it"));
    stage.woodpecker.heal();
    stage.entra.add_secret(TENANT, CLIENT, "s3cret-two");
    stage.secret("sales-eu-graph", &[("client_secret", "s3cret-two"), ("secret_expires_at", EXPIRY)]).await;
    stage.wait_until_ready("sales-eu").await;
}

#[tokio::test]
async fn every_odd_refusal_is_a_refusal_with_what_is_known_of_it() {
    for (body, word) in [
        (json!({"message": "SOMETHING_NEW"}), Some("SOMETHING_NEW")),
        (json!({"code": "E_ODD", "details": []}), Some("E_ODD")),
        (json!({"message": "tenant 4711 is not liked"}), None),
        (json!({"message": 5}), None),
        (json!({}), None),
    ] {
        let stage = Stage::set().await;
        stage.woodpecker.fail_always(Op::Create, Fault::RefusedBefore(422, body.clone()));
        stage.credential("sales-eu", json!({})).await;
        let object = stage
            .wait_for("sales-eu", ConditionType::Registered, ConditionStatus::False, "RejectedByWoodpecker")
            .await;
        let text = message(&object, ConditionType::Registered);
        assert!(text.contains("HTTP 422") && !text.contains("4711"), "{text}");
        assert!(word.is_none_or(|word| text.contains(word)), "{body}: {text}");
        assert_eq!(object.status.unwrap().pending, None);
    }
}

#[tokio::test]
async fn a_secret_that_is_put_back_after_a_lost_update_is_sent_again() {
    let mut stage = Stage::set().await;
    stage.credential("sales-eu", json!({})).await;
    let id = stage.wait_until_ready("sales-eu").await.status.unwrap().credential_id.unwrap();
    // The other secret takes effect, and no answer ever says so.
    stage.woodpecker.fail_always(Op::Update, Fault::ProcessedThenReset);
    stage.entra.add_secret(TENANT, CLIENT, "s3cret-two");
    stage.secret("sales-eu-graph", &[("client_secret", "s3cret-two"), ("secret_expires_at", EXPIRY)]).await;
    stage.wait_for("sales-eu", ConditionType::Registered, ConditionStatus::Unknown, "OutcomeUnknown").await;
    assert!(stage.woodpecker.secret_matches("agency", id, "s3cret-two"));
    // A third one is refused, and the operator starts anew, before the first comes back.
    stage.secret("sales-eu-graph", &[("client_secret", "s3cret-bad"), ("secret_expires_at", EXPIRY)]).await;
    stage
        .wait_for("sales-eu", ConditionType::Verified, ConditionStatus::Unknown, "AwaitingPropagation")
        .await;
    stage.stop_operator().await;
    stage.woodpecker.heal();
    stage.start_operator().await;
    stage.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    stage.wait_until_ready("sales-eu").await;
    assert!(stage.woodpecker.secret_matches("agency", id, "s3cret-one"));
    assert_eq!(stage.remote().len(), 1);
}

#[tokio::test]
async fn a_refused_name_does_not_keep_a_new_secret_out() {
    let stage = Stage::set().await;
    stage.credential("sales-eu", json!({})).await;
    let id = stage.wait_until_ready("sales-eu").await.status.unwrap().credential_id.unwrap();
    stage.woodpecker.fail_always(Op::Rename, Fault::RefusedBefore(422, json!({"message": "NAME_TAKEN"})));
    stage.credential("sales-eu", json!({"displayName": "taken"})).await;
    stage.wait_for("sales-eu", ConditionType::Registered, ConditionStatus::False, "UpdateRejected").await;
    stage.entra.add_secret(TENANT, CLIENT, "s3cret-two");
    stage.secret("sales-eu-graph", &[("client_secret", "s3cret-two"), ("secret_expires_at", EXPIRY)]).await;
    crate::stage::eventually("the new secret is there", || async {
        if stage.woodpecker.secret_matches("agency", id, "s3cret-two") { Ok(()) } else { Err(stage.log()) }
    })
    .await;
    let object =
        stage.wait_for("sales-eu", ConditionType::Registered, ConditionStatus::False, "UpdateRejected").await;
    let text = message(&object, ConditionType::Registered);
    assert!(text.contains("NAME_TAKEN") && text.contains("reconcile-requested-at"), "{text}");
}

#[tokio::test]
async fn an_elder_that_cannot_register_does_not_keep_a_younger_one_out() {
    let stage = Stage::set().await;
    let adopt_only = json!({"destination": {"woodpecker": {"accountRef": {"name": "agency"}, "adoption": {"policy": "AdoptOnly"}}}});
    stage.credential("elder", adopt_only).await;
    stage.wait_for("elder", ConditionType::Registered, ConditionStatus::False, "NothingToAdopt").await;
    stage.credential("younger", json!({})).await;
    stage.wait_until_ready("younger").await;
    stage.wait_for("elder", ConditionType::Registered, ConditionStatus::False, "DuplicateClaim").await;
}

#[tokio::test]
async fn an_elder_that_is_suspended_lets_the_younger_one_go_first() {
    let stage = Stage::set().await;
    stage.woodpecker.fail_always(Op::Create, Fault::RefusedBefore(422, json!({"message": "NOT_NOW"})));
    stage.credential("elder", json!({})).await;
    stage.wait_for("elder", ConditionType::Registered, ConditionStatus::False, "RejectedByWoodpecker").await;
    // Creation times have whole seconds.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    stage.credential("younger", json!({})).await;
    stage.wait_for("younger", ConditionType::Registered, ConditionStatus::False, "DuplicateClaim").await;
    stage.woodpecker.heal();
    stage.credential("elder", json!({"suspend": true})).await;
    stage.wait_until_ready("younger").await;
}
