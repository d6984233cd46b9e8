//! Listings that lack what was connected or there before. The vendor does not document how a mailbox that was connected with
//! an app looks in a listing.

use std::time::Duration;

use kit::woodpecker::Fault;

use super::*;

#[tokio::test]
async fn after_a_first_mailbox_that_no_listing_shows_nothing_more_is_sent_until_a_person_asks() {
    let env = start().await;
    apply(&env, "team", "Connect", &["jim@example.com", "pam@example.com"]).await;
    wait_for_connects(&env, 1).await;
    eventually("the first mailbox is connected", || async {
        if env.woodpecker.mailboxes("agency").len() == 1 { Ok(()) } else { Err(env.log()) }
    })
    .await;
    let shown = env.woodpecker.mailboxes("agency");
    env.woodpecker.set_mailboxes("agency", vec![existing(5, "other@example.com")]);
    let held = wait_for(&env, "team", ConditionStatus::False, "ConnectionNotListed").await;
    let id = shown[0]["id"].as_i64().unwrap();
    assert_eq!(states(&held)[0], ("jim@example.com", ConnectionState::Connected, Some(id)));
    let message = &ready(&held).unwrap().message;
    assert!(message.contains(&id.to_string()) && message.contains("requests a reconcile"), "{message}");
    assert!(find(&held.conditions, ConditionType::Stalled).is_some());
    assert_eq!(held.proven_credential_id, None);
    let events = env.wait_for_event("team", "ConnectionNotListed").await.join("\n");
    assert!(!events.contains("@example.com"), "{events}");
    // A new spec is no request.
    apply(&env, "team", "Connect", &["jim@example.com", "kim@example.com", "pam@example.com"]).await;
    tokio::time::sleep(QUIET_TIME).await;
    wait_for(&env, "team", ConditionStatus::False, "ConnectionNotListed").await;
    assert_eq!(connects(&env).len(), 1);
    env.woodpecker.set_mailboxes("agency", shown);
    request_reconcile(&env, "team").await;
    let status = wait_until_connected(&env, "team").await;
    assert_eq!(status.proven_credential_id, Some(env.remote()[0].credential_id));
    assert!(submissions(&env).values().all(|count| *count == 1), "{:?}", submissions(&env));
}

#[tokio::test]
async fn of_two_objects_only_one_tries_a_credential_that_no_listing_confirms() {
    let env = start().await;
    apply(&env, "team", "Connect", &["jim@example.com"]).await;
    eventually("the first mailbox is connected", || async {
        if env.woodpecker.mailboxes("agency").len() == 1 { Ok(()) } else { Err(env.log()) }
    })
    .await;
    let shown = env.woodpecker.mailboxes("agency");
    env.woodpecker.set_mailboxes("agency", Vec::new());
    wait_for(&env, "team", ConditionStatus::False, "ConnectionNotListed").await;
    apply(&env, "other", "Connect", &["kim@example.com"]).await;
    apply(&env, "same", "Connect", &["jim@example.com"]).await;
    for name in ["other", "same"] {
        let status = wait_for(&env, name, ConditionStatus::False, "ConnectionPending").await;
        let message = &ready(&status).unwrap().message;
        assert!(message.starts_with("WoodpeckerMailboxes team has submitted"), "{message}");
    }
    let lists = requests(&env, "agency", Op::ListMailboxes).len();
    let before = status(&env, "other").await;
    tokio::time::sleep(QUIET_TIME).await;
    assert_eq!(connects(&env).len(), 1);
    assert_eq!(requests(&env, "agency", Op::ListMailboxes).len(), lists, "who waits does not list each time");
    assert_eq!(status(&env, "other").await, before, "nor write its status");
    // What leaves the spec of one object is not submitted by another one.
    apply(&env, "team", "Connect", &["pam@example.com"]).await;
    tokio::time::sleep(QUIET_TIME).await;
    assert_eq!(connects(&env).len(), 1);
    env.woodpecker.set_mailboxes("agency", shown);
    request_reconcile(&env, "team").await;
    for name in ["team", "other", "same"] {
        wait_until_connected(&env, name).await;
    }
    assert!(submissions(&env).values().all(|count| *count == 1), "{:?}", submissions(&env));
}

