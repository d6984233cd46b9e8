//! Lost responses, outdated readings, and client secrets that nothing records.

use std::time::Duration;

use kit::api_proxy::WriteFailure;
use kit::graph::{Fault, Op, Propagation, ReadLag};

use super::*;

#[tokio::test]
async fn what_a_creation_without_a_response_made_is_removed_before_another_one_is_created() {
    for fault in [Fault::ProcessedThenReset, Fault::ProcessedThenTruncated, Fault::ProcessedThenStatus(503)] {
        let (env, graph) = start().await;
        graph.fail_op_next(Op::AddPassword, 1, fault.clone());
        env.credential("sales-eu", rotating()).await;
        let object = env.wait_until_ready("sales-eu").await;
        let history = graph.history(TENANT, CLIENT);
        assert_eq!(history.len(), 2, "{fault:?}: {history:?}");
        assert!(history[0].removed_at.is_some_and(|at| at <= history[1].added_at), "{fault:?}: {history:?}");
        wait_for_only(&graph, &current_key(&object).unwrap()).await;
        assert_sound(&env, &["sales-eu"]).await;
    }
}

#[tokio::test]
async fn a_creation_that_was_not_applied_is_repeated_after_the_search() {
    let (env, graph) = start().await;
    graph.fail_op_next(Op::AddPassword, 1, Fault::Html503);
    env.credential("sales-eu", rotating()).await;
    env.wait_for("sales-eu", ConditionType::RotationReady, ConditionStatus::Unknown, "OutcomeUnknown").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(graph.history(TENANT, CLIENT).is_empty(), "it is looked for first");
    // 15 minutes, divided by the time scale.
    tokio::time::sleep(Duration::from_secs(40)).await;
    env.wait_until_ready("sales-eu").await;
    assert_eq!(graph.history(TENANT, CLIENT).len(), 1);
    assert_eq!(rotation(&env.read("sales-eu").await).earlier_attempts.len(), 1, "daily readings look for it");
}

#[tokio::test]
async fn writes_close_together_throttling_and_errors_before_the_write_are_retried() {
    let (env, graph) = start().await;
    for fault in [Fault::Concurrent(409), Fault::Concurrent(400), Fault::InvalidToken] {
        graph.fail_op_next(Op::AddPassword, 1, fault);
    }
    graph.write_spacing(Duration::from_secs(5));
    env.credential("sales-eu", rotating()).await;
    env.wait_until_ready("sales-eu").await;
    assert_eq!(graph.history(TENANT, CLIENT).len(), 1);
    for fault in [Fault::Concurrent(409), Fault::Html503, Fault::ProcessedThenReset] {
        graph.fail_op_next(Op::RemovePassword, 1, fault);
    }
    let second = current_key(&rotate(&env, "sales-eu", "1").await).unwrap();
    wait_for_only(&graph, &second).await;
    assert_sound(&env, &["sales-eu"]).await;
}

#[tokio::test]
async fn outdated_readings_and_slow_propagation_delay_a_rotation_and_break_nothing() {
    let (env, graph) = start().await;
    graph.propagation(Propagation {
        tokens: Duration::from_secs(20),
        woodpecker: Duration::from_secs(40),
        removal: Duration::from_secs(60),
    });
    graph.read_lag(ReadLag {
        adds: Duration::from_secs(60),
        removals: Duration::from_secs(60),
        alternates: true,
    });
    env.credential("sales-eu", rotating()).await;
    env.wait_until_ready("sales-eu").await;
    let object = rotate(&env, "sales-eu", "1").await;
    let second = current_key(&object).unwrap();
    wait_for_only(&graph, &second).await;
    assert_eq!(graph.history(TENANT, CLIENT).len(), 2);
    assert_sound(&env, &["sales-eu"]).await;
    let confirmed = condition(&env.read("sales-eu").await, ConditionType::ExpiryConfirmed).cloned().unwrap();
    assert_eq!(confirmed.status, ConditionStatus::True, "{confirmed:?}");
}

