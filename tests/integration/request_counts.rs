//! The requests to the API server for each object, and what a write of its status leaves unchanged.

use std::time::Duration;

use graph_credential_operator::api::MicrosoftGraphCredential;
use graph_credential_operator::api::conditions::{ConditionStatus, ConditionType};
use kit::cluster::{AuditMark, User};
use kit::woodpecker::Op;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::harness::{CLIENT, EXPIRY, TENANT, TestEnv, eventually};

/// The operator's requests to the API server about the object and what belongs to it, since the mark. Lists,
/// watches and the process's own requests do not count.
fn requests(env: &TestEnv, mark: AuditMark) -> Vec<String> {
    let entries = env.cluster.audit_since(mark).expect("the audit log can be read");
    let mut requests: Vec<String> = entries
        .into_iter()
        .filter(|entry| entry.user == User::Operator.name())
        .filter(|entry| entry.namespace.as_deref() == Some(&env.namespace))
        .filter(|entry| !matches!(entry.verb.as_str(), "list" | "watch"))
        .filter(|entry| {
            let name = entry.name.as_deref().unwrap_or_default();
            match entry.resource.as_str() {
                "leases" | "woodpeckeraccounts" => false,
                "secrets" => name == "sales-eu-graph",
                "events" => entry.code == Some(201),
                _ => true,
            }
        })
        .map(|entry| match entry.subresource {
            Some(subresource) => format!("{} {}/{subresource}", entry.verb, entry.resource),
            None => format!("{} {}", entry.verb, entry.resource),
        })
        .collect();
    requests.sort();
    requests
}

async fn assert_requests(env: &TestEnv, mark: AuditMark, expected: &[&str]) {
    eventually("the last request", || async {
        let seen = requests(env, mark);
        if seen.len() >= expected.len() { Ok(()) } else { Err(format!("{seen:#?}\n{}", env.log())) }
    })
    .await;
    // Time for requests that would come later.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(requests(env, mark), expected, "{}", env.log());
}

fn store() -> Value {
    json!({"destination": {"woodpecker": null, "store": {}}})
}

async fn settled(spec: Value) -> (TestEnv, AuditMark) {
    let env = TestEnv::start().await;
    env.wait_for_account("agency", ConditionStatus::True, "Authenticated").await;
    eventually("the account's event", || async {
        if env.events("agency").await.is_empty() { Err("none yet".into()) } else { Ok(()) }
    })
    .await;
    let mark = env.cluster.audit_mark().unwrap();
    env.credential("sales-eu", spec).await;
    env.wait_until_ready("sales-eu").await;
    eventually("its event", || async {
        if env.events("sales-eu").await.is_empty() { Err("none yet".into()) } else { Ok(()) }
    })
    .await;
    (env, mark)
}

async fn rotate(env: &TestEnv) {
    env.entra.add_secret(TENANT, CLIENT, "s3cret-two");
    env.secret("sales-eu-graph", &[("client_secret", "s3cret-two"), ("secret_expires_at", "2028-01-31")])
        .await;
    env.wait_until("sales-eu", "the new expiry", |object| {
        let expires_at = object.status.as_ref().and_then(|status| status.expires_at.as_ref());
        expires_at.is_some_and(|at| at.0.to_string().starts_with("2028-01-31"))
    })
    .await;
}

#[tokio::test]
async fn a_new_object_of_the_store_costs_four_requests() {
    let (env, mark) = settled(store()).await;
    let expected = [
        "create events",
        "create sealedgraphcredentials",
        "get secrets",
        "update microsoftgraphcredentials/status",
    ];
    assert_requests(&env, mark, &expected).await;
}

