//! Mailboxes that are connected at Woodpecker: what is submitted, and what is never submitted twice. The vendor documents
//! only the success of a request; the forms of its failures here are imagined.

mod accounts;
mod faults;
mod kills;
mod listings;
mod repeats;
mod shared;
mod writes;

use std::collections::BTreeMap;

use graph_credential_operator::api::conditions::{Condition, ConditionStatus, ConditionType, find};
use graph_credential_operator::api::{
    ConnectionState, RECONCILE_REQUESTED_AT, WoodpeckerMailboxes, WoodpeckerMailboxesStatus,
};
use jiff::Timestamp;
use kit::woodpecker::{Op, Request};
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::harness::{CLIENT, EXPIRY, QUIET_TIME, TENANT, TestEnv, eventually};

/// A test environment whose operator connects mailboxes, with a registered credential.
async fn start() -> TestEnv {
    let env = unregistered().await;
    env.credential("sales-eu", json!({})).await;
    env.wait_until_ready("sales-eu").await;
    env
}

/// The same without the credential.
async fn unregistered() -> TestEnv {
    let mut env = TestEnv::bare().await;
    serve(&mut env).await;
    env
}

/// Starts an operator that connects mailboxes, with an account and a client secret.
async fn serve(env: &mut TestEnv) {
    env.extra_args = vec!["--mailboxes".into()];
    env.start_operator().await;
    env.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    env.account("agency", allowed()).await;
}

/// The spec of an account at which mailboxes may be connected.
fn allowed() -> Value {
    json!({"mailboxes": {"connect": "Allowed"}})
}

/// Applies an object with these mailboxes.
async fn apply(env: &TestEnv, name: &str, policy: &str, emails: &[&str]) {
    let mailboxes: Vec<Value> = emails.iter().map(|email| json!({"email": email})).collect();
    let spec = json!({"credentialRef": {"name": "sales-eu"}, "policy": policy, "mailboxes": mailboxes});
    env.apply::<WoodpeckerMailboxes>(name, json!({"spec": spec})).await.expect("the object can be applied");
}

async fn status(env: &TestEnv, name: &str) -> WoodpeckerMailboxesStatus {
    env.api::<WoodpeckerMailboxes>().get(name).await.unwrap().status.unwrap_or_default()
}

fn ready(status: &WoodpeckerMailboxesStatus) -> Option<&Condition> {
    find(&status.conditions, ConditionType::Ready)
}

async fn wait_for(
    env: &TestEnv,
    name: &str,
    expected: ConditionStatus,
    reason: &str,
) -> WoodpeckerMailboxesStatus {
    eventually(&format!("{name}: Ready {expected:?} {reason}"), || async {
        let status = status(env, name).await;
        match ready(&status) {
            Some(ready) if ready.status == expected && ready.reason == reason => Ok(status),
            _ => Err(format!("{status:#?}\n{}", env.log())),
        }
    })
    .await
}

async fn wait_until_connected(env: &TestEnv, name: &str) -> WoodpeckerMailboxesStatus {
    wait_for(env, name, ConditionStatus::True, "MailboxesConnected").await
}

async fn request_reconcile(env: &TestEnv, name: &str) {
    let annotation = json!({RECONCILE_REQUESTED_AT: Timestamp::now().to_string()});
    let patch = Patch::Merge(json!({"metadata": {"annotations": annotation}}));
    env.api::<WoodpeckerMailboxes>().patch(name, &PatchParams::default(), &patch).await.unwrap();
}

/// Has the object reconciled now. A new spec is no request of a person.
async fn reconcile_now(env: &TestEnv, name: &str, email: &str) {
    let spec = json!({"mailboxes": [{"email": email, "displayName": "Jim"}]});
    let patch = Patch::Merge(json!({ "spec": spec }));
    env.api::<WoodpeckerMailboxes>().patch(name, &PatchParams::default(), &patch).await.unwrap();
}

