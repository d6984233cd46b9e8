//! Promises 7 and 9: status tells the truth, and expiry is never a surprise.

use std::time::Duration;

use graph_credential_operator::resources::conditions::{ConditionStatus, ConditionType};
use jiff::Timestamp;
use kit::entra::{AppState, Fault};
use serde_json::json;

use crate::stage::{CLIENT, EXPIRY, Stage, TENANT, condition, eventually, message, plain_spec};

#[tokio::test]
async fn an_object_that_no_operator_has_seen_says_so() {
    let stage = Stage::bare().await;
    stage.credential("sales-eu", json!({})).await;
    let object = stage.read("sales-eu").await;
    let status = object.status.unwrap();
    assert_eq!((status.observed_generation, status.conditions), (-1, vec![]));
    assert_eq!(serde_json::to_value(&object.spec).unwrap(), plain_spec(json!({})), "nothing is filled in");
}

#[tokio::test]
async fn the_columns_answer_whether_it_works_and_until_when() {
    let stage = Stage::set().await;
    stage.credential("sales-eu", json!({})).await;
    let object = stage.wait_until_ready("sales-eu").await;
    let path = format!(
        "/apis/graph-credentials.io/v1alpha1/namespaces/{}/microsoftgraphcredentials",
        stage.namespace
    );
    let table = stage.cluster.table(&path, true).await.unwrap();
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
async fn an_expiry_that_comes_close_is_told_in_time() {
    let mut stage = Stage::set().await;
    let soon = (Timestamp::now() + Duration::from_hours(24 * 10)).strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    stage.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", &soon)]).await;
    stage.credential("sales-eu", json!({})).await;
    let object = stage.wait_until_ready("sales-eu").await;
    let expiring = condition(&object, ConditionType::Expiring).unwrap();
    assert_eq!((expiring.status, expiring.reason.as_str()), (ConditionStatus::True, "ExpiresSoon"));
    assert!(expiring.message.contains(&soon), "{}", expiring.message);
    assert_eq!(object.status.as_ref().unwrap().expiry_notice_days, Some(14));
    eventually("the notice is an event", || async {
        let events = stage.events("sales-eu").await;
        let notices = events
            .iter()
            .filter(|event| event.starts_with("ExpiresSoon") && event.contains("14 days"))
            .count();
        if notices == 1 { Ok(()) } else { Err(format!("{events:#?}")) }
    })
    .await;

    stage.stop_operator().await;
    stage.start_operator().await;
    tokio::time::sleep(crate::stage::A_WHILE).await;
    let events = stage.events("sales-eu").await;
    let notices = events.iter().filter(|event| event.contains("14 days")).count();
    assert_eq!(notices, 1, "not again after a restart: {events:#?}");
}

#[tokio::test]
async fn a_registered_secret_that_passes_its_date_is_not_ready_any_more() {
    let stage = Stage::set().await;
    let date = Timestamp::now() + Duration::from_secs(8);
    let date = date.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    stage.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", &date)]).await;
    stage.credential("sales-eu", json!({})).await;
    stage.wait_until_ready("sales-eu").await;
    let proofs = stage.entra.requests().len();
    let object = stage.wait_for("sales-eu", ConditionType::Ready, ConditionStatus::False, "Expired").await;
    assert!(
        message(&object, ConditionType::Ready).contains("correct the date"),
        "Microsoft still accepts it"
    );
    assert_eq!(stage.entra.requests().len(), proofs + 1, "proved again when its date passes");
    assert_eq!(condition(&object, ConditionType::Registered).unwrap().status, ConditionStatus::True);
}

#[tokio::test]
async fn a_registration_is_one_event() {
    let stage = Stage::set().await;
    stage.credential("sales-eu", json!({})).await;
    stage.wait_until_ready("sales-eu").await;
    eventually("the event is there", || async {
        let events = stage.events("sales-eu").await;
        if events.iter().any(|event| event.starts_with("Registered")) {
            Ok(())
        } else {
            Err(format!("{events:#?}"))
        }
    })
    .await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let events = stage.events("sales-eu").await;
    assert_eq!(events.len(), 1, "that it is verified and Ready follows from it: {events:#?}");
}

#[tokio::test]
async fn each_verdict_is_an_event_with_the_ids_that_microsofts_support_asks_for() {
    let stage = Stage::set().await;
    stage.entra.disable_app(TENANT, CLIENT);
    stage.credential("sales-eu", json!({})).await;
    let events_with = async |words: &[&str]| {
        let what = format!("an event with {words:?}");
        eventually(&what, || async {
            let events = stage.events("sales-eu").await;
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
        stage.wait_for("sales-eu", ConditionType::Ready, ConditionStatus::False, "ApplicationDisabled").await;
    let ids = ["[AADSTS7000112, trace ", ", correlation ", ", time "];
    let told = events_with(&[&["ApplicationDisabled: "], &ids[..]].concat()).await;
    assert_eq!(told.len(), 1, "once, and not for Ready and for Verified: {told:#?}");
    assert!(
        !message(&object, ConditionType::Verified).contains("trace"),
        "what differs on each try is no condition"
    );

    for (code, word) in [(123_456, "AADSTS123456"), (123_457, "AADSTS123457")] {
        stage.entra.fail_app_next(TENANT, CLIENT, 1, Fault::UnknownCode(code, "invalid_grant".into()));
        stage.request_pass("sales-eu").await;
        let told = events_with(&["Rejected: ", word, "trace "]).await;
        assert_eq!(told.len(), 1, "another code is another verdict: {told:#?}");
    }
    stage.entra.set_state(TENANT, CLIENT, AppState::Active);
    stage.request_pass("sales-eu").await;
    stage.wait_until_ready("sales-eu").await;
    events_with(&["Registered: "]).await;

    // To and fro: told again only once a while has passed.
    for _ in 0..2 {
        stage.entra.disable_app(TENANT, CLIENT);
        stage.request_pass("sales-eu").await;
        stage.wait_for("sales-eu", ConditionType::Ready, ConditionStatus::False, "ApplicationDisabled").await;
        stage.entra.set_state(TENANT, CLIENT, AppState::Active);
        stage.request_pass("sales-eu").await;
        stage.wait_until_ready("sales-eu").await;
        assert_eq!(events_with(&["Ready: "]).await.len(), 1);
    }
}
