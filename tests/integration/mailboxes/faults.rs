//! Lost, partial and refused responses.

use std::time::Duration;

use kit::woodpecker::Fault;

use super::*;

#[tokio::test]
async fn a_lost_response_is_looked_up_and_the_request_is_not_repeated() {
    let env = start().await;
    let faults = [
        Fault::ProcessedThenReset,
        Fault::ProcessedThenTruncated,
        Fault::ProcessedThen500,
        Fault::EmptyBody,
        Fault::WrongShape(json!({"result": "ok"})),
        Fault::WrongShape(json!([])),
        Fault::ProcessedThenHang(Duration::from_mins(5)),
    ];
    for fault in &faults {
        env.woodpecker.fail_next(Op::Connect, 1, fault.clone());
    }
    // The first request of each object meets a fault.
    let names: Vec<String> = (0..faults.len()).map(|n| format!("team-{n}")).collect();
    for name in &names {
        apply(&env, name, "Connect", &[&format!("{name}@example.com")]).await;
    }
    for name in &names {
        let status = wait_until_connected(&env, name).await;
        assert_eq!(status.mailboxes[0].state, ConnectionState::Connected, "{status:#?}");
        assert_eq!(status.mailboxes[0].id, ids(&env).get(&format!("{name}@example.com")).copied());
    }
    let met = connects(&env).iter().filter(|request| request.fault.is_some()).count();
    assert_eq!(met, faults.len());
    assert!(submissions(&env).values().all(|count| *count == 1), "{:?}", submissions(&env));
}

#[tokio::test]
async fn a_request_that_may_take_effect_late_is_not_repeated_before_that() {
    let env = start().await;
    // The settle period is two minutes, divided by the time scale.
    env.woodpecker.fail_next(Op::Connect, 1, Fault::ProcessedLate(Duration::from_secs(3)));
    apply(&env, "team", "Connect", &["jim@example.com"]).await;
    wait_until_connected(&env, "team").await;
    assert!(connects(&env)[0].fault.is_some());
    assert_eq!((submissions(&env)["jim@example.com"], ids(&env).len()), (1, 1));
}

#[tokio::test]
async fn a_request_that_had_no_effect_is_sent_again_after_a_listing() {
    let env = start().await;
    let unclear = [Fault::Html502, Fault::Http500Before, Fault::ConnectionReset];
    for fault in unclear.iter().cloned().chain([Fault::Throttled { retry_after: None }]) {
        env.woodpecker.fail_next(Op::Connect, 1, fault);
    }
    apply(&env, "team", "Connect", &["jim@example.com"]).await;
    for number in 1..=unclear.len() {
        eventually("a listing lacks it", || async {
            let status = status(&env, "team").await;
            // A person has to look, until a listing has shown a mailbox of the credential.
            let has_stopped = status.mailboxes.iter().any(|it| it.state == ConnectionState::Stopped);
            if has_stopped && connects(&env).len() == number { Ok(()) } else { Err(format!("{status:#?}")) }
        })
        .await;
        request_reconcile(&env, "team").await;
    }
    wait_until_connected(&env, "team").await;
    assert_eq!((submissions(&env)["jim@example.com"], ids(&env).len()), (5, 1));
    let requests = env.woodpecker.requests("agency");
    for (at, _) in requests.iter().enumerate().filter(|(_, request)| request.op == Op::Connect) {
        let before = &requests[at - 1];
        let was_throttled = before.fault.is_some_and(|fault| fault == "Throttled");
        assert!(before.op == Op::ListMailboxes || was_throttled, "each follows a listing: {requests:?}");
    }
    assert_eq!(env.woodpecker.resubmitted_mailboxes(), [""; 0]);
}

