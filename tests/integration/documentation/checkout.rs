//! From a checkout of the repository: the steps of a new user, and every command about their results.

use std::net::TcpListener;

use graph_credential_operator::api::MicrosoftGraphCredential;
use graph_credential_operator::api::conditions::{ConditionStatus, ConditionType};
use k8s_openapi::api::core::v1::Secret;
use kit::docs::pages;
use kit::woodpecker::Credential;
use kube::Api;
use serde_json::{Value, json};

use super::scenario::Fixture;
use crate::gitops::blocks;
use crate::harness::{
    API_KEY, EXPIRY, TENANT, TestEnv, address, condition, eventually, plain_spec, send_get,
};
use crate::rest_api::sample;

const OWN: &str = "graph-credentials";

/// A fixture with test doubles of Microsoft and Woodpecker.
async fn with_doubles(name: &'static str) -> Fixture {
    let cluster = crate::harness::own_cluster().await;
    let env = TestEnv::on(cluster).await;
    let variables = [
        ("GCO_MICROSOFT_AUTHORITY", env.entra.url()),
        ("GCO_ALLOWED_WOODPECKER_URLS", env.woodpecker.base_url()),
        ("GCO_DNS_SERVERS", "127.0.0.1:9".into()),
        ("GCO_TIME_SCALE", env.time_scale.to_string()),
        ("GCO_HEALTH_PROBE_BIND_ADDRESS", "127.0.0.1:0".into()),
    ];
    Fixture::start(name, env, &variables).await
}

/// Applies the manifests of the getting-started guide, with secrets in place of the dots.
async fn apply_the_guide(fixture: &Fixture) {
    let page = std::fs::read_to_string(kit::workspace().join("docs/tutorials/getting-started.md")).unwrap();
    let mut objects = blocks(&page);
    for object in &mut objects {
        match object["metadata"]["name"].as_str().unwrap() {
            "agency-key" => object["stringData"]["api_key"] = json!(API_KEY),
            "sales-eu-graph" => object["stringData"]["client_secret"] = json!("s3cret-one"),
            "agency" => object["spec"]["baseUrl"] = json!(fixture.env.woodpecker.base_url()),
            _ => {}
        }
    }
    let store = json!({"destination": {"woodpecker": null, "store": {}}});
    for name in ["sealed-one", "sealed-two"] {
        objects.push(json!({
            "apiVersion": "graph-credentials.io/v1alpha1", "kind": "MicrosoftGraphCredential",
            "metadata": {"name": name, "namespace": "mail"}, "spec": plain_spec(store.clone())
        }));
    }
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    let applied = fixture.run("kubectl create namespace mail && kubectl apply -f -", &list.to_string()).await;
    assert!(applied.is_success(), "{applied:?}");
    let credentials: Api<MicrosoftGraphCredential> = Api::namespaced(fixture.env.client.clone(), "mail");
    for name in ["sales-eu", "sealed-one", "sealed-two"] {
        eventually(&format!("{name} is ready"), || async {
            let object = credentials.get(name).await.unwrap();
            let ready = condition(&object, ConditionType::Ready);
            let is_ready = ready.is_some_and(|it| it.status == ConditionStatus::True);
            if is_ready { Ok(()) } else { Err(format!("{object:#?}\n{}", fixture.running[0].log())) }
        })
        .await;
    }
}

/// Writes the manifest of the credential with another name at Woodpecker into a file.
async fn write_renamed(fixture: &Fixture, name: &str) {
    let credentials: Api<MicrosoftGraphCredential> = Api::namespaced(fixture.env.client.clone(), "mail");
    let mut spec = serde_json::to_value(credentials.get(name).await.unwrap().spec).unwrap();
    spec["displayName"] = json!("Sales EU");
    let manifest = json!({
        "apiVersion": "graph-credentials.io/v1alpha1", "kind": "MicrosoftGraphCredential",
        "metadata": {"name": name}, "spec": spec
    });
    std::fs::write(fixture.shell.folder().join(format!("{name}.yaml")), manifest.to_string()).unwrap();
}

/// Creates a pod of the operator's Deployment that runs on no node.
async fn create_unscheduled_pod(fixture: &Fixture) {
    let get = "kubectl apply --server-side -f deploy/install.yaml > log && kubectl get deployment --namespace graph-credentials \
               graph-credential-operator -o json";
    let deployment = fixture.run(get, "").await;
    let deployment: Value =
        serde_json::from_str(&deployment.out).unwrap_or_else(|error| panic!("{error}: {deployment:?}"));
    let template = &deployment["spec"]["template"];
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": template["metadata"], "spec": template["spec"]});
    pod["metadata"]["name"] = json!("graph-credential-operator-0");
    pod["metadata"]["namespace"] = json!(OWN);
    let created = fixture.run("kubectl create -f -", &pod.to_string()).await;
    assert!(created.is_success(), "{created:?}");
}

