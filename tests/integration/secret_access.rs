//! Access to Secrets: `get` is enough, `watch` is used if it is granted, and rights may change while the
//! operator runs.

use kit::cluster::AuditEntry;
use serde_json::json;

use crate::harness::{CLIENT, EXPIRY, TENANT, TestEnv, eventually};

/// A test environment whose operator has only these rights to Secrets, with one Ready credential.
async fn limited(verbs: &[&str]) -> TestEnv {
    let mut env = TestEnv::bare().await;
    env.limit_operator(verbs).await;
    env.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    env.account("agency", json!({})).await;
    env.start_operator().await;
    env.credential("sales-eu", json!({})).await;
    env.wait_until_ready("sales-eu").await;
    env
}

async fn rotate(env: &TestEnv, secret: &str, expiry: &str) {
    env.entra.add_secret(TENANT, CLIENT, secret);
    env.secret("sales-eu-graph", &[("client_secret", secret), ("secret_expires_at", expiry)]).await;
    env.wait_until("sales-eu", "the new expiry", |object| {
        object
            .status
            .as_ref()
            .and_then(|status| status.expires_at.as_ref())
            .is_some_and(|at| at.0.to_string() == expiry)
    })
    .await;
    let id = env.remote()[0].credential_id;
    assert!(env.woodpecker.secret_matches("agency", id, secret));
}

/// The operator's requests for Secrets.
fn secret_requests(env: &TestEnv) -> Vec<AuditEntry> {
    let user = format!("system:serviceaccount:{}:limited", env.namespace);
    let entries = env.cluster.audit().expect("the audit log can be read").into_iter();
    entries.filter(|entry| entry.user == user && entry.resource == "secrets").collect()
}

#[tokio::test]
async fn the_get_verb_is_enough_to_detect_a_rotation() {
    let env = limited(&["get"]).await;
    rotate(&env, "s3cret-two", "2028-01-01T00:00:00Z").await;
    let requests = secret_requests(&env);
    assert!(requests.iter().all(|entry| ["get", "create"].contains(&entry.verb.as_str())), "{requests:?}");
    assert!(requests.iter().all(|entry| entry.code != Some(403)), "no right is tried that is not there");
    assert!(
        requests.iter().all(|entry| entry.verb != "create" || entry.uri.ends_with("/secrets?")),
        "{requests:?}"
    );
}

#[tokio::test]
async fn only_metadata_is_requested_while_nothing_changes() {
    let env = limited(&["get"]).await;
    let reads = || {
        env.cluster
            .audit()
            .unwrap()
            .into_iter()
            .filter(|entry| entry.namespace.as_deref() == Some(&env.namespace))
            .filter(|entry| entry.verb == "get" && entry.name.as_deref() == Some("sales-eu-graph"))
            .count()
    };
    let two_more = async || {
        let before = reads();
        eventually("two more checks", || async {
            if reads() >= before + 2 { Ok(()) } else { Err("not yet".to_owned()) }
        })
        .await;
    };
    // The first check of a Secret is a change, and requeues its object once.
    two_more().await;
    let text = env.log();
    two_more().await;
    let reconciles = |text: &str| {
        text.lines().filter(|line| line.contains("reconciled") && line.contains("sales-eu")).count()
    };
    assert_eq!(reconciles(&env.log()), reconciles(&text), "a check alone causes no reconcile");
}

#[tokio::test]
async fn granted_watch_rights_are_used_and_revoked_ones_are_not_needed() {
    let env = limited(&["get"]).await;
    let uses = async |access: &str| {
        let line = format!("\"access\":\"{access}\"");
        eventually(&format!("changes are noticed by {access}"), || async {
            let log = env.log();
            let last = log.lines().rfind(|line| line.contains("detecting changes of Secrets"));
            if last.is_some_and(|last| last.contains(&line)) { Ok(()) } else { Err(format!("{last:?}")) }
        })
        .await;
    };
    uses("Get").await;
    env.grant(&["get", "list", "watch"]).await;
    uses("Watch").await;
    rotate(&env, "s3cret-two", "2028-01-01T00:00:00Z").await;
    env.grant(&["get"]).await;
    uses("Get").await;
    rotate(&env, "s3cret-three", "2028-02-01T00:00:00Z").await;
    let watched = secret_requests(&env).iter().filter(|entry| entry.verb == "watch").count();
    assert!(watched > 0, "the granted right was used");
}
