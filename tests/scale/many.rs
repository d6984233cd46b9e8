//! Many objects at one account.

use std::time::{Duration, Instant};

use kit::woodpecker::Op;
use serde_json::json;

use crate::stage::{EXPIRY, Stage, TENANT, eventually};
use crate::{Report, SERVICE, apply, client_id, wait_for};

/// Objects at the account.
const MANY: usize = 1000;

/// How long Woodpecker may be without a request at most, as a share of the time in which there is work.
const MOST_IDLE: f64 = 0.1;

/// How many requests may be served before an urgent one at most.
const MOST_BEFORE_URGENT: usize = 3;

fn throttled(stage: &Stage, account: &str) -> usize {
    stage.woodpecker.requests(account).iter().filter(|request| request.status == Some(429)).count()
}

/// A thousand new objects at one account, an urgent repair in the middle of them, and a restart afterwards.
pub(crate) async fn a_thousand_objects_at_one_account(report: &mut Report) {
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

    report.section(&format!("One account, {MANY} new objects"));
    for number in 0..MANY {
        apply(&stage, number, "agency").await;
    }
    let before = stage.woodpecker.requests("agency").len();
    let busy_before = stage.woodpecker.busy("agency");
    let started = Instant::now();
    eventually("the queue is long", || async {
        let (_, metrics) = stage.get("/metrics").await;
        let waiting = metrics
            .lines()
            .find_map(|line| line.strip_prefix("mgc_lane_waiting{class=\"new\"} ")?.parse::<usize>().ok());
        if waiting.is_some_and(|waiting| waiting > MANY / 4) { Ok(()) } else { Err(format!("{waiting:?}")) }
    })
    .await;
    let served_before = urgent_repair(&stage, &client).await;
    report.figure(&format!("an urgent repair, with {} new ones waiting, was served after {served_before} other requests (bound: {MOST_BEFORE_URGENT})", MANY / 4));
    assert!(served_before <= MOST_BEFORE_URGENT, "{served_before}");
    wait_for(&stage, &["agency".into()], MANY + 1).await;
    let took = started.elapsed();
    let requests = stage.woodpecker.requests("agency").len() - before;
    let busy = stage.woodpecker.busy("agency").saturating_sub(busy_before);
    let idle = 1.0 - busy.as_secs_f64() / took.as_secs_f64();
    let ideal = SERVICE * u32::try_from(requests).unwrap();
    report.figure(&format!(
        "{requests} requests in {:.1} s: Woodpecker was without a request {:.1} % of the time (bound: {:.0} %); against {SERVICE:?} for each request it all took {:.2} times as long",
        took.as_secs_f64(),
        idle * 100.0,
        MOST_IDLE * 100.0,
        took.as_secs_f64() / ideal.as_secs_f64()
    ));
    let (most, turned_away) = (stage.woodpecker.max_in_flight("agency"), throttled(&stage, "agency"));
    report.figure(&format!("{most} request at a time at most, {turned_away} answers 429"));
    assert_eq!((most, turned_away), (1, 0));
    assert!(idle < MOST_IDLE, "idle {idle:.3}");
    restart(&mut stage, report).await;
}

/// The registered secret expires soon, and a new one is proved. Returns how many other requests are sent between
/// the proof and its own.
async fn urgent_repair(stage: &Stage, client: &str) -> usize {
    stage.entra.add_secret(TENANT, client, "s3cret-two");
    let sent = stage.woodpecker.requests("agency").len();
    stage.secret("urgent", &[("client_secret", "s3cret-two"), ("secret_expires_at", EXPIRY)]).await;
    let id = stage.read("urgent").await.status.unwrap().credential_id.unwrap();
    let waited_from = eventually("its proof was made", || async {
        let proofs = stage.entra.count(TENANT, client);
        if proofs >= 2 {
            Ok(stage.woodpecker.requests("agency").len())
        } else {
            Err(format!("{proofs} after {sent}"))
        }
    })
    .await;
    eventually("the repair is served", || async {
        if stage.woodpecker.secret_matches("agency", id, "s3cret-two") {
            Ok(())
        } else {
            Err("not yet".into())
        }
    })
    .await;
    let requests = stage.woodpecker.requests("agency");
    let served = requests.iter().position(|request| request.op == Op::Update).unwrap();
    served.saturating_sub(waited_from)
}

/// With everything settled a restart costs one listing an account.
async fn restart(stage: &mut Stage, report: &mut Report) {
    stage.stop_operator().await;
    let (tokens, requests) = (stage.entra.requests().len(), stage.woodpecker.requests("agency").len());
    let mark = stage.cluster.audit_mark().unwrap();
    let started = Instant::now();
    stage.start_operator().await;
    // Each object has had its pass once the counter says so.
    eventually("every object was looked at", || async {
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
    report.figure(&format!(
        "a restart with all of them settled, {:.1} s: {} token calls, {sent} requests to Woodpecker, {} writes to the API server",
        took.as_secs_f64(),
        stage.entra.requests().len() - tokens,
        writes.len()
    ));
    assert_eq!(stage.entra.requests().len(), tokens, "no token call");
    assert!(sent <= 1, "one listing at most: {sent}");
    assert!(writes.is_empty(), "{writes:#?}");
}
