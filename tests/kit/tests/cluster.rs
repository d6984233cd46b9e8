//! A real cluster: it starts, responds, records its requests, and leaves nothing behind.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs
)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use kit::cluster::{Cluster, Error, User};
use kube::api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::json;

/// Set in the copy of this test binary that is killed.
const PARENT: &str = "KIT_TEST_PARENT";

const CRD: &str = "\
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: things.kit.test}
spec:
  group: kit.test
  scope: Namespaced
  names: {plural: things, singular: thing, kind: Thing}
  versions:
  - name: v1
    served: true
    storage: true
    additionalPrinterColumns:
    - {name: N, type: string, jsonPath: .color}
    - {name: Reason, type: string, jsonPath: .reason, priority: 1}
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
";

#[tokio::test]
async fn objects_are_applied_and_read_back() {
    let cluster = Cluster::shared().await.unwrap();
    let namespace = cluster.create_namespace("objects").await.unwrap();
    let api: Api<ConfigMap> = Api::namespaced(cluster.client().unwrap(), &namespace);
    let map = config_map("one", "value");
    api.patch("one", &PatchParams::apply("test"), &Patch::Apply(&map)).await.unwrap();
    assert_eq!(api.get("one").await.unwrap().data, map.data);
}

#[tokio::test]
async fn namespaces_are_unique() {
    let cluster = Cluster::shared().await.unwrap();
    let (one, two) =
        (cluster.create_namespace("twin").await.unwrap(), cluster.create_namespace("twin").await.unwrap());
    assert!(one.starts_with("twin-") && two.starts_with("twin-") && one != two);
}

#[tokio::test]
async fn the_server_reports_the_pinned_version() {
    let client = Cluster::shared().await.unwrap().client().unwrap();
    let version = client.apiserver_version().await.unwrap();
    assert!(
        fs::read_to_string(kit::workspace().join("tools/go.mod")).unwrap().contains(&version.git_version)
    );
    assert!(version.git_version.starts_with(&format!("v{}.{}.", version.major, version.minor)));
}

#[tokio::test]
async fn a_kubeconfig_file_is_enough_for_a_client() {
    let cluster = Cluster::shared().await.unwrap();
    let client = client_from(&cluster.kubeconfig_path()).await;
    assert!(!Api::<Namespace>::all(client).list(&ListParams::default()).await.unwrap().items.is_empty());
}

#[tokio::test]
async fn the_operator_may_do_nothing_until_rbac_allows_it() {
    let cluster = Cluster::shared().await.unwrap();
    let client = client_from(&cluster.kubeconfig_for(User::Operator)).await;
    let rejected = Api::<Secret>::all(client).list(&ListParams::default()).await.unwrap_err();
    assert!(rejected.to_string().contains(r#"User "operator" cannot list resource "secrets""#), "{rejected}");
}

#[tokio::test]
async fn a_service_account_gets_a_token() {
    let cluster = Cluster::shared().await.unwrap();
    let namespace = cluster.create_namespace("account").await.unwrap();
    let client = cluster.client().unwrap();
    let accounts: Api<k8s_openapi::api::core::v1::ServiceAccount> = Api::namespaced(client, &namespace);
    let account = serde_json::from_value(json!({"metadata": {"name": "robot"}})).unwrap();
    accounts.create(&PostParams::default(), &account).await.unwrap();
    let request = serde_json::from_value(json!({"spec": {"audiences": []}})).unwrap();
    let token = accounts.create_token_request("robot", &PostParams::default(), &request).await.unwrap();
    let path = cluster.kubeconfig_with_token("robot", &token.status.unwrap().token).unwrap();
    let rejected =
        Api::<Secret>::all(client_from(&path).await).list(&ListParams::default()).await.unwrap_err();
    assert!(rejected.to_string().contains(&format!("system:serviceaccount:{namespace}:robot")), "{rejected}");
}

#[tokio::test]
async fn the_audit_log_has_each_request_once() {
    let cluster = Cluster::shared().await.unwrap();
    let namespace = cluster.create_namespace("audit").await.unwrap();
    let api: Api<ConfigMap> = Api::namespaced(cluster.client().unwrap(), &namespace);
    api.create(&PostParams::default(), &config_map("before", "")).await.unwrap();
    let mark = cluster.audit_mark().unwrap();
    for number in 0..50 {
        api.create(&PostParams::default(), &config_map(&format!("map-{number}"), "")).await.unwrap();
        let seen = cluster.audit_since(mark).unwrap();
        let own =
            seen.iter().filter(|entry| entry.is_write() && entry.namespace.as_ref() == Some(&namespace));
        let writes = own.filter(|entry| entry.code == Some(201));
        assert_eq!(writes.count(), number + 1);
    }
    api.create(&PostParams::default(), &config_map("map-0", "")).await.unwrap_err();
    let all = cluster.audit().unwrap();
    let named = |name: &str| {
        let entries = all.iter().filter(|entry| entry.name.as_deref() == Some(name));
        entries.filter(|entry| entry.namespace.as_ref() == Some(&namespace)).collect::<Vec<_>>()
    };
    assert_eq!(named("before").len(), 1);
    let [created, rejected] = named("map-0")[..] else { panic!("{:?}", named("map-0")) };
    assert_eq!((created.code, rejected.code), (Some(201), Some(409)));
    assert_eq!(
        (created.verb.as_str(), created.resource.as_str(), created.user.as_str()),
        ("create", "configmaps", "admin")
    );
    assert!(created.time <= rejected.time);
}

#[tokio::test]
async fn crds_are_served_when_apply_returns() {
    let cluster = Cluster::shared().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("things.yaml"), CRD).unwrap();
    fs::write(dir.path().join("README.md"), "not YAML: {").unwrap();
    assert_eq!(cluster.apply_crds(dir.path()).await.unwrap(), ["things.kit.test"]);

    let (one, two) =
        (cluster.create_namespace("crd").await.unwrap(), cluster.create_namespace("crd").await.unwrap());
    let resource = ApiResource::from_gvk(&kube::api::GroupVersionKind::gvk("kit.test", "v1", "Thing"));
    for (namespace, name, color) in [(&one, "a", "red"), (&two, "bigger", "ultramarine")] {
        let api: Api<DynamicObject> = Api::namespaced_with(cluster.client().unwrap(), namespace, &resource);
        let thing = DynamicObject::new(name, &resource).data(json!({"color": color, "reason": "Because"}));
        api.create(&PostParams::default(), &thing).await.unwrap();
    }
    let wide = cluster.table("/apis/kit.test/v1/things", true).await.unwrap();
    let expected = format!(
        "NAMESPACE   NAME     N             REASON\n{one}   a        red           Because\n{two}   bigger   ultramarine   Because\n"
    );
    let mut lines: Vec<&str> = wide.lines().collect();
    let mut expected: Vec<&str> = expected.lines().collect();
    lines[1..].sort_unstable();
    expected[1..].sort_unstable();
    assert_eq!(lines, expected);
    let narrow = cluster.table(&format!("/apis/kit.test/v1/namespaces/{one}/things/a"), false).await.unwrap();
    assert_eq!(narrow, "NAME   N\na      red\n");
}

#[tokio::test]
async fn a_directory_without_crds_is_rejected() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::shared().await.unwrap();
    assert!(matches!(cluster.apply_crds(dir.path()).await, Err(Error::Crds { .. })));
    fs::write(dir.path().join("map.yaml"), "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: map}\n")
        .unwrap();
    let error = cluster.apply_crds(dir.path()).await.unwrap_err();
    assert!(error.to_string().contains("map is not a CRD"), "{error}");
}

