//! Rotation: the operator creates, registers and removes client secrets of an app at Microsoft Entra.

mod access;
mod clusters;
mod faults;
mod lifecycle;
mod memory;
mod outage;
mod recovery;

use graph_credential_operator::api::conditions::{ConditionStatus, ConditionType};
use graph_credential_operator::api::{EntraIdentity, MicrosoftGraphCredential, RotationStatus};
use kit::api_proxy::{ApiProxy, write_kubeconfig};
use kit::cluster::User;
use kit::graph::{Graph, SecretRecord};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::harness::{CLIENT, EXPIRY, QUIET_TIME, TENANT, TestEnv, condition, eventually, merge, message};

const IDENTITY: &str = "11111111-480e-4a17-9b85-3467967bd179";

/// With an identity that owns the environment's app, and a grant for it.
async fn start() -> (TestEnv, Graph) {
    let (mut env, graph) = bare().await;
    env.start_operator().await;
    identity(&env, json!([grant(&env.namespace, TENANT, CLIENT)])).await;
    env.account("agency", json!({})).await;
    (env, graph)
}

/// The same without objects and operator.
async fn bare() -> (TestEnv, Graph) {
    let mut env = TestEnv::bare().await;
    let graph = Graph::start().await;
    graph.connect(&env.entra);
    graph.time_scale(20);
    own(&env, &graph, TENANT, CLIENT);
    env.entra.set_secrets(TENANT, IDENTITY, &["identity-secret"]);
    env.woodpecker.check_validity_with(&env.entra);
    env.extra_args.extend(["--entra-identities".to_owned(), "--microsoft-graph".to_owned(), graph.url()]);
    (env, graph)
}

/// The same with a proxy in front of the API server.
async fn start_behind_proxy() -> (TestEnv, Graph, ApiProxy) {
    let (mut env, graph) = bare().await;
    let proxy = ApiProxy::start(env.cluster.client_for(User::Operator).unwrap()).await.unwrap();
    let kubeconfig = env.cluster.dir().join(format!("{}-proxy.kubeconfig", env.namespace));
    write_kubeconfig(&kubeconfig, &proxy.url(), None).unwrap();
    env.user = Some(kubeconfig);
    env.start_operator().await;
    identity(&env, json!([grant(&env.namespace, TENANT, CLIENT)])).await;
    env.account("agency", json!({})).await;
    (env, graph, proxy)
}

/// The identity may change this app, which has no client secrets.
fn own(env: &TestEnv, graph: &Graph, tenant: &str, client: &str) {
    env.entra.set_roles(tenant, IDENTITY, &["Application.ReadWrite.OwnedBy"]);
    env.entra.set_secrets(tenant, client, &[]);
    graph.set_application(tenant, client, &[]);
    graph.add_owner(tenant, client, IDENTITY);
}

fn grant(namespace: &str, tenant: &str, client: &str) -> Value {
    json!({"namespaces": [namespace], "tenantId": tenant, "clientIds": [client]})
}

/// Applies the identity `rotator` with these grants, in the namespace of the environment.
async fn identity(env: &TestEnv, grants: Value) {
    env.secret("rotator", &[("client-secret", "identity-secret")]).await;
    let auth = json!({"clientSecretRef": {"name": "rotator"}});
    let spec = json!({"clientId": IDENTITY, "tenantId": TENANT, "auth": auth, "grants": grants});
    env.apply::<EntraIdentity>("rotator", json!({"spec": spec})).await.expect("the identity can be applied");
}

/// A spec whose client secret rotates, with an overlap that ends at once.
fn rotating() -> Value {
    with_overlap("0s")
}

fn with_overlap(overlap: &str) -> Value {
    json!({
        "secretRef": null, "entra": {"identityRef": {"name": "rotator"}}, "rotation": {"overlap": overlap}
    })
}

fn rotation(object: &MicrosoftGraphCredential) -> RotationStatus {
    object.status.as_ref().and_then(|status| status.rotation.as_deref().cloned()).unwrap_or_default()
}

fn current_key(object: &MicrosoftGraphCredential) -> Option<String> {
    rotation(object).current.map(|current| current.key_id)
}

async fn annotate(env: &TestEnv, name: &str, values: Value) {
    let patch = Patch::Merge(json!({"metadata": {"annotations": values}}));
    let api = env.api::<MicrosoftGraphCredential>();
    api.patch(name, &PatchParams::default(), &patch).await.expect("annotations can be set");
}

/// Requests another client secret, and waits until it is in use.
async fn rotate(env: &TestEnv, name: &str, at: &str) -> MicrosoftGraphCredential {
    let before = current_key(&env.read(name).await);
    annotate(env, name, json!({"graph-credentials.io/rotate-requested-at": at})).await;
    env.wait_until(name, "another client secret is in use", |object| {
        let rotation = rotation(object);
        let is_ready =
            condition(object, ConditionType::Ready).is_some_and(|it| it.status == ConditionStatus::True);
        current_key(object) != before && rotation.pending.is_none() && is_ready
    })
    .await
}

/// Waits until the app has only this client secret of the operator.
async fn wait_for_only(graph: &Graph, key_id: &str) {
    eventually("only the current client secret is left at Entra", || async {
        let live: Vec<SecretRecord> = graph.live_secrets(TENANT, CLIENT);
        let own: Vec<&str> =
            live.iter().filter(|it| it.added_by.is_some()).map(|it| it.key_id.as_str()).collect();
        if own == [key_id] { Ok(()) } else { Err(format!("{own:?}, wanted {key_id}")) }
    })
    .await;
}

/// The registered client secret worked at every moment, and its text is nowhere that people look.
async fn assert_sound(env: &TestEnv, names: &[&str]) {
    assert!(env.woodpecker.invalid_periods().is_empty(), "{:?}", env.woodpecker.invalid_periods());
    assert!(!env.log().contains(kit::graph::SECRET_MARK), "a client secret is in the log");
    let (_, metrics) = env.get("/metrics").await;
    assert!(!metrics.contains(kit::graph::SECRET_MARK), "a client secret is in the metrics");
    for name in names {
        let object = serde_json::to_string(&env.read(name).await).unwrap();
        assert!(!object.contains(kit::graph::SECRET_MARK), "{object}");
        let events = env.events(name).await;
        assert!(events.iter().all(|event| !event.contains(kit::graph::SECRET_MARK)), "{events:?}");
    }
}