/// The primary key of the keyring.
async fn primary_key(fixture: &Fixture) -> String {
    let listed = fixture.run("graph-credential-operator keys list --output json", "").await;
    let listed: Value =
        serde_json::from_str(&listed.out).unwrap_or_else(|error| panic!("{error}: {listed:?}"));
    listed["keys"][0]["id"].as_str().unwrap().to_owned()
}

/// A port without a listener.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn the_guide_leads_from_a_checkout_to_a_credential() {
    let name = "the_guide_leads_from_a_checkout_to_a_credential";
    let mut fixture = with_doubles(name).await;
    fixture.section("docs/tutorials/getting-started.md", "From a checkout").await;
    eventually("the operator is ready", || async {
        let (status, text) = send_get(&fixture.running[0], "/readyz").await;
        if status == 200 { Ok(()) } else { Err(format!("{text}\n{}", fixture.running[0].log())) }
    })
    .await;
    apply_the_guide(&fixture).await;

    // A reader works in this namespace, and the operator is in another one.
    assert!(fixture.run("kubectl config set-context --current --namespace mail", "").await.is_success());
    fixture.export("GCO_OPERATOR_NAMESPACE", OWN);
    fixture.section("docs/tutorials/getting-started.md", "Step 4: check that it is Ready").await;
    fixture.section("docs/troubleshooting.md", "Explain a reason or an error code").await;
    write_renamed(&fixture, "sales-eu").await;
    fixture.section("docs/tasks/command-line.md", "*").await;
    let left = Credential::new(
        TENANT,
        crate::admin_cli::OTHER_CLIENT,
        "old",
        EXPIRY,
        "mail/sales-us [k3v9x2m7qz4w]",
    );
    fixture.env.woodpecker.put("agency", left);
    fixture.section("docs/tasks/orphaned-credentials.md", "List orphaned credentials").await;
    let first = primary_key(&fixture).await;
    fixture.set_placeholder("0a1b2c3d", &first);
    fixture.section("docs/tasks/keyring.md", "Example: a complete rotation").await;
    assert_ne!(primary_key(&fixture).await, first);
    fixture.section("docs/tasks/keyring.md", "Rotating a key").await;

    create_unscheduled_pod(&fixture).await;
    fixture.section("docs/tasks/keyring.md", "Commands").await;
    let argo = "kubectl create namespace argocd && kubectl create configmap argocd-cm --namespace argocd";
    assert!(fixture.run(argo, "").await.is_success());
    fixture.section("docs/tasks/gitops.md", "Argo CD").await;

    fixture.set_placeholder("127.0.0.1:8443", &format!("127.0.0.1:{}", free_port()));
    fixture.section("docs/reference/rest-api.md", "Start it").await;
    let keys: Api<Secret> = Api::namespaced(fixture.env.client.clone(), OWN);
    let keys = keys.get("graph-credential-operator-api-keys").await.unwrap().data.unwrap();
    fixture.export("KEY", std::str::from_utf8(&keys["mail.ci"].0).unwrap());
    std::fs::write(fixture.shell.folder().join("credential.json"), sample(json!({})).to_string()).unwrap();
    eventually("the REST API is served", || async {
        let log = fixture.running[1].log();
        let (status, text) = send_get(&fixture.running[1], "/readyz").await;
        if status == 200 { Ok(()) } else { Err(format!("{text}\n{log}")) }
    })
    .await;
    fixture.section("docs/tasks/rest-api.md", "Save a credential").await;

    run_the_runbooks(&mut fixture).await;
    for mut process in std::mem::take(&mut fixture.running) {
        let exit = process.stop().await.unwrap();
        assert!(exit.success(), "{exit}\n{}", process.log());
    }
    fixture.end();
}

/// Runs each runbook with the names of objects that exist.
async fn run_the_runbooks(fixture: &mut Fixture) {
    fixture.set_placeholder("OPERATOR-NAMESPACE", OWN);
    fixture.set_placeholder("--namespace NAMESPACE", "--namespace mail");
    fixture.set_placeholder("mgc NAME", "mgc sales-eu");
    let records =
        fixture.run("kubectl get sgc --namespace mail -o jsonpath={.items[0].metadata.name}", "").await;
    assert!(records.is_success() && !records.out.is_empty(), "{records:?}");
    fixture.set_placeholder("sgc NAME", &format!("sgc {}", records.out));
    fixture.set_placeholder("--record NAMESPACE/NAME", &format!("--record mail/{}", records.out));
    fixture.set_placeholder("wpa NAME", "wpa agency");
    fixture.set_placeholder("describe NAME", "describe sales-eu");
    fixture.set_placeholder("describe wpa/NAME", "describe wpa/agency");
    fixture.set_placeholder("explain REASON", "explain SecretExpired");
    // Replaces a port that is forwarded to a pod.
    let probes =
        address(&fixture.running[0], "serving probes and metrics").expect("the operator serves them");
    fixture.set_placeholder("localhost:8080", &probes);
    assert!(
        pages().unwrap().iter().filter(|page| page.starts_with("docs/operations/runbooks/")).count() > 10
    );
    fixture.section("docs/operations/runbooks", "*").await;
}
