//! Hostile tenants: what a tenant with all rights in its own namespace and an outsider can do, all at once, to an operator
//! under the memory limit of the chart. Another tenant's new credentials must become Ready nearly as fast as a bare
//! client makes the same requests beside the same load, and nobody may lose anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt;
use graph_credential_operator::api::{MicrosoftGraphCredential, SealedGraphCredential};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kit::process::Process;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::environment::{ACCOUNT, EXPIRY, Environment, NAMESPACE, TENANT, address, create, wait_for};
use crate::figures::{Figures, float, quantile};
use crate::floor::Floor;
use crate::objects::{Kind, SECRETS, client_id, latencies};
use crate::plan::{Plan, To};
use crate::proc;

/// The namespace of the hostile tenant.
const HOSTILE: &str = "hostile";

/// The namespace of the bare client's objects, which the operator does not watch.
const BARE: &str = "bare";

/// The memory limit in the chart's values, in MiB.
const LIMIT: u64 = 256;

/// Objects that name one Secret. Half of them name an app of the other tenant.
const ON_ONE_SECRET: usize = 10_000;

/// Objects with annotations of nearly the API server's limit.
const FAT: usize = 200;
const FAT_BYTES: usize = 250_000;

/// Secrets of nearly the API server's limit, each with an object.
const HUGE: usize = 50;
const HUGE_BYTES: usize = 1_000_000;

/// Valid objects whose records and statuses the tenant rewrites all the time.
const REWRITTEN: usize = 50;

/// Connections to the operator's own port with half of a request.
const HALF_OPEN: usize = 300;

/// The other tenant's objects before the attack: in the store, and at its account.
const STORED: usize = 20;
const REGISTERED: usize = 5;

/// New objects of the other tenant and of the bare client, in turn.
const NEW: usize = 40;

/// Numbers of the hostile tenant's objects: none of the other tenant's.
const FIRST: usize = 1_000_000;

/// The duration of a token request, because Microsoft never responds at once.
const TOKEN: Duration = Duration::from_millis(50);

pub async fn measure(plan: &Plan, figures: &mut Figures) {
    assert!(chart_values().contains(&format!("memory: {LIMIT}Mi")), "the limit of the chart");
    let environment = Environment::start().await;
    for namespace in [HOSTILE, BARE] {
        environment.create_for_all::<Namespace>(json!({"metadata": {"name": namespace}})).await;
    }
    environment.entra.service_time(TOKEN);
    let watched = [&format!("--watch-namespace={NAMESPACE}"), &format!("--watch-namespace={HOSTILE}")];
    let watched = watched.map(String::as_str);
    let mut process = environment.operator_with_memory(LIMIT, &watched).await;
    assert_eq!(proc::data_limit(process.pid()), Some(LIMIT << 20));
    let (stored, at_account) = (0..STORED, STORED..STORED + REGISTERED);
    let new = at_account.end..at_account.end + NEW;
    environment.account(ACCOUNT).await;
    environment.sources(&Kind::plain(To::Store), 0..new.end).await;
    environment.objects(&Kind::plain(To::Store), stored.clone()).await;
    environment.objects(&Kind::plain(To::Woodpecker), at_account.clone()).await;
    all_ready(&environment, at_account.end).await;

    let before = held(&environment).await;
    assert_eq!(before.len(), STORED + REGISTERED);
    let attack = Arc::new(Attack::prepare(&environment, plan.sized(ON_ONE_SECRET)));
    let _half_open = half_open(&process).await;
    let attacking = tokio::spawn(attack.clone().run());
    attack.is_under_way().await;
    let (took, bare) = in_turn(&environment, new.clone()).await;
    let is_growing = attack.created.load(Ordering::Relaxed) < FAT + HUGE + REWRITTEN + attack.on_one_secret;
    assert!(is_growing || plan.is_small, "the attack lasts longer than the measurement");
    let mut measured = latencies("operator_", &took);
    measured.extend("", &latencies("bare_", &bare));
    measured.set("ratio_p50", quantile(&took, 0.5) / quantile(&bare, 0.5));
    measured.set("hostile_objects", float(attack.created.load(Ordering::Relaxed)));

    // A rotation during the attack. The tenant has tried the same apps with a wrong secret.
    environment.rotate(stored).await;
    rotated(&environment, STORED).await;
    attack.is_over.store(true, Ordering::Relaxed);
    attacking.await.expect("the attack ends");
    let attempts = [&attack.forged, &attack.rewritten].map(|count| count.load(Ordering::Relaxed));
    assert!(attempts.iter().all(|count| *count > 0), "statuses and records were written: {attempts:?}");
    assert!(process.is_running(), "the operator is still the same process:\n{}", process.log());
    measured.set("peak_mib", proc::peak(process.pid()));
    process.stop().await.expect("the operator ends");
    let mut process = environment.operator_with_memory(LIMIT, &watched).await;
    all_ready(&environment, new.end).await;
    measured.set("restart_peak_mib", proc::peak(process.pid()));
    let remaining = held(&environment).await;
    measured.set("lost", float(before.iter().filter(|id| !remaining.contains(*id)).count()));
    process.stop().await.expect("the operator ends");
    measured.print("hostile/");
    figures.extend("hostile/", &measured);
    environment.end().await;
}

