//! Promise 3: quiet when nothing changed, after a restart as well.

use graph_credential_operator::resources::conditions::{ConditionStatus, ConditionType};
use serde_json::json;

use crate::stage::{A_WHILE, EXPIRY, Stage, condition};

#[tokio::test]
async fn a_restart_with_everything_settled_sends_and_writes_nothing() {
    let mut stage = Stage::set().await;
    stage.credential("sales-eu", json!({})).await;
    stage
        .credential(
            "no-secret",
            json!({"secretRef": {"name": "missing"}, "clientId": "00000000-0000-4000-8000-000000000009"}),
        )
        .await;
    let before = stage.wait_until_ready("sales-eu").await;
    stage.wait_for("no-secret", ConditionType::SourceReady, ConditionStatus::False, "SecretNotFound").await;
    let account = stage.wait_for_account("agency", ConditionStatus::True, "Authenticated").await;
    crate::stage::eventually("the account counts the credential", || async {
        let account: graph_credential_operator::resources::WoodpeckerAccount =
            stage.api().get("agency").await.unwrap();
        if account.status.as_ref().and_then(|status| status.managed) == Some(1) {
            Ok(())
        } else {
            Err(format!("{account:?}"))
        }
    })
    .await;
    drop(account);
    stage.stop_operator().await;

    let mark = stage.cluster.audit_mark().unwrap();
    let (tokens, writes, lists) =
        (stage.entra.requests().len(), stage.woodpecker.writes("agency"), stage.woodpecker.lists("agency"));
    stage.start_operator().await;
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(stage.entra.requests().len(), tokens, "no token call");
    assert_eq!(stage.woodpecker.writes("agency"), writes, "no write to Woodpecker");
    assert!(stage.woodpecker.lists("agency") <= lists + 1, "at most one listing");
    assert_eq!(stage.status_writes(mark), Vec::<String>::new(), "no write to the API server");
    let after = stage.read("sales-eu").await;
    assert_eq!(after.metadata.resource_version, before.metadata.resource_version);
}

#[tokio::test]
async fn a_secret_that_never_expires_is_registered_and_then_left_alone() {
    let stage = Stage::set().await;
    let never = [("client_secret", "s3cret-one"), ("secret_expires_at", "9999-12-31")];
    stage.secret("sales-eu-graph", &never).await;
    stage.credential("sales-eu", json!({})).await;
    let ready = stage.wait_until_ready("sales-eu").await;
    let status = ready.status.unwrap();
    assert_eq!(status.expires_at.map(|at| at.0.to_string()).as_deref(), Some("9999-01-01T00:00:00Z"));
    let (mark, writes) = (stage.cluster.audit_mark().unwrap(), stage.woodpecker.writes("agency"));
    stage.secret("sales-eu-graph", &[never[0], never[1], ("note", "another key")]).await;
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(stage.woodpecker.writes("agency"), writes);
    let of_it = |write: &String| write.contains("sales-eu\"");
    assert_eq!(stage.status_writes(mark).into_iter().filter(of_it).collect::<Vec<_>>(), Vec::<String>::new());
}

#[tokio::test]
async fn a_changed_label_or_an_equal_secret_changes_nothing() {
    let stage = Stage::set().await;
    stage.credential("sales-eu", json!({})).await;
    stage.wait_until_ready("sales-eu").await;
    let (tokens, writes) = (stage.entra.requests().len(), stage.woodpecker.writes("agency"));
    let values = [("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY), ("note", "another key")];
    stage.secret("sales-eu-graph", &values).await;
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(stage.entra.requests().len(), tokens);
    assert_eq!(stage.woodpecker.writes("agency"), writes);
}

#[tokio::test]
async fn suspend_stops_everything_and_resume_goes_on() {
    let stage = Stage::set().await;
    stage.credential("sales-eu", json!({})).await;
    stage.wait_until_ready("sales-eu").await;
    stage.credential("sales-eu", json!({"suspend": true})).await;
    let object = stage
        .wait_until("sales-eu", "Ready says suspended", |object| {
            condition(object, ConditionType::Ready)
                .is_some_and(|ready| ready.message.starts_with("suspended"))
        })
        .await;
    assert_eq!(
        condition(&object, ConditionType::Ready).unwrap().status,
        ConditionStatus::True,
        "the last state is kept"
    );
    assert_eq!(object.status.as_ref().unwrap().observed_generation, object.metadata.generation.unwrap());

    let (tokens, writes) = (stage.entra.requests().len(), stage.woodpecker.writes("agency"));
    stage.secret("sales-eu-graph", &[("client_secret", "typo"), ("secret_expires_at", EXPIRY)]).await;
    tokio::time::sleep(A_WHILE).await;
    assert_eq!((stage.entra.requests().len(), stage.woodpecker.writes("agency")), (tokens, writes));

    stage.credential("sales-eu", json!({"suspend": false})).await;
    stage.wait_for("sales-eu", ConditionType::Verified, ConditionStatus::False, "InvalidClientSecret").await;
}

#[tokio::test]
async fn a_requested_pass_proves_again_and_is_noted_once() {
    let stage = Stage::set().await;
    stage.credential("sales-eu", json!({})).await;
    stage.wait_until_ready("sales-eu").await;
    let tokens = stage.entra.requests().len();
    let annotation = json!({"metadata": {"annotations": {"graph-credentials.io/reconcile-requested-at": "2026-11-24T08:00"}}});
    stage
        .apply::<graph_credential_operator::resources::MicrosoftGraphCredential>("sales-eu", {
            let mut body = annotation;
            crate::stage::merge(&mut body, json!({"spec": crate::stage::plain_spec(json!({}))}));
            body
        })
        .await
        .unwrap();
    stage
        .wait_until("sales-eu", "the request is noted", |object| {
            object.status.as_ref().and_then(|status| status.last_handled_reconcile_at.as_deref())
                == Some("2026-11-24T08:00")
        })
        .await;
    assert_eq!(stage.entra.requests().len(), tokens + 1);
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(stage.entra.requests().len(), tokens + 1, "one request, one proof");
}

#[tokio::test]
async fn nothing_is_written_over_hours_without_a_new_proof() {
    let mut stage = Stage::set().await;
    stage.credential("sales-eu", json!({})).await;
    let before = stage.wait_until_ready("sales-eu").await;
    stage.stop_operator().await;
    let (tokens, writes) = (stage.entra.requests().len(), stage.woodpecker.writes("agency"));
    // An hour passes in eighteen seconds.
    stage.time_scale = 200;
    // Its lease would be of half a second, too short for a busy machine.
    stage.extra_args.push("--leader-elect=false".to_owned());
    stage.start_operator().await;
    tokio::time::sleep(std::time::Duration::from_secs(40)).await;
    let passes =
        stage.log().lines().filter(|line| line.contains("pass ended") && line.contains("sales-eu")).count();
    assert!(passes >= 3, "it was looked at {passes} times");
    let after = stage.read("sales-eu").await;
    assert_eq!(after.metadata.resource_version, before.metadata.resource_version);
    assert_eq!((stage.entra.requests().len(), stage.woodpecker.writes("agency")), (tokens, writes));
}
