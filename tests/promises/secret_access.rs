//! Promise 5, for Secrets: `get` is enough, `watch` is used where it is granted, and rights may come and go
//! while the operator runs.

use kit::cluster::AuditEntry;
use serde_json::json;

use crate::stage::{CLIENT, EXPIRY, Stage, TENANT, eventually};

/// A stage whose operator may do only this with Secrets, with one Ready credential.
async fn limited(verbs: &[&str]) -> Stage {
    let mut stage = Stage::bare().await;
    stage.limit_operator(verbs).await;
    stage.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    stage.account("agency", json!({})).await;
    stage.start_operator().await;
    stage.credential("sales-eu", json!({})).await;
    stage.wait_until_ready("sales-eu").await;
    stage
}

async fn rotate(stage: &Stage, secret: &str, expiry: &str) {
    stage.entra.add_secret(TENANT, CLIENT, secret);
    stage.secret("sales-eu-graph", &[("client_secret", secret), ("secret_expires_at", expiry)]).await;
    stage
        .wait_until("sales-eu", "the new expiry", |object| {
            object
                .status
                .as_ref()
                .and_then(|status| status.expires_at.as_ref())
                .is_some_and(|at| at.0.to_string() == expiry)
        })
        .await;
    let id = stage.remote()[0].credential_id;
    assert!(stage.woodpecker.secret_matches("agency", id, secret));
}

/// What the operator asked of Secrets.
fn asked(stage: &Stage) -> Vec<AuditEntry> {
    let user = format!("system:serviceaccount:{}:limited", stage.namespace);
    let entries = stage.cluster.audit().expect("the audit log can be read").into_iter();
    entries.filter(|entry| entry.user == user && entry.resource == "secrets").collect()
}

#[tokio::test]
async fn get_alone_is_enough_to_notice_a_rotation() {
    let stage = limited(&["get"]).await;
    rotate(&stage, "s3cret-two", "2028-01-01T00:00:00Z").await;
    let asked = asked(&stage);
    assert!(asked.iter().all(|entry| ["get", "create"].contains(&entry.verb.as_str())), "{asked:?}");
    assert!(asked.iter().all(|entry| entry.code != Some(403)), "no right is tried that is not there");
    assert!(
        asked.iter().all(|entry| entry.verb != "create" || entry.uri.ends_with("/secrets?")),
        "{asked:?}"
    );
}

#[tokio::test]
async fn only_the_metadata_is_asked_for_while_nothing_changes() {
    let stage = limited(&["get"]).await;
    let reads = || {
        stage
            .cluster
            .audit()
            .unwrap()
            .into_iter()
            .filter(|entry| entry.namespace.as_deref() == Some(&stage.namespace))
            .filter(|entry| entry.verb == "get" && entry.name.as_deref() == Some("sales-eu-graph"))
            .count()
    };
    let two_more = async || {
        let before = reads();
        eventually("two more looks", || async {
            if reads() >= before + 2 { Ok(()) } else { Err("not yet".to_owned()) }
        })
        .await;
    };
    // The first look at a Secret is news and wakes its object once.
    two_more().await;
    let text = stage.log();
    two_more().await;
    let passes = |text: &str| {
        text.lines().filter(|line| line.contains("pass ended") && line.contains("sales-eu")).count()
    };
    assert_eq!(passes(&stage.log()), passes(&text), "looking is no reason for a pass");
}

#[tokio::test]
async fn a_right_that_is_granted_is_used_and_one_that_is_withdrawn_is_done_without() {
    let stage = limited(&["get"]).await;
    let uses = async |access: &str| {
        let line = format!("\"access\":\"{access}\"");
        eventually(&format!("changes are noticed by {access}"), || async {
            let log = stage.log();
            let last = log.lines().rfind(|line| line.contains("this is how changes of Secrets are noticed"));
            if last.is_some_and(|last| last.contains(&line)) { Ok(()) } else { Err(format!("{last:?}")) }
        })
        .await;
    };
    uses("Get").await;
    stage.grant(&["get", "list", "watch"]).await;
    uses("Watch").await;
    rotate(&stage, "s3cret-two", "2028-01-01T00:00:00Z").await;
    stage.grant(&["get"]).await;
    uses("Get").await;
    rotate(&stage, "s3cret-three", "2028-02-01T00:00:00Z").await;
    let watched = asked(&stage).iter().filter(|entry| entry.verb == "watch").count();
    assert!(watched > 0, "the granted right was used");
}