#[tokio::test]
async fn a_response_with_fewer_results_is_completed_by_a_listing() {
    let env = start().await;
    let emails: Vec<String> = (0..6).map(|n| format!("m{n}@example.com")).collect();
    let emails: Vec<&str> = emails.iter().map(String::as_str).collect();
    apply(&env, "team", "Connect", &emails[..1]).await;
    wait_until_connected(&env, "team").await;
    env.woodpecker.refuse_mailbox("m1@example.com", Some("NO_LICENSE"));
    env.woodpecker.fail_next(Op::Connect, 1, Fault::ResponseKeeps(2));
    apply(&env, "team", "Connect", &emails).await;
    let status = wait_for(&env, "team", ConditionStatus::False, "MailboxesRefused").await;
    let refused = &status.mailboxes[1];
    assert_eq!((refused.state, refused.error.as_deref()), (ConnectionState::Refused, Some("NO_LICENSE")));
    let ids = ids(&env);
    for (email, state, id) in states(&status).into_iter().filter(|(email, ..)| *email != "m1@example.com") {
        assert_eq!((state, id), (ConnectionState::Connected, ids.get(email).copied()), "{email}");
    }
    assert!(submissions(&env).values().all(|count| *count == 1), "{:?}", submissions(&env));
    let events = env.wait_for_event("team", "MailboxesRefused: ").await.join("\n");
    assert!(!events.contains("NO_LICENSE"), "{events}");
    // Ten minutes later, divided by the time scale, it is tried again.
    env.woodpecker.refuse_mailbox("m1@example.com", None);
    let started = std::time::Instant::now();
    wait_until_connected(&env, "team").await;
    assert!(started.elapsed() > Duration::from_secs(15), "{:?}", started.elapsed());
    assert_eq!(submissions(&env)["m1@example.com"], 2);
}

#[tokio::test]
async fn a_refused_request_shows_woodpeckers_text_and_waits() {
    let env = start().await;
    let plan = json!({"title": "Unauthorized", "status": 401, "detail": "Upgrade your plan"});
    for (number, (status, body, text)) in [
        (422, json!({"message": "TOO_MANY_ACCOUNTS"}), "HTTP 422: TOO_MANY_ACCOUNTS"),
        (
            409,
            json!({"code": "CONFLICT", "details": ["Mailbox of another company"]}),
            "HTTP 409: Mailbox of another company",
        ),
        (401, plan, "HTTP 401: Upgrade your plan"),
        (403, json!({"message": "x".repeat(5000)}), "HTTP 403: xxx"),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("team-{number}");
        env.woodpecker.fail_always(Op::Connect, Fault::RefusedBefore(status, body));
        apply(&env, &name, "Connect", &[&format!("{name}@example.com")]).await;
        let status = wait_for(&env, &name, ConditionStatus::False, "ConnectionRejected").await;
        let refusal = status.last_refusal.unwrap();
        assert!(refusal.starts_with(text) && refusal.chars().count() <= 256, "{refusal}");
        assert!(status.pending.is_none() && status.next_attempt_time.is_some());
        let before = submissions(&env)[&format!("{name}@example.com")];
        tokio::time::sleep(QUIET_TIME).await;
        assert_eq!(submissions(&env)[&format!("{name}@example.com")], before, "it waits");
        env.woodpecker.clear_faults();
        request_reconcile(&env, &name).await;
        wait_until_connected(&env, &name).await;
    }
    // The account stays ready: the text of a plan says nothing about its key.
    env.wait_for_account("agency", ConditionStatus::True, "Authenticated").await;
    assert_eq!(ids(&env).len(), 4);
}

#[tokio::test]
async fn mailboxes_that_cannot_be_listed_are_not_submitted() {
    let env = start().await;
    env.woodpecker.fail_always(Op::ListMailboxes, Fault::Html502);
    apply(&env, "team", "Connect", &["jim@example.com"]).await;
    wait_for(&env, "team", ConditionStatus::Unknown, "MailboxesNotListed").await;
    assert!(connects(&env).is_empty());
    env.woodpecker.clear_faults();
    wait_until_connected(&env, "team").await;
}
