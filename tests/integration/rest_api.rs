//! `serve`: the credentials REST API over the encrypted store.

mod access;
mod changed_records;
pub mod fault_proxy;
pub mod hostile;
pub mod http;
mod keyring;
mod limits;
mod memory;
mod microsoft;
mod process;
mod record_verification;
mod replicas;
mod tls;

use graph_credential_operator::api::SealedGraphCredential;
use graph_credential_operator::store::envelope::Envelope;
use graph_credential_operator::store::keyring::Keyring;
use graph_credential_operator::store::record::open;
use k8s_openapi::api::core::v1::Secret;
use kit::process::Process;
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::{Value, json};

use self::http::{HttpResponse, send};
use crate::harness::{CLIENT, EXPIRY, TENANT, TestEnv, address, eventually, merge, send_get};

/// Path of all credentials.
pub const PATH: &str = "/rest/v2/mailboxes/microsoft/credentials";

/// Name of the Secret with the API keys.
pub const KEYS: &str = "graph-credential-operator-api-keys";

/// API key of the test namespace.
pub const KEY: &str = "4711.a-key-of-the-env";

/// API key of another account.
const OTHER_KEY: &str = "4712.a-key-of-another-account";

/// Name of the keyring's Secret.
const KEYRING: &str = "graph-credential-operator-keyring";

/// A test environment with one process that serves the API.
struct Api {
    env: TestEnv,
    server: Process,
    address: String,
}

// === impl Api ===

impl Api {
    async fn start() -> Self {
        Self::on(TestEnv::bare().await).await
    }

    async fn on(env: TestEnv) -> Self {
        put_key(&env, KEY).await;
        let (server, address) = start(&env, &[]).await;
        Self { env, server, address }
    }

    /// Sends a request with the namespace's API key.
    async fn request(&self, method: &str, path: &str, body: Option<Value>) -> HttpResponse {
        request_at(&self.address, method, path, body).await
    }

    async fn create(&self, over: Value) -> HttpResponse {
        self.request("POST", PATH, Some(sample(over))).await
    }

    /// Creates a credential; returns its id.
    async fn created(&self, over: Value) -> i64 {
        let response = self.create(over).await;
        assert_eq!(response.status, 201, "{response:?}\n{}", self.server.log());
        response.json()["credential_id"].as_i64().unwrap()
    }

    async fn listed(&self) -> Vec<Value> {
        let response = self.request("GET", PATH, None).await;
        assert_eq!(response.status, 200, "{response:?}\n{}", self.server.log());
        response.json()["credentials"].as_array().unwrap().clone()
    }

    /// The record of a credential, with its decrypted secret.
    async fn opened(&self, id: i64) -> (SealedGraphCredential, String) {
        let record: SealedGraphCredential = self.env.api().get(&format!("r-{id}")).await.unwrap();
        let secret: Secret = self.env.api().get(KEYRING).await.unwrap();
        let keyring = Keyring::from_json(&secret.data.unwrap()["keyring.json"].0).unwrap();
        let opened = open(&record, &keyring).unwrap();
        (record, opened.expose().to_owned())
    }

    async fn records(&self) -> Vec<SealedGraphCredential> {
        self.env.api().list(&ListParams::default()).await.unwrap().items
    }
}

pub async fn put_key(env: &TestEnv, key: &str) {
    env.secret(KEYS, &[(&format!("{}.ci", env.namespace), key)]).await;
}

/// Creates API keys for two accounts; returns the other one's namespace.
async fn put_two_keys(env: &TestEnv) -> String {
    let neighbour = env.cluster.create_namespace("neighbour").await.unwrap();
    let keys = [(format!("{}.ci", env.namespace), KEY), (format!("{neighbour}.ci"), OTHER_KEY)];
    let keys: Vec<_> = keys.iter().map(|(name, key)| (name.as_str(), *key)).collect();
    env.secret(KEYS, &keys).await;
    neighbour
}

/// Starts another process that serves the API.
async fn start(env: &TestEnv, args: &[&str]) -> (Process, String) {
    let server = env.launch_with(&[&["serve", "--rest-bind-address", "127.0.0.1:0"], args].concat()).await;
    let address = serving(&server).await;
    (server, address)
}

/// Waits until the API is served, and returns its address.
pub async fn serving(server: &Process) -> String {
    eventually("the API is served", || async {
        let (status, text) = send_get(server, "/readyz").await;
        let address = address(server, "serving the credentials REST API");
        address.filter(|_| status == 200).ok_or_else(|| format!("{text}\n{}", server.log()))
    })
    .await
}

pub async fn request_at(address: &str, method: &str, path: &str, body: Option<Value>) -> HttpResponse {
    let body = body.map(|body| body.to_string()).unwrap_or_default();
    send(address, method, path, &[("x-api-key", KEY), ("content-type", "application/json")], body.as_bytes())
        .await
}

/// The vendor's sample with the test's app and secret, and with `over` merged into it.
pub fn sample(over: Value) -> Value {
    let mut body = json!({
        "tenant_id": TENANT, "client_id": CLIENT, "client_secret": "s3cret-one", "secret_expires_at": EXPIRY,
        "name": "MS Graph app"
    });
    merge(&mut body, over);
    body
}

