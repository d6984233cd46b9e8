//! `helm test` with the real helm, while the test acts as the node of the pod: its rights are enough for what it checks,
//! and exist only while it runs.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use kit::cluster::Cluster;
use kit::helm::Error;
use kube::Client;
use kube::api::{Patch, PatchParams};
use serde::de::DeserializeOwned;
use tokio::task::JoinHandle;

use super::check::found;
use super::release::{NAME, NAMESPACE, start, token};
use super::*;
use crate::admin_cli::CommandOutput;

/// The pod, and everything else that it needs.
const CHECK: &str = "graph-credential-operator-check";

/// A run of `helm test` whose command has ended. Its pod has not yet.
struct Test {
    helm: JoinHandle<Result<String, Error>>,
    pods: Api<Pod>,
    printed: CommandOutput,
}

// === impl Test ===

impl Test {
    async fn start(release: &Release) -> Self {
        let helm = release.begin("test");
        let pods: Api<Pod> = Api::namespaced(release.env.client.clone(), NAMESPACE);
        let printed = run_pod(&release.env.client, release.env.cluster, &pods).await;
        Self { helm, pods, printed }
    }

    /// Ends the pod as its node would, and waits for helm.
    async fn end(self) -> Result<String, Error> {
        let phase = if self.printed.code == Some(0) { "Succeeded" } else { "Failed" };
        let status = Patch::Merge(json!({"status": {"phase": phase}}));
        self.pods.patch_status(CHECK, &PatchParams::default(), &status).await.unwrap();
        self.helm.await.unwrap()
    }
}

/// Runs the command of the pod, once it is there, with the token of its ServiceAccount.
pub async fn run_pod(client: &Client, cluster: &'static Cluster, pods: &Api<Pod>) -> CommandOutput {
    let pod = eventually("the test's pod exists", || async {
        let pod = pods.get_opt(CHECK).await.unwrap().ok_or_else(|| "not yet".to_owned())?;
        let phase = pod.status.as_ref().and_then(|status| status.phase.clone()).unwrap_or_default();
        // One that has ended is of an earlier test.
        if phase == "Pending" { Ok(pod) } else { Err(phase) }
    })
    .await;
    let log = cluster.dir().join(format!("check-{}.log", pod.uid().unwrap()));
    let spec = pod.spec.unwrap();
    let kubeconfig = token(client, cluster, &spec.service_account_name.unwrap()).await;
    let command = start(&spec.containers[0], kubeconfig, log).await;
    let exit = command.wait(Duration::from_mins(1)).await.unwrap();
    CommandOutput { code: Some(exit.code()), out: command.log(), error: String::new() }
}

/// The kinds of objects of the test that exist.
async fn left(client: &Client) -> Vec<&'static str> {
    async fn is_left<K: Clone + DeserializeOwned + std::fmt::Debug>(api: Api<K>) -> bool {
        api.get_opt(CHECK).await.unwrap().is_some()
    }
    let namespaced = NAMESPACE;
    let all = [
        ("ClusterRole", is_left(Api::<ClusterRole>::all(client.clone())).await),
        ("ClusterRoleBinding", is_left(Api::<ClusterRoleBinding>::all(client.clone())).await),
        ("Role", is_left(Api::<Role>::namespaced(client.clone(), namespaced)).await),
        ("RoleBinding", is_left(Api::<RoleBinding>::namespaced(client.clone(), namespaced)).await),
        ("ServiceAccount", is_left(Api::<ServiceAccount>::namespaced(client.clone(), namespaced)).await),
        ("Pod", is_left(Api::<Pod>::namespaced(client.clone(), namespaced)).await),
    ];
    all.into_iter().filter(|(_, is_left)| *is_left).map(|(kind, _)| kind).collect()
}

/// Runs `helm test` on an installation of that profile, whose operator leads.
pub async fn passes(release: &Release, profile: Profile) {
    let test = Test::start(release).await;
    let printed = &test.printed;
    assert_eq!(printed.code, Some(0), "{printed:?}");
    // Without a ClusterRole it sees nothing outside the operator's namespace.
    let of_cluster = if profile == Profile::Roles { "unknown" } else { "ok" };
    for (name, result) in [
        ("API server", "ok"),
        ("CRDs", "ok"),
        ("other operators", of_cluster),
        ("admission policies", of_cluster),
        ("leader", "ok"),
        ("keyring", "unknown"),
        ("rights", of_cluster),
        ("Microsoft", "ok"),
        ("Woodpecker", "ok"),
    ] {
        assert!(found(printed, name).starts_with(result), "{name}: {printed:?}");
    }
    // Checked now, because the roles are about to be deleted.
    assert_eq!(release.unused_rights(CHECK).await, [""; 0], "granted to the test, and never used");
    if profile != Profile::Roles {
        let keyring = format!("get secrets {NAMESPACE}/graph-credential-operator-keyring");
        assert_eq!(release.refused_to(CHECK), [keyring]);
    }
    test.end().await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(left(&release.env.client).await, [""; 0]);
}

#[tokio::test]
async fn helm_test_fails_without_a_leader_and_passes_once_there_is_one() {
    let mut release = Release::install(|_| json!({})).await;
    let client = release.env.client.clone();
    let test = Test::start(&release).await;
    assert_eq!(test.printed.code, Some(3), "{:?}", test.printed);
    let leader = found(&test.printed, "leader");
    assert!(leader.contains("there is no Lease graph-credentials/graph-credential-operator"), "{leader}");
    let error = test.end().await.expect_err("the pod failed").to_string();
    assert!(error.contains(CHECK), "{error}");
    assert_eq!(left(&client).await, ["Pod"], "its log can be read, and nobody has its rights");

    release.start_operator().await;
    let leases: Api<Lease> = Api::namespaced(client.clone(), NAMESPACE);
    eventually("the operator leads", || async {
        let lease = leases.get_opt(NAME).await.unwrap();
        if lease.is_some() { Ok(()) } else { Err(release.env.log()) }
    })
    .await;
    passes(&release, Profile::Cluster).await;

    release.env.stop_operator().await;
    let test = Test::start(&release).await;
    assert_eq!(test.printed.code, Some(3), "{:?}", test.printed);
    assert!(found(&test.printed, "leader").contains("nobody holds Lease"), "{:?}", test.printed);
    test.end().await.expect_err("the pod failed");
}
