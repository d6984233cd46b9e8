//! Promise 8: deletion can't hurt or hang.

use std::time::Duration;

use graph_credential_operator::resources::conditions::{ConditionStatus, ConditionType};
use graph_credential_operator::resources::{MicrosoftGraphCredential, WoodpeckerAccount};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::api::events::v1::Event;
use kit::woodpecker::{Credential, Fault, Op};
use kube::Api;
use kube::api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::stage::{EXPIRY, Stage, TENANT, condition, eventually, message};

/// The keyring's Secret.
const KEYRING: &str = "graph-credential-operator-keyring";

const DEPLOYMENT: &str = "graph-credential-operator";

/// Waits for an event with these words; the last one comes after the object has gone.
async fn told(stage: &Stage, words: &[&str]) {
    eventually(&format!("an event says {words:?}"), || async {
        let events = stage.events("sales-eu").await;
        let is_there = events.iter().any(|event| words.iter().all(|word| event.contains(word)));
        if is_there { Ok(()) } else { Err(format!("{events:?}\n{}", stage.log())) }
    })
    .await;
}

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
async fn retain_is_the_default_and_leaves_the_credential() {
    let stage = Stage::set().await;
    stage.credential("sales-eu", json!({})).await;
    let object = stage.wait_until_ready("sales-eu").await;
    assert_eq!(object.metadata.finalizers, None, "nothing to wait for");
    stage.delete("sales-eu").await;
    stage.wait_until_gone("sales-eu").await;
    assert_eq!(stage.remote().len(), 1);
    assert!(stage.woodpecker.requests("agency").iter().all(|request| request.op != Op::Delete));
}

#[tokio::test]
async fn delete_removes_what_the_object_made_and_nothing_else() {
    let stage = Stage::set().await;
    let stranger = Credential::new(TENANT, "00000000-0000-4000-8000-000000000001", "s", EXPIRY, "stranger");
    let strangers = stage.woodpecker.put("agency", stranger);
    stage.credential("sales-eu", json!({"deletionPolicy": "Delete"})).await;
    stage.wait_until_ready("sales-eu").await;
    assert_eq!(stage.remote().len(), 2);
    stage.delete("sales-eu").await;
    stage.wait_until_gone("sales-eu").await;
    let left: Vec<i64> = stage.remote().iter().map(|held| held.credential_id).collect();
    assert_eq!(left, [strangers]);
    told(&stage, &["Deleted"]).await;
}

#[tokio::test]
async fn the_finalizer_is_there_before_anything_is_created() {
    let stage = Stage::set().await;
    stage.woodpecker.fail_always(Op::Create, Fault::Http500Before);
    stage.credential("sales-eu", json!({"deletionPolicy": "Delete"})).await;
    let object = stage
        .wait_for("sales-eu", ConditionType::Registered, ConditionStatus::Unknown, "OutcomeUnknown")
        .await;
    assert_eq!(object.metadata.finalizers, Some(vec!["graph-credentials.io/registration".to_owned()]));
}

#[tokio::test]
async fn what_is_in_use_says_so_and_changing_to_retain_lets_go() {
    let stage = Stage::set().await;
    stage.credential("sales-eu", json!({"deletionPolicy": "Delete"})).await;
    let id = stage.wait_until_ready("sales-eu").await.status.unwrap().credential_id.unwrap();
    stage.woodpecker.mark_in_use(id);
    stage.delete("sales-eu").await;
    let object = stage.wait_for("sales-eu", ConditionType::Registered, ConditionStatus::False, "InUse").await;
    assert!(message(&object, ConditionType::Registered).contains("Retain"));
    stage.credential("sales-eu", json!({"deletionPolicy": "Retain"})).await;
    stage.wait_until_gone("sales-eu").await;
    assert_eq!(stage.remote().len(), 1);
}

#[tokio::test]
async fn a_credential_that_is_gone_already_does_not_hold_the_object() {
    let stage = Stage::set().await;
    stage.credential("sales-eu", json!({"deletionPolicy": "Delete"})).await;
    let id = stage.wait_until_ready("sales-eu").await.status.unwrap().credential_id.unwrap();
    stage.woodpecker.remove("agency", id);
    stage.delete("sales-eu").await;
    stage.wait_until_gone("sales-eu").await;
}

