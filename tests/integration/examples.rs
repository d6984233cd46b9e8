//! `examples/`: the API server accepts every object of Kubernetes and of the operator, with the admission policies in force.
//! Objects of other projects, whose CRDs are not installed, are parsed only.

use std::path::{Path, PathBuf};

use kit::helm::parse;
use kit::shell::{CommandOutput, Shell};
use serde_json::{Value, json};

use crate::gitops::blocks;
use crate::harness::eventually;

/// API groups that the test's API server serves; the core group has no name.
const SERVED: [&str; 4] = ["", "batch", "rbac.authorization.k8s.io", "graph-credentials.io"];

/// Kinds of files for other tools, which have no API version and kind of Kubernetes.
const NO_OBJECTS: [&str; 4] = [".sops.yaml", "Chart.yaml", "values.yaml", "clients"];

/// The API group of an object.
fn group(object: &Value) -> &str {
    let version = object["apiVersion"].as_str().unwrap_or_else(|| panic!("no API version: {object:#}"));
    version.split_once('/').map_or("", |(group, _)| group)
}

/// Every YAML file below `examples` with objects, except for the templates of the chart.
fn files() -> Vec<PathBuf> {
    let (mut found, mut unread) = (Vec::new(), vec![kit::workspace().join("examples")]);
    while let Some(path) = unread.pop() {
        if NO_OBJECTS.iter().any(|name| path.ends_with(name)) || path.ends_with("templates") {
            continue;
        }
        if path.is_dir() {
            unread.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|it| it == "yaml") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn objects(path: &Path) -> Vec<Value> {
    parse(&std::fs::read_to_string(path).unwrap())
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A shell with kubectl on a cluster of its own, in which the chart's admission policies are in force.
async fn with_policies() -> Shell {
    let cluster = crate::harness::own_cluster().await;
    let program = Path::new(env!("CARGO_BIN_EXE_graph-credential-operator"));
    let shell = Shell::open(program, &cluster.kubeconfig_path()).unwrap();
    let applied = shell.run("kubectl apply --server-side --filename deploy/prerequisites.yaml", "").unwrap();
    assert!(applied.is_success(), "{applied:?}");
    let established = "kubectl wait crd --all --for=condition=Established --timeout=60s";
    assert!(shell.run(established, "").unwrap().is_success());
    shell
}

/// Creates objects as `kubectl apply --server-side` does. An unknown field is an error.
fn apply(shell: &Shell, objects: &[Value], more: &str) -> CommandOutput {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    let command = format!("kubectl apply --server-side --validate=strict --filename - {more}");
    shell.run(&command, &list.to_string()).unwrap()
}

/// Creates the operator's namespace, with the rights by which the policy of identities recognizes it.
fn let_operator_work_in(shell: &Shell, namespace: &str) {
    for command in [
        format!("kubectl create namespace {namespace}"),
        format!(
            "kubectl create clusterrolebinding operator --clusterrole cluster-admin --serviceaccount {namespace}:graph-credential-operator"
        ),
    ] {
        let created = shell.run(&command, "").unwrap();
        assert!(created.is_success(), "{created:?}");
    }
}

/// Namespaces before what is in them.
fn in_order(mut objects: Vec<Value>) -> Vec<Value> {
    objects.sort_by_key(|object| object["kind"] != "Namespace");
    objects
}

#[tokio::test]
async fn every_object_of_the_examples_is_created_on_the_api_server() {
    let shell = with_policies().await;
    let every: Vec<(PathBuf, Vec<Value>)> =
        files().into_iter().map(|path| (path.clone(), objects(&path))).collect();
    let is_served = |object: &&Value| SERVED.contains(&group(object));
    let (mut created, mut parsed) = (0, 0);
    let namespaces: Vec<Value> = every
        .iter()
        .flat_map(|(_, objects)| objects)
        .filter(|object| object["kind"] == "Namespace")
        .cloned()
        .collect();
    assert!(apply(&shell, &namespaces, "").is_success());
    let_operator_work_in(&shell, "graph-credentials");
    for (path, objects) in &every {
        for object in objects {
            assert!(object["kind"].is_string(), "{}: {object:#}", path.display());
        }
        let served: Vec<Value> = objects.iter().filter(is_served).cloned().collect();
        parsed += objects.len() - served.len();
        created += served.len();
        // kubectl does not accept an empty list.
        if served.is_empty() {
            continue;
        }
        let applied = apply(&shell, &served, "--force-conflicts");
        assert!(applied.is_success(), "{}: {applied:?}", path.display());
    }
    assert!(created >= 15 && parsed >= 10, "{created} created, {parsed} parsed");

    let kustomized = shell.run("kubectl apply --kustomize examples/one-team --dry-run=server", "").unwrap();
    assert!(kustomized.is_success() && kustomized.out.lines().count() == 3, "{kustomized:?}");
}

#[tokio::test]
async fn the_chart_of_the_examples_renders_clients_that_the_api_server_accepts() {
    let shell = with_policies().await;
    let agency = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "agency"}});
    assert!(apply(&shell, &[agency], "").is_success());
    let mut clients = 0;
    for entry in std::fs::read_dir(kit::workspace().join("examples/per-client/clients")).unwrap() {
        let file = entry.unwrap().file_name();
        let file = file.to_str().unwrap();
        let command = format!(
            "helm template client examples/per-client/chart --values examples/per-client/clients/{file}"
        );
        let rendered = shell.run(&command, "").unwrap();
        assert!(rendered.is_success(), "{rendered:?}");
        let (served, foreign): (Vec<Value>, Vec<Value>) =
            parse(&rendered.out).unwrap().into_iter().partition(|object| SERVED.contains(&group(object)));
        let credentials = served.iter().filter(|object| object["kind"] == "MicrosoftGraphCredential");
        let secrets: Vec<&Value> = credentials.map(|object| &object["spec"]["secretRef"]["name"]).collect();
        let targets: Vec<&Value> = foreign.iter().map(|object| &object["spec"]["target"]["name"]).collect();
        assert!(!secrets.is_empty() && secrets == targets, "{secrets:?} {targets:?}");
        let applied = apply(&shell, &in_order(served), "");
        assert!(applied.is_success(), "{file}: {applied:?}");
        clients += 1;
    }
    assert_eq!(clients, 2);
    let bare = shell.run("helm template client examples/per-client/chart", "").unwrap();
    assert!(!bare.is_success() && bare.error.contains("name"), "{bare:?}");
}

