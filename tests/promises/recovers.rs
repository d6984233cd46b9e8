//! Promise 2: a create of unknown outcome ends in exactly one registration without a person.

use std::time::Duration;

use graph_credential_operator::resources::MicrosoftGraphCredential;
use graph_credential_operator::resources::conditions::{ConditionStatus, ConditionType};
use kit::woodpecker::{Credential, Fault, Op};
use rustix::process::Signal;
use serde_json::json;

use crate::stage::{CLIENT, EXPIRY, Stage, TENANT, eventually, message};

fn creates(stage: &Stage) -> usize {
    stage.woodpecker.requests("agency").iter().filter(|request| request.op == Op::Create).count()
}

async fn is_whole(stage: &Stage, name: &str) {
    let object = stage.wait_until_ready(name).await;
    let status = object.status.unwrap();
    let remote = stage.remote();
    assert_eq!(remote.len(), 1, "{remote:#?}");
    assert_eq!(Some(remote[0].credential_id), status.credential_id);
    let token = status.registration.unwrap().token.unwrap();
    assert_eq!(remote[0].name, format!("{}/{name} [{token}]", stage.namespace), "nothing is renamed");
    assert!(stage.woodpecker.secret_matches("agency", remote[0].credential_id, "s3cret-one"));
    assert_eq!(status.pending, None);
}

#[tokio::test]
async fn whatever_became_of_the_answer_one_registration_is_made() {
    let cases = [
        (Fault::ProcessedThenReset, 1),
        (Fault::ProcessedThen500, 1),
        (Fault::ProcessedThenTruncated, 1),
        (Fault::EmptyBody, 1),
        (Fault::WrongShape(json!({"credential_id": "odd"})), 1),
        (Fault::Http500Before, 2),
        (Fault::Html502, 2),
        (Fault::ConnectionReset, 2),
    ];
    futures::future::join_all(cases.map(|(fault, expected)| is_made_once(fault, expected))).await;
}

async fn is_made_once(fault: Fault, expected: usize) {
    let stage = Stage::set().await;
    stage.woodpecker.fail_next(Op::Create, 1, fault.clone());
    stage.credential("sales-eu", json!({})).await;
    let object = stage
        .wait_for("sales-eu", ConditionType::Registered, ConditionStatus::Unknown, "OutcomeUnknown")
        .await;
    let pending = object.status.as_ref().unwrap().pending.clone().expect("the intent stays");
    assert!(message(&object, ConditionType::Registered).contains("looks for what it made"));
    is_whole(&stage, "sales-eu").await;
    assert_eq!(creates(&stage), expected, "{fault:?}");
    let token = stage.read("sales-eu").await.status.unwrap().registration.unwrap().token;
    assert_eq!(token, Some(pending.token), "{fault:?}: one mark for all attempts");
}

#[tokio::test]
async fn a_refusal_after_a_lost_create_keeps_the_mark() {
    let stage = Stage::set().await;
    stage.woodpecker.fail_next(Op::Create, 1, Fault::ConnectionReset);
    stage.woodpecker.fail_next(Op::Create, 1, Fault::RefusedBefore(422, json!({"message": "NOT_TODAY"})));
    stage.credential("sales-eu", json!({})).await;
    let lost = stage
        .wait_for("sales-eu", ConditionType::Registered, ConditionStatus::Unknown, "OutcomeUnknown")
        .await;
    let refused = stage
        .wait_for("sales-eu", ConditionType::Registered, ConditionStatus::False, "RejectedByWoodpecker")
        .await;
    let token =
        |object: &MicrosoftGraphCredential| object.status.clone()?.pending.map(|pending| pending.token);
    assert!(token(&lost).is_some());
    assert_eq!(token(&refused), token(&lost), "the first create may still turn up");
    stage.request_pass("sales-eu").await;
    is_whole(&stage, "sales-eu").await;
    let registration = stage.read("sales-eu").await.status.unwrap().registration.unwrap();
    assert_eq!(registration.token, token(&lost));
}

#[tokio::test]
async fn a_process_killed_in_the_middle_of_a_create_leaves_nothing_that_is_not_found() {
    let mut stage = Stage::set().await;
    stage.woodpecker.fail_next(Op::Create, 1, Fault::Slow(Duration::from_millis(800)));
    stage.credential("sales-eu", json!({})).await;
    eventually("the create is under way", || async {
        if stage.woodpecker.in_flight("agency") == 1 && creates(&stage) == 1 {
            Ok(())
        } else {
            Err("not yet".into())
        }
    })
    .await;
    let operator = stage.operator.take().unwrap();
    operator.signal(Signal::KILL).unwrap();
    operator.wait(Duration::from_secs(5)).await.unwrap();
    stage.start_operator().await;
    is_whole(&stage, "sales-eu").await;
    assert_eq!(creates(&stage), 1);
}

