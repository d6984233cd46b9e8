//! What the REST API costs: the same requests against `serve` and against a bare axum handler that makes the same calls to
//! the API server and to Microsoft, and nothing else: no keys, no checks, no sealing. Run with `make bench`; with
//! `BENCH_REPORT` the figures are written to that file.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, missing_docs)]
// A report of a few lines is put together in the shortest way.
#![allow(clippy::format_push_string)]

mod bare;
#[allow(dead_code, unused_imports)]
#[path = "../promises/serves/http.rs"]
mod http;
#[allow(dead_code, unused_imports)]
#[path = "../promises/stage/mod.rs"]
mod stage;

use std::time::{Duration, Instant};

use kit::entra::Fault;
use kit::process::Process;
use serde_json::{Value, json};

use crate::stage::{EXPIRY, Stage, TENANT, address, ask, eventually};

/// Path of all credentials.
const PATH: &str = "/rest/v2/mailboxes/microsoft/credentials";

/// The key of the stage's namespace.
const KEY: &str = "4711.a-key-of-the-stage";

/// Clients at the same time.
const CLIENTS: usize = 8;

/// Requests of each client, of each kind and in each round.
const EACH: usize = 25;

/// Rounds, by turns: what disturbs the machine disturbs both.
const ROUNDS: usize = 2;

/// What `serve` must reach of the bare handler's throughput, also on a busy machine.
const LEAST: f64 = 0.5;

/// How long requests took.
#[derive(Default)]
struct Figures {
    latencies: Vec<Duration>,
    took: Duration,
}

/// Whom requests go to.
struct Server {
    name: &'static str,
    address: String,
    create: Figures,
    list: Figures,
}

#[tokio::test(flavor = "multi_thread")]
async fn figures() {
    let (stage, serving) = serve().await;
    let (bare_stage, bare_process) = bare::start().await;
    let bare_address = eventually("the bare handler listens", || async {
        bare::address(&bare_process.log()).ok_or_else(|| bare_process.log())
    })
    .await;
    let address = address(&serving, "serving the credentials REST API").unwrap();
    let server =
        |name, address| Server { name, address, create: Figures::default(), list: Figures::default() };
    let mut servers = [server("serve", address), server("bare axum handler", bare_address)];
    for server in &mut servers {
        // Warm, and not counted.
        load(&server.address, Kind::Create, 1).await;
    }
    for _ in 0..ROUNDS {
        for server in &mut servers {
            server.create.add(load(&server.address, Kind::Create, EACH).await);
            server.list.add(load(&server.address, Kind::List, EACH).await);
        }
    }
    // Whoever looks after the records may prove one before it is noted that it was proved.
    let asked = [&stage, &bare_stage].map(|stage| stage.entra.requests().len());
    assert!(asked[0].abs_diff(asked[1]) <= CLIENTS, "both asked about as often: {asked:?}");
    let report = report(&servers);
    println!("{report}");
    if let Some(path) = std::env::var_os("BENCH_REPORT") {
        std::fs::write(kit::workspace().join(path), report).expect("the report can be written");
    }
    let [serve, bare] = &servers;
    for (kind, ratio) in [("POST", serve.create.ratio(&bare.create)), ("GET", serve.list.ratio(&bare.list))] {
        assert!(ratio >= LEAST, "{kind}: {ratio:.2} of the bare handler's throughput");
    }
}

/// `serve` on a stage of its own, with a Microsoft that knows every app.
async fn serve() -> (Stage, Process) {
    let mut stage = Stage::bare().await;
    stage.time_scale = 1;
    stage.log_filter = "info";
    know_every_app(&stage);
    let entry = format!("{}.ci", stage.namespace);
    stage.secret("graph-credential-operator-api-keys", &[(&entry, KEY)]).await;
    let server = stage.launch_with(&["serve", "--rest-listen", "127.0.0.1:0"]).await;
    eventually("the API is served", || async {
        let (status, text) = ask(&server, "/readyz").await;
        if status == 200 { Ok(()) } else { Err(format!("{text}\n{}", server.log())) }
    })
    .await;
    (stage, server)
}