#[tokio::test]
async fn the_deployer_of_a_client_may_use_the_account_only_with_the_role_of_the_agency() {
    let shell = with_policies().await;
    let folder = kit::workspace().join("examples/agency");
    let mut rest = in_order(
        [objects(&folder.join("agency.yaml")), objects(&folder.join("client-contoso.yaml"))].concat(),
    );
    let credential = objects(&folder.join("credential-contoso.yaml"));
    let permission = rest
        .iter()
        .position(|object| object["kind"] == "RoleBinding" && object["metadata"]["name"] == "use-contoso")
        .map(|position| rest.remove(position))
        .expect("the example has the binding");
    let namespaces: Vec<Value> =
        rest.iter().filter(|object| object["kind"] == "Namespace").cloned().collect();
    assert!(apply(&shell, &namespaces, "").is_success());
    let applied = apply(&shell, &rest, "--force-conflicts");
    assert!(applied.is_success(), "{applied:?}");

    let deployer = "--as=system:serviceaccount:client-contoso:deployer";
    // The API server applies policies and roles a moment after they were created. Until then, it accepts the credential.
    let delete = "kubectl delete mgc sales --namespace client-contoso --ignore-not-found";
    eventually("the credential is denied without the role", || async {
        assert!(shell.run(delete, "").unwrap().is_success());
        let denied = apply(&shell, &credential, deployer);
        if denied.error.contains("may not use WoodpeckerAccount") {
            Ok(())
        } else {
            Err(format!("{denied:?}"))
        }
    })
    .await;
    assert!(apply(&shell, &[permission], "").is_success());
    eventually("the credential is accepted with it", || async {
        let accepted = apply(&shell, &credential, deployer);
        if accepted.is_success() { Ok(()) } else { Err(format!("{accepted:?}")) }
    })
    .await;
}

#[test]
fn sources_deliver_the_keys_that_the_operator_reads() {
    let folder = kit::workspace().join("examples/sources");
    let sops = objects(&folder.join("sops/secret.yaml")).remove(0);
    let mut keys: Vec<&String> = sops["stringData"].as_object().unwrap().keys().collect();
    keys.sort();
    assert_eq!(keys, ["client_secret", "secret_expires_at"]);
    let external = objects(&folder.join("external-secrets/secret.yaml"));
    let external = external.iter().find(|object| object["kind"] == "ExternalSecret").unwrap();
    let entry = json!([{"extract": {"key": "mail/sales-eu"}}]);
    assert_eq!(external["spec"]["dataFrom"], entry, "both are read from one entry, so they change together");
    assert!(external["spec"].get("data").is_none(), "{external:#}");
    let sealed = objects(&folder.join("sealed-secrets/secret.yaml")).remove(0);
    let mut keys: Vec<&String> = sealed["spec"]["encryptedData"].as_object().unwrap().keys().collect();
    keys.sort();
    assert_eq!(keys, ["client_secret", "secret_expires_at"]);
    let credential = objects(&folder.join("credential.yaml")).remove(0);
    assert!(
        credential["spec"].get("secretExpiresAt").is_none(),
        "the expiry comes with the secret: {credential:#}"
    );
}

#[test]
fn the_first_example_is_what_the_guide_shows() {
    let page = kit::workspace().join("docs/tutorials/from-nothing-to-ready.md");
    let shown = blocks(&std::fs::read_to_string(page).unwrap());
    let folder = kit::workspace().join("examples/one-team");
    let files = ["account.yaml", "credential.yaml"].map(|file| objects(&folder.join(file)).remove(0));
    assert_eq!(shown, files);
}
