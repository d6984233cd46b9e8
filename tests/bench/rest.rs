//! The credentials REST API beside a bare axum handler that makes the same calls, with few records in the account and with many.

use std::collections::HashSet;
use std::time::Instant;

use graph_credential_operator::api::SealedGraphCredential;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kit::entra::Fault;
use kit::process::Process;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::environment::{EXPIRY, Environment, HOME, NAMESPACE, TENANT, address, typed, wait_for};
use crate::figures::{Figures, float};
use crate::plan::Plan;
use crate::{bare, http};

/// Path of all credentials.
pub const PATH: &str = "/rest/v2/mailboxes/microsoft/credentials";

/// The API key of the namespace.
const KEY: &str = "4711.a-key-of-the-namespace";

/// The bare handler's namespace.
pub const BARE: &str = "bare";

/// The two numbers of records in the account; the limit is a thousand.
const RECORDS: [usize; 2] = [10, 900];

/// Clients at the same time.
const CLIENTS: usize = 8;

/// Requests of each client, for each kind and round.
const EACH: usize = 12;

/// Rounds alternate between the servers, so that a disturbance of the machine affects both.
const ROUNDS: usize = 3;

/// The recipient of requests.
struct Server {
    name: &'static str,
    address: String,
    records: Api<SealedGraphCredential>,
}

#[derive(Clone, Copy)]
enum Kind {
    Post,
    Get,
}

/// The durations of requests of one kind, in milliseconds.
#[derive(Default)]
struct Took {
    each: Vec<f64>,
    all: f64,
}

pub async fn measure(plan: &Plan, figures: &mut Figures) {
    let environment = Environment::start().await;
    let namespaces: Api<Namespace> = Api::all(environment.client.clone());
    let namespace = typed(json!({"metadata": {"name": BARE}}));
    namespaces.create(&PostParams::default(), &namespace).await.unwrap();
    // A new app each time, because attempts for one app are limited.
    let token =
        json!({"token_type": "Bearer", "expires_in": 3599, "access_token": "e30.e30.e30"}).to_string();
    let is_json = vec![("content-type".to_owned(), "application/json".to_owned())];
    environment.entra.fail_always(Fault::Status(200, token, is_json));
    let processes = [serve(&environment).await, bare::start(&environment).await];
    let listens = ["serving the credentials REST API", bare::LISTENS];
    let mut servers = Vec::new();
    for ((process, listens), (name, namespace)) in
        processes.iter().zip(listens).zip([("serve", NAMESPACE), ("bare", BARE)])
    {
        let found = || async { address(&process.log(), listens) };
        let address = wait_for("it listens", found, || process.log()).await;
        servers.push(Server {
            name,
            address,
            records: Api::namespaced(environment.client.clone(), namespace),
        });
    }
    let mut rest = Figures::default();
    for records in RECORDS {
        rest.extend(&format!("{records}/"), &at(&servers, plan.sized(records)).await);
    }
    let mean = |records: usize| rest.get(&format!("{records}/serve/POST/mean_ms")).unwrap();
    rest.set("growth/POST/mean_ms", mean(RECORDS[1]) / mean(RECORDS[0]));
    rest.print("rest/");
    figures.extend("rest/", &rest);
    drop(processes);
    environment.end().await;
}

/// Both servers in rotation, with this number of records in their accounts.
async fn at(servers: &[Server], records: usize) -> Figures {
    for server in servers {
        while server.count().await < records {
            let missing = records - server.count().await;
            server.load(Kind::Post, missing.div_ceil(CLIENTS)).await;
        }
    }
    let mut took: Vec<[Took; 2]> = servers.iter().map(|_| Default::default()).collect();
    for _ in 0..ROUNDS {
        for (server, [posts, gets]) in servers.iter().zip(&mut took) {
            gets.add(server.load(Kind::Get, EACH).await);
            let before = server.names().await;
            posts.add(server.load(Kind::Post, EACH).await);
            server.remove_all_but(&before).await;
        }
    }
    let mut figures = Figures::default();
    for (server, took) in servers.iter().zip(&took) {
        for (kind, took) in ["POST", "GET"].into_iter().zip(took) {
            figures.extend(&format!("{}/{kind}/", server.name), &took.figures());
        }
    }
    for kind in ["POST", "GET"] {
        for what in ["per_second", "p50_ms", "p99_ms"] {
            let of = |server: &str| figures.get(&format!("{server}/{kind}/{what}")).unwrap();
            figures.set(format!("ratio/{kind}/{what}"), of("serve") / of("bare"));
        }
    }
    figures
}

async fn serve(environment: &Environment) -> Process {
    let keys = json!({"metadata": {"name": "graph-credential-operator-api-keys"},
        "stringData": {(format!("{NAMESPACE}.ci")): KEY}});
    environment.create_in::<Secret>(HOME, keys).await;
    let watched = format!("--watch-namespace={NAMESPACE}");
    environment.program(&["serve", "--rest-bind-address", "127.0.0.1:0", &watched]).await
}

fn sample() -> Value {
    let client = format!("00000000-0000-4000-8000-{:012x}", getrandom::u64().unwrap() & 0xffff_ffff_ffff);
    json!({
        "tenant_id": TENANT, "client_id": client, "client_secret": "s3cret-one", "secret_expires_at": EXPIRY,
        "name": "MS Graph app"
    })
}

/// Returns the duration, in milliseconds.
async fn request(address: &str, kind: Kind) -> f64 {
    let headers = [("x-api-key", KEY), ("content-type", "application/json")];
    let (method, body, expected) = match kind {
        Kind::Post => ("POST", sample().to_string(), 201),
        Kind::Get => ("GET", String::new(), 200),
    };
    let started = Instant::now();
    let response = http::send(address, method, PATH, &headers, body.as_bytes()).await;
    let took = started.elapsed().as_secs_f64() * 1000.0;
    assert_eq!(response.status, expected, "{response:?}");
    took
}

// === impl Server ===

impl Server {
    /// The same requests by all clients at once.
    async fn load(&self, kind: Kind, each: usize) -> Took {
        let started = Instant::now();
        let clients = (0..CLIENTS).map(|_| {
            let address = self.address.clone();
            tokio::spawn(async move {
                let mut took = Vec::new();
                for _ in 0..each {
                    took.push(request(&address, kind).await);
                }
                took
            })
        });
        let each: Vec<f64> =
            futures::future::join_all(clients).await.into_iter().flat_map(Result::unwrap).collect();
        Took { each, all: started.elapsed().as_secs_f64() * 1000.0 }
    }

    async fn names(&self) -> HashSet<String> {
        let list = self.records.list_metadata(&ListParams::default()).await.unwrap();
        list.items.iter().map(ResourceExt::name_any).collect()
    }

    async fn count(&self) -> usize {
        self.names().await.len()
    }

    /// Each round must begin with the same number of records.
    async fn remove_all_but(&self, these: &HashSet<String>) {
        for name in self.names().await.difference(these) {
            self.records.delete(name, &DeleteParams::default()).await.unwrap();
        }
    }
}

// === impl Took ===

impl Took {
    fn add(&mut self, other: Self) {
        self.each.extend(other.each);
        self.all += other.all;
    }

    fn figures(&self) -> Figures {
        let mut figures = Figures::default();
        figures.set("per_second", float(self.each.len()) * 1000.0 / self.all);
        figures.set("mean_ms", self.each.iter().sum::<f64>() / float(self.each.len()));
        figures.extend("", &crate::objects::latencies("", &self.each));
        figures
    }
}
