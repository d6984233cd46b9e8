//! An operator that serves fewer namespaces than before: what would wait for it there is named, and let go.

use graph_credential_operator::resources::MicrosoftGraphCredential;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::PostParams;
use kube::{Api, ResourceExt};
use serde_json::json;

use super::scene::Scene;
use crate::stage::{EXPIRY, Stage, eventually, prepare};

const WORDS: &str = "in a namespace that it does not serve";

#[tokio::test]
async fn a_namespace_that_is_served_no_more_is_named_and_let_go_by_the_command_of_the_docs() {
    let cluster: &'static kit::cluster::Cluster =
        Box::leak(Box::new(kit::cluster::Cluster::start().await.unwrap()));
    prepare(cluster).await;
    let mut stage = Stage::on(cluster).await;
    let own = stage.namespace.clone();
    let mail = serde_json::from_value(json!({"metadata": {"name": "mail"}})).unwrap();
    Api::<Namespace>::all(stage.client.clone()).create(&PostParams::default(), &mail).await.unwrap();
    stage.extra_args = vec!["--watch-namespace=mail".into()];
    stage.start_operator().await;
    "mail".clone_into(&mut stage.namespace);
    stage.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    stage.account("agency", json!({})).await;
    stage.credential("sales-eu", json!({"deletionPolicy": "Delete"})).await;
    stage.wait_until_ready("sales-eu").await;
    assert!(!stage.log().contains(WORDS), "{}", stage.log());
    stage.stop_operator().await;

    own.clone_into(&mut stage.namespace);
    stage.extra_args.clear();
    stage.start_operator().await;
    eventually("the namespace is named", || async {
        let log = stage.log();
        let line = log.lines().find(|line| line.contains(WORDS)).map(str::to_owned);
        line.filter(|line| line.contains("--namespace mail") && line.contains("\"objects\":2")).ok_or(log)
    })
    .await;

    let credentials: Api<MicrosoftGraphCredential> = Api::namespaced(stage.client.clone(), "mail");
    assert_eq!(credentials.get("sales-eu").await.unwrap().finalizers().len(), 1);
    let name = "a_namespace_that_is_served_no_more_is_named_and_let_go_by_the_command_of_the_docs";
    let mut scene = Scene::set(name, stage, &[]).await;
    let printed = scene.section("docs/install.md", "Serving fewer namespaces").await;
    assert!(printed.out.contains("released MicrosoftGraphCredential mail/sales-eu"), "{printed:?}");
    assert_eq!(credentials.get("sales-eu").await.unwrap().finalizers(), [""; 0]);
    assert_eq!(scene.stage.remote().len(), 1, "what is registered stays");
    scene.stage.stop_operator().await;
    scene.stage.start_operator().await;
    assert!(!scene.stage.log().contains(WORDS), "{}", scene.stage.log());
    scene.end();
}