/// The requests to connect mailboxes.
fn connects(env: &TestEnv) -> Vec<Request> {
    requests(env, "agency", Op::Connect)
}

fn requests(env: &TestEnv, account: &str, op: Op) -> Vec<Request> {
    env.woodpecker.requests(account).into_iter().filter(|request| request.op == op).collect()
}

/// Waits until so many requests to connect mailboxes have arrived.
async fn wait_for_connects(env: &TestEnv, number: usize) {
    eventually("mailboxes are submitted", || async {
        let found = connects(env).len();
        if found >= number { Ok(()) } else { Err(format!("{found} requests\n{}", env.log())) }
    })
    .await;
}

/// The addresses in a request.
fn submitted(request: &Request) -> Vec<String> {
    let accounts = request.body_without_secret["accounts"].as_array().cloned().unwrap_or_default();
    accounts.iter().map(|it| it["mailbox_email"].as_str().unwrap_or_default().to_owned()).collect()
}

/// How often each address was submitted.
fn submissions(env: &TestEnv) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for email in connects(env).iter().flat_map(submitted) {
        *counts.entry(email).or_default() += 1;
    }
    counts
}

/// The IDs at Woodpecker by address. Fails if an address has several.
fn ids(env: &TestEnv) -> BTreeMap<String, i64> {
    let mut ids = BTreeMap::new();
    for object in env.woodpecker.mailboxes("agency") {
        let email = object["details"]["email"].as_str().unwrap().to_lowercase();
        let before = ids.insert(email.clone(), object["id"].as_i64().unwrap());
        assert_eq!(before, None, "{email} was connected twice");
    }
    ids
}

fn states(status: &WoodpeckerMailboxesStatus) -> Vec<(&str, ConnectionState, Option<i64>)> {
    status.mailboxes.iter().map(|it| (it.email.as_str(), it.state, it.id)).collect()
}

fn existing(id: i64, email: &str) -> Value {
    json!({"id": id, "type": "SMTP", "details": {"email": email, "error": null}})
}

#[tokio::test]
async fn a_plan_names_the_slots_and_sends_nothing() {
    let env = start().await;
    env.woodpecker.set_mailboxes("agency", vec![existing(5, "Pam@Example.com")]);
    let mailboxes = json!([{"email": "jim@example.com"}, {"email": "pam@example.com"}]);
    let spec = json!({"credentialRef": {"name": "sales-eu"}, "mailboxes": mailboxes});
    env.apply::<WoodpeckerMailboxes>("team", json!({"spec": spec})).await.unwrap();
    let status = wait_for(&env, "team", ConditionStatus::True, "ConnectionPlanned").await;
    let text = &ready(&status).unwrap().message;
    assert!(text.contains("connect 1 mailbox,") && text.contains("paid slot"), "{text}");
    let expected = [
        ("jim@example.com", ConnectionState::NotConnected, None),
        ("pam@example.com", ConnectionState::AlreadyConnected, Some(5)),
    ];
    assert_eq!(states(&status), expected);
    tokio::time::sleep(QUIET_TIME).await;
    assert!(connects(&env).is_empty());
    assert_eq!(requests(&env, "agency", Op::ListMailboxes).len(), 1);
}

