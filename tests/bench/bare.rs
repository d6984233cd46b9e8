//! The bare axum handler: the calls of a request to the credentials REST API, and nothing else. No API keys,
//! no checks, no encryption, no log. It is a process of its own: this test program, whose environment selects
//! the handler.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONNECTION;
use axum::middleware::map_response;
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use graph_credential_operator::api::SealedGraphCredential;
use k8s_openapi::api::core::v1::Secret;
use kit::process::Process;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::environment::{Environment, typed};
use crate::floor::SCOPE;
use crate::rest::{BARE, PATH};

/// The Secret that the handler reads where `serve` reads the keyring.
const SECRET: &str = "not-a-keyring";

/// The length of an envelope.
const ENVELOPE_LENGTH: usize = 188;

/// The log message with its address.
pub const LISTENS: &str = "the bare handler listens";

struct Bare {
    client: Client,
    http: reqwest::Client,
    authority: String,
}

/// Starts the handler.
pub async fn start(environment: &Environment) -> Process {
    let secret = json!({"metadata": {"name": SECRET}, "stringData": {"keyring.json": "x".repeat(400)}});
    environment.create_in::<Secret>(BARE, secret).await;
    environment.itself("bare::the_bare_handler").env("BARE", "1").spawn().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "it is no test but the process that is measured"]
async fn the_bare_handler() {
    if std::env::var_os("BARE").is_none() {
        return;
    }
    let _only_once = rustls::crypto::ring::default_provider().install_default();
    let bare = Bare {
        client: crate::client::of_env().await,
        http: reqwest::Client::builder().pool_max_idle_per_host(0).no_proxy().build().unwrap(),
        authority: std::env::var("BENCH_AUTHORITY").unwrap(),
    };
    let router = Router::new().route(PATH, get(list).post(create)).with_state(Arc::new(bare));
    // `serve` closes each connection after its response too.
    let router = router.layer(map_response(async |response: Response| ([(CONNECTION, "close")], response)));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", json!({"message": LISTENS, "address": listener.local_addr().unwrap()}));
    axum::serve(listener, router).await.unwrap();
}

/// Page by page, as `serve` reads them.
async fn list(State(bare): State<Arc<Bare>>) -> Json<Value> {
    let (mut credentials, mut page) = (Vec::new(), ListParams::default().limit(500));
    loop {
        let list = bare.records().list(&page).await.unwrap();
        credentials.extend(list.items.iter().map(shown));
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Json(json!({"credentials": credentials})),
        }
    }
}

/// A token, the record, the keyring again after the write, and the record's status.
async fn create(State(bare): State<Arc<Bare>>, Json(body): Json<Value>) -> (StatusCode, Json<Value>) {
    let url = format!("{}/{}/oauth2/v2.0/token", bare.authority, body["tenant_id"].as_str().unwrap());
    let client = body["client_id"].as_str().unwrap();
    let form =
        format!("grant_type=client_credentials&client_id={client}&client_secret=s3cret-one&scope={SCOPE}");
    let request = bare.http.post(url).header("content-type", "application/x-www-form-urlencoded").body(form);
    request.send().await.unwrap().bytes().await.unwrap();
    let id = getrandom::u64().unwrap() & ((1 << 52) - 1);
    let record: SealedGraphCredential = typed(json!({
        "metadata": {"name": format!("r-{id}")},
        "spec": {
            "recordId": format!("{:032x}", u128::from(id)), "credentialId": id, "tenantId": body["tenant_id"],
            "clientId": body["client_id"], "secretExpiresAt": body["secret_expires_at"], "name": body["name"],
            "envelope": "A".repeat(ENVELOPE_LENGTH)
        }
    }));
    let mut created = bare.records().create(&PostParams::default(), &record).await.unwrap();
    let secrets: Api<Secret> = Api::namespaced(bare.client.clone(), BARE);
    secrets.get(SECRET).await.unwrap();
    let condition = |type_: &str, status: &str| {
        json!({
            "type": type_, "status": status, "reason": "TokenIssued", "observedGeneration": 1,
            "message": "Microsoft has issued a token for the secret", "lastTransitionTime": "2026-11-24T08:00:00Z"
        })
    };
    let conditions = [("Ready", "True"), ("Verified", "True"), ("Expiring", "False")]
        .map(|(type_, is)| condition(type_, is));
    let status = json!({"observedGeneration": 1, "lastVerifiedTime": "2026-11-24T08:00:00Z", "conditions": conditions});
    created.status = Some(serde_json::from_value(status).unwrap());
    let name = created.metadata.name.clone().unwrap();
    bare.records().replace_status(&name, &PostParams::default(), &created).await.unwrap();
    (StatusCode::CREATED, Json(shown(&created)))
}

fn shown(record: &SealedGraphCredential) -> Value {
    let spec = &record.spec;
    json!({
        "credential_id": spec.credential_id, "tenant_id": spec.tenant_id, "client_id": spec.client_id,
        "secret_expires_at": spec.secret_expires_at, "name": spec.name
    })
}

// === impl Bare ===

impl Bare {
    fn records(&self) -> Api<SealedGraphCredential> {
        Api::namespaced(self.client.clone(), BARE)
    }
}