#[tokio::test]
async fn a_posted_credential_is_verified_encrypted_and_returned_without_its_secret() {
    let api = Api::start().await;
    let response = api.create(json!({})).await;
    assert_eq!(
        (response.status, response.header("content-type")),
        (201, Some("application/json")),
        "{response:?}"
    );
    let id = response.json()["credential_id"].as_i64().unwrap();
    assert!((1..1 << 52).contains(&id), "{id}");
    let shown = json!({
        "credential_id": id, "tenant_id": TENANT, "client_id": CLIENT, "secret_expires_at": EXPIRY,
        "name": "MS Graph app"
    });
    assert_eq!(response.json(), shown);
    assert_eq!(api.listed().await, [shown]);
    assert_eq!(api.env.entra.count(TENANT, CLIENT), 1, "it was verified");
    let (record, secret) = api.opened(id).await;
    assert_eq!(secret, "s3cret-one");
    assert_eq!(record.metadata.owner_references, None);
}

#[tokio::test]
async fn omitted_fields_get_defaults_and_values_are_normalized() {
    let api = Api::start().await;
    let over = json!({
        "name": null, "tenant_id": TENANT.to_uppercase(), "secret_expires_at": "2027-11-29T00:59:59.5+01:00"
    });
    let shown = api.create(over).await.json();
    assert_eq!(shown["name"], format!("Microsoft Graph {CLIENT}"));
    assert_eq!((&shown["tenant_id"], &shown["secret_expires_at"]), (&json!(TENANT), &json!(EXPIRY)));
}

#[tokio::test]
async fn a_patch_renames_without_the_secret_and_rotates_with_a_verification() {
    let api = Api::start().await;
    let id = api.created(json!({})).await;
    let path = format!("{PATH}/{id}");
    let (before, _) = api.opened(id).await;
    let renamed = api.request("PATCH", &path, Some(json!({"name": "Sales"}))).await;
    assert_eq!((renamed.status, &renamed.json()["name"]), (200, &json!("Sales")), "{renamed:?}");
    assert_eq!(api.env.entra.count(TENANT, CLIENT), 1, "a name needs no verification");
    let (after, secret) = api.opened(id).await;
    assert_ne!(after.spec.envelope, before.spec.envelope, "the name is bound");
    assert_eq!(secret, "s3cret-one");
    let rotation = json!({"client_secret": "s3cret-two", "secret_expires_at": "2028-01-31T00:00:00Z"});
    let rejected = api.request("PATCH", &path, Some(rotation.clone())).await;
    assert_eq!((rejected.status, rejected.json()), (422, json!({"message": "INVALID_CLIENT_SECRET"})));
    assert_eq!(api.opened(id).await.1, "s3cret-one", "a refused secret replaces nothing");
    api.env.entra.add_secret(TENANT, CLIENT, "s3cret-two");
    let rotated = api.request("PATCH", &path, Some(rotation)).await;
    let shown = json!({
        "credential_id": id, "tenant_id": TENANT, "client_id": CLIENT,
        "secret_expires_at": "2028-01-31T00:00:00Z", "name": "Sales"
    });
    assert_eq!((rotated.status, rotated.json()), (200, shown.clone()));
    assert_eq!(api.opened(id).await.1, "s3cret-two");
    assert_eq!(api.listed().await, [shown]);
    for body in [json!({"client_secret": "x"}), json!({"secret_expires_at": EXPIRY})] {
        let response = api.request("PATCH", &path, Some(body)).await;
        let word = json!({"message": "SECRET_AND_EXPIRY_REQUIRED_TOGETHER"});
        assert_eq!((response.status, response.json()), (422, word));
    }
}

#[tokio::test]
async fn requests_for_a_deleted_credential_get_404() {
    let api = Api::start().await;
    let (one, other) = (api.created(json!({})).await, api.created(json!({"name": "other"})).await);
    let path = format!("{PATH}/{one}");
    let gone = api.request("DELETE", &path, None).await;
    assert_eq!((gone.status, gone.body.as_slice()), (204, &b""[..]));
    let left: Vec<_> = api.listed().await.iter().map(|it| it["credential_id"].as_i64()).collect();
    assert_eq!(left, [Some(other)]);
    for (method, body) in [("DELETE", None), ("PATCH", Some(json!({"name": "x"})))] {
        let response = api.request(method, &path, body).await;
        assert_eq!(response.status, 404, "{method}");
        response.is_problem("Not Found", "Requested resource does not exist");
    }
}

#[tokio::test]
async fn records_of_custom_resources_are_neither_visible_nor_writable() {
    let mut env = TestEnv::bare().await;
    env.start_operator().await;
    env.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    env.credential("sales-eu", json!({"destination": {"woodpecker": null, "store": {}}})).await;
    let id = env.wait_until_ready("sales-eu").await.status.unwrap().credential_id.unwrap();
    let api = Api::on(env).await;
    let before = api.records().await;
    assert_eq!(api.listed().await, Vec::<Value>::new());
    for (method, body) in [("PATCH", Some(json!({"name": "x"}))), ("DELETE", None)] {
        assert_eq!(api.request(method, &format!("{PATH}/{id}"), body).await.status, 404, "{method}");
    }
    assert_eq!(api.records().await, before);
}
