//! Status and expiry: the status reports the actual state, and an expiry is announced early.

use std::time::Duration;

use graph_credential_operator::api::conditions::{ConditionStatus, ConditionType};
use jiff::Timestamp;
use kit::entra::{AppState, Fault};
use serde_json::json;

use crate::harness::{CLIENT, EXPIRY, TENANT, TestEnv, condition, eventually, message, plain_spec};

#[tokio::test]
async fn an_object_without_an_operator_is_shown_as_not_observed() {
    let env = TestEnv::bare().await;
    env.credential("sales-eu", json!({})).await;
    let object = env.read("sales-eu").await;
    let status = object.status.unwrap();
    assert_eq!((status.observed_generation, status.conditions), (-1, vec![]));
    assert_eq!(serde_json::to_value(&object.spec).unwrap(), plain_spec(json!({})), "nothing is filled in");
}

#[tokio::test]
async fn the_columns_show_readiness_and_expiry() {
    let env = TestEnv::start().await;
    env.credential("sales-eu", json!({})).await;
    let object = env.wait_until_ready("sales-eu").await;
    let path =
        format!("/apis/graph-credentials.io/v1alpha1/namespaces/{}/microsoftgraphcredentials", env.namespace);
    let table = env.cluster.table(&path, true).await.unwrap();
    let mut lines = table.lines().map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    let header = lines.next().unwrap();
    assert_eq!(
        header.join(" "),
        "NAME READY REASON CREDENTIAL EXPIRES VERIFIED AGE DESTINATION OWNERSHIP TENANT"
    );
    let row = lines.next().unwrap();
    let id = object.status.unwrap().credential_id.unwrap().to_string();
    assert_eq!(row[..5], ["sales-eu".to_owned(), "True".into(), "Ready".into(), id, EXPIRY.into()]);
    assert_eq!(row[7..9], ["agency".to_owned(), "Created".into()]);
}

#[tokio::test]
async fn an_approaching_expiry_is_reported_in_time() {
    let mut env = TestEnv::start().await;
    let soon = (Timestamp::now() + Duration::from_hours(24 * 10)).strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    env.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", &soon)]).await;
    env.credential("sales-eu", json!({})).await;
    let object = env.wait_until_ready("sales-eu").await;
    let expiring = condition(&object, ConditionType::Expiring).unwrap();
    assert_eq!((expiring.status, expiring.reason.as_str()), (ConditionStatus::True, "ExpiresSoon"));
    assert!(expiring.message.contains(&soon), "{}", expiring.message);
    assert_eq!(object.status.as_ref().unwrap().expiry_notice_days, Some(14));
    eventually("the notice is an event", || async {
        let events = env.events("sales-eu").await;
        let notices = events
            .iter()
            .filter(|event| event.starts_with("ExpiresSoon") && event.contains("14 days"))
            .count();
        if notices == 1 { Ok(()) } else { Err(format!("{events:#?}")) }
    })
    .await;

    env.stop_operator().await;
    env.start_operator().await;
    tokio::time::sleep(crate::harness::QUIET_TIME).await;
    let events = env.events("sales-eu").await;
    let notices = events.iter().filter(|event| event.contains("14 days")).count();
    assert_eq!(notices, 1, "not again after a restart: {events:#?}");
}

#[tokio::test]
async fn a_registered_secret_is_not_ready_after_its_expiry() {
    let env = TestEnv::start().await;
    let date = Timestamp::now() + Duration::from_secs(8);
    let date = date.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    env.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", &date)]).await;
    env.credential("sales-eu", json!({})).await;
    env.wait_until_ready("sales-eu").await;
    let verifications = env.entra.requests().len();
    let object = env.wait_for("sales-eu", ConditionType::Ready, ConditionStatus::False, "Expired").await;
    assert!(
        message(&object, ConditionType::Ready).contains("correct the date"),
        "Microsoft still accepts it"
    );
    assert_eq!(env.entra.requests().len(), verifications + 1, "verified again when its date passes");
    assert_eq!(condition(&object, ConditionType::Registered).unwrap().status, ConditionStatus::True);
}

#[tokio::test]
async fn a_registration_is_one_event() {
    let env = TestEnv::start().await;
    env.credential("sales-eu", json!({})).await;
    env.wait_until_ready("sales-eu").await;
    eventually("the event is there", || async {
        let events = env.events("sales-eu").await;
        if events.iter().any(|event| event.starts_with("Registered")) {
            Ok(())
        } else {
            Err(format!("{events:#?}"))
        }
    })
    .await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let events = env.events("sales-eu").await;
    assert_eq!(events.len(), 1, "that it is verified and Ready follows from it: {events:#?}");
}

#[tokio::test]
async fn each_verification_result_is_an_event_with_microsofts_request_ids() {
    let env = TestEnv::start().await;
    env.entra.disable_app(TENANT, CLIENT);
    env.credential("sales-eu", json!({})).await;
    let events_with = async |words: &[&str]| {
        let what = format!("an event with {words:?}");
        eventually(&what, || async {
            let events = env.events("sales-eu").await;
            let found: Vec<String> = events
                .iter()
                .filter(|event| words.iter().all(|word| event.contains(word)))
                .cloned()
                .collect();
            if found.is_empty() { Err(format!("{events:#?}")) } else { Ok(found) }
        })
        .await
    };
    let object =
        env.wait_for("sales-eu", ConditionType::Ready, ConditionStatus::False, "ApplicationDisabled").await;
    let ids = ["[AADSTS7000112, trace ", ", correlation ", ", time "];
    let emitted = events_with(&[&["ApplicationDisabled: "], &ids[..]].concat()).await;
    assert_eq!(emitted.len(), 1, "once, and not for Ready and for Verified: {emitted:#?}");
    assert!(
        !message(&object, ConditionType::Verified).contains("trace"),
        "what differs on each try is no condition"
    );

    for (code, word) in [(123_456, "AADSTS123456"), (123_457, "AADSTS123457")] {
        env.entra.fail_app_next(TENANT, CLIENT, 1, Fault::UnknownCode(code, "invalid_grant".into()));
        env.request_reconcile("sales-eu").await;
        let emitted = events_with(&["Rejected: ", word, "trace "]).await;
        assert_eq!(emitted.len(), 1, "another code is another result: {emitted:#?}");
    }
    env.entra.set_state(TENANT, CLIENT, AppState::Active);
    env.request_reconcile("sales-eu").await;
    env.wait_until_ready("sales-eu").await;
    events_with(&["Registered: "]).await;

    // Back and forth: the event is emitted again only after a while.
    for _ in 0..2 {
        env.entra.disable_app(TENANT, CLIENT);
        env.request_reconcile("sales-eu").await;
        env.wait_for("sales-eu", ConditionType::Ready, ConditionStatus::False, "ApplicationDisabled").await;
        env.entra.set_state(TENANT, CLIENT, AppState::Active);
        env.request_reconcile("sales-eu").await;
        env.wait_until_ready("sales-eu").await;
        assert_eq!(events_with(&["Ready: "]).await.len(), 1);
    }
}