#[tokio::test]
async fn two_clusters_are_independent() {
    let (one, two) = tokio::join!(Cluster::start(), Cluster::start());
    let (one, two) = (one.unwrap(), two.unwrap());
    let namespace = one.create_namespace("mine").await.unwrap();
    assert_ne!(one.etcd_url(), two.etcd_url());
    let other_namespaces: Api<Namespace> = Api::all(two.client().unwrap());
    assert!(other_namespaces.get_opt(&namespace).await.unwrap().is_none());

    let dirs = [one.dir().to_path_buf(), two.dir().to_path_buf()];
    let pids = [one.etcd().pid(), one.apiserver().pid(), two.etcd().pid(), two.apiserver().pid()];
    one.stop().await.unwrap();
    two.stop().await.unwrap();
    assert!(dirs.iter().all(|dir| !dir.exists()));
    assert!(pids.iter().all(|pid| !is_running(*pid)));
}

#[test]
fn nothing_remains_of_a_killed_test() {
    let mut parent = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "parent", "--nocapture"])
        .env(PARENT, "yes")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(parent.stdout.take().unwrap()).lines().map_while(Result::ok);
    let line = lines.find_map(|line| line.strip_prefix("cluster ").map(str::to_owned)).unwrap();
    let [etcd, apiserver, dir] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
    let pids: [u32; 2] = [etcd, apiserver].map(|pid| pid.parse().unwrap());
    assert!(Path::new(dir).is_dir() && pids.iter().all(|pid| is_running(*pid)));

    kill_process(Pid::from_child(&parent), Signal::KILL).unwrap();
    parent.wait().unwrap();
    let start = Instant::now();
    while Path::new(dir).exists() || pids.iter().any(|pid| is_running(*pid)) {
        assert!(start.elapsed() < Duration::from_secs(20), "{line} is still there");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Not a test of its own: the parent in the test above.
#[tokio::test]
async fn parent() {
    if std::env::var_os(PARENT).is_none() {
        return;
    }
    let cluster = Cluster::start().await.unwrap();
    println!("\ncluster {} {} {}", cluster.etcd().pid(), cluster.apiserver().pid(), cluster.dir().display());
    std::future::pending::<()>().await;
}

fn config_map(name: &str, value: &str) -> ConfigMap {
    let mut map =
        ConfigMap { data: Some(BTreeMap::from([("key".into(), value.into())])), ..ConfigMap::default() };
    map.metadata.name = Some(name.to_owned());
    map
}

async fn client_from(path: &PathBuf) -> Client {
    let options = KubeConfigOptions::default();
    let mut config =
        kube::Config::from_custom_kubeconfig(Kubeconfig::read_from(path).unwrap(), &options).await.unwrap();
    config.proxy_url = None;
    Client::try_from(config).unwrap()
}

fn is_running(pid: u32) -> bool {
    test_kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap()).is_ok()
}