#[tokio::test]
async fn a_request_that_takes_effect_late_leaves_no_second_credential() {
    let stage = Stage::set().await;
    // Beyond the two minutes (six seconds here) after which a create counts as settled.
    stage.woodpecker.fail_next(Op::Create, 1, Fault::ProcessedLate(Duration::from_secs(9)));
    stage.credential("sales-eu", json!({})).await;
    stage.wait_until_ready("sales-eu").await;
    eventually("the late one has come", || async {
        let came = stage.woodpecker.requests("agency").iter().any(|it| it.op == Op::Delete);
        if came && stage.remote().len() == 1 { Ok(()) } else { Err(format!("{:#?}", stage.remote())) }
    })
    .await;
    eventually("it is told and counted", || async {
        let events = stage.events("sales-eu").await;
        let (_, metrics) = stage.get("/metrics").await;
        let told = events.iter().filter(|event| event.starts_with("DuplicateRemoved: ")).count();
        let counted = metrics.contains("mgc_drift_total{kind=\"duplicate\"} 1");
        if told == 1 && counted { Ok(()) } else { Err(format!("{events:?}\n{metrics}")) }
    })
    .await;
    is_whole(&stage, "sales-eu").await;
}

#[tokio::test]
async fn an_object_deleted_while_its_create_is_unknown_leaves_nothing_behind() {
    for fault in
        [Fault::ProcessedThenReset, Fault::ProcessedLate(Duration::from_secs(3)), Fault::Http500Before]
    {
        let stage = Stage::set().await;
        stage.woodpecker.fail_next(Op::Create, 1, fault.clone());
        stage.credential("sales-eu", json!({"deletionPolicy": "Delete"})).await;
        stage
            .wait_for("sales-eu", ConditionType::Registered, ConditionStatus::Unknown, "OutcomeUnknown")
            .await;
        stage.delete("sales-eu").await;
        stage.wait_until_gone("sales-eu").await;
        assert_eq!(stage.remote().len(), 0, "{fault:?}");
    }
}

#[tokio::test]
async fn a_stranger_that_registers_the_app_meanwhile_is_not_taken_for_ours() {
    let stage = Stage::set().await;
    stage.woodpecker.fail_next(Op::Create, 1, Fault::Http500Before);
    let create_only = json!({"destination": {"woodpecker": {
        "accountRef": {"name": "agency"}, "adoption": {"policy": "CreateOnly"}
    }}});
    stage.credential("sales-eu", create_only).await;
    stage.wait_for("sales-eu", ConditionType::Registered, ConditionStatus::Unknown, "OutcomeUnknown").await;
    let stranger = Credential::new(TENANT, CLIENT, "somebody's", EXPIRY, "by hand");
    let id = stage.woodpecker.put("agency", stranger);
    stage.wait_for("sales-eu", ConditionType::Registered, ConditionStatus::False, "AlreadyExists").await;
    assert!(stage.woodpecker.secret_matches("agency", id, "somebody's"));
    stage.woodpecker.remove("agency", id);
    is_whole(&stage, "sales-eu").await;
}

#[tokio::test]
async fn where_the_listing_shows_no_names_the_one_new_credential_is_ours() {
    let stage = Stage::set().await;
    stage.woodpecker.fail_next(Op::Create, 1, Fault::ProcessedThenReset);
    stage.woodpecker.fail_always(Op::List, Fault::ListingWithoutNames);
    stage.credential("sales-eu", json!({})).await;
    is_whole(&stage, "sales-eu").await;
    assert_eq!(creates(&stage), 1);
}

#[tokio::test]
async fn a_name_that_is_too_long_is_cut_off_and_what_it_was_given_to_is_found_again() {
    let stage = Stage::set().await;
    stage.woodpecker.fail_next(Op::Create, 1, Fault::ProcessedThenReset);
    let name = "x".repeat(253);
    stage.credential(&name, json!({})).await;
    let registration = stage.wait_until_ready(&name).await.status.unwrap().registration.unwrap();
    let requests = stage.woodpecker.requests("agency");
    let sent = |op| {
        let request = requests.iter().find(|request| request.op == op).expect("such a request");
        request.body_without_secret["name"].as_str().unwrap().to_owned()
    };
    let whole = format!("{}/{name}", stage.namespace);
    let token = format!(" [{}]", registration.token.unwrap());
    let cut_off = format!("{}{token}", &whole[..253 - token.len()]);
    assert_eq!((sent(Op::Create), creates(&stage)), (cut_off.clone(), 1));
    assert_eq!((registration.name, stage.remote()[0].name.clone()), (cut_off.clone(), cut_off));
}
