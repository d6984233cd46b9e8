//! Adoption: existing credentials of an account are adopted by policy, after a verification of the same
//! secret, and are kept on deletion.

use graph_credential_operator::api::Ownership;
use graph_credential_operator::api::conditions::{ConditionStatus, ConditionType};
use kit::woodpecker::{Credential, Op};
use serde_json::{Value, json};

use crate::harness::{CLIENT, EXPIRY, TENANT, TestEnv, condition, eventually, message};

fn by_hand(env: &TestEnv) -> i64 {
    env.woodpecker.put("agency", Credential::new(&TENANT.to_uppercase(), CLIENT, "old", EXPIRY, "by hand"))
}

fn adoption(adoption: &Value) -> Value {
    json!({"destination": {"woodpecker": {"accountRef": {"name": "agency"}, "adoption": adoption}}})
}

#[tokio::test]
async fn the_only_credential_of_the_app_is_adopted_and_keeps_its_name() {
    let (env, id) = TestEnv::start_after(by_hand).await;
    env.credential("sales-eu", json!({"deletionPolicy": "Delete"})).await;
    let status = env.wait_until_ready("sales-eu").await.status.unwrap();
    assert_eq!(status.credential_id, Some(id));
    assert_eq!(status.registration.unwrap().ownership, Ownership::Adopted);
    let object = env.read("sales-eu").await;
    assert_eq!(condition(&object, ConditionType::Registered).unwrap().reason, "Adopted");
    assert!(env.woodpecker.secret_matches("agency", id, "s3cret-one"));
    assert_eq!(env.remote()[0].name, "by hand");
    eventually("an event says that Delete leaves it", || async {
        let events = env.events("sales-eu").await;
        let wanted = format!("existing credential {id} was adopted; deletionPolicy Delete leaves it");
        if events.iter().any(|it| it.contains(&wanted)) { Ok(()) } else { Err(format!("{events:?}")) }
    })
    .await;
    env.credential("sales-eu", json!({"deletionPolicy": "Delete", "displayName": "MS Graph app"})).await;
    eventually("it has the name that the spec gives", || async {
        if env.remote()[0].name == "MS Graph app" { Ok(()) } else { Err(env.log()) }
    })
    .await;
    env.delete("sales-eu").await;
    env.wait_until_gone("sales-eu").await;
    assert_eq!(env.remote().len(), 1, "a credential that this object did not create is not deleted");
}

#[tokio::test]
async fn an_adopted_credential_with_ownership_is_deleted_with_the_object() {
    let (env, _) = TestEnv::start_after(by_hand).await;
    let mut spec = adoption(&json!({"takeOwnership": true}));
    spec["deletionPolicy"] = json!("Delete");
    env.credential("sales-eu", spec).await;
    env.wait_until_ready("sales-eu").await;
    env.delete("sales-eu").await;
    env.wait_until_gone("sales-eu").await;
    assert_eq!(env.remote().len(), 0);
}

#[tokio::test]
async fn the_events_about_an_adopted_credential_name_the_object_for_which_it_was_created() {
    let name = "mail/of-another-cluster [k3v9x2m7qz4w]";
    let existing = Credential::new(TENANT, CLIENT, "old", EXPIRY, name);
    let (env, _) = TestEnv::start_after(|env| env.woodpecker.put("agency", existing)).await;
    let mut spec = adoption(&json!({"takeOwnership": true}));
    spec["deletionPolicy"] = json!("Delete");
    env.credential("sales-eu", spec).await;
    env.wait_until_ready("sales-eu").await;
    env.delete("sales-eu").await;
    env.wait_until_gone("sales-eu").await;
    eventually("both events name it", || async {
        let events = env.events("sales-eu").await;
        let is_named = |what: &str| events.iter().any(|it| it.contains(what) && it.contains(name));
        if is_named("was adopted") && is_named("was deleted") { Ok(()) } else { Err(format!("{events:?}")) }
    })
    .await;
}

