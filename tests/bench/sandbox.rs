//! The sandbox beside a bare axum handler that parses the same body, keeps it in a map, and answers the same bytes: requests
//! per second over open connections. And how soon the sandbox answers after its start, with which memory.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::routing::post;
use axum::{Json, Router};
use kit::process::Process;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::environment::{EXPIRY, TENANT, address};
use crate::figures::{Figures, float, quantile};
use crate::plan::Plan;
use crate::proc;
use crate::rest::PATH;

const KEY: &str = "1000001.sandboxsandboxsandbox";

const CLIENT: &str = "e1c6ac69-480e-4a17-9b85-3467967bd179";

/// The log message with the bare handler's address.
const LISTENS: &str = "the bare map listens";

/// Connections, each with one request at a time.
const CONNECTIONS: usize = 16;

/// Credentials of a round; the limit of an account is a thousand.
const REQUESTS: usize = 960;

/// Rounds alternate between the servers, so that a disturbance of the machine affects both.
const ROUNDS: usize = 15;

/// How long a start may take.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// Starts of the sandbox that are timed.
const STARTS: usize = 15;

pub async fn measure(plan: &Plan, figures: &mut Figures) {
    let folder = std::env::temp_dir().join(format!("bench-sandbox-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let mut measured = Figures::default();
    let mut starts = Vec::new();
    let mut most = 0.0_f64;
    for _ in 0..STARTS {
        let (started, mut process) = (Instant::now(), sandbox(&folder, starts.len()).await);
        let listening = listening(&process, "serving the sandbox").await;
        assert_eq!(Connection::open(&listening).await.send("GET", PATH, "").await, 200);
        starts.push(started.elapsed().as_secs_f64() * 1000.0);
        most = most.max(proc::memory(process.pid()));
        process.stop().await.unwrap();
    }
    // The supervisor of the test's processes takes a part of it.
    measured.set("start_p50_ms", quantile(&starts, 0.5));
    measured.set("start_mib", most);

    let processes = [("sandbox", sandbox(&folder, STARTS).await), ("bare", bare(&folder).await)];
    let [sandbox_at, bare_at] =
        [listening(&processes[0].1, "serving the sandbox").await, listening(&processes[1].1, LISTENS).await];
    let mut rates = [Vec::new(), Vec::new()];
    for _ in 0..plan.sized(ROUNDS) {
        for (address, rates) in [&sandbox_at, &bare_at].into_iter().zip(&mut rates) {
            rates.push(rate(address).await);
            assert_eq!(Connection::open(address).await.send("POST", "/sandbox/reset", "").await, 200);
        }
    }
    for ((name, process), rates) in processes.iter().zip(&rates) {
        measured.set(format!("{name}/per_second"), quantile(rates, 0.5));
        measured.set(format!("{name}/peak_mib"), proc::peak(process.pid()));
    }
    let ratios: Vec<f64> = rates[0].iter().zip(&rates[1]).map(|(own, bare)| own / bare).collect();
    measured.set("ratio/per_second", quantile(&ratios, 0.5));
    measured.print("sandbox/");
    figures.extend("sandbox/", &measured);
    drop(processes);
    std::fs::remove_dir_all(&folder).unwrap();
}

async fn sandbox(folder: &std::path::Path, number: usize) -> Process {
    Process::builder(env!("CARGO_BIN_EXE_graph-credential-operator"))
        .args(["sandbox", "--address", "127.0.0.1:0", "--no-limits", "--log-format", "json"])
        // Only the line with its address: the bare handler logs no requests either.
        .args(["--log-level", "warn,graph_credential_operator::sandbox=info"])
        .log(folder.join(format!("sandbox-{number}.log")))
        .spawn()
        .await
        .unwrap()
}

async fn bare(folder: &std::path::Path) -> Process {
    Process::builder(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", "sandbox::the_bare_map"])
        .env("BARE", "1")
        .log(folder.join("bare.log"))
        .spawn()
        .await
        .unwrap()
}

async fn listening(process: &Process, message: &str) -> String {
    let started = Instant::now();
    loop {
        if let Some(address) = address(&process.log(), message) {
            return address;
        }
        assert!(started.elapsed() < START_TIMEOUT && process.is_running(), "{}", process.log());
        // Often, because starts are timed.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Creates credentials over all connections at once; returns how many per second.
async fn rate(address: &str) -> f64 {
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(Connection::open(address).await);
    }
    let body = json!({
        "tenant_id": TENANT, "client_id": CLIENT, "client_secret": "s3cret-one", "secret_expires_at": EXPIRY,
        "name": "MS Graph app"
    })
    .to_string();
    let started = Instant::now();
    let clients = connections.into_iter().map(|mut connection| {
        let body = body.clone();
        tokio::spawn(async move {
            for _ in 0..REQUESTS / CONNECTIONS {
                assert_eq!(connection.send("POST", PATH, &body).await, 201);
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    float(REQUESTS) / started.elapsed().as_secs_f64()
}

/// An open connection.
struct Connection {
    stream: TcpStream,
    address: String,
    received: Vec<u8>,
}

// === impl Connection ===

impl Connection {
    async fn open(address: &str) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, address: address.to_owned(), received: Vec::new() }
    }

    /// Sends a request and reads its whole response; returns the status.
    async fn send(&mut self, method: &str, path: &str, body: &str) -> u16 {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nx-api-key: {KEY}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        );
        self.stream.write_all(request.as_bytes()).await.unwrap();
        self.received.clear();
        loop {
            let text = std::str::from_utf8(&self.received).unwrap_or_default();
            if let Some((head, rest)) = text.split_once("\r\n\r\n") {
                let length = head.split("content-length: ").nth(1).and_then(|it| it.split("\r\n").next());
                if rest.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                    return head.split(' ').nth(1).unwrap().parse().unwrap();
                }
            }
            assert_ne!(
                self.stream.read_buf(&mut self.received).await.unwrap(),
                0,
                "the connection was closed"
            );
        }
    }
}

#[derive(Deserialize)]
struct NewCredential {
    tenant_id: String,
    client_id: String,
    client_secret: String,
    secret_expires_at: String,
    name: String,
}

#[derive(Serialize)]
struct Credential<'a> {
    credential_id: u64,
    tenant_id: &'a str,
    client_id: &'a str,
    secret_expires_at: &'a str,
    name: &'a str,
}

type Map = Arc<Mutex<HashMap<u64, NewCredential>>>;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "it is no test but the process that is measured"]
async fn the_bare_map() {
    if std::env::var_os("BARE").is_none() {
        return;
    }
    let map = Map::default();
    let router = Router::new()
        .route(PATH, post(create).get(async || "{}"))
        .route("/sandbox/reset", post(async |State(map): State<Map>| map.lock().clear()))
        .with_state(map);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", json!({"message": LISTENS, "address": listener.local_addr().unwrap().to_string()}));
    axum::serve(
        axum::serve::ListenerExt::tap_io(listener, |stream| stream.set_nodelay(true).unwrap()),
        router,
    )
    .await
    .unwrap();
}

async fn create(
    State(map): State<Map>,
    Json(new): Json<NewCredential>,
) -> (StatusCode, [(axum::http::HeaderName, &'static str); 1], String) {
    // As many digits as an id of the sandbox.
    let id = getrandom::u64().unwrap() % 9_000_000_000_000_000 + 1_000_000_000_000_000;
    let answer = json_of(id, &new);
    assert!(!new.client_secret.is_empty());
    map.lock().insert(id, new);
    (StatusCode::CREATED, [(CONTENT_TYPE, "application/json")], answer)
}

fn json_of(id: u64, new: &NewCredential) -> String {
    serde_json::to_string(&Credential {
        credential_id: id,
        tenant_id: &new.tenant_id,
        client_id: &new.client_id,
        secret_expires_at: &new.secret_expires_at,
        name: &new.name,
    })
    .unwrap()
}
