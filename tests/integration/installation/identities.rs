//! Identities of a release: in which namespaces the API server accepts them, and what the operator may do with them.

use graph_credential_operator::api::EntraIdentity;
use graph_credential_operator::api::conditions::{ConditionType, find};

use super::release::{NAME, NAMESPACE, Release};
use super::*;
use crate::harness::{CLIENT, TENANT};

fn identity(auth: &Value) -> EntraIdentity {
    serde_json::from_value(json!({
        "apiVersion": "graph-credentials.io/v1alpha1", "kind": "EntraIdentity", "metadata": {"name": "agency"},
        "spec": {
            "clientId": "0a0a0a0a-480e-4a17-9b85-3467967bd179", "tenantId": TENANT, "auth": auth,
            "grants": [{"namespaces": ["client-a"], "tenantId": TENANT, "clientIds": [CLIENT]}]
        }
    }))
    .unwrap()
}

#[tokio::test]
async fn an_identity_is_accepted_in_the_operators_namespace_alone() {
    let mut release = Release::install(|_| json!({"entraIdentities": {"enabled": true}})).await;
    release.start_operator().await;
    let client = release.env.client.clone();
    let federated = json!({"federatedToken": {}});
    let elsewhere: Api<EntraIdentity> = Api::namespaced(client.clone(), &release.env.namespace);
    // The API server applies a policy a moment after it was created.
    eventually("the policy is in force", || async {
        let params = PostParams { dry_run: true, ..PostParams::default() };
        match elsewhere.create(&params, &identity(&federated)).await {
            Err(error) if error.to_string().contains("works only in the operator's namespace") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let own: Api<EntraIdentity> = Api::namespaced(client, NAMESPACE);
    own.create(&PostParams::default(), &identity(&federated)).await.unwrap();
    eventually("the operator writes its status", || async {
        let status = own.get("agency").await.unwrap().status.unwrap_or_default();
        let reason = find(&status.conditions, ConditionType::Ready).map(|ready| ready.reason.clone());
        // No kubelet has mounted the token.
        if reason.as_deref() == Some("TokenFileUnusable") {
            Ok(())
        } else {
            Err(format!("{status:#?}\n{}", release.env.log()))
        }
    })
    .await;
    assert_eq!(release.refused_to(NAME), [""; 0], "what the operator was refused");
}
