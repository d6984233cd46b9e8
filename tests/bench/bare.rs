//! The bare axum handler, as a process of its own: this very program, told by its environment what to be.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONNECTION;
use axum::middleware::map_response;
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use graph_credential_operator::resources::SealedGraphCredential;
use k8s_openapi::api::core::v1::Secret;
use kit::cluster::User;
use kit::process::Process;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::stage::Stage;
use crate::{PATH, know_every_app};

/// The Secret that is read where `serve` reads the keyring.
const SECRET: &str = "not-a-keyring";

/// As long as an envelope is.
const ENVELOPE_LENGTH: usize = 188;

const LISTENS: &str = "the bare handler listens on ";

struct Bare {
    client: Client,
    http: reqwest::Client,
    authority: String,
    namespace: String,
}

/// Starts it on a stage of its own.
pub async fn start() -> (Stage, Process) {
    let stage = Stage::bare().await;
    know_every_app(&stage);
    stage.secret(SECRET, &[("keyring.json", &"x".repeat(400))]).await;
    let log = stage.cluster.dir().join("bare.log");
    let process = Process::builder(std::env::current_exe().unwrap())
        .args(["--exact", "bare::the_bare_handler", "--ignored", "--nocapture"])
        .env("KUBECONFIG", stage.cluster.kubeconfig_for(User::Operator))
        .env("BARE_NAMESPACE", &stage.namespace)
        .env("BARE_AUTHORITY", stage.entra.url())
        .log(log)
        .spawn()
        .await
        .unwrap();
    (stage, process)
}

/// Where it listens, by its log.
pub fn address(log: &str) -> Option<String> {
    log.lines().find_map(|line| line.split_once(LISTENS)).map(|(_, address)| address.trim().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "it is no test but the process that is measured"]
async fn the_bare_handler() {
    let Ok(namespace) = std::env::var("BARE_NAMESPACE") else { return };
    let _only_once = rustls::crypto::ring::default_provider().install_default();
    let bare = Bare {
        client: Client::try_default().await.unwrap(),
        http: reqwest::Client::builder().pool_max_idle_per_host(0).no_proxy().build().unwrap(),
        authority: std::env::var("BARE_AUTHORITY").unwrap(),
        namespace,
    };
    let router = Router::new().route(PATH, get(list).post(create)).with_state(Arc::new(bare));
    // As `serve` ends each connection with its answer.
    let router = router.layer(map_response(async |answer: Response| ([(CONNECTION, "close")], answer)));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{LISTENS}{}", listener.local_addr().unwrap());
    axum::serve(listener, router).await.unwrap();
}

async fn list(State(bare): State<Arc<Bare>>) -> Json<Value> {
    let listed = bare.records().list(&ListParams::default().limit(500)).await.unwrap();
    let credentials: Vec<Value> = listed.items.iter().map(shown).collect();
    Json(json!({"credentials": credentials}))
}

async fn create(State(bare): State<Arc<Bare>>, Json(body): Json<Value>) -> (StatusCode, Json<Value>) {
    let url = format!("{}/{}/oauth2/v2.0/token", bare.authority, body["tenant_id"].as_str().unwrap());
    let form = "grant_type=client_credentials&scope=https%3A%2F%2Fgraph.microsoft.com%2F.default";
    let form = format!("client_id={}&client_secret=s3cret-one&{form}", body["client_id"].as_str().unwrap());
    let request = bare.http.post(url).header("content-type", "application/x-www-form-urlencoded").body(form);
    request.send().await.unwrap().bytes().await.unwrap();
    let secrets: Api<Secret> = Api::namespaced(bare.client.clone(), &bare.namespace);
    secrets.get(SECRET).await.unwrap();
    bare.records().list(&ListParams::default().limit(500)).await.unwrap();
    let id = getrandom::u64().unwrap() & ((1 << 52) - 1);
    let record: SealedGraphCredential = serde_json::from_value(json!({
        "apiVersion": "graph-credentials.io/v1alpha1", "kind": "SealedGraphCredential",
        "metadata": {"name": format!("r-{id}")},
        "spec": {
            "recordId": format!("{:032x}", u128::from(id)), "credentialId": id, "tenantId": body["tenant_id"],
            "clientId": body["client_id"], "secretExpiresAt": body["secret_expires_at"], "name": body["name"],
            "envelope": "A".repeat(ENVELOPE_LENGTH)
        }
    }))
    .unwrap();
    let mut made = bare.records().create(&PostParams::default(), &record).await.unwrap();
    secrets.get(SECRET).await.unwrap();
    let condition = |type_: &str, status: &str| {
        json!({
            "type": type_, "status": status, "reason": "TokenIssued", "observedGeneration": 1,
            "message": "Microsoft has issued a token for the secret", "lastTransitionTime": "2026-11-24T08:00:00Z"
        })
    };
    let conditions = [("Ready", "True"), ("Verified", "True"), ("Expiring", "False")]
        .map(|(type_, is)| condition(type_, is));
    let status =
        json!({"observedGeneration": 1, "verifiedAt": "2026-11-24T08:00:00Z", "conditions": conditions});
    made.status = Some(serde_json::from_value(status).unwrap());
    let name = made.metadata.name.clone().unwrap();
    bare.records().replace_status(&name, &PostParams::default(), &made).await.unwrap();
    (StatusCode::CREATED, Json(shown(&made)))
}

fn shown(record: &SealedGraphCredential) -> Value {
    let spec = &record.spec;
    json!({
        "credential_id": spec.credential_id, "tenant_id": spec.tenant_id, "client_id": spec.client_id,
        "secret_expires_at": spec.secret_expires_at, "name": spec.name
    })
}

impl Bare {
    fn records(&self) -> Api<SealedGraphCredential> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }
}
