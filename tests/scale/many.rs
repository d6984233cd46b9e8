//! Many objects at one account.

use std::time::Duration;

use kit::woodpecker::Op;
use serde_json::json;

use crate::stage::{EXPIRY, Stage, TENANT, eventually};
use crate::{Report, SERVICE, apply, client_id};

/// Objects at the account.
const MANY: usize = 1000;

/// How many requests may be served before an urgent one at most.
const MOST_BEFORE_URGENT: usize = 3;

fn throttled(stage: &Stage, account: &str) -> usize {
    stage.woodpecker.requests(account).iter().filter(|request| request.status == Some(429)).count()
}

/// A thousand new objects at one account, and an urgent repair in the middle of them.
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
    let (most, turned_away) = (stage.woodpecker.max_in_flight("agency"), throttled(&stage, "agency"));
    report.figure(&format!("{most} request at a time at most, {turned_away} answers 429"));
    assert_eq!((most, turned_away), (1, 0));
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