#[tokio::test]
async fn own_status_writes_trigger_no_reconcile() {
    let (env, _) = settled(store()).await;
    let names: Vec<String> = (0..6).map(|n| format!("app-{n}")).collect();
    for name in &names {
        env.credential(name, store()).await;
    }
    for name in &names {
        env.wait_until_ready(name).await;
    }
    // The watch may deliver a new record before the response to its write, which costs a reconcile.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = env.reconciles().await;
    for name in &names {
        env.request_reconcile(name).await;
    }
    for name in &names {
        env.wait_until(name, "the handled request in its status", |object| {
            object.status.as_ref().is_some_and(|status| status.last_handled_reconcile_at.is_some())
        })
        .await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let reconciles = env.reconciles().await - before;
    assert!((6..9).contains(&reconciles), "{reconciles}\n{}", env.log());
}

#[tokio::test]
async fn a_new_object_at_woodpecker_costs_four_requests_and_one_post() {
    let (env, mark) = settled(json!({})).await;
    let expected = [
        "create events",
        "get secrets",
        "update microsoftgraphcredentials/status",
        "update microsoftgraphcredentials/status",
    ];
    assert_requests(&env, mark, &expected).await;
    let sent: Vec<Op> = env.woodpecker.requests("agency").iter().map(|request| request.op).collect();
    assert_eq!(sent.iter().filter(|op| **op == Op::Create).count(), 1);
    assert!(!sent.contains(&Op::Rename), "{sent:?}");
}

#[tokio::test]
async fn a_finalizer_costs_one_patch() {
    let mut spec = store();
    spec["deletionPolicy"] = json!("Delete");
    let (env, mark) = settled(spec).await;
    let expected = [
        "create events",
        "create sealedgraphcredentials",
        "get secrets",
        "patch microsoftgraphcredentials",
        "update microsoftgraphcredentials/status",
    ];
    assert_requests(&env, mark, &expected).await;
}

#[tokio::test]
async fn a_rotation_in_the_store_costs_four_requests() {
    let (env, _) = settled(store()).await;
    let mark = env.cluster.audit_mark().unwrap();
    rotate(&env).await;
    let expected = [
        "create events",
        "get secrets",
        "patch sealedgraphcredentials",
        "update microsoftgraphcredentials/status",
    ];
    assert_requests(&env, mark, &expected).await;
}

#[tokio::test]
async fn a_rotation_at_woodpecker_costs_four_requests() {
    let (env, _) = settled(json!({})).await;
    let mark = env.cluster.audit_mark().unwrap();
    rotate(&env).await;
    let expected = [
        "create events",
        "get secrets",
        "update microsoftgraphcredentials/status",
        "update microsoftgraphcredentials/status",
    ];
    assert_requests(&env, mark, &expected).await;
}

#[tokio::test]
async fn a_restart_reads_no_unchanged_secret() {
    let (mut env, _) = settled(store()).await;
    env.secret("second", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    env.credential("at-woodpecker", json!({"secretRef": {"name": "second"}})).await;
    env.wait_until_ready("at-woodpecker").await;
    let tokens = env.entra.requests().len();
    env.stop_operator().await;
    let mark = env.cluster.audit_mark().unwrap();
    env.start_operator().await;
    tokio::time::sleep(crate::harness::QUIET_TIME).await;
    assert_eq!(requests(&env, mark), Vec::<String>::new());
    assert_eq!(env.entra.requests().len(), tokens);
}

#[tokio::test]
async fn status_fields_of_a_newer_version_are_kept() {
    let (env, _) = settled(json!({})).await;
    let api = env.api::<MicrosoftGraphCredential>();
    let newer = json!({"status": {"newField": {"a": 1}, "registration": {"newField": "b"}}});
    api.patch_status("sales-eu", &PatchParams::default(), &Patch::Merge(newer)).await.unwrap();
    let add = json!([{"op": "add", "path": "/status/conditions/0/newField", "value": [1, 2]}]);
    let add = serde_json::from_value(add).unwrap();
    api.patch_status("sales-eu", &PatchParams::default(), &Patch::Json::<()>(add)).await.unwrap();
    rotate(&env).await;
    let object = serde_json::to_value(api.get("sales-eu").await.unwrap()).unwrap();
    let status = &object["status"];
    assert_eq!(status["newField"], json!({"a": 1}), "{status:#}");
    assert_eq!(status["registration"]["newField"], "b", "{status:#}");
    assert_eq!(status["conditions"][0]["newField"], json!([1, 2]), "{status:#}");
}

#[tokio::test]
async fn other_finalizers_are_kept() {
    let (env, _) = settled(json!({"deletionPolicy": "Delete"})).await;
    let api = env.api::<MicrosoftGraphCredential>();
    let others = json!([{"op": "add", "path": "/metadata/finalizers/-", "value": "example.com/other"}]);
    let others = serde_json::from_value(others).unwrap();
    api.patch("sales-eu", &PatchParams::default(), &Patch::Json::<()>(others)).await.unwrap();
    let finalizers = async || api.get("sales-eu").await.unwrap().finalizers().to_vec();
    for (policy, count) in [("Retain", 1), ("Delete", 2)] {
        env.credential("sales-eu", json!({"deletionPolicy": policy})).await;
        eventually("our finalizer follows the policy", || async {
            let now = finalizers().await;
            if now.len() == count { Ok(()) } else { Err(format!("{now:?}")) }
        })
        .await;
        assert!(finalizers().await.contains(&"example.com/other".to_owned()));
    }
    env.wait_for("sales-eu", ConditionType::Ready, ConditionStatus::True, "Ready").await;
}
