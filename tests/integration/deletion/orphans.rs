//! Orphans: what a deletion must leave behind is reported, counted, and published as an event on the
//! operator's own Deployment.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::api::events::v1::Event;

use super::*;

const KEYRING: &str = "graph-credential-operator-keyring";

const DEPLOYMENT: &str = "graph-credential-operator";

/// Creates a Deployment for the operator in that namespace and restarts the operator. Returns the
/// Deployment's uid.
async fn create_operator_deployment(env: &mut TestEnv, namespace: &str) -> Option<String> {
    let deployment: Deployment = serde_json::from_value(json!({
        "metadata": {"name": DEPLOYMENT},
        "spec": {
            "selector": {"matchLabels": {"app": "operator"}},
            "template": {
                "metadata": {"labels": {"app": "operator"}},
                "spec": {"containers": [{"name": "operator", "image": "operator"}]}
            }
        }
    }))
    .unwrap();
    let api: Api<Deployment> = Api::namespaced(env.client.clone(), namespace);
    let created = api.create(&PostParams::default(), &deployment).await.unwrap();
    env.stop_operator().await;
    if namespace != env.namespace {
        // Copies the keyring too, because the account's status may depend on it already.
        let secret: Secret = env.api().get(KEYRING).await.unwrap();
        let metadata = ObjectMeta { name: Some(KEYRING.into()), ..ObjectMeta::default() };
        let moved = Secret { metadata, ..secret };
        Api::<Secret>::namespaced(env.client.clone(), namespace)
            .create(&PostParams::default(), &moved)
            .await
            .unwrap();
    }
    env.operator_namespace = Some(namespace.to_owned());
    env.extra_args.extend(["--events-deployment".into(), DEPLOYMENT.into()]);
    env.start_operator().await;
    created.metadata.uid
}

/// Waits for an event with these words on the Deployment with that uid.
async fn reported_in_operator_namespace(env: &TestEnv, uid: Option<&String>, words: &[&str]) {
    let api: Api<Event> = Api::namespaced(env.client.clone(), env.operator_namespace.as_deref().unwrap());
    eventually(&format!("an event of the Deployment says {words:?}"), || async {
        let events = api.list(&ListParams::default()).await.map_err(|error| error.to_string())?.items;
        let is_it = |event: &Event| {
            let regarding = event.regarding.clone().unwrap_or_default();
            let note = event.note.as_deref().unwrap_or_default();
            (regarding.kind.as_deref(), regarding.uid.as_ref()) == (Some("Deployment"), uid)
                && event.reason.as_deref() == Some("Orphaned")
                && words.iter().all(|word| note.contains(word))
        };
        if events.iter().any(is_it) { Ok(()) } else { Err(format!("{events:#?}\n{}", env.log())) }
    })
    .await;
}

/// Waits until the orphan is counted, which happens once the object is deleted.
async fn orphan_is_counted(env: &TestEnv, cause: &str) {
    let line = format!("graph_credential_orphans_total{{cause=\"{cause}\"}} 1");
    eventually(&line, || async {
        let (_, metrics) = env.get("/metrics").await;
        if metrics.contains(&line) { Ok(()) } else { Err(metrics) }
    })
    .await;
}

#[tokio::test]
async fn an_object_deleted_while_suspended_leaves_a_reported_orphan() {
    let mut env = TestEnv::start().await;
    let namespace = env.namespace.clone();
    let deployment = create_operator_deployment(&mut env, &namespace).await;
    env.credential("sales-eu", json!({"deletionPolicy": "Delete"})).await;
    let id = env.wait_until_ready("sales-eu").await.status.unwrap().credential_id.unwrap();
    env.credential("sales-eu", json!({"deletionPolicy": "Delete", "suspend": true})).await;
    env.delete("sales-eu").await;
    env.wait_until_gone("sales-eu").await;
    assert_eq!(env.remote().len(), 1);
    event_is_emitted(&env, &["Orphaned", &id.to_string()]).await;
    let object = format!("MicrosoftGraphCredential {namespace}/sales-eu");
    reported_in_operator_namespace(&env, deployment.as_ref(), &[&object, &id.to_string(), "suspended"]).await;
    assert!(
        env.log()
            .lines()
            .any(|line| line.contains("a credential is orphaned") && line.contains(&id.to_string()))
    );
    orphan_is_counted(&env, "suspended").await;
}

