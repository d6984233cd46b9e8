//! A release from its install to the next one: applied without helm, uninstalled with a failing hook, and installed again.

use std::path::Path;
use std::sync::Arc;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use kit::cluster::Cluster;
use kit::shell::{CommandOutput, Shell};
use kube::Client;
use serde::de::DeserializeOwned;

use super::helm_test::run_pod;
use super::release::{NAMESPACE, fail_a_hook, run_a_hook};
use super::*;

const UNINSTALL: &str =
    "helm uninstall graph-credential-operator --namespace graph-credentials --timeout 60s";
const HOOK: &str = "graph-credential-operator-remove-finalizers";

/// A shell with helm and kubectl on a cluster of its own.
struct Fixture {
    cluster: &'static Cluster,
    client: Client,
    shell: Arc<Shell>,
}

// === impl Fixture ===

impl Fixture {
    async fn start() -> Self {
        let cluster = crate::harness::own_cluster().await;
        let program = Path::new(env!("CARGO_BIN_EXE_graph-credential-operator"));
        let shell = tokio::task::spawn_blocking(move || Shell::open(program, &cluster.kubeconfig_path()));
        Self { cluster, client: cluster.client().unwrap(), shell: shell.await.unwrap().unwrap().into() }
    }

    async fn output(&self, command: &str) -> CommandOutput {
        let (shell, command) = (self.shell.clone(), command.to_owned());
        tokio::task::spawn_blocking(move || shell.run(&command, "").unwrap()).await.unwrap()
    }

    async fn run(&self, command: &str) {
        let printed = self.output(command).await;
        assert!(printed.is_success(), "{command}: {printed:?}");
    }

    async fn replicas(&self) -> Option<i32> {
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), NAMESPACE);
        deployments.get("graph-credential-operator").await.unwrap().spec.unwrap().replicas
    }

    async fn has<K>(&self, api: Api<K>) -> bool
    where
        K: Clone + DeserializeOwned + std::fmt::Debug,
    {
        api.get_opt(HOOK).await.unwrap().is_some()
    }
}

#[tokio::test]
async fn the_hooks_do_nothing_if_the_chart_was_applied_without_helm() {
    let fixture = Fixture::start().await;
    fixture.run("kubectl create namespace graph-credentials").await;
    // Without --no-hooks, which runs the hook's Job and the test's pod at once.
    fixture
        .run(
            "helm template graph-credential-operator deploy/chart --namespace graph-credentials > rendered.yaml && \
             kubectl apply --server-side -f rendered.yaml",
        )
        .await;
    assert_eq!(fixture.replicas().await, Some(2));
    let printed = run_a_hook(fixture.client.clone(), fixture.cluster).await;
    assert!(printed.contains("was not installed by helm as release"), "{printed}");
    assert!(!printed.contains("removed the finalizers"), "{printed}");
    assert_eq!(fixture.replicas().await, Some(2), "the operator keeps running");
    let pods = Api::namespaced(fixture.client.clone(), NAMESPACE);
    let printed = run_pod(&fixture.client, fixture.cluster, &pods).await;
    assert!(printed.code == Some(0) && printed.out.contains("nothing was checked"), "{printed:?}");
    assert!(!printed.out.contains("CHECK"), "{printed:?}");
}

#[tokio::test]
async fn an_uninstall_with_a_failing_hook_changes_nothing_and_leaves_no_rights_of_the_hook() {
    let fixture = Fixture::start().await;
    let client = fixture.client.clone();
    fixture
        .run("helm install graph-credential-operator deploy/chart --namespace graph-credentials --create-namespace")
        .await;
    let (ended, ()) = tokio::join!(fixture.output(UNINSTALL), fail_a_hook(&client));
    assert!(!ended.is_success(), "{ended:?}");
    let namespaced = NAMESPACE;
    assert!(!fixture.has(Api::<ClusterRole>::all(client.clone())).await);
    assert!(!fixture.has(Api::<ClusterRoleBinding>::all(client.clone())).await);
    assert!(!fixture.has(Api::<Role>::namespaced(client.clone(), namespaced)).await);
    assert!(!fixture.has(Api::<RoleBinding>::namespaced(client.clone(), namespaced)).await);
    assert!(!fixture.has(Api::<ServiceAccount>::namespaced(client.clone(), namespaced)).await);
    assert!(fixture.has(Api::<Job>::namespaced(client.clone(), namespaced)).await, "its log can be read");
    assert_eq!(fixture.replicas().await, Some(2));

    let again = tokio::spawn(run_a_second_hook(client.clone(), fixture.cluster));
    fixture.run(UNINSTALL).await;
    again.await.unwrap();
    let deployments: Api<Deployment> = Api::namespaced(client, NAMESPACE);
    assert!(deployments.list(&ListParams::default()).await.unwrap().items.is_empty());
}

/// Runs the hook of a second uninstall, once helm has replaced the Job of the first one.
async fn run_a_second_hook(client: Client, cluster: &'static Cluster) -> String {
    let jobs: Api<Job> = Api::namespaced(client.clone(), NAMESPACE);
    eventually("helm replaces the failed Job", || async {
        let job = jobs.get_opt(HOOK).await.unwrap();
        let is_new = job.is_some_and(|job| job.status.is_none_or(|status| status.failed.is_none()));
        if is_new { Ok(()) } else { Err("not yet".to_owned()) }
    })
    .await;
    run_a_hook(client, cluster).await
}

#[tokio::test]
async fn a_release_of_another_name_takes_over_what_an_uninstall_kept() {
    let fixture = Fixture::start().await;
    let install = |name: &str, more: &str| {
        format!("helm install {name} deploy/chart --namespace {name}-system --create-namespace {more}")
    };
    fixture.run(&install("first", "")).await;
    // Two releases live side by side; one of them has the CRDs.
    fixture.run(&install("second", "--set crds.enabled=false")).await;
    fixture.run("helm uninstall first --namespace first-system --no-hooks").await;
    let rejected = fixture.output(&install("third", "")).await;
    assert!(!rejected.is_success() && rejected.error.contains("invalid ownership metadata"), "{rejected:?}");
    fixture.run(&install("third", "--take-ownership")).await;
    let crds: Api<CustomResourceDefinition> = Api::all(fixture.client.clone());
    let crds = crds.list(&ListParams::default()).await.unwrap().items;
    assert_eq!(crds.len(), 5);
    for crd in crds {
        assert_eq!(crd.annotations()["meta.helm.sh/release-name"], "third");
    }
}

#[tokio::test]
async fn a_release_of_an_older_chart_is_upgraded_and_keeps_its_own_values() {
    let fixture = Fixture::start().await;
    // An older chart, without the values at the end.
    fixture
        .run(
            "cp -r deploy/chart older && \
             sed '/^networkPolicy:/,$d' deploy/chart/values.yaml > older/values.yaml",
        )
        .await;
    let release = "graph-credential-operator";
    fixture
        .run(&format!(
            "helm install {release} older --namespace {NAMESPACE} --create-namespace --set replicaCount=3"
        ))
        .await;
    for how in ["--reset-then-reuse-values", "--reuse-values"] {
        fixture.run(&format!("helm upgrade {release} deploy/chart --namespace {NAMESPACE} {how}")).await;
        assert_eq!(fixture.replicas().await, Some(3), "{how}");
    }
}
