//! Many accounts, some of which are down or slow.

use std::time::{Duration, Instant};

use graph_credential_operator::api::conditions::ConditionStatus;
use kit::woodpecker::{Fault, Op};
use serde_json::json;

use crate::harness::{API_KEY, EXPIRY, TestEnv};
use crate::{Report, SERVICE, apply, wait_for};

/// Number of accounts.
const ACCOUNTS: usize = 20;

/// New objects of each account in each round.
const EACH: usize = 5;

/// How much longer the others may take beside one account that is down and one that is slow, as a ratio. Both
/// rounds are short.
const MOST: f64 = 1.5;

/// The first account is down and the second one slow, except in the first round.
const UNWELL: usize = 2;

/// Twenty accounts side by side, first all healthy, then one of them down and one slow.
pub(crate) async fn twenty_accounts_side_by_side(report: &mut Report) {
    let mut env = TestEnv::bare().await;
    env.time_scale = 1;
    env.log_filter = "warn,graph_credential_operator=info";
    env.woodpecker.service_time(SERVICE);
    env.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    for number in 0..ACCOUNTS {
        let (name, key) = (name(number), format!("{API_KEY}-{number}"));
        env.woodpecker.add_account(&name, &key);
        env.secret(&format!("{name}-key"), &[("api_key", &key)]).await;
        env.apply_account(&name, json!({})).await;
    }
    env.start_operator().await;
    for number in 0..ACCOUNTS {
        env.wait_for_account(&name(number), ConditionStatus::True, "Authenticated").await;
    }
    report.section(&format!("{ACCOUNTS} accounts side by side, {EACH} new objects each"));
    let alone = round(&env, 0).await;
    for op in [Op::List, Op::Create, Op::Rename] {
        env.woodpecker.fail_account_always(&name(0), op, Fault::Html502);
        env.woodpecker.fail_account_always(&name(1), op, Fault::Slow(Duration::from_secs(3)));
    }
    let beside = round(&env, 1).await;
    let ratio = beside.as_secs_f64() / alone.as_secs_f64();
    report.figure(&format!(
        "with all accounts healthy, {} of them are done after {:.1} s; with one of the others down and one slow after {:.1} s: {ratio:.2} times as long (bound: {MOST})",
        ACCOUNTS - UNWELL,
        alone.as_secs_f64(),
        beside.as_secs_f64()
    ));
    for number in UNWELL..ACCOUNTS {
        assert_eq!(env.woodpecker.credentials(&name(number)).len(), 2 * EACH);
        assert_eq!(env.woodpecker.max_in_flight(&name(number)), 1);
    }
    let created = [0, 1].map(|number| env.woodpecker.credentials(&name(number)).len() - EACH);
    report.figure(&format!(
        "meanwhile {} credentials were created at the account that is down, and {} at the slow one",
        created[0], created[1]
    ));
    assert_eq!(created[0], 0, "it is down");
    assert!(ratio < MOST, "{ratio:.2}");
}

fn name(number: usize) -> String {
    format!("account-{number}")
}

/// Applies new objects for every account, and returns how long it took until the objects of the healthy
/// accounts were done.
async fn round(env: &TestEnv, round: usize) -> Duration {
    let started = Instant::now();
    for number in 0..ACCOUNTS * EACH {
        apply(env, round * ACCOUNTS * EACH + number, &name(number % ACCOUNTS)).await;
    }
    let others: Vec<_> = (UNWELL..ACCOUNTS).map(name).collect();
    wait_for(env, &others, (round + 1) * (ACCOUNTS - UNWELL) * EACH).await;
    started.elapsed()
}
