//! Identities of a release: in which namespaces the API server accepts them, and what the operator may do with them.

use graph_credential_operator::api::EntraIdentity;
use graph_credential_operator::api::conditions::{ConditionType, find};

use kit::graph::Graph;

use super::release::{NAME, NAMESPACE, Release};
use super::*;
use crate::harness::{CLIENT, TENANT};

/// The app whose client secret rotates.
const ROTATING: &str = "93d5a1f7-64b2-4c3e-8d1a-0e2b7c9f4a55";
const IDENTITY: &str = "0a0a0a0a-480e-4a17-9b85-3467967bd179";

fn identity(auth: &Value) -> EntraIdentity {
    serde_json::from_value(json!({
        "apiVersion": "graph-credentials.io/v1alpha1", "kind": "EntraIdentity", "metadata": {"name": "agency"},
        "spec": {
            "clientId": IDENTITY, "tenantId": TENANT, "auth": auth,
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

#[tokio::test]
async fn with_rotation_no_right_is_unused() {
    let graph = Graph::start().await;
    let identities = json!({"enabled": true, "secretNames": ["rotator"]});
    let values = json!({"entraIdentities": identities, "microsoftGraph": graph.url()});
    let mut release = Release::install(|_| values).await;
    graph.connect(&release.env.entra);
    graph.time_scale(release.env.time_scale);
    graph.set_application(TENANT, ROTATING, &[]);
    graph.add_owner(TENANT, ROTATING, IDENTITY);
    release.env.entra.add_app(TENANT, ROTATING);
    release.env.entra.set_roles(TENANT, IDENTITY, &["Application.ReadWrite.OwnedBy"]);
    release.env.entra.set_secrets(TENANT, IDENTITY, &["identity-secret"]);
    release.start_operator().await;
    run(&mut release.env, Profile::Cluster).await;
    helm_test::passes(&release, Profile::Cluster).await;
    let client = release.env.client.clone();
    Api::<Secret>::namespaced(client.clone(), NAMESPACE)
        .create(&PostParams::default(), &identity_secret())
        .await
        .unwrap();
    let identities: Api<EntraIdentity> = Api::namespaced(client, NAMESPACE);
    let mut agency = identity(&json!({"clientSecretRef": {"name": "rotator"}}));
    let grants =
        json!([{"namespaces": [release.env.namespace], "tenantId": TENANT, "clientIds": [ROTATING]}]);
    agency.spec.grants = serde_json::from_value(grants).unwrap();
    identities.create(&PostParams::default(), &agency).await.unwrap();
    let spec = json!({
        "clientId": ROTATING, "secretRef": null, "entra": {"identityRef": {"name": "agency"}},
        "rotation": {"overlap": "0s"}, "deletionPolicy": "Delete"
    });
    release.env.credential("rotating", spec).await;
    release.env.wait_until_ready("rotating").await;
    assert_eq!(graph.live_secrets(TENANT, ROTATING).len(), 1);
    assert_eq!(identities.get("agency").await.unwrap().finalizers().len(), 1, "it is protected");

    release.uninstall(&[]).await;
    assert_eq!(identities.get("agency").await.unwrap().finalizers(), [""; 0]);
    assert_eq!(graph.live_secrets(TENANT, ROTATING).len(), 1, "nothing changes at Entra");
}

fn identity_secret() -> Secret {
    let secret = json!({"metadata": {"name": "rotator"}, "stringData": {"client-secret": "identity-secret"}});
    serde_json::from_value(secret).unwrap()
}
