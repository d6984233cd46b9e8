//! With helm: what it installs, and what stays after the uninstall.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::ListParams;

use super::scenario::Fixture;
use crate::harness::TestEnv;
use crate::installation::release::{NAMESPACE, run_a_hook};

#[tokio::test]
async fn helm_installs_changes_and_uninstalls_as_the_docs_say() {
    let cluster = crate::harness::own_cluster().await;
    let env = TestEnv::on(cluster).await;
    let client = env.client.clone();
    let name = "helm_installs_changes_and_uninstalls_as_the_docs_say";
    let mut fixture = Fixture::start(name, env, &[]).await;
    let again = "helm uninstall graph-credential-operator --namespace graph-credentials --no-hooks";
    fixture.section("README.md", "Install").await;
    assert!(fixture.run(again, "").await.is_success());
    fixture.section("deploy/chart/README.md", "Chart of graph-credential-operator").await;
    assert!(fixture.run(again, "").await.is_success());
    fixture.section("docs/tutorials/quick-start-kind.md", "Install the operator").await;
    assert!(fixture.run(again, "").await.is_success());
    fixture.section("docs/tasks/install.md", "With helm").await;
    fixture.section("examples/README.md", "One team").await;
    fixture.section("examples/README.md", "A chart for each client").await;

    fixture.section("docs/operations/logs.md", "What is logged").await;
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), NAMESPACE);
    let spec = deployments.get("graph-credential-operator").await.unwrap().spec.unwrap();
    let pod = spec.template.spec.unwrap();
    assert!(pod.volumes.unwrap()[0].config_map.is_some(), "the upgrade is of effect");
    assert!(
        pod.containers[0].image.as_deref().unwrap().starts_with("registry.example.com/"),
        "and keeps the rest"
    );

    let hook = tokio::spawn(run_a_hook(client.clone(), cluster));
    fixture.section("docs/tasks/install.md", "Uninstall").await;
    hook.await.unwrap();
    assert!(deployments.list(&ListParams::default()).await.unwrap().items.is_empty());
    let crds: Api<CustomResourceDefinition> = Api::all(client);
    assert_eq!(crds.list(&ListParams::default()).await.unwrap().items.len(), 5);
    fixture.end();
}