#[tokio::test]
async fn one_mailbox_is_connected_alone_and_then_the_others() {
    let env = start().await;
    env.woodpecker.set_mailboxes("agency", vec![existing(5, "M03@example.com")]);
    let emails: Vec<String> = (0..23).map(|n| format!("m{n:02}@example.com")).collect();
    let mailboxes: Vec<Value> =
        emails.iter().map(|email| json!({"email": email, "displayName": format!("Team {email}")})).collect();
    let spec = json!({"credentialRef": {"name": "sales-eu"}, "policy": "Connect", "mailboxes": mailboxes});
    env.apply::<WoodpeckerMailboxes>("team", json!({"spec": spec})).await.unwrap();
    let status = wait_until_connected(&env, "team").await;
    let requests = connects(&env);
    let sizes: Vec<usize> = requests.iter().map(|request| submitted(request).len()).collect();
    assert_eq!(sizes, [1, 10, 10, 1], "one alone, then ten at a time");
    let credential = env.remote()[0].credential_id;
    let first = &requests[0].body_without_secret;
    assert_eq!((&first["credential_id"], &first["auth_type"]), (&json!(credential), &json!("APP_ONLY")));
    assert_eq!(first["accounts"][0]["display_name"], "Team m00@example.com");
    let ids = ids(&env);
    for (email, state, id) in states(&status) {
        let expected = if email == "m03@example.com" {
            ConnectionState::AlreadyConnected
        } else {
            ConnectionState::Connected
        };
        assert_eq!((state, id), (expected, ids.get(email).copied()), "{email}");
    }
    assert_eq!((status.connected, status.already_connected, status.open), (Some(22), Some(1), Some(0)));
    assert!(status.pending.is_none());
    assert_eq!(env.woodpecker.resubmitted_mailboxes(), [""; 0]);
    assert_eq!(env.woodpecker.max_in_flight("agency"), 1);
    let before = env.woodpecker.requests("agency").len();
    tokio::time::sleep(QUIET_TIME).await;
    assert_eq!(env.woodpecker.requests("agency").len(), before, "nothing more is sent");
    let everywhere = [env.log(), env.events("team").await.join("\n"), env.get("/metrics").await.1];
    for text in everywhere {
        assert!(!text.contains("@example.com"), "{text}");
    }
}

#[tokio::test]
async fn mailboxes_wait_for_the_registration_of_their_credential() {
    let env = unregistered().await;
    apply(&env, "team", "Connect", &["jim@example.com"]).await;
    wait_for(&env, "team", ConditionStatus::False, "CredentialNotFound").await;
    env.entra.set_secrets(TENANT, CLIENT, &["another"]);
    env.credential("sales-eu", json!({})).await;
    wait_for(&env, "team", ConditionStatus::False, "CredentialNotRegistered").await;
    assert!(connects(&env).is_empty());
    env.entra.set_secrets(TENANT, CLIENT, &["s3cret-one"]);
    env.request_reconcile("sales-eu").await;
    env.wait_until_ready("sales-eu").await;
    wait_until_connected(&env, "team").await;
    env.credential("stored", json!({"destination": {"woodpecker": null, "store": {}}})).await;
    let spec = json!({"credentialRef": {"name": "stored"}, "mailboxes": [{"email": "pam@example.com"}]});
    env.apply::<WoodpeckerMailboxes>("other", json!({"spec": spec})).await.unwrap();
    wait_for(&env, "other", ConditionStatus::False, "NotAtWoodpecker").await;
}

#[tokio::test]
async fn what_leaves_the_spec_or_is_deleted_stays_connected() {
    let env = start().await;
    apply(&env, "team", "Connect", &["jim@example.com", "pam@example.com"]).await;
    wait_until_connected(&env, "team").await;
    let before = env.woodpecker.requests("agency").len();
    apply(&env, "team", "Connect", &["jim@example.com"]).await;
    let left = eventually("the other one is left connected", || async {
        let status = status(&env, "team").await;
        if status.left_connected.is_empty() { Err(format!("{status:#?}")) } else { Ok(status.left_connected) }
    })
    .await;
    let pam = ids(&env)["pam@example.com"];
    assert_eq!((left[0].email.as_str(), left[0].id), ("pam@example.com", Some(pam)));
    env.api::<WoodpeckerMailboxes>().delete("team", &DeleteParams::default()).await.unwrap();
    tokio::time::sleep(QUIET_TIME).await;
    assert!(
        env.api::<WoodpeckerMailboxes>().get_opt("team").await.unwrap().is_none(),
        "no finalizer keeps it"
    );
    assert_eq!(env.woodpecker.requests("agency").len(), before, "nothing is sent");
    assert_eq!(ids(&env).len(), 2);
}

