//! Without helm: what is deleted with the manifests, and what stays.

use graph_credential_operator::api::WoodpeckerAccount;
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::scenario::Fixture;
use crate::harness::TestEnv;
use crate::installation::release::NAMESPACE;

const FINALIZER: &str = "graph-credentials.io/registration";

/// The names of the product's objects of a kind.
async fn product_objects<K>(client: &Client) -> Vec<String>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let all = Api::<K>::all(client.clone()).list(&ListParams::default()).await.unwrap();
    let names = all.items.iter().map(ResourceExt::name_any);
    names.filter(|name| name.contains("graph-credential")).collect()
}

#[tokio::test]
async fn documented_leftovers_remain_after_the_manifests_are_deleted() {
    let cluster = crate::harness::own_cluster().await;
    let env = TestEnv::on(cluster).await;
    let client = env.client.clone();
    let name = "documented_leftovers_remain_after_the_manifests_are_deleted";
    let mut fixture = Fixture::start(name, env, &[]).await;

    let page = std::fs::read_to_string(kit::workspace().join("docs/tasks/install.md")).unwrap();
    let kustomization =
        page.split("```yaml\n").find(|block| block.contains("resources: [../deploy]")).unwrap();
    let folder = fixture.shell.folder().join("operator");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("kustomization.yaml"), kustomization.split("```").next().unwrap()).unwrap();
    fixture.section("docs/tasks/install.md", "Without helm").await;
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), NAMESPACE);
    let pod =
        deployments.get("graph-credential-operator").await.unwrap().spec.unwrap().template.spec.unwrap();
    let image = pod.containers[0].image.clone().unwrap();
    assert!(image.starts_with("registry.example.com/graph-credential-operator:"), "{image}");
    fixture.section("docs/tasks/install.md", "Of another name").await;
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(client.clone());
    let of_another_name =
        ["mail-graph-credential-operator-own-objects", "mail-graph-credential-operator-own-secrets"];
    for name in of_another_name {
        let own = policies.get(name).await.unwrap().spec.unwrap();
        let condition = &own.match_conditions.unwrap()[0].expression;
        assert!(condition.contains("(mail-graph-credential-operator"), "{condition}");
    }

    // What users and the operator create.
    cluster.apply_crds(kit::workspace().join("crds")).await.unwrap();
    let env = &fixture.env;
    env.account("agency", json!({})).await;
    env.credential("sales-eu", json!({"deletionPolicy": "Delete"})).await;
    let finalizers = Patch::Merge(json!({"metadata": {"finalizers": [FINALIZER]}}));
    let credentials = env.api::<graph_credential_operator::api::MicrosoftGraphCredential>();
    credentials.patch("sales-eu", &PatchParams::default(), &finalizers).await.unwrap();
    let secrets: Api<Secret> = Api::namespaced(client.clone(), NAMESPACE);
    let keyring = json!({"metadata": {"name": "graph-credential-operator-keyring"}});
    secrets.create(&PostParams::default(), &serde_json::from_value(keyring).unwrap()).await.unwrap();

    fixture.section("docs/tasks/install.md", "Without the hook").await;
    assert!(deployments.list(&ListParams::default()).await.unwrap().items.is_empty());
    let of_crds =
        ["accounts", "credentials", "size", "state"].map(|end| format!("graph-credential-operator-{end}"));
    let kept = [of_crds.to_vec(), of_another_name.map(str::to_owned).to_vec()].concat();
    assert_eq!(product_objects::<ValidatingAdmissionPolicy>(&client).await, kept);
    assert_eq!(product_objects::<ValidatingAdmissionPolicyBinding>(&client).await, kept);
    assert_eq!(product_objects::<ClusterRole>(&client).await, ["graph-credential-operator-state-writers"]);
    assert_eq!(product_objects::<CustomResourceDefinition>(&client).await.len(), 5);
    assert_eq!(product_objects::<Namespace>(&client).await, [NAMESPACE]);
    secrets.get("graph-credential-operator-keyring").await.expect("the keyring stays");
    fixture.env.api::<WoodpeckerAccount>().get("agency").await.expect("accounts stay");
    assert_eq!(fixture.env.read("sales-eu").await.finalizers(), [""; 0], "it can be deleted");
    fixture.end();
}
