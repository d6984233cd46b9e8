//! How the operator does with many objects: figures and ratios of one run, by the real operator on a real API
//! server. Run with `make scale`; each figure that has a bound is checked against it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, missing_docs)]

#[allow(dead_code)]
#[path = "../promises/stage.rs"]
mod stage;

use std::time::{Duration, Instant};

use graph_credential_operator::resources::conditions::ConditionStatus;
use graph_credential_operator::resources::{MicrosoftGraphCredential, WoodpeckerAccount};
use kit::woodpecker::{Fault, Op};
use kube::api::ListParams;
use serde_json::json;

use crate::stage::{API_KEY, EXPIRY, Stage, TENANT};

/// Objects at one account.
const MANY: usize = 1000;

/// What one request takes at Woodpecker.
const SERVICE: Duration = Duration::from_millis(50);

/// How long all of it may take at most.
const PATIENCE: Duration = Duration::from_mins(15);

fn client_id(number: usize) -> String {
    format!("00000000-0000-4000-8000-{number:012}")
}

/// Applies an object for an app of its own.
async fn apply(stage: &Stage, number: usize, account: &str) {
    let client = client_id(number);
    stage.entra.add_app(TENANT, &client);
    stage.entra.set_secrets(TENANT, &client, &["s3cret-one"]);
    let spec = json!({"clientId": client, "destination": {"woodpecker": {"accountRef": {"name": account}}}});
    stage.credential(&format!("app-{number}"), spec).await;
}

/// How many objects of the namespace are Ready.
async fn ready(stage: &Stage) -> usize {
    let objects = stage.api::<MicrosoftGraphCredential>().list(&ListParams::default()).await.unwrap();
    let is_ready = |object: &&MicrosoftGraphCredential| {
        stage::condition(object, graph_credential_operator::resources::conditions::ConditionType::Ready)
            .is_some_and(|ready| ready.status == ConditionStatus::True)
    };
    objects.items.iter().filter(is_ready).count()
}

