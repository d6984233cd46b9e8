//! At which account mailboxes are connected, and who allows it.

use std::time::Duration;

use graph_credential_operator::api::WoodpeckerAccount;
use kit::woodpecker::Fault;
use kube::ResourceExt;

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

/// Submits a mailbox whose outcome stays unknown, and moves the credential to another account. The earlier account lists no
/// mailboxes, so that they cannot be looked up before it is gone.
async fn submit_and_move(env: &TestEnv) {
    other_account(env).await;
    // The request only ends, and settles, once the next listing can no longer succeed.
    env.woodpecker.fail_next(Op::Connect, 1, Fault::ProcessedThenHang(Duration::from_mins(5)));
    apply(env, "team", "Connect", &["jim@example.com"]).await;
    wait_for_connects(env, 1).await;
    env.woodpecker.fail_account_always("agency", Op::ListMailboxes, Fault::Html502);
    move_credential(env).await;
    env.wait_until("sales-eu", "it is registered at the other account", |object| {
        let registration = object.status.as_ref().and_then(|status| status.registration.as_ref());
        registration.and_then(|it| it.account.as_ref()).is_some_and(|account| account.name == "other")
    })
    .await;
}

async fn wait_until_account_is_gone(env: &TestEnv) {
    eventually("the account is gone", || async {
        let found = env.api::<WoodpeckerAccount>().get_opt("agency").await.unwrap();
        found.map_or(Ok(()), |account| Err(format!("{account:#?}\n{}", env.log())))
    })
    .await;
}

/// Waits until the status says that a person has to look for the mailbox.
async fn wait_for_a_person(env: &TestEnv) -> WoodpeckerMailboxesStatus {
    let status = eventually("it waits for a person", || async {
        let status = status(env, "team").await;
        let is_stalled = find(&status.conditions, ConditionType::Stalled).is_some();
        if is_stalled { Ok(status) } else { Err(format!("{status:#?}\n{}", env.log())) }
    })
    .await;
    let ready = ready(&status).unwrap();
    assert_eq!((ready.reason.as_str(), ready.status), ("OutcomeUnknown", ConditionStatus::Unknown));
    assert!(ready.message.contains("look for them in Woodpecker"), "{}", ready.message);
    status
}

#[tokio::test]
async fn what_was_submitted_to_an_account_that_is_gone_waits_for_a_person() {
    let env = start().await;
    submit_and_move(&env).await;
    env.api::<WoodpeckerAccount>().delete("agency", &DeleteParams::default()).await.unwrap();
    wait_until_account_is_gone(&env).await;
    reconcile_now(&env, "team", "jim@example.com").await;
    wait_for_a_person(&env).await;
    tokio::time::sleep(QUIET_TIME).await;
    assert!(requests(&env, "other", Op::Connect).is_empty());
    request_reconcile(&env, "team").await;
    wait_until_connected(&env, "team").await;
    assert_eq!(requests(&env, "other", Op::Connect).len(), 1);
}

#[tokio::test]
async fn a_request_from_before_the_status_asks_for_a_person_forgets_nothing() {
    let mut env = start().await;
    submit_and_move(&env).await;
    env.stop_operator().await;
    // No operator has seen that the account is gone, so the status cannot have asked anybody.
    request_reconcile(&env, "team").await;
    let accounts = env.api::<WoodpeckerAccount>();
    accounts.delete("agency", &DeleteParams::default()).await.unwrap();
    let patch = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    let _gone = accounts.patch("agency", &PatchParams::default(), &patch).await;
    wait_until_account_is_gone(&env).await;
    assert!(find(&status(&env, "team").await.conditions, ConditionType::Stalled).is_none());
    env.start_operator().await;
    let asked = wait_for_a_person(&env).await;
    let team = env.api::<WoodpeckerMailboxes>().get("team").await.unwrap();
    let requested = team.annotations().get(RECONCILE_REQUESTED_AT);
    assert_eq!(asked.last_handled_reconcile_at.as_ref(), requested, "the request was handled");
    tokio::time::sleep(QUIET_TIME).await;
    let pending = status(&env, "team").await.pending;
    assert_eq!(pending.map(|it| it.emails), Some(vec!["jim@example.com".to_owned()]));
    assert!(requests(&env, "other", Op::Connect).is_empty());
    request_reconcile(&env, "team").await;
    wait_until_connected(&env, "team").await;
    assert_eq!(requests(&env, "other", Op::Connect).len(), 1);
}
