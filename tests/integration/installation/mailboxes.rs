//! A release that connects mailboxes: its rights, and that users get none of them.

use graph_credential_operator::api::WoodpeckerMailboxes;
use graph_credential_operator::api::conditions::{ConditionStatus, ConditionType, find};

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
