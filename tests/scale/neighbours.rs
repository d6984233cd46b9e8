//! Many accounts, of which some are not well.

use std::time::{Duration, Instant};

use graph_credential_operator::resources::conditions::ConditionStatus;
use kit::woodpecker::{Fault, Op};
use serde_json::json;

use crate::stage::{API_KEY, EXPIRY, Stage};
use crate::{Report, SERVICE, apply, wait_for};

/// Accounts.
const ACCOUNTS: usize = 20;

/// New objects of each account in each round.
const EACH: usize = 5;

/// How much longer the others may take beside two that are not well, as a ratio. Both rounds are short.
const MOST: f64 = 1.5;

/// The first account is down and the second one slow, at first neither.
const UNWELL: usize = 2;

/// Twenty accounts side by side, first all well, then one of them down and one slow.
pub(crate) async fn twenty_accounts_side_by_side(report: &mut Report) {
    let mut stage = Stage::bare().await;
    stage.time_scale = 1;
    stage.log_filter = "warn,graph_credential_operator=info";
    stage.woodpecker.service_time(SERVICE);
    stage.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    for number in 0..ACCOUNTS {
        let (name, key) = (name(number), format!("{API_KEY}-{number}"));
        stage.woodpecker.add_account(&name, &key);
        stage.secret(&format!("{name}-key"), &[("api_key", &key)]).await;
        stage.apply_account(&name, json!({})).await;
    }
    stage.start_operator().await;
    for number in 0..ACCOUNTS {
        stage.wait_for_account(&name(number), ConditionStatus::True, "Authenticated").await;
    }
    report.section(&format!("{ACCOUNTS} accounts side by side, {EACH} new objects each"));
    let alone = round(&stage, 0).await;
    for op in [Op::List, Op::Create, Op::Rename] {
        stage.woodpecker.fail_account_always(&name(0), op, Fault::Html502);
        stage.woodpecker.fail_account_always(&name(1), op, Fault::Slow(Duration::from_secs(3)));
    }
    let beside = round(&stage, 1).await;
    let ratio = beside.as_secs_f64() / alone.as_secs_f64();
    report.figure(&format!(
        "with all well, {} of them are done after {:.1} s; with one of the rest down and one slow after {:.1} s: {ratio:.2} times as long (bound: {MOST})",
        ACCOUNTS - UNWELL,
        alone.as_secs_f64(),
        beside.as_secs_f64()
    ));
    for number in UNWELL..ACCOUNTS {
        assert_eq!(stage.woodpecker.credentials(&name(number)).len(), 2 * EACH);
        assert_eq!(stage.woodpecker.max_in_flight(&name(number)), 1);
    }
    let made = [0, 1].map(|number| stage.woodpecker.credentials(&name(number)).len() - EACH);
    report.figure(&format!(
        "meanwhile {} objects came about at the one that is down, {} at the slow one",
        made[0], made[1]
    ));
    assert_eq!(made[0], 0, "it is down");
    assert!(ratio < MOST, "{ratio:.2}");
}

fn name(number: usize) -> String {
    format!("account-{number}")
}

/// Applies new objects for every account, and returns how long it took until those that are always well were done.
async fn round(stage: &Stage, round: usize) -> Duration {
    let started = Instant::now();
    for number in 0..ACCOUNTS * EACH {
        apply(stage, round * ACCOUNTS * EACH + number, &name(number % ACCOUNTS)).await;
    }
    let others: Vec<_> = (UNWELL..ACCOUNTS).map(name).collect();
    wait_for(stage, &others, (round + 1) * (ACCOUNTS - UNWELL) * EACH).await;
    started.elapsed()
}