fn chart_values() -> String {
    std::fs::read_to_string(kit::workspace().join("deploy/chart/values.yaml")).unwrap()
}

/// New objects of the other tenant, and the same requests by a bare client, in turn. How long each took, in
/// milliseconds.
async fn in_turn(environment: &Environment, new: std::ops::Range<usize>) -> (Vec<f64>, Vec<f64>) {
    let (mut took, mut bare) = (Vec::new(), Vec::new());
    let floor = Floor::bare(environment, BARE);
    let values = json!({"client_secret": SECRETS[0], "secret_expires_at": EXPIRY});
    environment.create_in::<Secret>(BARE, json!({"metadata": {"name": "s"}, "stringData": values})).await;
    let kind = Kind::plain(To::Store);
    for number in new {
        took.extend(environment.one_at_a_time(&kind, number..number + 1).await);
        let started = Instant::now();
        let object = credential(&format!("m-{number}"), &client_id(number), "s", json!({}));
        floor.reconcile(&environment.create_in(BARE, object).await).await;
        bare.push(started.elapsed().as_secs_f64() * 1000.0);
    }
    (took, bare)
}

async fn all_ready(environment: &Environment, number: usize) {
    let all = || async { (environment.ready().await == number).then_some(()) };
    wait_for("the other tenant's objects are ready", all, String::new).await;
}

/// The other tenant's credentials at Woodpecker, by id, and its records, by uid.
async fn held(environment: &Environment) -> Vec<String> {
    let records = environment.api::<SealedGraphCredential>().list(&ListParams::default()).await.unwrap();
    let records = records.items.into_iter().filter_map(|record| record.metadata.uid);
    let credentials = environment.woodpecker.credentials(ACCOUNT);
    records.chain(credentials.iter().map(|it| it.credential_id.to_string())).collect()
}

/// Waits until the store has the other secret of the first `number` objects.
async fn rotated(environment: &Environment, number: usize) {
    let records = environment.api::<SealedGraphCredential>();
    let all = || async {
        let listed = records.list(&ListParams::default()).await.unwrap();
        let changed = listed.items.iter().filter(|record| record.metadata.generation > Some(1));
        (changed.count() >= number).then_some(())
    };
    wait_for("the rotated secrets are stored", all, String::new).await;
}

fn credential(name: &str, client: &str, secret: &str, metadata: Value) -> Value {
    let mut metadata = metadata;
    metadata["name"] = json!(name);
    json!({"metadata": metadata, "spec": {
        "tenantId": TENANT, "clientId": client, "secretRef": {"name": secret},
        "destination": {"store": {}}, "deletionPolicy": "Delete"
    }})
}

/// Connections to the operator with half of a request head.
async fn half_open(process: &Process) -> Vec<TcpStream> {
    let address = address(&process.log(), "serving probes and metrics").unwrap();
    let mut all = Vec::new();
    for _ in 0..HALF_OPEN {
        let mut connection = TcpStream::connect(&address).await.unwrap();
        // The operator may have closed it for another one.
        let _is_open = connection.write_all(b"GET /metrics HTTP/1.1\r\nhost: ").await;
        all.push(connection);
    }
    all
}

/// What the hostile tenant does.
struct Attack {
    client: Client,
    /// Address and credentials of the other tenant's account.
    base_url: String,
    ids: Vec<i64>,
    on_one_secret: usize,
    created: AtomicUsize,
    /// Statuses and records that were written.
    forged: AtomicUsize,
    rewritten: AtomicUsize,
    is_over: AtomicBool,
}

impl Attack {
    fn prepare(environment: &Environment, on_one_secret: usize) -> Self {
        for number in 0..REWRITTEN {
            let client = client_id(FIRST + number);
            environment.entra.add_app(TENANT, &client);
            environment.entra.set_secrets(TENANT, &client, &SECRETS);
        }
        let credentials = environment.woodpecker.credentials(ACCOUNT);
        Self {
            client: environment.client.clone(),
            base_url: environment.woodpecker.base_url(),
            ids: credentials.iter().map(|credential| credential.credential_id).collect(),
            on_one_secret,
            created: AtomicUsize::new(0),
            forged: AtomicUsize::new(0),
            rewritten: AtomicUsize::new(0),
            is_over: AtomicBool::new(false),
        }
    }