#[tokio::test]
async fn what_a_listing_no_longer_shows_is_not_submitted_again() {
    let env = start().await;
    env.woodpecker.set_mailboxes("agency", vec![existing(5, "pam@example.com")]);
    apply(&env, "team", "Connect", &["jim@example.com", "pam@example.com"]).await;
    wait_until_connected(&env, "team").await;
    let all = env.woodpecker.mailboxes("agency");
    // The mailbox that the operator has connected is missing.
    env.woodpecker.set_mailboxes("agency", vec![existing(5, "pam@example.com")]);
    // A listing is used for a minute, divided by the time scale.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let with_kim = ["jim@example.com", "kim@example.com", "pam@example.com"];
    apply(&env, "team", "Connect", &with_kim).await;
    let incomplete = wait_for(&env, "team", ConditionStatus::False, "IncompleteList").await;
    assert_eq!((incomplete.missing, incomplete.missing_ids.len()), (Some(1), 1));
    let message = &ready(&incomplete).unwrap().message;
    assert!(message.contains(&format!("with the id {}", incomplete.missing_ids[0])), "{message}");
    tokio::time::sleep(QUIET_TIME).await;
    assert_eq!(connects(&env).len(), 1, "nothing is sent");
    // The mailbox that was there before is missing.
    env.woodpecker.set_mailboxes("agency", all.into_iter().filter(|it| it["id"] != 5).collect());
    request_reconcile(&env, "team").await;
    eventually("the one that was there before is missing", || async {
        let status = status(&env, "team").await;
        let is_unlisted = status.mailboxes[2].unlisted == Some(true);
        if is_unlisted { Ok(()) } else { Err(format!("{status:#?}\n{}", env.log())) }
    })
    .await;
    tokio::time::sleep(QUIET_TIME).await;
    assert_eq!(connects(&env).len(), 1, "the listing may lack others, too");
    apply(&env, "team", "Connect", &["kim@example.com", "jim@example.com", "pam@example.com"]).await;
    let status = wait_for(&env, "team", ConditionStatus::False, "ConnectionStopped").await;
    let expected = [ConnectionState::Connected, ConnectionState::Connected, ConnectionState::Stopped];
    assert_eq!(status.mailboxes.iter().map(|it| it.state).collect::<Vec<_>>(), expected);
    assert_eq!((status.mailboxes[2].unlisted, status.mailboxes[2].id), (Some(true), Some(5)));
    tokio::time::sleep(QUIET_TIME).await;
    assert!(!submissions(&env).contains_key("pam@example.com"));
    request_reconcile(&env, "team").await;
    wait_until_connected(&env, "team").await;
    assert_eq!(submissions(&env)["pam@example.com"], 1);
}

#[tokio::test]
async fn an_address_that_was_not_submitted_is_reported_and_nothing_more_is_sent() {
    let env = start().await;
    // The alias is answered by its primary address.
    let primary = json!([{"success": true, "id": 9, "email": "james@example.com", "error": null}]);
    env.woodpecker.fail_next(Op::Connect, 1, Fault::WrongShape(primary));
    apply(&env, "team", "Connect", &["jim@example.com", "pam@example.com"]).await;
    let held = wait_for(&env, "team", ConditionStatus::False, "UnexpectedAddress").await;
    let message = &ready(&held).unwrap().message;
    assert!(message.contains("the id 9, and 1 mailbox of the request is without result"), "{message}");
    tokio::time::sleep(QUIET_TIME).await;
    assert_eq!(connects(&env).len(), 1);
    request_reconcile(&env, "team").await;
    wait_until_connected(&env, "team").await;
    assert!(submissions(&env).values().all(|count| *count == 1), "{:?}", submissions(&env));
}

#[tokio::test]
async fn results_are_read_whatever_the_status_of_the_response() {
    let env = start().await;
    let refused = json!([{"success": false, "id": 7, "email": "jim@example.com", "error": "ALREADY_THERE"}]);
    env.woodpecker.fail_next(Op::Connect, 1, Fault::RefusedBefore(409, refused));
    apply(&env, "team", "Connect", &["jim@example.com"]).await;
    let status = wait_for(&env, "team", ConditionStatus::False, "ConnectionStopped").await;
    let mailbox = &status.mailboxes[0];
    // Woodpecker has it, perhaps, and no listing has shown yet that it would show it.
    assert_eq!(
        (mailbox.state, mailbox.id, mailbox.unlisted),
        (ConnectionState::Stopped, Some(7), Some(true))
    );
    assert_eq!(mailbox.error.as_deref(), Some("ALREADY_THERE"));
    // A listing that shows it later shows the operator's mailbox, also after a request to try again.
    env.woodpecker.set_mailboxes("agency", vec![existing(7, "jim@example.com")]);
    request_reconcile(&env, "team").await;
    let status = wait_until_connected(&env, "team").await;
    assert_eq!(states(&status), [("jim@example.com", ConnectionState::Connected, Some(7))]);
    assert_eq!(connects(&env).len(), 1);
}