#[tokio::test]
async fn a_terminating_namespace_waits_for_an_outage_with_a_limit() {
    let mut env = TestEnv::start().await;
    let namespace = format!("home-of-{}", env.namespace);
    let metadata = ObjectMeta { name: Some(namespace.clone()), ..ObjectMeta::default() };
    let all: Api<Namespace> = Api::all(env.client.clone());
    let created = Namespace { metadata, ..Namespace::default() };
    all.create(&PostParams::default(), &created).await.unwrap();
    let deployment = create_operator_deployment(&mut env, &namespace).await;
    env.credential("sales-eu", json!({"deletionPolicy": "Delete"})).await;
    let id = env.wait_until_ready("sales-eu").await.status.unwrap().credential_id.unwrap();
    env.woodpecker.fail_always(Op::Delete, Fault::Html502);
    env.delete_namespace().await;
    env.delete("sales-eu").await;
    env.wait_for("sales-eu", ConditionType::Registered, ConditionStatus::Unknown, "WoodpeckerUnavailable")
        .await;
    env.wait_until_gone("sales-eu").await;
    assert_eq!(env.remote().len(), 1);
    orphan_is_counted(&env, "namespace").await;
    // The terminating namespace no longer accepts events.
    reported_in_operator_namespace(
        &env,
        deployment.as_ref(),
        &["sales-eu", &id.to_string(), "the namespace could not wait"],
    )
    .await;
}

/// Waits until a create request is in flight.
async fn wait_until_created(env: &TestEnv) {
    eventually("the create is under way", || async {
        let creates = env.woodpecker.requests("agency").iter().any(|request| request.op == Op::Create);
        if creates && env.woodpecker.in_flight("agency") == 1 { Ok(()) } else { Err(env.log()) }
    })
    .await;
}

#[tokio::test]
async fn a_credential_created_for_a_deleted_object_is_reported() {
    let mut env = TestEnv::start().await;
    let namespace = env.namespace.clone();
    let deployment = create_operator_deployment(&mut env, &namespace).await;
    env.woodpecker.fail_next(Op::Create, 1, Fault::Slow(Duration::from_millis(1500)));
    env.credential("sales-eu", json!({})).await;
    wait_until_created(&env).await;
    env.delete("sales-eu").await;
    orphan_is_counted(&env, "object_deleted").await;
    let id = env.remote()[0].credential_id.to_string();
    event_is_emitted(&env, &["Orphaned", &id, "deleted during the create"]).await;
    reported_in_operator_namespace(
        &env,
        deployment.as_ref(),
        &["sales-eu", &id, "deleted during the create"],
    )
    .await;
}

#[tokio::test]
async fn a_credential_of_a_force_deleted_object_is_removed_by_its_policy() {
    let env = TestEnv::start().await;
    env.woodpecker.fail_next(Op::Create, 1, Fault::Slow(Duration::from_millis(1500)));
    env.credential("sales-eu", json!({"deletionPolicy": "Delete"})).await;
    wait_until_created(&env).await;
    env.delete("sales-eu").await;
    let api = env.api::<MicrosoftGraphCredential>();
    let freed = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    api.patch("sales-eu", &PatchParams::default(), &freed).await.unwrap();
    env.wait_until_gone("sales-eu").await;
    eventually("what was created is removed again", || async {
        let requests = env.woodpecker.requests("agency");
        let removed = requests.iter().any(|request| request.op == Op::Delete);
        if removed && env.remote().is_empty() { Ok(()) } else { Err(env.log()) }
    })
    .await;
    let (_, metrics) = env.get("/metrics").await;
    assert!(metrics.contains("graph_credential_orphans_total{cause=\"object_deleted\"} 0"), "{metrics}");
}