    /// Waits until everything but the long part has been created.
    async fn is_under_way(&self) {
        let least = FAT + HUGE + REWRITTEN + self.on_one_secret / 20;
        let enough = || async { (self.created.load(Ordering::Relaxed) >= least).then_some(()) };
        wait_for("the attack is under way", enough, String::new).await;
    }

    async fn run(self: Arc<Self>) {
        self.secret("valid", SECRETS[0]).await;
        self.secret("wrong", "wrong~secret-of-forty-characters-1").await;
        tokio::join!(self.create_fat(), self.create_huge(), self.create_valid());
        tokio::join!(self.rewrite(), self.create_on_one_secret());
    }

    async fn secret(&self, name: &str, secret: &str) {
        let values = json!({"client_secret": secret, "secret_expires_at": EXPIRY});
        let secret = json!({"metadata": {"name": name}, "stringData": values});
        create::<Secret>(&self.client, HOSTILE, secret).await;
    }

    async fn create(&self, object: Value) {
        create::<MicrosoftGraphCredential>(&self.client, HOSTILE, object).await;
        self.created.fetch_add(1, Ordering::Relaxed);
    }

    async fn create_fat(&self) {
        let fat = json!({"annotations": {"example.com/notes": "x".repeat(FAT_BYTES)}});
        for number in 0..FAT {
            let client = client_id(2 * FIRST + number);
            self.create(credential(&format!("fat-{number}"), &client, "wrong", fat.clone())).await;
        }
    }

    async fn create_huge(&self) {
        for number in 0..HUGE {
            let name = format!("huge-{number}");
            self.secret(&name, &"x".repeat(HUGE_BYTES)).await;
            self.create(credential(&name, &client_id(3 * FIRST + number), &name, json!({}))).await;
        }
    }

    async fn create_valid(&self) {
        for number in 0..REWRITTEN {
            let client = client_id(FIRST + number);
            self.create(credential(&format!("valid-{number}"), &client, "valid", json!({}))).await;
        }
    }

    async fn create_on_one_secret(&self) {
        let all = futures::stream::iter(0..self.on_one_secret);
        all.for_each_concurrent(8, |number| async move {
            if self.is_over.load(Ordering::Relaxed) {
                return;
            }
            let client = if number % 2 == 0 { number % STORED } else { 4 * FIRST + number };
            self.create(credential(&format!("one-{number}"), &client_id(client), "wrong", json!({}))).await;
        })
        .await;
    }

    /// Rewrites records, and forges registrations in statuses: the other tenant's records and credentials. Deletes an
    /// object with such a status now and then.
    async fn rewrite(&self) {
        let objects: Api<MicrosoftGraphCredential> = Api::namespaced(self.client.clone(), HOSTILE);
        let records: Api<SealedGraphCredential> = Api::namespaced(self.client.clone(), HOSTILE);
        let params = PatchParams::default();
        for round in 0_usize.. {
            if self.is_over.load(Ordering::Relaxed) {
                return;
            }
            let number = round % REWRITTEN;
            let name = format!("valid-{number}");
            let registration = json!({
                "account": {"namespace": NAMESPACE, "name": ACCOUNT}, "baseUrl": self.base_url,
                "credentialId": self.ids[round % self.ids.len()], "ownership": "Created", "name": "x",
                "fingerprint": "k:0123456789abcdef0123456789abcdef",
                "expiresAt": EXPIRY, "registrationTime": "2026-11-24T08:00:00Z"
            });
            let forged = json!({"status": {
                "registration": registration, "previousRegistrations": [registration],
                "lastVerifiedTime": "2036-11-24T08:00:00Z", "nextAttemptTime": "2036-11-24T08:00:00Z"
            }});
            // The object or its record may not exist at the moment.
            if objects.patch_status(&name, &params, &Patch::Merge(forged)).await.is_ok() {
                self.forged.fetch_add(1, Ordering::Relaxed);
            }
            let envelope = json!({"spec": {"envelope": "AAAA", "name": "rewritten"}});
            for record in records.list(&ListParams::default().limit(3)).await.unwrap() {
                let name = record.name_any();
                if records.patch(&name, &params, &Patch::Merge(&envelope)).await.is_ok() {
                    self.rewritten.fetch_add(1, Ordering::Relaxed);
                }
            }
            if round % 10 == 9 {
                let _is_deleted = objects.delete(&name, &DeleteParams::default()).await;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