#[tokio::test]
async fn a_wrong_secret_adopts_nothing() {
    let (env, id) = TestEnv::start_after(by_hand).await;
    env.secret("sales-eu-graph", &[("client_secret", "wrong"), ("secret_expires_at", EXPIRY)]).await;
    env.credential("sales-eu", json!({})).await;
    env.wait_for("sales-eu", ConditionType::Verified, ConditionStatus::False, "InvalidClientSecret").await;
    assert_eq!(env.woodpecker.writes("agency"), 0);
    assert!(env.woodpecker.secret_matches("agency", id, "old"));
}

#[tokio::test]
async fn of_several_credentials_the_named_one_is_adopted() {
    let (env, (one, other)) = TestEnv::start_after(|env| (by_hand(env), by_hand(env))).await;
    env.credential("sales-eu", json!({})).await;
    let object =
        env.wait_for("sales-eu", ConditionType::Registered, ConditionStatus::False, "AmbiguousMatch").await;
    let text = message(&object, ConditionType::Registered);
    assert!(text.contains(&one.to_string()) && text.contains("adoption.credentialId"), "{text}");
    assert_eq!(env.woodpecker.writes("agency"), 0);
    env.credential("sales-eu", adoption(&json!({"credentialId": other}))).await;
    let status = env.wait_until_ready("sales-eu").await.status.unwrap();
    assert_eq!(status.credential_id, Some(other));
    assert!(env.woodpecker.secret_matches("agency", one, "old"));
}

#[tokio::test]
async fn create_only_does_not_change_an_existing_credential() {
    let (env, id) = TestEnv::start_after(by_hand).await;
    env.credential("sales-eu", adoption(&json!({"policy": "CreateOnly"}))).await;
    let object =
        env.wait_for("sales-eu", ConditionType::Registered, ConditionStatus::False, "AlreadyExists").await;
    assert!(message(&object, ConditionType::Registered).contains(&id.to_string()));
    assert_eq!(condition(&object, ConditionType::Verified).unwrap().reason, "TokenIssued");
    assert_eq!(env.woodpecker.writes("agency"), 0);
    assert!(env.woodpecker.secret_matches("agency", id, "old"));
    env.woodpecker.remove("agency", id);
    env.wait_until_ready("sales-eu").await;
}

#[tokio::test]
async fn adopt_only_waits_until_a_credential_exists() {
    let env = TestEnv::start().await;
    env.credential("sales-eu", adoption(&json!({"policy": "AdoptOnly"}))).await;
    env.wait_for("sales-eu", ConditionType::Registered, ConditionStatus::False, "NoMatchToAdopt").await;
    assert_eq!(env.woodpecker.writes("agency"), 0);
    let id = by_hand(&env);
    let status = env.wait_until_ready("sales-eu").await.status.unwrap();
    assert_eq!(status.credential_id, Some(id));
    assert!(env.woodpecker.requests("agency").iter().all(|request| request.op != Op::Create));
}

#[tokio::test]
async fn a_name_that_cannot_be_shown_is_not_put_into_the_status() {
    let names = ["sales\u{202e}eu".to_owned(), "sales\u{1b}[2Jeu".to_owned(), "x".repeat(5000)];
    let client = |number: usize| format!("00000000-0000-4000-8000-{number:012}");
    let put = |env: &TestEnv, (number, odd): (usize, &String)| {
        env.entra.add_app(TENANT, &client(number));
        env.entra.set_secrets(TENANT, &client(number), &["s3cret-one"]);
        env.woodpecker.put("agency", Credential::new(TENANT, &client(number), "s", EXPIRY, odd))
    };
    let (env, ids) = TestEnv::start_after(|env| {
        names.iter().enumerate().map(|existing| put(env, existing)).collect::<Vec<i64>>()
    })
    .await;
    for (number, odd) in names.iter().enumerate() {
        let name = format!("object-{number}");
        env.credential(&name, json!({"clientId": client(number)})).await;
        let registration = env.wait_until_ready(&name).await.status.unwrap().registration.unwrap();
        assert_eq!((registration.credential_id, registration.name.as_str()), (ids[number], ""), "{odd:?}");
    }
    let remote: Vec<String> = env.remote().into_iter().map(|it| it.name).collect();
    assert_eq!(remote, names, "none is renamed");
}
