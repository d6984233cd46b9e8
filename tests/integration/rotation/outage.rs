//! Woodpecker is down for days.

use jiff::{SignedDuration, Timestamp};
use kit::clock::Clock;
use kit::woodpecker::{Fault, Op};

use super::*;

const DAY: i64 = 24 * 3600;

#[tokio::test]
async fn a_new_client_secret_waits_for_days_until_woodpecker_takes_it() {
    let (mut env, graph) = bare().await;
    let clock = Clock::new(&env.cluster.dir().join(&env.namespace)).unwrap();
    env.extra_env.extend(clock.env());
    env.start_operator().await;
    identity(&env, json!([grant(&env.namespace, TENANT, CLIENT)])).await;
    env.account("agency", json!({})).await;
    env.credential("sales-eu", rotating()).await;
    let first = current_key(&env.wait_until_ready("sales-eu").await);
    for op in [Op::List, Op::Create, Op::Update, Op::Rename] {
        env.woodpecker.fail_always(op, Fault::Html502);
    }
    annotate(&env, "sales-eu", json!({"graph-credentials.io/rotate-requested-at": "1"})).await;
    let object = env
        .wait_until("sales-eu", "another client secret is pending", |object| {
            rotation(object).pending.is_some()
        })
        .await;
    let pending = rotation(&object).pending.map(|it| it.key_id);

    for day in 1..=4 {
        clock.set_ahead(day * DAY).unwrap();
        env.request_reconcile("sales-eu").await;
        let today = Timestamp::now() + SignedDuration::from_secs(day * DAY - DAY / 2);
        let object = env
            .wait_until("sales-eu", "the pending one was verified on that day", |object| {
                let status = object.status.clone().unwrap_or_default();
                status.last_verified_time.is_some_and(|verified| verified.0 > today)
            })
            .await;
        assert_eq!(rotation(&object).pending.map(|it| it.key_id), pending, "day {day}");
        assert_eq!(current_key(&object), first, "day {day}");
        assert_eq!(graph.live_secrets(TENANT, CLIENT).len(), 2, "day {day}");
    }

    env.woodpecker.clear_faults();
    env.request_reconcile("sales-eu").await;
    env.wait_until("sales-eu", "it is in use", |object| current_key(object) == pending).await;
    env.wait_until_ready("sales-eu").await;
    wait_for_only(&graph, pending.as_deref().unwrap()).await;
    assert_eq!(env.remote().len(), 1);
    assert_sound(&env, &["sales-eu"]).await;
}
