//! At which account mailboxes are connected, and who allows it.

use graph_credential_operator::api::WoodpeckerAccount;
use kit::woodpecker::Fault;

use super::*;

#[tokio::test]
async fn nothing_is_connected_until_the_account_allows_it_and_plans_work_without() {
    let env = unregistered().await;
    let not_allowed = json!({"spec": {"mailboxes": null}});
    let patch = Patch::Merge(not_allowed);
    env.api::<WoodpeckerAccount>().patch("agency", &PatchParams::default(), &patch).await.unwrap();
    env.credential("sales-eu", json!({})).await;
    env.wait_until_ready("sales-eu").await;
    apply(&env, "plan", "Plan", &["jim@example.com"]).await;
    wait_for(&env, "plan", ConditionStatus::True, "ConnectionPlanned").await;
    apply(&env, "team", "Connect", &["jim@example.com"]).await;
    let status = wait_for(&env, "team", ConditionStatus::False, "ConnectionNotAllowed").await;
    let message = &ready(&status).unwrap().message;
    assert!(message.contains("spec.mailboxes.connect") && message.contains("paid slot"), "{message}");
    tokio::time::sleep(QUIET_TIME).await;
    assert!(connects(&env).is_empty());
    env.apply_account("agency", allowed()).await;
    wait_until_connected(&env, "team").await;
    // What is connected stays so, and nothing more is sent.
    env.api::<WoodpeckerAccount>().patch("agency", &PatchParams::default(), &patch).await.unwrap();
    apply(&env, "team", "Connect", &["jim@example.com", "pam@example.com"]).await;
    wait_for(&env, "team", ConditionStatus::False, "ConnectionNotAllowed").await;
    assert_eq!(ids(&env).len(), 1);
}

#[tokio::test]
async fn mailboxes_of_a_company_are_listed_and_connected_there() {
    let mut env = TestEnv::bare().await;
    env.extra_args = vec!["--mailboxes".into()];
    env.woodpecker.add_company("agency", "77");
    env.start_operator().await;
    env.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    env.account("agency", json!({"companyId": 77, "mailboxes": {"connect": "Allowed"}})).await;
    env.credential("sales-eu", json!({})).await;
    env.wait_until_ready("sales-eu").await;
    apply(&env, "team", "Connect", &["jim@example.com"]).await;
    wait_until_connected(&env, "team").await;
    // The second listing shows the mailbox.
    for (op, number) in [(Op::ListMailboxes, 2), (Op::Connect, 1)] {
        let sent = requests(&env, "agency/77", op);
        assert_eq!(sent.len(), number, "{op:?}");
        assert!(sent.iter().all(|request| request.company.as_deref() == Some("77")), "{op:?}");
    }
    assert_eq!(env.woodpecker.mailboxes("agency/77").len(), 1);
    assert!(env.woodpecker.mailboxes("agency").is_empty() && connects(&env).is_empty());
}

/// Another account, with a key of its own.
async fn other_account(env: &TestEnv) {
    env.woodpecker.add_account("other", "1234.other");
    env.secret("other-key", &[("api_key", "1234.other")]).await;
    env.apply_account("other", allowed()).await;
    env.wait_for_account("other", ConditionStatus::True, "Authenticated").await;
}

/// Moves the credential to the other account.
async fn move_credential(env: &TestEnv) {
    let destination = json!({"woodpecker": {"accountRef": {"name": "other"}}});
    env.credential("sales-eu", json!({"destination": destination})).await;
}

#[tokio::test]
async fn a_credential_that_is_moving_connects_nothing() {
    let env = start().await;
    other_account(&env).await;
    env.woodpecker.fail_always(Op::Create, Fault::RefusedBefore(422, json!({"message": "NOT_NOW"})));
    move_credential(&env).await;
    apply(&env, "team", "Connect", &["jim@example.com"]).await;
    wait_for(&env, "team", ConditionStatus::False, "CredentialNotRegistered").await;
    tokio::time::sleep(QUIET_TIME).await;
    assert!(connects(&env).is_empty());
    env.woodpecker.clear_faults();
    env.request_reconcile("sales-eu").await;
    wait_until_connected(&env, "team").await;
    assert!(connects(&env).is_empty());
    assert_eq!(requests(&env, "other", Op::Connect).len(), 1);
}

#[tokio::test]
async fn what_was_submitted_is_looked_up_at_the_account_that_it_was_submitted_to() {
    let env = start().await;
    other_account(&env).await;
    env.woodpecker.fail_next(Op::Connect, 1, Fault::ProcessedThenReset);
    apply(&env, "team", "Connect", &["jim@example.com"]).await;
    wait_for_connects(&env, 1).await;
    move_credential(&env).await;
    let status = wait_until_connected(&env, "team").await;
    assert_eq!(
        states(&status),
        [("jim@example.com", ConnectionState::Connected, ids(&env).values().next().copied())]
    );
    assert!(requests(&env, "other", Op::Connect).is_empty());
}

#[tokio::test]
async fn what_was_submitted_to_an_account_that_is_gone_waits_for_a_person() {
    let env = start().await;
    other_account(&env).await;
    env.woodpecker.fail_next(Op::Connect, 1, Fault::ProcessedThenReset);
    apply(&env, "team", "Connect", &["jim@example.com"]).await;
    wait_for_connects(&env, 1).await;
    move_credential(&env).await;
    env.wait_until_ready("sales-eu").await;
    env.api::<WoodpeckerAccount>().delete("agency", &DeleteParams::default()).await.unwrap();
    let status = eventually("it waits for a person", || async {
        let status = status(&env, "team").await;
        let is_stalled = find(&status.conditions, ConditionType::Stalled).is_some();
        if is_stalled { Ok(status) } else { Err(format!("{status:#?}\n{}", env.log())) }
    })
    .await;
    let ready = ready(&status).unwrap();
    assert_eq!((ready.reason.as_str(), ready.status), ("OutcomeUnknown", ConditionStatus::Unknown));
    assert!(ready.message.contains("look for them in Woodpecker"), "{}", ready.message);
    tokio::time::sleep(QUIET_TIME).await;
    assert!(requests(&env, "other", Op::Connect).is_empty());
    request_reconcile(&env, "team").await;
    wait_until_connected(&env, "team").await;
    assert_eq!(requests(&env, "other", Op::Connect).len(), 1);
}
