//! What objects of one account share, how large a status becomes, and what the commands show.

use kit::woodpecker::Fault;

use super::*;
use crate::admin_cli::run;

fn listings(env: &TestEnv) -> usize {
    requests(env, "agency", Op::ListMailboxes).len()
}

#[tokio::test]
async fn objects_of_one_account_share_a_listing() {
    let env = start().await;
    let names: Vec<String> = (0..6).map(|number| format!("team-{number}")).collect();
    for name in &names {
        apply(&env, name, "Plan", &[&format!("{name}@example.com")]).await;
    }
    for name in &names {
        wait_for(&env, name, ConditionStatus::True, "ConnectionPlanned").await;
    }
    assert_eq!(listings(&env), 1);
    request_reconcile(&env, "team-0").await;
    eventually("a requested reconcile lists again", || async {
        if listings(&env) == 2 { Ok(()) } else { Err(env.log()) }
    })
    .await;
}

#[tokio::test]
async fn listings_that_fail_are_not_repeated_by_each_object() {
    let env = start().await;
    env.woodpecker.fail_always(Op::ListMailboxes, Fault::Html502);
    for number in 0..4 {
        apply(&env, &format!("team-{number}"), "Connect", &[&format!("m{number}@example.com")]).await;
    }
    for number in 0..4 {
        wait_for(&env, &format!("team-{number}"), ConditionStatus::Unknown, "MailboxesNotListed").await;
    }
    assert_eq!(listings(&env), 1, "the next one follows after some minutes, divided by the time scale");
    env.woodpecker.clear_faults();
    for number in 0..4 {
        wait_until_connected(&env, &format!("team-{number}")).await;
    }
}

#[tokio::test]
async fn a_thousand_long_addresses_fit_into_the_status() {
    let env = start().await;
    let emails: Vec<String> = (0..1000).map(|n| format!("{}{n:03}@x.io", "m".repeat(92))).collect();
    let emails: Vec<&str> = emails.iter().map(String::as_str).collect();
    apply(&env, "team", "Plan", &emails).await;
    let status = wait_for(&env, "team", ConditionStatus::True, "ConnectionPlanned").await;
    assert_eq!((status.mailboxes.len(), status.open), (1000, Some(1000)));
}

#[tokio::test]
async fn status_and_describe_show_the_mailboxes_to_connect() {
    let env = start().await;
    env.woodpecker.refuse_mailbox("jim@example.com", Some("NO_LICENSE"));
    apply(&env, "team", "Connect", &["jim@example.com"]).await;
    wait_for(&env, "team", ConditionStatus::False, "MailboxesRefused").await;
    let shown = run(&env, &["status", "--namespace", &env.namespace]).await;
    assert_eq!(shown.code, Some(3), "somebody must act: {shown:?}");
    let row = shown.out.lines().find(|line| line.contains("MailboxesRefused")).expect(&shown.out);
    assert!(row.starts_with("team") && shown.out.contains("mailboxes:\n"), "{}", shown.out);
    let names = run(&env, &["status", "--namespace", &env.namespace, "-o", "name"]).await;
    assert!(names.out.contains("woodpeckermailboxes.graph-credentials.io/team\n"), "{}", names.out);
    let described = run(&env, &["describe", "wpm/team", "--namespace", &env.namespace]).await;
    for text in [
        "credential:  sales-eu",
        "policy:      Connect",
        "0 of 1 connected, 0 there before, 1 refused",
        "next:        the operator submits the next mailboxes in ",
        "1 request connected no mailbox",
        "MailboxesRefused",
    ] {
        assert!(described.out.contains(text), "{text}: {}", described.out);
    }
    assert!(!described.out.contains("jim@example.com"), "only the YAML and JSON have addresses");
    let json = run(&env, &["describe", "wpm/team", "--namespace", &env.namespace, "-o", "json"]).await;
    let json: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(json["status"]["mailboxes"][0]["error"], "NO_LICENSE");
}
