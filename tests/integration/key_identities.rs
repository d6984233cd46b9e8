//! Who an account's API key belongs to at Woodpecker: information in the status, on which nothing depends.

use std::time::Duration;

use graph_credential_operator::api::conditions::ConditionStatus;
use graph_credential_operator::api::{KeyIdentity, WoodpeckerAccount};
use kit::woodpecker::{Fault, Op, Request};
use serde_json::{Value, json};

use crate::harness::{API_KEY, QUIET_TIME, TestEnv, eventually};

/// The response to a question about a key of that firm.
fn me(firm_id: i64) -> Value {
    json!({
        "firm_id": firm_id, "firm_name": format!("Firm {firm_id}"), "user_email": "ava@example.com", "user_id": 1,
        "user_name": "Ava Chen"
    })
}

async fn identity(env: &TestEnv, account: &str) -> Option<KeyIdentity> {
    let account: WoodpeckerAccount = env.api().get(account).await.unwrap();
    account.status.and_then(|status| status.key_identity)
}

async fn wait_for_firm(env: &TestEnv, account: &str, firm: i64) -> KeyIdentity {
    eventually("the identity of the key is in the status", || async {
        let identity = identity(env, account).await;
        let is_it = identity.as_ref().and_then(|it| it.firm_id) == Some(firm);
        if is_it { Ok(()) } else { Err(format!("{identity:?}\n{}", env.log())) }
    })
    .await;
    identity(env, account).await.unwrap()
}

/// The questions who a key belongs to.
fn questions(env: &TestEnv, account: &str) -> Vec<Request> {
    env.woodpecker.requests(account).into_iter().filter(|request| request.op == Op::Me).collect()
}

#[tokio::test]
async fn accounts_with_one_key_ask_once_and_show_who_it_belongs_to() {
    let mut env = TestEnv::bare().await;
    env.woodpecker.set_identity("agency", me(7));
    env.start_operator().await;
    env.account("agency", json!({})).await;
    wait_for_firm(&env, "agency", 7).await;
    for company in 1..=3 {
        env.woodpecker.add_company("agency", &company.to_string());
        let spec = json!({"apiKeySecretRef": {"name": "agency-key"}, "companyId": company});
        env.apply_account(&format!("company-{company}"), spec).await;
    }
    for company in 1..=3 {
        let shown = wait_for_firm(&env, &format!("company-{company}"), 7).await;
        let expected = KeyIdentity {
            firm_id: Some(7),
            firm_name: Some("Firm 7".into()),
            user_id: Some(1),
            user_name: Some("Ava Chen".into()),
        };
        assert_eq!(shown, expected);
    }
    let asked = questions(&env, "agency");
    assert!(asked.len() == 1 && asked[0].company.is_none(), "{asked:#?}");
    // The user's data is in no label, log or event, and the email address nowhere at all.
    let account: WoodpeckerAccount = env.api().get("agency").await.unwrap();
    let (_, metrics) = env.get("/metrics").await;
    let events = env.events("agency").await.join("\n");
    for (place, text) in [("metrics", metrics), ("log", env.log()), ("events", events)] {
        assert!(
            !text.contains("ava@") && !text.contains("Ava Chen") && !text.contains("Firm 7"),
            "{place}: {text}"
        );
    }
    assert!(!serde_json::to_string(&account).unwrap().contains("ava@"));
}

#[tokio::test]
async fn whatever_the_response_is_the_account_stays_ready() {
    let mut env = TestEnv::bare().await;
    let refused = |status, body| Fault::RefusedBefore(status, body);
    let faults = [
        refused(404, json!({"title": "Not Found", "status": 404})),
        refused(401, json!({"title": "Unauthorized", "status": 401, "detail": "Invalid api key"})),
        Fault::WrongShape(json!({"status": {"status": "ERROR", "code": "E_SESSION", "msg": "x"}})),
        Fault::WrongShape(json!({"firm_id": "7", "user_name": 1})),
        Fault::WrongShape(json!([])),
        Fault::Html502,
        Fault::ProcessedThen500,
        Fault::ProcessedThenTruncated,
        Fault::ConnectionReset,
        Fault::Hang(Duration::from_mins(5)),
    ];
    for (number, fault) in faults.iter().enumerate() {
        let (account, key) = (format!("account-{number}"), format!("1234.key-{number}"));
        env.woodpecker.add_account(&account, &key);
        env.woodpecker.set_identity(&account, me(7));
        env.woodpecker.fail_account_always(&account, Op::Me, fault.clone());
        env.secret(&format!("{account}-key"), &[("api_key", &key)]).await;
        env.apply_account(&account, json!({})).await;
    }
    env.start_operator().await;
    for (number, fault) in faults.iter().enumerate() {
        let account = format!("account-{number}");
        env.wait_for_account(&account, ConditionStatus::True, "Authenticated").await;
        eventually("the key is asked about", || async {
            if questions(&env, &account).is_empty() { Err(format!("{fault:?}")) } else { Ok(()) }
        })
        .await;
    }
    tokio::time::sleep(QUIET_TIME / 2).await;
    for (number, fault) in faults.iter().enumerate() {
        let account = format!("account-{number}");
        assert_eq!(questions(&env, &account).len(), 1, "{fault:?}: it is not asked again at once");
        assert_eq!(identity(&env, &account).await, None, "{fault:?}");
        env.wait_for_account(&account, ConditionStatus::True, "Authenticated").await;
    }
}

#[tokio::test]
async fn a_key_of_another_firm_is_reported() {
    let mut env = TestEnv::bare().await;
    env.woodpecker.set_identity("agency", me(7));
    env.woodpecker.add_account("other", "1234.key-of-another-firm");
    env.woodpecker.set_identity("other", me(8));
    env.start_operator().await;
    env.account("agency", json!({})).await;
    wait_for_firm(&env, "agency", 7).await;
    env.secret("agency-key", &[("api_key", "1234.key-of-another-firm")]).await;
    wait_for_firm(&env, "agency", 8).await;
    let text =
        "KeyIdentityChanged: the API key belongs to firm 8 at Woodpecker, and the one before to firm 7";
    eventually("the event is emitted", || async {
        let events = env.events("agency").await;
        if events.iter().any(|event| event.starts_with(text)) { Ok(()) } else { Err(format!("{events:#?}")) }
    })
    .await;
    // A restart neither forgets the identity nor reports it again.
    env.stop_operator().await;
    env.start_operator().await;
    env.wait_for_account("agency", ConditionStatus::True, "Authenticated").await;
    wait_for_firm(&env, "agency", 8).await;
    env.secret("agency-key", &[("api_key", API_KEY)]).await;
    wait_for_firm(&env, "agency", 7).await;
    let events = env.events("agency").await;
    let changes = events.iter().filter(|event| event.starts_with("KeyIdentityChanged: ")).count();
    assert!(changes <= 2, "{events:#?}");
}