async fn wait_for(stage: &Stage, accounts: &[String], number: usize) {
    let started = Instant::now();
    let mut told = 0;
    loop {
        // The whole list weighs on the API server: it is asked for in the end alone.
        let registered: usize =
            accounts.iter().map(|account| stage.woodpecker.credentials(account).len()).sum();
        let ready = if registered < number { registered } else { ready(stage).await };
        if ready >= number {
            return;
        }
        if ready >= told + 100 {
            println!("  {ready} of {number} after {:.1} s", started.elapsed().as_secs_f64());
            told = ready;
        }
        assert!(started.elapsed() < PATIENCE, "{ready} of {number} after {PATIENCE:?}\n{}", stage.log());
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

fn throttled(stage: &Stage, account: &str) -> usize {
    stage.woodpecker.requests(account).iter().filter(|request| request.status == Some(429)).count()
}

/// A thousand new objects at one account, an urgent repair in the middle of them, and a restart afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_objects_at_one_account() {
    let mut stage = Stage::bare().await;
    stage.time_scale = 1;
    stage.log_filter = "warn,graph_credential_operator=info";
    stage.woodpecker.service_time(SERVICE);
    stage.woodpecker.enforce_concurrency(true);
    stage.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    // What is registered with this date is repaired rather than rotated.
    let soon = (jiff::Timestamp::now() + Duration::from_hours(40)).to_string();
    stage.secret("urgent", &[("client_secret", "s3cret-one"), ("secret_expires_at", &soon)]).await;
    stage.account("agency", json!({})).await;
    stage.start_operator().await;
    // One that is registered already and will have to be repaired.
    let client = client_id(MANY);
    stage.entra.add_app(TENANT, &client);
    stage.entra.set_secrets(TENANT, &client, &["s3cret-one"]);
    stage.credential("urgent", json!({"clientId": client, "secretRef": {"name": "urgent"}})).await;
    stage.wait_until_ready("urgent").await;

    println!("one account, {MANY} new objects, {SERVICE:?} a request:");
    for number in 0..MANY {
        apply(&stage, number, "agency").await;
    }
    let before = stage.woodpecker.requests("agency").len();
    let busy_before = stage.woodpecker.busy("agency");
    let started = Instant::now();
    stage::eventually("the queue is long", || async {
        let (_, metrics) = stage.get("/metrics").await;
        let waiting = metrics
            .lines()
            .find_map(|line| line.strip_prefix("mgc_lane_waiting{class=\"new\"} ")?.parse::<usize>().ok());
        if waiting.is_some_and(|waiting| waiting > MANY / 4) { Ok(()) } else { Err(format!("{waiting:?}")) }
    })
    .await;
    urgent_repair(&stage, &client).await;
    wait_for(&stage, &["agency".into()], MANY + 1).await;
    let took = started.elapsed();
    let requests = stage.woodpecker.requests("agency").len() - before;
    let busy = stage.woodpecker.busy("agency") - busy_before;
    let idle = 1.0 - busy.as_secs_f64() / took.as_secs_f64();
    println!(
        "  {requests} requests in {:.1} s: Woodpecker without one {:.1} % of the time, {:.1} % of it above {SERVICE:?} each",
        took.as_secs_f64(),
        idle * 100.0,
        (1.0 - (SERVICE * u32::try_from(requests).unwrap()).as_secs_f64() / took.as_secs_f64()) * 100.0
    );
    println!(
        "  most in flight {}, answers 429 {}",
        stage.woodpecker.max_in_flight("agency"),
        throttled(&stage, "agency")
    );
    assert_eq!((stage.woodpecker.max_in_flight("agency"), throttled(&stage, "agency")), (1, 0));
    assert!(idle < 0.1, "idle {idle:.3}");
    restart(&mut stage).await;
}

/// The registered secret is known to be bad, and a new one is proved: served within three requests.
async fn urgent_repair(stage: &Stage, client: &str) {
    stage.entra.add_secret(TENANT, client, "s3cret-two");
    let sent = stage.woodpecker.requests("agency").len();
    stage.secret("urgent", &[("client_secret", "s3cret-two"), ("secret_expires_at", EXPIRY)]).await;
    let id = stage.read("urgent").await.status.unwrap().credential_id.unwrap();
    let waited_from = stage::eventually("its proof was made", || async {
        let proofs = stage.entra.count(TENANT, client);
        if proofs >= 2 {
            Ok(stage.woodpecker.requests("agency").len())
        } else {
            Err(format!("{proofs} after {sent}"))
        }
    })
    .await;
    stage::eventually("the repair is served", || async {
        if stage.woodpecker.secret_matches("agency", id, "s3cret-two") {
            Ok(())
        } else {
            Err("not yet".into())
        }
    })
    .await;
    let requests = stage.woodpecker.requests("agency");
    let served = requests.iter().position(|request| request.op == Op::Update).unwrap();
    println!("  an urgent repair was served after {} other requests", served.saturating_sub(waited_from));
}

/// With everything settled a restart costs one listing an account.
async fn restart(stage: &mut Stage) {
    stage.stop_operator().await;
    let (tokens, requests) = (stage.entra.requests().len(), stage.woodpecker.requests("agency").len());
    let mark = stage.cluster.audit_mark().unwrap();
    let started = Instant::now();
    stage.start_operator().await;
    // Each object has had its pass once the counter says so.
    stage::eventually("every object was looked at", || async {
        let (_, metrics) = stage.get("/metrics").await;
        let passes: u64 = metrics
            .lines()
            .filter(|line| {
                line.starts_with("controller_runtime_reconcile_total{controller=\"microsoftgraphcredential\"")
            })
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
            .sum();
        if passes > MANY as u64 { Ok(()) } else { Err(format!("{passes} passes")) }
    })
    .await;
    let took = started.elapsed();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let writes: Vec<_> =
        stage.status_writes(mark).into_iter().filter(|write| !write.contains("leases")).collect();
    let sent = stage.woodpecker.requests("agency").len() - requests;
    println!(
        "  restart: {:.1} s, {} token calls, {sent} requests to Woodpecker, {} writes",
        took.as_secs_f64(),
        stage.entra.requests().len() - tokens,
        writes.len()
    );
    assert_eq!(stage.entra.requests().len(), tokens, "no token call");
    assert!(sent <= 1, "one listing at most: {sent}");
    assert!(writes.is_empty(), "{writes:#?}");
}

/// Twenty accounts side by side, one of them down and one slow.
#[tokio::test(flavor = "multi_thread")]
async fn twenty_accounts_side_by_side() {
    const ACCOUNTS: usize = 20;
    const EACH: usize = 5;
    let mut stage = Stage::bare().await;
    stage.time_scale = 1;
    stage.log_filter = "warn,graph_credential_operator=info";
    stage.woodpecker.service_time(SERVICE);
    stage.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    for number in 0..ACCOUNTS {
        let (name, key) = (format!("account-{number}"), format!("{API_KEY}-{number}"));
        stage.woodpecker.add_account(&name, &key);
        stage.secret(&format!("{name}-key"), &[("api_key", &key)]).await;
        stage.apply_account(&name, json!({})).await;
    }
    stage.start_operator().await;
    for number in 0..ACCOUNTS {
        stage.wait_for_account(&format!("account-{number}"), ConditionStatus::True, "Authenticated").await;
    }
    for op in [Op::List, Op::Create, Op::Rename] {
        stage.woodpecker.fail_account_always("account-0", op, Fault::Html502);
        stage.woodpecker.fail_account_always("account-1", op, Fault::Slow(Duration::from_secs(3)));
    }
    println!("{ACCOUNTS} accounts with {EACH} new objects each, one account down and one slow:");
    for number in 0..ACCOUNTS * EACH {
        apply(&stage, number, &format!("account-{}", number % ACCOUNTS)).await;
    }
    let started = Instant::now();
    let others: Vec<_> = (2..ACCOUNTS).map(|number| format!("account-{number}")).collect();
    wait_for(&stage, &others, (ACCOUNTS - 2) * EACH).await;
    println!("  the others are Ready after {:.1} s", started.elapsed().as_secs_f64());
    let alone = stage.woodpecker.credentials("account-1").len();
    println!("  meanwhile the slow one has made {alone}");
    for number in 2..ACCOUNTS {
        assert_eq!(stage.woodpecker.credentials(&format!("account-{number}")).len(), EACH);
        assert_eq!(stage.woodpecker.max_in_flight(&format!("account-{number}")), 1);
    }
    let down: WoodpeckerAccount = stage.api().get("account-0").await.unwrap();
    println!("  the one that is down says {:?}", down.status.unwrap().conditions[0].reason);
}
