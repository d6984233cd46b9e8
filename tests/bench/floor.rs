//! The floor: a bare program on kube that makes the requests that an operator of this kind needs, for the
//! operator's own kinds and driven by a watch, and nothing else. No cache, no retries, no leader election, no
//! checks.
//!
//! It is a process of its own: this test program, whose environment selects the floor. It keeps all
//! connections, also those to Microsoft and Woodpecker. That is the least possible work, not what is safe
//! with secrets.

use std::collections::HashSet;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use graph_credential_operator::api::{MicrosoftGraphCredential, SealedGraphCredential};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use kube::api::PostParams;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::environment::{ACCOUNT, EXPIRY, Environment, api_key, typed};
use crate::plan::To;

/// The log message once it watches.
pub const WATCHES: &str = "the floor watches";

/// Objects at the same time: as many as the operator reconciles.
const AT_A_TIME: usize = 16;

/// The length of an envelope.
const ENVELOPE_LENGTH: usize = 188;

/// The scope of the operator's token requests.
pub const SCOPE: &str = "https%3A%2F%2Fgraph.microsoft.com%2F.default";

pub struct Floor {
    to: To,
    client: Client,
    http: reqwest::Client,
    namespace: String,
    authority: String,
    woodpecker: String,
    /// One request at a time, as Woodpecker requires.
    account: Mutex<()>,
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "it is no test but the process that is measured"]
async fn the_floor() {
    let Ok(to) = std::env::var("FLOOR_TO") else { return };
    let _only_once = rustls::crypto::ring::default_provider().install_default();
    let env = |name: &str| std::env::var(name).unwrap();
    let floor = Arc::new(Floor {
        to: To::of_name(&to),
        client: crate::client::of_env().await,
        http: reqwest::Client::builder().no_proxy().build().unwrap(),
        namespace: env("BENCH_NAMESPACE"),
        authority: env("BENCH_AUTHORITY"),
        woodpecker: env("FLOOR_WOODPECKER"),
        account: Mutex::default(),
    });
    let objects: Api<MicrosoftGraphCredential> = Api::namespaced(floor.client.clone(), &floor.namespace);
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    let walks = tokio_stream(receiver).for_each_concurrent(AT_A_TIME, move |object| {
        let floor = floor.clone();
        async move { tokio::spawn(async move { floor.reconcile(&object).await }).await.unwrap() }
    });
    tokio::spawn(walks);
    let mut seen = HashSet::new();
    let mut events = std::pin::pin!(watcher(objects, watcher::Config::default()).default_backoff());
    while let Some(event) = events.try_next().await.transpose() {
        match event {
            Ok(watcher::Event::InitDone) => println!("{WATCHES}"),
            Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => {
                if object.status.as_ref().is_none_or(|status| status.registration.is_none())
                    && seen.insert(object.uid())
                {
                    sender.send(object).unwrap();
                }
            }
            Ok(_) => {}
            Err(error) => println!("{error}"),
        }
    }
}

fn tokio_stream<T>(receiver: tokio::sync::mpsc::UnboundedReceiver<T>) -> impl futures::Stream<Item = T> {
    futures::stream::unfold(receiver, async |mut receiver| Some((receiver.recv().await?, receiver)))
}

impl Floor {
    /// In this process, for the store, without a watch.
    pub fn bare(environment: &Environment, namespace: &str) -> Self {
        Self {
            to: To::Store,
            client: environment.client.clone(),
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            namespace: namespace.to_owned(),
            authority: environment.entra.url(),
            woodpecker: environment.woodpecker.base_url(),
            account: Mutex::default(),
        }
    }

    /// Processes one object.
    pub async fn reconcile(&self, object: &MicrosoftGraphCredential) {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let secret = secrets.get(&object.spec.secret_ref.as_ref().unwrap().name).await.unwrap();
        let secret = String::from_utf8(secret.data.unwrap()["client_secret"].0.clone()).unwrap();
        self.token(object, &secret).await;
        match self.to {
            To::Store => {
                let record = self.encrypt(object).await;
                self.put(object, status(object, Some(json!({"record": record, "credentialId": 4711})))).await;
            }
            To::Woodpecker => {
                let account = json!({"namespace": self.namespace, "name": ACCOUNT});
                let mut intent = status(object, None);
                intent["pendingCreate"] = json!({
                    "idempotencyToken": "abcdefghijkl", "startTime": "2026-11-24T08:00:00Z", "existingIds": [], "account": account,
                    "baseUrl": self.woodpecker, "fingerprint": "k:0123456789abcdef0123456789abcdef"
                });
                let written = self.put(object, intent).await;
                let id = self.register(object, &secret).await;
                let created = json!({"account": account, "baseUrl": self.woodpecker, "credentialId": id});
                self.put(&written, status(&written, Some(created))).await;
            }
        }
        self.emit_event(object).await;
    }

