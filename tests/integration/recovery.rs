//! Recovery: a create with unknown outcome ends in exactly one registration, without help.

use std::time::Duration;

use graph_credential_operator::api::MicrosoftGraphCredential;
use graph_credential_operator::api::conditions::{ConditionStatus, ConditionType};
use kit::woodpecker::{Credential, Fault, Op};
use rustix::process::Signal;
use serde_json::json;

use crate::harness::{CLIENT, EXPIRY, TENANT, TestEnv, eventually, message};

fn creates(env: &TestEnv) -> usize {
    env.woodpecker.requests("agency").iter().filter(|request| request.op == Op::Create).count()
}

async fn is_registered_once(env: &TestEnv, name: &str) {
    let object = env.wait_until_ready(name).await;
    let status = object.status.unwrap();
    let remote = env.remote();
    assert_eq!(remote.len(), 1, "{remote:#?}");
    assert_eq!(Some(remote[0].credential_id), status.credential_id);
    let token = status.registration.unwrap().idempotency_token.unwrap();
    assert_eq!(remote[0].name, format!("{}/{name} [{token}]", env.namespace), "nothing is renamed");
    assert!(env.woodpecker.secret_matches("agency", remote[0].credential_id, "s3cret-one"));
    assert_eq!(status.pending_create, None);
}

#[tokio::test]
async fn a_create_without_a_response_makes_one_registration() {
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
    futures::future::join_all(cases.map(|(fault, expected)| is_created_once(fault, expected))).await;
}

async fn is_created_once(fault: Fault, expected: usize) {
    let env = TestEnv::start().await;
    env.woodpecker.fail_next(Op::Create, 1, fault.clone());
    env.credential("sales-eu", json!({})).await;
    let object =
        env.wait_for("sales-eu", ConditionType::Registered, ConditionStatus::Unknown, "OutcomeUnknown").await;
    let pending = object.status.as_ref().unwrap().pending_create.clone().expect("the intent stays");
    assert!(message(&object, ConditionType::Registered).contains("looks for what it created"));
    is_registered_once(&env, "sales-eu").await;
    assert_eq!(creates(&env), expected, "{fault:?}");
    let token = env.read("sales-eu").await.status.unwrap().registration.unwrap().idempotency_token;
    assert_eq!(token, Some(pending.idempotency_token), "{fault:?}: one mark for all attempts");
}

#[tokio::test]
async fn a_rejection_after_a_lost_create_keeps_the_idempotency_token() {
    let env = TestEnv::start().await;
    env.woodpecker.fail_next(Op::Create, 1, Fault::ConnectionReset);
    env.woodpecker.fail_next(Op::Create, 1, Fault::RefusedBefore(422, json!({"message": "NOT_TODAY"})));
    env.credential("sales-eu", json!({})).await;
    let lost =
        env.wait_for("sales-eu", ConditionType::Registered, ConditionStatus::Unknown, "OutcomeUnknown").await;
    let rejected =
        env.wait_for("sales-eu", ConditionType::Registered, ConditionStatus::False, "CreateRejected").await;
    let token = |object: &MicrosoftGraphCredential| {
        object.status.clone()?.pending_create.map(|pending| pending.idempotency_token)
    };
    assert!(token(&lost).is_some());
    assert_eq!(token(&rejected), token(&lost), "the first create may still take effect");
    env.request_reconcile("sales-eu").await;
    is_registered_once(&env, "sales-eu").await;
    let registration = env.read("sales-eu").await.status.unwrap().registration.unwrap();
    assert_eq!(registration.idempotency_token, token(&lost));
}

#[tokio::test]
async fn a_create_of_a_killed_process_is_found() {
    let mut env = TestEnv::start().await;
    env.woodpecker.fail_next(Op::Create, 1, Fault::Slow(Duration::from_millis(800)));
    env.credential("sales-eu", json!({})).await;
    eventually("the create is under way", || async {
        if env.woodpecker.in_flight("agency") == 1 && creates(&env) == 1 {
            Ok(())
        } else {
            Err("not yet".into())
        }
    })
    .await;
    let operator = env.operator.take().unwrap();
    operator.signal(Signal::KILL).unwrap();
    operator.wait(Duration::from_secs(5)).await.unwrap();
    env.start_operator().await;
    is_registered_once(&env, "sales-eu").await;
    assert_eq!(creates(&env), 1);
}

