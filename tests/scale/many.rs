//! Many objects at one account.

use std::time::Duration;

use kit::woodpecker::Op;
use serde_json::json;

use crate::harness::{EXPIRY, TENANT, TestEnv, eventually};
use crate::{Report, SERVICE, apply, client_id};

/// Objects at the account.
const MANY: usize = 1000;

/// How many requests may be sent before an urgent one.
const MOST_BEFORE_URGENT: usize = 3;

fn throttled(env: &TestEnv, account: &str) -> usize {
    env.woodpecker.requests(account).iter().filter(|request| request.status == Some(429)).count()
}

/// A thousand new objects at one account, and an urgent repair in the middle of them.
pub(crate) async fn a_thousand_objects_at_one_account(report: &mut Report) {
    let mut env = TestEnv::bare().await;
    env.time_scale = 1;
    env.log_filter = "warn,graph_credential_operator=info";
    env.woodpecker.service_time(SERVICE);
    env.woodpecker.enforce_concurrency(true);
    env.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    // With this date, an update counts as a repair and not as a rotation.
    let soon = (jiff::Timestamp::now() + Duration::from_hours(40)).to_string();
    env.secret("urgent", &[("client_secret", "s3cret-one"), ("secret_expires_at", &soon)]).await;
    env.account("agency", json!({})).await;
    env.start_operator().await;
    // An object that is registered already and must be repaired.
    let client = client_id(MANY);
    env.entra.add_app(TENANT, &client);
    env.entra.set_secrets(TENANT, &client, &["s3cret-one"]);
    env.credential("urgent", json!({"clientId": client, "secretRef": {"name": "urgent"}})).await;
    env.wait_until_ready("urgent").await;

    report.section(&format!("One account, {MANY} new objects"));
    for number in 0..MANY {
        apply(&env, number, "agency").await;
    }
    eventually("the queue is long", || async {
        let (_, metrics) = env.get("/metrics").await;
        let waiting = metrics.lines().find_map(|line| {
            line.strip_prefix("graph_credential_queue_waiting{priority=\"new\"} ")?.parse::<usize>().ok()
        });
        if waiting.is_some_and(|waiting| waiting > MANY / 4) { Ok(()) } else { Err(format!("{waiting:?}")) }
    })
    .await;
    let served_before = urgent_repair(&env, &client).await;
    report.figure(&format!("an urgent update, with {} new objects queued, was sent after {served_before} other requests (bound: {MOST_BEFORE_URGENT})", MANY / 4));
    assert!(served_before <= MOST_BEFORE_URGENT, "{served_before}");
    let (most, turned_away) = (env.woodpecker.max_in_flight("agency"), throttled(&env, "agency"));
    report.figure(&format!("at most {most} concurrent request, {turned_away} responses with status 429"));
    assert_eq!((most, turned_away), (1, 0));
}

/// The registered secret expires soon, and a new one is verified. Returns how many other requests are sent
/// between the verification and the update.
async fn urgent_repair(env: &TestEnv, client: &str) -> usize {
    env.entra.add_secret(TENANT, client, "s3cret-two");
    let sent = env.woodpecker.requests("agency").len();
    env.secret("urgent", &[("client_secret", "s3cret-two"), ("secret_expires_at", EXPIRY)]).await;
    let id = env.read("urgent").await.status.unwrap().credential_id.unwrap();
    let waited_from = eventually("it was verified", || async {
        let verifications = env.entra.count(TENANT, client);
        if verifications >= 2 {
            Ok(env.woodpecker.requests("agency").len())
        } else {
            Err(format!("{verifications} after {sent}"))
        }
    })
    .await;
    eventually("the repair is served", || async {
        if env.woodpecker.secret_matches("agency", id, "s3cret-two") { Ok(()) } else { Err("not yet".into()) }
    })
    .await;
    let requests = env.woodpecker.requests("agency");
    let served = requests.iter().position(|request| request.op == Op::Update).unwrap();
    served.saturating_sub(waited_from)
}
