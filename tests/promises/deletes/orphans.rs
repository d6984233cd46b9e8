//! What a deletion must leave behind is named, counted, and told on the operator's own Deployment.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::api::events::v1::Event;

use super::*;

/// The keyring's Secret.
const KEYRING: &str = "graph-credential-operator-keyring";

const DEPLOYMENT: &str = "graph-credential-operator";

/// Gives the operator a Deployment of its own in that namespace, and starts it anew. Returns the Deployment's uid.
async fn with_a_home(stage: &mut Stage, namespace: &str) -> Option<String> {
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
    let api: Api<Deployment> = Api::namespaced(stage.client.clone(), namespace);
    let made = api.create(&PostParams::default(), &deployment).await.unwrap();
    stage.stop_operator().await;
    if namespace != stage.namespace {
        // Its keyring goes with it: the account's status may depend on it already.
        let secret: Secret = stage.api().get(KEYRING).await.unwrap();
        let metadata = ObjectMeta { name: Some(KEYRING.into()), ..ObjectMeta::default() };
        let moved = Secret { metadata, ..secret };
        Api::<Secret>::namespaced(stage.client.clone(), namespace)
            .create(&PostParams::default(), &moved)
            .await
            .unwrap();
    }
    stage.home = Some(namespace.to_owned());
    stage.extra_args.extend(["--operator-deployment".into(), DEPLOYMENT.into()]);
    stage.start_operator().await;
    made.metadata.uid
}

/// Waits for an event with these words on the Deployment of that uid.
async fn told_at_home(stage: &Stage, uid: Option<&String>, words: &[&str]) {
    let api: Api<Event> = Api::namespaced(stage.client.clone(), stage.home.as_deref().unwrap());
    eventually(&format!("an event of the Deployment says {words:?}"), || async {
        let events = api.list(&ListParams::default()).await.map_err(|error| error.to_string())?.items;
        let is_it = |event: &Event| {
            let regarding = event.regarding.clone().unwrap_or_default();
            let note = event.note.as_deref().unwrap_or_default();
            (regarding.kind.as_deref(), regarding.uid.as_ref()) == (Some("Deployment"), uid)
                && event.reason.as_deref() == Some("Orphaned")
                && words.iter().all(|word| note.contains(word))
        };
        if events.iter().any(is_it) { Ok(()) } else { Err(format!("{events:#?}\n{}", stage.log())) }
    })
    .await;
}

/// Waits until the orphan is counted, which happens once the object has gone.
async fn counted(stage: &Stage, cause: &str) {
    let line = format!("mgc_orphans_total{{cause=\"{cause}\"}} 1");
    eventually(&line, || async {
        let (_, metrics) = stage.get("/metrics").await;
        if metrics.contains(&line) { Ok(()) } else { Err(metrics) }
    })
    .await;
}

#[tokio::test]
async fn an_object_deleted_while_suspended_leaves_an_orphan_that_is_named() {
    let mut stage = Stage::set().await;
    let namespace = stage.namespace.clone();
    let home = with_a_home(&mut stage, &namespace).await;
    stage.credential("sales-eu", json!({"deletionPolicy": "Delete"})).await;
    let id = stage.wait_until_ready("sales-eu").await.status.unwrap().credential_id.unwrap();
    stage.credential("sales-eu", json!({"deletionPolicy": "Delete", "suspend": true})).await;
    stage.delete("sales-eu").await;
    stage.wait_until_gone("sales-eu").await;
    assert_eq!(stage.remote().len(), 1);
    told(&stage, &["Orphaned", &id.to_string()]).await;
    let object = format!("MicrosoftGraphCredential {namespace}/sales-eu");
    told_at_home(&stage, home.as_ref(), &[&object, &id.to_string(), "suspended"]).await;
    assert!(
        stage.log().lines().any(|line| line.contains("an orphan is left") && line.contains(&id.to_string()))
    );
    counted(&stage, "suspended").await;
}

#[tokio::test]
async fn a_terminating_namespace_waits_for_an_outage_but_not_for_ever() {
    let mut stage = Stage::set().await;
    let namespace = format!("home-of-{}", stage.namespace);
    let metadata = ObjectMeta { name: Some(namespace.clone()), ..ObjectMeta::default() };
    let all: Api<Namespace> = Api::all(stage.client.clone());
    let made = Namespace { metadata, ..Namespace::default() };
    all.create(&PostParams::default(), &made).await.unwrap();
    let home = with_a_home(&mut stage, &namespace).await;
    stage.credential("sales-eu", json!({"deletionPolicy": "Delete"})).await;
    let id = stage.wait_until_ready("sales-eu").await.status.unwrap().credential_id.unwrap();
    stage.woodpecker.fail_always(Op::Delete, Fault::Html502);
    stage.delete_namespace().await;
    stage.delete("sales-eu").await;
    stage
        .wait_for("sales-eu", ConditionType::Registered, ConditionStatus::Unknown, "WoodpeckerUnavailable")
        .await;
    stage.wait_until_gone("sales-eu").await;
    assert_eq!(stage.remote().len(), 1);
    counted(&stage, "namespace").await;
    // The namespace takes no event any more.
    told_at_home(&stage, home.as_ref(), &["sales-eu", &id.to_string(), "the namespace could not wait"]).await;
}

/// Waits until a create is under way.
async fn wait_until_it_is_created(stage: &Stage) {
    eventually("the create is under way", || async {
        let creates = stage.woodpecker.requests("agency").iter().any(|request| request.op == Op::Create);
        if creates && stage.woodpecker.in_flight("agency") == 1 { Ok(()) } else { Err(stage.log()) }
    })
    .await;
}

#[tokio::test]
async fn what_was_made_for_an_object_that_is_gone_by_then_is_named() {
    let mut stage = Stage::set().await;
    let namespace = stage.namespace.clone();
    let home = with_a_home(&mut stage, &namespace).await;
    stage.woodpecker.fail_next(Op::Create, 1, Fault::Slow(Duration::from_millis(1500)));
    stage.credential("sales-eu", json!({})).await;
    wait_until_it_is_created(&stage).await;
    stage.delete("sales-eu").await;
    counted(&stage, "object_gone").await;
    let id = stage.remote()[0].credential_id.to_string();
    told(&stage, &["Orphaned", &id, "deleted while it was made"]).await;
    told_at_home(&stage, home.as_ref(), &["sales-eu", &id, "deleted while it was made"]).await;
}

#[tokio::test]
async fn what_was_made_for_an_object_that_was_forced_away_is_removed_as_its_policy_says() {
    let stage = Stage::set().await;
    stage.woodpecker.fail_next(Op::Create, 1, Fault::Slow(Duration::from_millis(1500)));
    stage.credential("sales-eu", json!({"deletionPolicy": "Delete"})).await;
    wait_until_it_is_created(&stage).await;
    stage.delete("sales-eu").await;
    let api = stage.api::<MicrosoftGraphCredential>();
    let freed = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    api.patch("sales-eu", &PatchParams::default(), &freed).await.unwrap();
    stage.wait_until_gone("sales-eu").await;
    eventually("what was made is removed again", || async {
        let requests = stage.woodpecker.requests("agency");
        let removed = requests.iter().any(|request| request.op == Op::Delete);
        if removed && stage.remote().is_empty() { Ok(()) } else { Err(stage.log()) }
    })
    .await;
    let (_, metrics) = stage.get("/metrics").await;
    assert!(metrics.contains("mgc_orphans_total{cause=\"object_gone\"} 0"), "{metrics}");
}