/// So that no app is tried more often than one may be.
fn know_every_app(stage: &Stage) {
    let token =
        json!({"token_type": "Bearer", "expires_in": 3599, "access_token": "e30.e30.e30"}).to_string();
    let is_json = vec![("content-type".to_owned(), "application/json".to_owned())];
    stage.entra.fail_always(Fault::Status(200, token, is_json));
}

#[derive(Clone, Copy)]
enum Kind {
    Create,
    List,
}

/// The same requests by all clients at once.
async fn load(address: &str, kind: Kind, each: usize) -> Figures {
    let start = Instant::now();
    let clients = (0..CLIENTS).map(|_| {
        let address = address.to_owned();
        tokio::spawn(async move {
            let mut latencies = Vec::new();
            for _ in 0..each {
                let start = Instant::now();
                request(&address, kind).await;
                latencies.push(start.elapsed());
            }
            latencies
        })
    });
    let latencies = futures::future::join_all(clients).await.into_iter().map(Result::unwrap);
    Figures { latencies: latencies.flatten().collect(), took: start.elapsed() }
}

async fn request(address: &str, kind: Kind) {
    let headers = [("x-api-key", KEY), ("content-type", "application/json")];
    let (method, body, expected) = match kind {
        Kind::Create => ("POST", sample().to_string(), 201),
        Kind::List => ("GET", String::new(), 200),
    };
    let answer = http::send(address, method, PATH, &headers, body.as_bytes()).await;
    assert_eq!(answer.status, expected, "{answer:?}");
}

fn sample() -> Value {
    let client = format!("00000000-0000-4000-8000-{:012x}", getrandom::u64().unwrap() & 0xffff_ffff_ffff);
    json!({
        "tenant_id": TENANT, "client_id": client, "client_secret": "s3cret-one", "secret_expires_at": EXPIRY,
        "name": "MS Graph app"
    })
}

fn report(servers: &[Server; 2]) -> String {
    let mut report = format!(
        "# What the REST API costs\n\nWritten by `make bench`: `serve` beside a bare axum handler that makes the same calls to the API \
         server and to Microsoft (a double) for each request, and nothing else: no API keys, no checks, no sealing, no \
         log. Both are optimised builds on one machine with a real etcd and kube-apiserver; {CLIENTS} clients at the same \
         time, a connection for each request, by turns. A POST is seven calls; a GET lists all that was made before.\n\n\
         | request | server | requests a second | median | 99 % within |\n| --- | --- | --- | --- | --- |\n"
    );
    for (kind, figures) in [
        ("POST", servers.each_ref().map(|server| (server.name, &server.create))),
        ("GET", servers.each_ref().map(|server| (server.name, &server.list))),
    ] {
        for (name, figures) in figures {
            let (rate, median, tail) = (figures.rate(), figures.quantile(0.5), figures.quantile(0.99));
            report += &format!("| {kind} | {name} | {rate:.0} | {median:.1} ms | {tail:.1} ms |\n");
        }
        let [(_, serve), (_, bare)] = figures;
        report += &format!(
            "| {kind} | ratio | {:.2} | {:.2} | {:.2} |\n",
            serve.ratio(bare),
            serve.slower(bare, 0.5),
            serve.slower(bare, 0.99)
        );
    }
    report
}

// === impl Figures ===

impl Figures {
    fn add(&mut self, other: Self) {
        self.latencies.extend(other.latencies);
        self.took += other.took;
    }

    #[allow(clippy::cast_precision_loss)]
    fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.took.as_secs_f64()
    }

    /// Milliseconds.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    fn quantile(&self, part: f64) -> f64 {
        let mut sorted = self.latencies.clone();
        sorted.sort();
        let at = ((sorted.len() - 1) as f64 * part).round() as usize;
        sorted[at].as_secs_f64() * 1000.0
    }

    fn ratio(&self, bare: &Self) -> f64 {
        self.rate() / bare.rate()
    }

    fn slower(&self, bare: &Self, part: f64) -> f64 {
        self.quantile(part) / bare.quantile(part)
    }
}