#[tokio::test]
async fn a_404_that_the_listing_contradicts_is_not_taken_for_gone() {
    let stage = Stage::set().await;
    stage.credential("sales-eu", json!({"deletionPolicy": "Delete"})).await;
    stage.wait_until_ready("sales-eu").await;
    stage.woodpecker.fail_next(
        Op::Delete,
        1,
        Fault::RefusedBefore(404, json!({"title": "Not Found", "status": 404})),
    );
    stage.delete("sales-eu").await;
    stage.wait_for("sales-eu", ConditionType::Registered, ConditionStatus::False, "InUse").await;
    assert_eq!(stage.remote().len(), 1);
    stage.wait_until_gone("sales-eu").await;
    assert_eq!(stage.remote().len(), 0);
}

#[tokio::test]
async fn an_outage_delays_a_deletion_and_a_deletion_survives_it() {
    let stage = Stage::set().await;
    stage.credential("sales-eu", json!({"deletionPolicy": "Delete"})).await;
    stage.wait_until_ready("sales-eu").await;
    stage.woodpecker.fail_always(Op::Delete, Fault::Html502);
    stage.delete("sales-eu").await;
    stage
        .wait_for("sales-eu", ConditionType::Registered, ConditionStatus::Unknown, "WoodpeckerUnavailable")
        .await;
    stage.woodpecker.heal();
    stage.wait_until_gone("sales-eu").await;
    assert_eq!(stage.remote().len(), 0);
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

/// Waits until the account has the finalizer that keeps it while something is to be removed there.
async fn wait_until_held(stage: &Stage) {
    eventually("the account is held", || async {
        let account =
            stage.api::<WoodpeckerAccount>().get("agency").await.map_err(|error| error.to_string())?;
        account.metadata.finalizers.map(drop).ok_or_else(|| stage.log())
    })
    .await;
}

#[tokio::test]
async fn an_account_waits_for_what_is_to_be_removed_there_and_then_goes() {
    let stage = Stage::set().await;
    stage.credential("sales-eu", json!({"deletionPolicy": "Delete"})).await;
    stage.wait_until_ready("sales-eu").await;
    let accounts = stage.api::<WoodpeckerAccount>();
    wait_until_held(&stage).await;
    // In whatever order things go, as with a whole namespace or a folder of manifests.
    accounts.delete("agency", &DeleteParams::default()).await.unwrap();
    stage.delete_secret("agency-key").await;
    stage.wait_for_account("agency", ConditionStatus::False, "ApiKeyMissing").await;
    stage.delete_secret("sales-eu-graph").await;
    stage.delete("sales-eu").await;
    stage.wait_until_gone("sales-eu").await;
    assert_eq!(stage.remote().len(), 0, "the last good key served to the end");
    eventually("the account is gone", || async {
        let found = accounts.get_opt("agency").await.map_err(|error| error.to_string())?;
        found.map_or(Ok(()), |found| Err(format!("{found:#?}\n{}", stage.log())))
    })
    .await;
}

#[tokio::test]
async fn an_account_that_nothing_is_to_be_removed_from_goes_at_once() {
    let stage = Stage::set().await;
    stage.credential("sales-eu", json!({})).await;
    stage.wait_until_ready("sales-eu").await;
    let accounts = stage.api::<WoodpeckerAccount>();
    accounts.delete("agency", &DeleteParams::default()).await.unwrap();
    assert!(accounts.get_opt("agency").await.unwrap().is_none());
    stage.wait_for("sales-eu", ConditionType::Registered, ConditionStatus::False, "AccountNotFound").await;
}

#[tokio::test]
async fn a_terminating_namespace_lets_its_account_go_in_the_end() {
    let stage = Stage::set().await;
    stage.credential("sales-eu", json!({"deletionPolicy": "Delete"})).await;
    stage.wait_until_ready("sales-eu").await;
    stage.woodpecker.fail_always(Op::Delete, Fault::Html502);
    stage.delete_namespace().await;
    stage.delete("sales-eu").await;
    stage.api::<WoodpeckerAccount>().delete("agency", &DeleteParams::default()).await.unwrap();
    stage.wait_until_gone("sales-eu").await;
    eventually("the account is gone", || async {
        let found =
            stage.api::<WoodpeckerAccount>().get_opt("agency").await.map_err(|error| error.to_string())?;
        found.map_or(Ok(()), |found| Err(format!("{found:#?}\n{}", stage.log())))
    })
    .await;
    assert_eq!(stage.remote().len(), 1);
}

#[tokio::test]
async fn a_deletion_waits_for_an_account_that_is_gone_until_told_to_retain() {
    let stage = Stage::set().await;
    stage.credential("sales-eu", json!({"deletionPolicy": "Delete"})).await;
    stage.wait_until_ready("sales-eu").await;
    let accounts = stage.api::<WoodpeckerAccount>();
    wait_until_held(&stage).await;
    accounts.delete("agency", &DeleteParams::default()).await.unwrap();
    // By force.
    let none = kube::api::Patch::Merge(json!({"metadata": {"finalizers": null}}));
    accounts.patch("agency", &kube::api::PatchParams::default(), &none).await.unwrap();
    stage.delete("sales-eu").await;
    stage
        .wait_until("sales-eu", "AccountNotFound with the way out", |object| {
            let registered = condition(object, ConditionType::Registered);
            registered
                .is_some_and(|found| found.reason == "AccountNotFound" && found.message.contains("Retain"))
        })
        .await;
    stage.apply_account("agency", json!({})).await;
    stage.wait_until_gone("sales-eu").await;
    assert_eq!(stage.remote().len(), 0);
}

#[tokio::test]
async fn a_policy_changed_to_delete_counts_even_while_the_secret_is_broken() {
    let stage = Stage::set().await;
    stage.credential("sales-eu", json!({})).await;
    stage.wait_until_ready("sales-eu").await;
    stage.delete_secret("sales-eu-graph").await;
    stage.wait_for("sales-eu", ConditionType::SourceReady, ConditionStatus::False, "SecretNotFound").await;
    stage.credential("sales-eu", json!({"deletionPolicy": "Delete"})).await;
    stage.wait_until("sales-eu", "the finalizer", |object| object.metadata.finalizers.is_some()).await;
    stage.delete("sales-eu").await;
    stage.wait_until_gone("sales-eu").await;
    assert_eq!(stage.remote().len(), 0);
}

#[tokio::test]
async fn a_key_of_another_account_deletes_nothing_there() {
    let stage = Stage::set().await;
    stage.credential("sales-eu", json!({"deletionPolicy": "Delete"})).await;
    let id = stage.wait_until_ready("sales-eu").await.status.unwrap().credential_id.unwrap();
    stage.woodpecker.add_account("stranger", "1234.key-of-a-stranger");
    let theirs = "00000000-0000-4000-8000-000000000001";
    let mut held = Credential::new(TENANT, theirs, "theirs", EXPIRY, "theirs");
    held.credential_id = id;
    stage.woodpecker.put("stranger", held);
    stage.secret("agency-key", &[("api_key", "1234.key-of-a-stranger")]).await;
    eventually("the other key is in use", || async {
        if stage.woodpecker.lists("stranger") > 0 { Ok(()) } else { Err(stage.log()) }
    })
    .await;
    stage.delete("sales-eu").await;
    let object = stage
        .wait_for("sales-eu", ConditionType::Registered, ConditionStatus::False, "AccountNotReady")
        .await;
    assert!(message(&object, ConditionType::Registered).contains("another account"));
    assert_eq!(stage.woodpecker.credentials("stranger").len(), 1);
    assert_eq!(stage.woodpecker.writes("stranger"), 0);
    stage.secret("agency-key", &[("api_key", crate::stage::API_KEY)]).await;
    stage.wait_until_gone("sales-eu").await;
    assert_eq!(stage.remote().len(), 0);
}

#[tokio::test]
async fn a_deletion_needs_no_right_to_read_namespaces() {
    let mut stage = Stage::bare().await;
    stage.limit_operator(&["get"]).await;
    stage.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    stage.account("agency", json!({})).await;
    stage.start_operator().await;
    stage.credential("sales-eu", json!({"deletionPolicy": "Delete"})).await;
    stage.wait_until_ready("sales-eu").await;
    stage.delete("sales-eu").await;
    stage.wait_until_gone("sales-eu").await;
    assert_eq!(stage.remote().len(), 0);
    assert!(stage.log().contains("grant its ServiceAccount get on namespaces"), "{}", stage.log());
}
