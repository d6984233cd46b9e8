//! Client secrets that were removed, lost, or forgotten by a backup.

use std::time::Duration;

use graph_credential_operator::api::SealedGraphCredential;
use k8s_openapi::api::core::v1::Secret;
use kit::graph::{Fault, Op, RetryAfter};
use kube::api::ListParams;

use super::*;

fn live_keys(graph: &Graph) -> Vec<String> {
    graph.live_secrets(TENANT, CLIENT).into_iter().map(|it| it.key_id).collect()
}

#[tokio::test]
async fn a_client_secret_that_somebody_removed_is_replaced_although_requests_fail() {
    let (env, graph) = start().await;
    env.credential("sales-eu", rotating()).await;
    let first = current_key(&env.wait_until_ready("sales-eu").await).unwrap();
    graph.fail_app_op_next(TENANT, CLIENT, Op::AddPassword, 1, Fault::Throttled(RetryAfter::Seconds(1)));
    graph.fail_app_op_next(TENANT, CLIENT, Op::AddPassword, 1, Fault::Concurrent(409));
    assert!(graph.remove_by_hand(TENANT, CLIENT, &first));
    env.request_reconcile("sales-eu").await;
    // A rejection is verified again after a day, but the replacement does not wait for that.
    let object = env
        .wait_until("sales-eu", "another client secret is in use", |object| {
            current_key(object).is_some_and(|key| key != first) && rotation(object).pending.is_none()
        })
        .await;
    env.wait_until_ready("sales-eu").await;
    wait_for_only(&graph, &current_key(&object).unwrap()).await;
    assert_eq!(env.remote().len(), 1);
}

#[tokio::test]
async fn a_registration_that_is_left_later_keeps_its_client_secret_too() {
    let (env, graph) = start().await;
    env.woodpecker.add_account("second", "another-key");
    env.secret("second-key", &[("api_key", "another-key")]).await;
    env.apply_account("second", json!({})).await;
    let spec = |account: &str, policy: &str| {
        let mut spec = rotating();
        let destination = json!({"woodpecker": {"accountRef": {"name": account}}});
        merge(&mut spec, json!({"destination": destination, "deletionPolicy": policy}));
        spec
    };
    env.credential("sales-eu", spec("agency", "Delete")).await;
    let first = current_key(&env.wait_until_ready("sales-eu").await).unwrap();
    // Mailboxes use it.
    env.woodpecker.mark_in_use(env.remote()[0].credential_id);
    env.credential("sales-eu", spec("second", "Delete")).await;
    env.wait_until("sales-eu", "the earlier registration is still to be deleted", |object| {
        object.status.as_ref().is_some_and(|status| !status.previous_registrations.is_empty())
    })
    .await;
    // One that was created in the second of that registration would be kept, too.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let second = current_key(&rotate(&env, "sales-eu", "1").await).unwrap();
    env.credential("sales-eu", spec("second", "Retain")).await;
    env.wait_until("sales-eu", "the earlier registration is left", |object| {
        object.status.as_ref().is_some_and(|status| status.previous_registrations.is_empty())
    })
    .await;
    let third = current_key(&rotate(&env, "sales-eu", "2").await).unwrap();
    eventually("only what is in use stays", || async {
        let live = live_keys(&graph);
        if live == [first.clone(), third.clone()] { Ok(()) } else { Err(format!("{live:?}, and {second}")) }
    })
    .await;
    assert_sound(&env, &["sales-eu"]).await;
}

#[tokio::test]
async fn after_a_restore_the_registered_client_secret_is_not_removed_on_request_before_it_is_replaced() {
    let (mut env, graph) = start().await;
    env.credential("sales-eu", with_overlap("24h")).await;
    let backup = env.wait_until_ready("sales-eu").await;
    let records = env.api::<SealedGraphCredential>();
    let saved = records.list(&ListParams::default()).await.unwrap().items.remove(0);
    let second = current_key(&rotate(&env, "sales-eu", "1").await).unwrap();
    // The record and the status are from before the rotation; Woodpecker has the newer client secret.
    env.stop_operator().await;
    let mut record = records.get(saved.metadata.name.as_deref().unwrap()).await.unwrap();
    record.spec = saved.spec;
    let name = record.metadata.name.clone().unwrap();
    records.replace(&name, &kube::api::PostParams::default(), &record).await.unwrap();
    let mut status = serde_json::to_value(&backup.status).unwrap();
    status["rotation"]["lastHandledRotateAt"] = json!("1");
    status["rotation"]["earlier"] = Value::Null;
    let api = env.api::<MicrosoftGraphCredential>();
    let patch = Patch::Merge(json!({"status": status}));
    api.patch_status("sales-eu", &PatchParams::default(), &patch).await.unwrap();
    env.start_operator().await;
    env.request_reconcile("sales-eu").await;
    tokio::time::sleep(Duration::from_millis(3200)).await;
    env.request_reconcile("sales-eu").await;
    let object = env
        .wait_for("sales-eu", ConditionType::UnknownOwnSecrets, ConditionStatus::True, "SecretsNotRecorded")
        .await;
    assert!(message(&object, ConditionType::UnknownOwnSecrets).contains(&second));
    let updates = env.woodpecker.writes("agency");
    annotate(&env, "sales-eu", json!({"graph-credentials.io/remove-unknown-secrets": second})).await;
    wait_for_only(&graph, &current_key(&backup).unwrap()).await;
    assert_eq!(env.woodpecker.writes("agency"), updates + 1, "the one in use was sent again");
    assert_sound(&env, &["sales-eu"]).await;
}

#[tokio::test]
async fn what_stays_when_its_namespace_ends_is_reported_as_orphaned() {
    let (mut env, graph) = bare().await;
    let tenant = env.cluster.create_namespace("client").await.expect("a namespace can be created");
    env.operator_namespace = Some(std::mem::replace(&mut env.namespace, tenant));
    let operator = env.operator_namespace.clone().unwrap();
    env.start_operator().await;
    let identities = kube::Api::<EntraIdentity>::namespaced(env.client.clone(), &operator);
    let secrets = kube::Api::<Secret>::namespaced(env.client.clone(), &operator);
    let secret = json!({"metadata": {"name": "rotator"}, "stringData": {"client-secret": "identity-secret"}});
    secrets
        .create(&kube::api::PostParams::default(), &serde_json::from_value(secret).unwrap())
        .await
        .unwrap();
    let auth = json!({"clientSecretRef": {"name": "rotator"}});
    let grants = json!([grant(&env.namespace, TENANT, CLIENT)]);
    let object = json!({
        "metadata": {"name": "rotator"},
        "spec": {"clientId": IDENTITY, "tenantId": TENANT, "auth": auth, "grants": grants}
    });
    let object = serde_json::from_value(object).unwrap();
    identities.create(&kube::api::PostParams::default(), &object).await.unwrap();
    env.account("agency", json!({})).await;
    env.credential("sales-eu", rotating()).await;
    let key = current_key(&env.wait_until_ready("sales-eu").await).unwrap();

    env.delete_namespace().await;
    env.delete("sales-eu").await;
    env.wait_until_gone("sales-eu").await;
    let is_named = |line: &str| line.contains("a credential is orphaned") && line.contains(&key);
    assert!(env.log().lines().any(is_named), "{}", env.log());
    let (_, metrics) = env.get("/metrics").await;
    let counted = "graph_credential_orphans_total{cause=\"namespace\"} 1";
    assert!(metrics.contains(counted), "{metrics}");
    assert_eq!(live_keys(&graph), [key], "the policy is Retain");
}