    async fn token(&self, object: &MicrosoftGraphCredential, secret: &str) {
        let url = format!("{}/{}/oauth2/v2.0/token", self.authority, object.spec.tenant_id);
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "client_credentials")
            .append_pair("client_id", &object.spec.client_id.to_string())
            .append_pair("client_secret", secret)
            .finish();
        let request = self.http.post(url).header("content-type", "application/x-www-form-urlencoded");
        let response = request.body(format!("{form}&scope={SCOPE}")).send().await.unwrap();
        assert!(response.status().is_success(), "{}", response.status());
        response.bytes().await.unwrap();
    }

    async fn encrypt(&self, object: &MicrosoftGraphCredential) -> String {
        let name = format!("c-{}", object.name_any());
        let id = getrandom::u64().unwrap() & ((1 << 52) - 1);
        let record: SealedGraphCredential = typed(json!({
            "metadata": {
                "name": name, "annotations": {"graph-credentials.io/sealed-for": object.uid()},
                "labels": {"app.kubernetes.io/managed-by": "graph-credential-operator"}
            },
            "spec": {
                "recordId": format!("{:032x}", u128::from(id)), "credentialId": id.max(1),
                "tenantId": object.spec.tenant_id, "clientId": object.spec.client_id,
                "secretExpiresAt": EXPIRY, "name": format!("{}/{}", self.namespace, object.name_any()),
                "envelope": "A".repeat(ENVELOPE_LENGTH)
            }
        }));
        let records = Api::namespaced(self.client.clone(), &self.namespace);
        records.create(&PostParams::default(), &record).await.unwrap();
        name
    }

    async fn register(&self, object: &MicrosoftGraphCredential, secret: &str) -> Value {
        let body = json!({
            "tenant_id": object.spec.tenant_id, "client_id": object.spec.client_id, "client_secret": secret,
            "secret_expires_at": EXPIRY, "name": format!("{}/{} [abcdefghijkl]", self.namespace, object.name_any())
        });
        let url = format!("{}/v2/mailboxes/microsoft/credentials", self.woodpecker);
        let request = self.http.post(url).header("x-api-key", api_key(ACCOUNT));
        let request = request.header("content-type", "application/json").body(body.to_string());
        let permit = self.account.lock().await;
        let response = request.send().await.unwrap().bytes().await.unwrap();
        drop(permit);
        let response: Value = serde_json::from_slice(&response).unwrap();
        response["credential_id"].clone()
    }

    /// Replaces the status of this object and version.
    async fn put(&self, object: &MicrosoftGraphCredential, status: Value) -> MicrosoftGraphCredential {
        let (name, meta) = (object.name_any(), &object.metadata);
        let body = json!({
            "apiVersion": "graph-credentials.io/v1alpha1", "kind": "MicrosoftGraphCredential",
            "metadata": {
                "name": name, "namespace": self.namespace, "uid": meta.uid,
                "resourceVersion": meta.resource_version
            },
            "status": status
        });
        let path = format!(
            "/apis/graph-credentials.io/v1alpha1/namespaces/{}/microsoftgraphcredentials/{name}/status",
            self.namespace
        );
        let request = http::Request::put(path).header("content-type", "application/json");
        self.client.request(request.body(body.to_string().into_bytes()).unwrap()).await.unwrap()
    }

    async fn emit_event(&self, object: &MicrosoftGraphCredential) {
        let event: Event = typed(json!({
            "metadata": {"generateName": format!("{}-", object.name_any())},
            "eventTime": jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string(),
            "reportingController": "graph-credentials.io/floor", "reportingInstance": "floor",
            "action": "Register", "reason": "Registered", "type": "Normal",
            "note": "the credential is registered at its destination",
            "regarding": {
                "apiVersion": "graph-credentials.io/v1alpha1", "kind": "MicrosoftGraphCredential",
                "namespace": self.namespace, "name": object.name_any(), "uid": object.uid()
            }
        }));
        let events = Api::namespaced(self.client.clone(), &self.namespace);
        events.create(&PostParams::default(), &event).await.unwrap();
    }
}

/// A status as long as the operator's, with a registration or without.
fn status(object: &MicrosoftGraphCredential, registration: Option<Value>) -> Value {
    let is_done = registration.is_some();
    let condition = |kind: &str, is: bool| {
        json!({
            "type": kind, "status": if is { "True" } else { "False" }, "reason": "Done",
            "observedGeneration": object.metadata.generation, "lastTransitionTime": "2026-11-24T08:00:00Z",
            "message": "as good as a sentence of some length that says why it is so"
        })
    };
    let conditions: Vec<Value> = ["Ready", "SecretReady", "Verified", "Registered", "Expiring"]
        .map(|kind| condition(kind, is_done && kind != "Expiring"))
        .into();
    let mut status = json!({
        "observedGeneration": object.metadata.generation, "conditions": conditions,
        "lastVerifiedTime": "2026-11-24T08:00:00Z", "observedRoles": ["Mail.ReadWrite", "Mail.Send"]
    });
    if let Some(mut registration) = registration {
        registration["ownership"] = json!("Created");
        registration["fingerprint"] = json!("k:0123456789abcdef0123456789abcdef");
        registration["name"] = json!(format!("load/{}", object.name_any()));
        registration["expiresAt"] = json!(EXPIRY);
        registration["registrationTime"] = json!("2026-11-24T08:00:00Z");
        status["credentialId"] = registration["credentialId"].clone();
        status["expiresAt"] = json!(EXPIRY);
        status["expirySource"] = json!("Secret");
        status["registration"] = registration;
    }
    status
}