#[tokio::test]
async fn a_request_that_takes_effect_late_leaves_no_second_credential() {
    let env = TestEnv::start().await;
    // Longer than the settle period of two minutes (six seconds here) of a create.
    env.woodpecker.fail_next(Op::Create, 1, Fault::ProcessedLate(Duration::from_secs(9)));
    env.credential("sales-eu", json!({})).await;
    env.wait_until_ready("sales-eu").await;
    eventually("the late one has come", || async {
        let came = env.woodpecker.requests("agency").iter().any(|it| it.op == Op::Delete);
        if came && env.remote().len() == 1 { Ok(()) } else { Err(format!("{:#?}", env.remote())) }
    })
    .await;
    eventually("it is reported and counted", || async {
        let events = env.events("sales-eu").await;
        let (_, metrics) = env.get("/metrics").await;
        let emitted = events.iter().filter(|event| event.starts_with("DuplicateRemoved: ")).count();
        let counted = metrics.contains("graph_credential_drift_total{kind=\"duplicate\"} 1");
        if emitted == 1 && counted { Ok(()) } else { Err(format!("{events:?}\n{metrics}")) }
    })
    .await;
    is_registered_once(&env, "sales-eu").await;
}

#[tokio::test]
async fn an_object_deleted_during_an_unknown_create_leaves_no_credential() {
    for fault in
        [Fault::ProcessedThenReset, Fault::ProcessedLate(Duration::from_secs(3)), Fault::Http500Before]
    {
        let env = TestEnv::start().await;
        env.woodpecker.fail_next(Op::Create, 1, fault.clone());
        env.credential("sales-eu", json!({"deletionPolicy": "Delete"})).await;
        env.wait_for("sales-eu", ConditionType::Registered, ConditionStatus::Unknown, "OutcomeUnknown").await;
        env.delete("sales-eu").await;
        env.wait_until_gone("sales-eu").await;
        assert_eq!(env.remote().len(), 0, "{fault:?}");
    }
}

#[tokio::test]
async fn a_credential_of_a_third_party_is_not_treated_as_owned() {
    let env = TestEnv::start().await;
    env.woodpecker.fail_next(Op::Create, 1, Fault::Http500Before);
    let create_only = json!({"destination": {"woodpecker": {
        "accountRef": {"name": "agency"}, "adoption": {"policy": "CreateOnly"}
    }}});
    env.credential("sales-eu", create_only).await;
    env.wait_for("sales-eu", ConditionType::Registered, ConditionStatus::Unknown, "OutcomeUnknown").await;
    let external = Credential::new(TENANT, CLIENT, "external-secret", EXPIRY, "by hand");
    let id = env.woodpecker.put("agency", external);
    env.wait_for("sales-eu", ConditionType::Registered, ConditionStatus::False, "AlreadyExists").await;
    assert!(env.woodpecker.secret_matches("agency", id, "external-secret"));
    env.woodpecker.remove("agency", id);
    is_registered_once(&env, "sales-eu").await;
}

#[tokio::test]
async fn without_names_in_the_list_the_one_new_credential_is_adopted() {
    let env = TestEnv::start().await;
    env.woodpecker.fail_next(Op::Create, 1, Fault::ProcessedThenReset);
    env.woodpecker.fail_always(Op::List, Fault::ListingWithoutNames);
    env.credential("sales-eu", json!({})).await;
    is_registered_once(&env, "sales-eu").await;
    assert_eq!(creates(&env), 1);
}

#[tokio::test]
async fn a_truncated_name_keeps_its_idempotency_token() {
    let env = TestEnv::start().await;
    env.woodpecker.fail_next(Op::Create, 1, Fault::ProcessedThenReset);
    let name = "x".repeat(253);
    env.credential(&name, json!({})).await;
    let registration = env.wait_until_ready(&name).await.status.unwrap().registration.unwrap();
    let requests = env.woodpecker.requests("agency");
    let sent = |op| {
        let request = requests.iter().find(|request| request.op == op).expect("such a request");
        request.body_without_secret["name"].as_str().unwrap().to_owned()
    };
    let full_name = format!("{}/{name}", env.namespace);
    let token = format!(" [{}]", registration.idempotency_token.unwrap());
    let truncated = format!("{}{token}", &full_name[..253 - token.len()]);
    assert_eq!((sent(Op::Create), creates(&env)), (truncated.clone(), 1));
    assert_eq!((registration.name, env.remote()[0].name.clone()), (truncated.clone(), truncated));
}
