//! A release that connects mailboxes: its rights, and that users get none of them.

use graph_credential_operator::api::WoodpeckerMailboxes;
use graph_credential_operator::api::conditions::{ConditionStatus, ConditionType, find};
use kube::api::{Patch, PatchParams};

use super::release::{NAME, Release};
use super::*;
use crate::harness::EXPIRY;

#[tokio::test]
async fn a_release_connects_mailboxes_with_exactly_the_rights_for_it() {
    let mut release = Release::install(|_| json!({"mailboxes": {"enabled": true}})).await;
    release.start_operator().await;
    let env = &release.env;
    env.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    env.account("agency", json!({"mailboxes": {"connect": "Allowed"}})).await;
    env.credential("sales-eu", json!({})).await;
    env.wait_until_ready("sales-eu").await;
    let spec = json!({
        "credentialRef": {"name": "sales-eu"}, "policy": "Connect", "mailboxes": [{"email": "jim@example.com"}]
    });
    env.apply::<WoodpeckerMailboxes>("team", json!({"spec": spec})).await.unwrap();
    eventually("the mailbox is connected", || async {
        let status = env.api::<WoodpeckerMailboxes>().get("team").await.unwrap().status.unwrap_or_default();
        match find(&status.conditions, ConditionType::Ready) {
            Some(ready) if ready.status == ConditionStatus::True => Ok(()),
            _ => Err(format!("{status:#?}\n{}", env.log())),
        }
    })
    .await;
    assert_eq!(release.refused_to(NAME), [""; 0], "what the operator was refused");
    let unused = release.unused_rights(NAME).await;
    assert!(!unused.iter().any(|right| right.contains("woodpeckermailboxes")), "{unused:?}");
}

/// An object with so many mailboxes, each with an address and a name of a hundred characters together.
fn manifest(namespace: &str, name: &str, mailboxes: usize) -> Value {
    let mailboxes: Vec<Value> = (0..mailboxes)
        .map(|number| json!({"displayName": "n".repeat(50), "email": format!("{number:039}@example.io")}))
        .collect();
    json!({
        "apiVersion": "graph-credentials.io/v1alpha1", "kind": "WoodpeckerMailboxes",
        "metadata": {"annotations": {}, "name": name, "namespace": namespace},
        "spec": {"credentialRef": {"name": "sales-eu"}, "mailboxes": mailboxes}
    })
}

#[tokio::test]
async fn many_mailboxes_need_a_server_side_apply() {
    let release = Release::install(|_| json!({})).await;
    let env = &release.env;
    // As a client-side apply creates it: the manifest is also in an annotation.
    let create = async |name: &str, mailboxes: usize| {
        let mut whole = manifest(&env.namespace, name, mailboxes);
        let text = format!("{whole}\n");
        assert!(text.len() < 262_144, "Kubernetes allows that: {}", text.len());
        whole["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/last-applied-configuration": text});
        let object = serde_json::from_value(whole).unwrap();
        let created = env.api::<WoodpeckerMailboxes>().create(&PostParams::default(), &object).await;
        created.map(drop).map_err(|error| error.to_string())
    };
    let limit = "at most 32768 are allowed";
    eventually("the policy is in force", || async {
        match create("largest", 1000).await {
            Err(error) if error.contains(limit) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    create("some", 245).await.expect("these fit into the annotation");
    let error = create("more", 255).await.expect_err("these do not");
    assert!(error.contains(limit), "{error}");
    let api = env.api::<WoodpeckerMailboxes>();
    let largest = Patch::Apply(manifest(&env.namespace, "largest", 1000));
    api.patch("largest", &PatchParams::apply("kubectl"), &largest).await.expect("without the annotation");
}