#[tokio::test]
async fn a_suspended_object_sends_nothing() {
    let env = start().await;
    let spec = |suspend: bool| {
        json!({"spec": {
            "credentialRef": {"name": "sales-eu"}, "policy": "Connect", "suspend": suspend,
            "mailboxes": [{"email": "jim@example.com"}]
        }})
    };
    env.apply::<WoodpeckerMailboxes>("team", spec(true)).await.unwrap();
    wait_for(&env, "team", ConditionStatus::False, "Suspended").await;
    tokio::time::sleep(QUIET_TIME).await;
    assert!(
        env.woodpecker.requests("agency").iter().all(|it| !matches!(it.op, Op::Connect | Op::ListMailboxes))
    );
    env.apply::<WoodpeckerMailboxes>("team", spec(false)).await.unwrap();
    wait_until_connected(&env, "team").await;
}

#[tokio::test]
async fn two_objects_with_one_address_submit_it_once() {
    let env = start().await;
    let emails: Vec<String> = (0..8).map(|n| format!("m{n}@example.com")).collect();
    let emails: Vec<&str> = emails.iter().map(String::as_str).collect();
    for name in ["one", "two", "three"] {
        apply(&env, name, "Connect", &emails).await;
    }
    for name in ["one", "two", "three"] {
        wait_until_connected(&env, name).await;
    }
    assert_eq!(ids(&env).len(), 8);
    assert!(submissions(&env).values().all(|count| *count == 1), "{:?}", submissions(&env));
}

#[tokio::test]
async fn an_object_with_invalid_mailboxes_is_rejected_with_field_and_remedy() {
    let env = TestEnv::bare().await;
    let spec = |mailboxes: Value| json!({"spec": {"credentialRef": {"name": "sales-eu"}, "policy": "Plan", "mailboxes": mailboxes}});
    for (mailboxes, word) in [
        (json!([{"email": "Jim@example.com"}]), "must be an address in lower case"),
        (json!([{"email": "jim"}]), "must be an address"),
        (json!([{"email": "o'brien@example'.com"}]), "must be an address"),
        (json!([{"email": "jim@example.com", "displayName": "a\nb"}]), "control characters"),
        (json!([{"email": "jim@example.com"}, {"email": "jim@example.com"}]), "jim@example.com"),
        (json!([]), "at least 1"),
    ] {
        let refused = env.apply::<WoodpeckerMailboxes>("team", spec(mailboxes.clone())).await;
        let error = refused.expect_err(&format!("{mailboxes} is refused")).to_string();
        assert!(error.contains(word), "{mailboxes}: {error}");
    }
    let many: Vec<Value> = (0..1001).map(|n| json!({"email": format!("m{n}@example.com")})).collect();
    assert!(env.apply::<WoodpeckerMailboxes>("team", spec(json!(many))).await.is_err());
    let long: Vec<Value> =
        (0..1000).map(|n| json!({"email": format!("{}{n:03}@x.io", "m".repeat(93))})).collect();
    let refused = env.apply::<WoodpeckerMailboxes>("team", spec(json!(long))).await;
    let error = refused.expect_err("they are too long in all").to_string();
    assert!(error.contains("at most 100000 characters in all"), "{error}");
    env.apply::<WoodpeckerMailboxes>("team", spec(json!(many[..1000])))
        .await
        .expect("a thousand are accepted");
    env.apply::<WoodpeckerMailboxes>("irish", spec(json!([{"email": "o'brien@example.com"}])))
        .await
        .expect("an apostrophe is valid");
    let mut other = spec(json!(many[..1]));
    other["spec"]["credentialRef"]["name"] = json!("other");
    let error =
        env.apply::<WoodpeckerMailboxes>("team", other).await.expect_err("it is immutable").to_string();
    assert!(error.contains("spec.credentialRef is immutable"), "{error}");
}
