//! What is not submitted again: after refusals and unclear outcomes, after the object was deleted or its status was lost, and
//! while other objects have the same address.

use std::time::Duration;

use kit::woodpecker::Fault;

use super::*;

/// Changes the status like a person who restores an old one.
async fn patch_status(env: &TestEnv, name: &str, status: Value) {
    let patch = Patch::Merge(json!({ "status": status }));
    env.api::<WoodpeckerMailboxes>().patch_status(name, &PatchParams::default(), &patch).await.unwrap();
}

#[tokio::test]
async fn a_mailbox_of_a_deleted_object_or_a_lost_status_is_not_submitted_before_a_listing_shows_it() {
    let env = start().await;
    for (number, is_deleted) in [true, false].into_iter().enumerate() {
        let (name, email) = (format!("team-{number}"), format!("m{number}@example.com"));
        // The settle period is two minutes, divided by the time scale.
        env.woodpecker.fail_next(Op::Connect, 1, Fault::ProcessedLate(Duration::from_secs(4)));
        apply(&env, &name, "Connect", &[&email]).await;
        wait_for_connects(&env, number + 1).await;
        if is_deleted {
            env.api::<WoodpeckerMailboxes>().delete(&name, &DeleteParams::default()).await.unwrap();
            apply(&env, &name, "Connect", &[&email]).await;
        } else {
            // The operator writes the result meanwhile, without effect on this.
            patch_status(&env, &name, json!({"pending": null, "mailboxes": [], "consecutiveFailures": null}))
                .await;
            request_reconcile(&env, &name).await;
        }
        let status = wait_until_connected(&env, &name).await;
        assert_eq!(status.mailboxes[0].id, ids(&env).get(&email).copied());
        assert_eq!(submissions(&env)[&email], 1, "{name}");
    }
    assert_eq!(env.woodpecker.resubmitted_mailboxes(), [""; 0]);
}

#[tokio::test]
async fn an_object_whose_requests_fail_waits_and_stops_after_the_third_until_it_is_asked() {
    let env = start().await;
    apply(&env, "team", "Connect", &["pam@example.com"]).await;
    wait_until_connected(&env, "team").await;
    env.woodpecker.fail_always(Op::Connect, Fault::Http500Before);
    apply(&env, "team", "Connect", &["jim@example.com", "pam@example.com"]).await;
    let unconfirmed = eventually("a listing lacks it", || async {
        let status = status(&env, "team").await;
        let is_it = status.mailboxes.iter().any(|it| it.state == ConnectionState::Unconfirmed);
        if is_it { Ok(status) } else { Err(format!("{status:#?}\n{}", env.log())) }
    })
    .await;
    assert_eq!((unconfirmed.mailboxes[0].attempts, unconfirmed.consecutive_failures), (Some(1), Some(1)));
    let wait = unconfirmed.next_attempt_time.unwrap().0.duration_since(Timestamp::now());
    assert!(wait.as_secs() > 20, "ten minutes, divided by the time scale: {wait:?}");
    tokio::time::sleep(QUIET_TIME).await;
    assert_eq!(connects(&env).len(), 2, "it waits");
    // As after another attempt.
    let mailbox = json!({"email": "jim@example.com", "state": "Unconfirmed", "attempts": 2});
    let pam = serde_json::to_value(&unconfirmed.mailboxes[1]).unwrap();
    let soon = json!({"consecutiveFailures": 2, "nextAttemptTime": null, "mailboxes": [mailbox, pam]});
    patch_status(&env, "team", soon).await;
    let stopped = wait_for(&env, "team", ConditionStatus::False, "ConnectionStopped").await;
    assert_eq!(connects(&env).len(), 3);
    let mailbox = &stopped.mailboxes[0];
    assert_eq!((mailbox.state, mailbox.attempts), (ConnectionState::Stopped, Some(3)));
    assert!(stopped.next_attempt_time.is_none() && mailbox.next_attempt_time.is_none());
    assert!(find(&stopped.conditions, ConditionType::Stalled).is_some());
    let message = &ready(&stopped).unwrap().message;
    assert!(message.contains("3 requests in a row") && message.contains("request a reconcile"), "{message}");
    env.woodpecker.clear_faults();
    tokio::time::sleep(QUIET_TIME).await;
    assert_eq!(connects(&env).len(), 3, "it has stopped");
    request_reconcile(&env, "team").await;
    wait_until_connected(&env, "team").await;
    assert_eq!(ids(&env).len(), 2);
}

#[tokio::test]
async fn an_object_that_is_stuck_blocks_a_credential_that_is_not_proven_until_it_is_gone() {
    let env = start().await;
    // Without effect, so that the other object submits it.
    env.woodpecker.fail_next(Op::Connect, 1, Fault::Http500Before);
    apply(&env, "one", "Connect", &["jim@example.com"]).await;
    wait_for_connects(&env, 1).await;
    let patch = Patch::Merge(json!({"spec": {"suspend": true}}));
    env.api::<WoodpeckerMailboxes>().patch("one", &PatchParams::default(), &patch).await.unwrap();
    apply(&env, "two", "Connect", &["jim@example.com"]).await;
    wait_for(&env, "two", ConditionStatus::False, "ConnectionPending").await;
    tokio::time::sleep(QUIET_TIME).await;
    assert_eq!(submissions(&env)["jim@example.com"], 1);
    assert!(status(&env, "one").await.pending.is_some(), "it is stuck");
    env.api::<WoodpeckerMailboxes>().delete("one", &DeleteParams::default()).await.unwrap();
    wait_until_connected(&env, "two").await;
    assert_eq!((submissions(&env)["jim@example.com"], ids(&env).len()), (2, 1));
    assert_eq!(env.woodpecker.resubmitted_mailboxes(), [""; 0]);
}

#[tokio::test]
async fn a_new_leader_waits_before_it_submits() {
    let mut env = start().await;
    env.woodpecker.fail_next(Op::Connect, 1, Fault::ProcessedLate(Duration::from_secs(4)));
    apply(&env, "team", "Connect", &["jim@example.com"]).await;
    wait_for_connects(&env, 1).await;
    env.operator.take().unwrap().kill().await.expect("the operator can be killed");
    // Nothing in the cluster shows what the first one has submitted.
    env.api::<WoodpeckerMailboxes>().delete("team", &DeleteParams::default()).await.unwrap();
    apply(&env, "team", "Connect", &["jim@example.com"]).await;
    env.extra_args.push("--leader-elect=false".into());
    env.start_operator().await;
    let status = wait_until_connected(&env, "team").await;
    assert_eq!(status.mailboxes[0].state, ConnectionState::AlreadyConnected);
    assert_eq!((submissions(&env)["jim@example.com"], ids(&env).len()), (1, 1));
}

#[tokio::test]
async fn a_result_is_written_although_the_object_changed_meanwhile() {
    let env = start().await;
    env.woodpecker.fail_next(Op::Connect, 1, Fault::Slow(Duration::from_millis(1500)));
    apply(&env, "team", "Connect", &["jim@example.com"]).await;
    wait_for_connects(&env, 1).await;
    let patch = Patch::Merge(json!({"metadata": {"labels": {"changed": "meanwhile"}}}));
    env.api::<WoodpeckerMailboxes>().patch("team", &PatchParams::default(), &patch).await.unwrap();
    let status = wait_until_connected(&env, "team").await;
    assert_eq!((status.mailboxes[0].state, ids(&env).len()), (ConnectionState::Connected, 1));
    assert!(env.log().contains("retrying the status write"), "{}", env.log());
}
