//! An operator that serves fewer namespaces than before: the log names objects that still have its
//! finalizers, and the documented command removes these.

use graph_credential_operator::api::MicrosoftGraphCredential;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::PostParams;
use kube::{Api, ResourceExt};
use serde_json::json;

use super::scenario::Fixture;
use crate::harness::{EXPIRY, TestEnv, eventually, prepare};

const WORDS: &str = "in a namespace that it does not serve";

#[tokio::test]
async fn a_namespace_no_longer_watched_is_reported_and_cleaned_up_as_documented() {
    let cluster = crate::harness::own_cluster().await;
    prepare(cluster).await;
    let mut env = TestEnv::on(cluster).await;
    let own = env.namespace.clone();
    let mail = serde_json::from_value(json!({"metadata": {"name": "mail"}})).unwrap();
    Api::<Namespace>::all(env.client.clone()).create(&PostParams::default(), &mail).await.unwrap();
    env.extra_args = vec!["--watch-namespace=mail".into()];
    env.start_operator().await;
    "mail".clone_into(&mut env.namespace);
    env.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    env.account("agency", json!({})).await;
    env.credential("sales-eu", json!({"deletionPolicy": "Delete"})).await;
    env.wait_until_ready("sales-eu").await;
    assert!(!env.log().contains(WORDS), "{}", env.log());
    env.stop_operator().await;

    own.clone_into(&mut env.namespace);
    env.extra_args.clear();
    env.start_operator().await;
    eventually("the namespace is named", || async {
        let log = env.log();
        let line = log.lines().find(|line| line.contains(WORDS)).map(str::to_owned);
        line.filter(|line| line.contains("--namespace mail") && line.contains("\"objects\":2")).ok_or(log)
    })
    .await;

    let credentials: Api<MicrosoftGraphCredential> = Api::namespaced(env.client.clone(), "mail");
    assert_eq!(credentials.get("sales-eu").await.unwrap().finalizers().len(), 1);
    let name = "a_namespace_no_longer_watched_is_reported_and_cleaned_up_as_documented";
    let mut fixture = Fixture::start(name, env, &[]).await;
    let printed = fixture.section("docs/tasks/install.md", "Serving fewer namespaces").await;
    assert!(
        printed.out.contains("removed the finalizers of MicrosoftGraphCredential mail/sales-eu"),
        "{printed:?}"
    );
    assert_eq!(credentials.get("sales-eu").await.unwrap().finalizers(), [""; 0]);
    assert_eq!(fixture.env.remote().len(), 1, "what is registered stays");
    fixture.env.stop_operator().await;
    fixture.env.start_operator().await;
    assert!(!fixture.env.log().contains(WORDS), "{}", fixture.env.log());
    fixture.end();
}
