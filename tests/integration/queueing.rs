//! Waiting requests: what happens to an object that changes while its request waits for another one.

use std::time::Duration;

use graph_credential_operator::api::conditions::{ConditionStatus, ConditionType};
use kit::entra::RetryAfter;
use kit::woodpecker::{Fault, Op};
use serde_json::json;

use crate::harness::{EXPIRY, TENANT, TestEnv, eventually};

const FIRST: &str = "00000000-0000-4000-8000-000000000001";
const SECOND: &str = "00000000-0000-4000-8000-000000000002";

/// A test environment in which the create of `first` is slow, and that of `second` is persisted and waits for
/// it.
async fn env_with_full_queue() -> TestEnv {
    let mut env = TestEnv::bare().await;
    // A request may take nine seconds.
    env.time_scale = 5;
    env.start_operator().await;
    env.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    env.account("agency", json!({})).await;
    env.woodpecker.fail_next(Op::Create, 1, Fault::Slow(Duration::from_secs(6)));
    for (name, client) in [("first", FIRST), ("second", SECOND)] {
        env.entra.add_app(TENANT, client);
        env.entra.set_secrets(TENANT, client, &["s3cret-one"]);
        env.credential(name, json!({"clientId": client})).await;
        if name == "first" {
            eventually("its create is under way", || async {
                if creates(&env) == 1 { Ok(()) } else { Err(env.log()) }
            })
            .await;
        }
    }
    env.wait_until("second", "its create is written down", |object| {
        object.status.as_ref().is_some_and(|status| status.pending_create.is_some())
    })
    .await;
    assert_eq!((creates(&env), env.woodpecker.in_flight("agency")), (1, 1), "the first is under way");
    env
}

fn creates(env: &TestEnv) -> usize {
    env.woodpecker.requests("agency").iter().filter(|request| request.op == Op::Create).count()
}

#[tokio::test]
async fn an_object_deleted_while_its_create_waits_is_not_registered() {
    let env = env_with_full_queue().await;
    env.delete("second").await;
    env.wait_until_gone("second").await;
    env.wait_until_ready("first").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((creates(&env), env.remote().len()), (1, 1));
}

#[tokio::test]
async fn an_object_that_meets_a_429_waits_for_its_queue_and_does_not_count_as_failing() {
    let mut env = TestEnv::bare().await;
    env.time_scale = 5;
    env.start_operator().await;
    env.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    env.account("agency", json!({})).await;
    let retry_after = Some(RetryAfter::Seconds(15));
    env.woodpecker.fail_next(Op::Create, 1, Fault::Throttled { retry_after });
    env.credential("sales-eu", json!({})).await;
    let object =
        env.wait_for("sales-eu", ConditionType::Registered, ConditionStatus::Unknown, "RateLimited").await;
    let status = object.status.unwrap();
    assert_eq!((status.consecutive_failures, status.next_attempt_time), (None, None));
    env.wait_until_ready("sales-eu").await;
    assert_eq!(creates(&env), 2);
}

#[tokio::test]
async fn an_object_suspended_while_its_create_waits_is_registered_when_it_resumes() {
    let env = env_with_full_queue().await;
    env.credential("second", json!({"clientId": SECOND, "suspend": true})).await;
    env.wait_until_ready("first").await;
    env.wait_until("second", "nothing counts as sent", |object| {
        object.status.as_ref().is_some_and(|status| status.pending_create.is_none())
    })
    .await;
    assert_eq!((creates(&env), env.remote().len()), (1, 1));
    env.credential("second", json!({"clientId": SECOND, "suspend": false})).await;
    env.wait_until_ready("second").await;
    assert_eq!((creates(&env), env.remote().len()), (2, 2));
}