#[tokio::test]
async fn a_new_client_secret_that_disappears_is_given_up_and_the_registered_one_stays() {
    let (env, graph) = start().await;
    env.credential("sales-eu", rotating()).await;
    let first = current_key(&env.wait_until_ready("sales-eu").await).unwrap();
    graph.propagation(Propagation { tokens: Duration::from_hours(1), ..Propagation::default() });
    annotate(&env, "sales-eu", json!({"graph-credentials.io/rotate-requested-at": "1"})).await;
    let pending =
        env.wait_until("sales-eu", "a new one is pending", |object| rotation(object).pending.is_some()).await;
    let pending = rotation(&pending).pending.unwrap().key_id;
    assert!(graph.remove_by_hand(TENANT, CLIENT, &pending));
    let object = env
        .wait_until("sales-eu", "it is given up", |object| {
            rotation(object).pending.is_none_or(|it| it.key_id != pending)
        })
        .await;
    assert_eq!(current_key(&object), Some(first));
    assert_sound(&env, &["sales-eu"]).await;
}

#[tokio::test]
async fn client_secrets_of_the_object_that_nothing_records_are_named_and_removed_on_request() {
    let (env, graph) = start().await;
    env.credential("sales-eu", rotating()).await;
    let object = env.wait_until_ready("sales-eu").await;
    let name = format!("graph-credentials.io/{}/lost", object.metadata.uid.as_deref().unwrap());
    let lost = graph.add_by_hand(TENANT, CLIENT, &name, "2027-11-28T10:00:00Z").unwrap();
    let other = graph.add_by_hand(TENANT, CLIENT, "by hand", "2027-11-28T10:00:00Z").unwrap();
    tokio::time::sleep(Duration::from_millis(3200)).await;
    env.request_reconcile("sales-eu").await;
    let object = env
        .wait_for("sales-eu", ConditionType::UnknownOwnSecrets, ConditionStatus::True, "SecretsNotRecorded")
        .await;
    let text = message(&object, ConditionType::UnknownOwnSecrets);
    assert!(text.contains(&lost.key_id) && !text.contains(&other.key_id), "{text}");
    tokio::time::sleep(QUIET_TIME).await;
    assert_eq!(graph.live_secrets(TENANT, CLIENT).len(), 3, "nothing is removed without a request");
    let both = format!("{}, {}", lost.key_id, other.key_id);
    annotate(&env, "sales-eu", json!({"graph-credentials.io/remove-unknown-secrets": both})).await;
    eventually("only the lost one is removed", || async {
        let live: Vec<String> = graph.live_secrets(TENANT, CLIENT).into_iter().map(|it| it.key_id).collect();
        let is_done = !live.contains(&lost.key_id) && live.contains(&other.key_id);
        if is_done && live.len() == 2 { Ok(()) } else { Err(format!("{live:?}")) }
    })
    .await;
    env.wait_until("sales-eu", "the condition is gone", |object| {
        condition(object, ConditionType::UnknownOwnSecrets).is_none()
    })
    .await;
}

#[tokio::test]
async fn a_record_that_cannot_be_written_costs_no_registration_and_leaves_no_client_secret() {
    let (env, graph, proxy) = start_behind_proxy().await;
    let failures = [WriteFailure::ResponseLost, WriteFailure::NotSent, WriteFailure::Rejected];
    for (at, failure) in failures.into_iter().enumerate() {
        proxy.fail_writes("/sealedgraphcredentials", 1, failure);
        let object = if at == 0 {
            env.credential("sales-eu", rotating()).await;
            env.wait_until_ready("sales-eu").await
        } else {
            rotate(&env, "sales-eu", &at.to_string()).await
        };
        assert_eq!(proxy.failed_writes().len(), at + 1, "{:?}", proxy.failed_writes());
        // Whatever was created in vain is removed.
        wait_for_only(&graph, &current_key(&object).unwrap()).await;
        assert_eq!(env.remote().len(), 1);
        assert_sound(&env, &["sales-eu"]).await;
    }
}
