//! The health of an account's mailboxes.

use graph_credential_operator::api::conditions::{Condition, ConditionStatus, ConditionType, find};
use graph_credential_operator::api::{MailboxHealthStatus, RECONCILE_REQUESTED_AT, WoodpeckerAccount};
use jiff::{SignedDuration, Timestamp};
use kit::tls::Authority;
use kit::woodpecker::{Fault, Op};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

use crate::harness::{CLIENT, EXPIRY, QUIET_TIME, TENANT, TestEnv, eventually};

/// An account with `mailboxHealth`, beside the one that the test environment has.
async fn watched(env: &TestEnv, name: &str) {
    let key = format!("1234.{name}");
    env.woodpecker.add_account(name, &key);
    env.secret(&format!("{name}-key"), &[("api_key", &key)]).await;
    env.apply_account(name, json!({"mailboxHealth": {}})).await;
}

fn healthy(account: &WoodpeckerAccount) -> Option<&Condition> {
    find(&account.status.as_ref()?.conditions, ConditionType::MailboxesHealthy)
}

fn health(account: &WoodpeckerAccount) -> MailboxHealthStatus {
    account.status.as_ref().and_then(|status| status.mailbox_health.clone()).unwrap_or_default()
}

async fn wait_for_health(
    env: &TestEnv,
    name: &str,
    status: ConditionStatus,
    reason: &str,
) -> WoodpeckerAccount {
    eventually(&format!("account {name}: MailboxesHealthy {status:?} {reason}"), || async {
        let account: WoodpeckerAccount = env.api().get(name).await.map_err(|error| error.to_string())?;
        match healthy(&account) {
            Some(healthy) if healthy.status == status && healthy.reason == reason => Ok(account),
            _ => Err(format!("{:#?}\n{}", account.status, env.log())),
        }
    })
    .await
}

/// Requests a listing now.
async fn request_listing(env: &TestEnv, name: &str) {
    let annotation = json!({RECONCILE_REQUESTED_AT: Timestamp::now().to_string()});
    let patch = Patch::Merge(json!({"metadata": {"annotations": annotation}}));
    env.api::<WoodpeckerAccount>().patch(name, &PatchParams::default(), &patch).await.unwrap();
}

fn mailbox(id: i64, address: &str, details: Value) -> Value {
    let mut all = json!({
        "email": address, "provider": "CUSTOM", "login": address, "server": "smtp.example.com", "port": null,
        "signature": "<div>[1, {\"2\"]</div>"
    });
    crate::harness::merge(&mut all, details);
    json!({"id": id, "type": "SMTP", "details": all})
}

fn list_requests(env: &TestEnv, account: &str) -> usize {
    env.woodpecker.requests(account).iter().filter(|request| request.op == Op::ListMailboxes).count()
}

#[tokio::test]
async fn mailboxes_are_counted_by_state_without_their_addresses() {
    let env = TestEnv::start().await;
    let now = Timestamp::now();
    let at =
        |hours: i64| (now + SignedDuration::from_hours(hours)).strftime("%Y-%m-%dT%H:%M:%S+0000").to_string();
    let mut of_pigeons = mailbox(8, "kevin@example.com", json!({"reconnect_required": true}));
    of_pigeons["type"] = json!("CARRIER_PIGEON");
    env.woodpecker.set_mailboxes(
        "watched",
        vec![
            mailbox(1, "jim@example.com", json!({"error": null, "in_slot": true, "freeze_account": []})),
            mailbox(2, "pam@example.com", json!({"error": "", "freeze_account": ""})),
            json!({"id": 3, "type": "IMAP", "details": {"email": "PAM@example.com", "private": false}}),
            mailbox(4, "dwight@example.com", json!({"error": "Connected conditionally.", "in_slot": true})),
            mailbox(5, "angela@example.com", json!({"in_slot": false})),
            mailbox(6, "oscar@example.com", json!({"freeze_account": [{"from": at(-1), "to": at(1)}]})),
            mailbox(7, "stanley@example.com", json!({"error": "Authentication failed"})),
            mailbox(17, "Stanley@Example.com", json!({"error": null})),
            of_pigeons,
            json!({"id": 9, "type": 5}),
        ],
    );
    watched(&env, "watched").await;
    let account = wait_for_health(&env, "watched", ConditionStatus::True, "MailboxesHealthy").await;
    let found = health(&account);
    let counts = [found.healthy, found.degraded, found.failing, found.inactive, found.frozen];
    assert_eq!(counts, [3, 1, 2, 1, 1], "{found:#?}");
    assert_eq!(found.failing_mailboxes.iter().map(|it| it.id).collect::<Vec<_>>(), [7, 8]);
    let own = format!("{{namespace=\"{}\",name=\"watched\"", env.namespace);
    let metrics = eventually("the metrics show it", || async {
        let (_, metrics) = env.get("/metrics").await;
        let sample = format!("graph_credential_account_mailboxes{own},state=\"failing\"}} 2\n");
        if metrics.contains(&sample) { Ok(metrics) } else { Err(metrics) }
    })
    .await;
    let condition =
        format!("graph_credential_account_mailboxes_healthy{own},reason=\"MailboxesHealthy\"}} 1\n");
    assert!(metrics.contains(&condition), "{metrics}");
    let everything = [
        serde_json::to_string(&account).unwrap(),
        metrics,
        env.log(),
        env.events("watched").await.join("\n"),
    ];
    for text in everything {
        assert!(!text.to_lowercase().contains("@example.com"), "{text}");
    }
    tokio::time::sleep(QUIET_TIME).await;
    assert_eq!(list_requests(&env, "watched"), 1, "the next one is due after half an hour");
}

#[tokio::test]
async fn a_mailbox_that_fails_for_an_hour_is_reported_until_it_works() {
    let mut env = TestEnv::start().await;
    let failing = || mailbox(7, "jim@example.com", json!({"error": "Token refresh"}));
    env.woodpecker.set_mailboxes("watched", vec![failing(), mailbox(8, "pam@example.com", json!({}))]);
    watched(&env, "watched").await;
    let account = wait_for_health(&env, "watched", ConditionStatus::True, "MailboxesHealthy").await;
    let since = health(&account).failing_mailboxes[0].first_seen_time.0;
    assert!((Timestamp::now().duration_since(since)).abs() < SignedDuration::from_mins(1));
    env.stop_operator().await;
    // Since two hours, of which the operator's clock makes far more than one.
    let since = (since - SignedDuration::from_hours(2)).strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let patch =
        json!({"status": {"mailboxHealth": {"failingMailboxes": [{"id": 7, "firstSeenTime": since}]}}});
    let accounts = env.api::<WoodpeckerAccount>();
    accounts.patch_status("watched", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    env.start_operator().await;
    request_listing(&env, "watched").await;
    let account = wait_for_health(&env, "watched", ConditionStatus::False, "MailboxesFailing").await;
    let ready = find(&account.status.as_ref().unwrap().conditions, ConditionType::Ready).unwrap();
    assert_eq!(ready.status, ConditionStatus::True, "Ready does not depend on it");
    assert!(healthy(&account).unwrap().message.starts_with("1 mailbox has been failing"));
    let event = |reason: &'static str| {
        let env = &env;
        async move {
            eventually(&format!("the event {reason}"), || async {
                let events = env.events("watched").await;
                if events.iter().any(|event| event.starts_with(reason)) {
                    Ok(())
                } else {
                    Err(format!("{events:?}"))
                }
            })
            .await;
        }
    };
    event("MailboxesFailing:").await;
    env.woodpecker.set_mailboxes("watched", vec![mailbox(7, "jim@example.com", json!({"error": null}))]);
    request_listing(&env, "watched").await;
    let account = wait_for_health(&env, "watched", ConditionStatus::True, "MailboxesHealthy").await;
    assert!(health(&account).failing_mailboxes.is_empty());
    event("MailboxesHealthy:").await;
}

/// Mailboxes that fail.
fn failing(ids: std::ops::RangeInclusive<i64>) -> Vec<Value> {
    let one = |id| mailbox(id, &format!("sender-{id}@example.com"), json!({"error": "Token refresh failed"}));
    ids.map(one).collect()
}

#[tokio::test]
async fn more_failing_mailboxes_than_the_status_lists_are_all_remembered() {
    let env = TestEnv::start().await;
    env.woodpecker.set_mailboxes("watched", failing(1..=150));
    watched(&env, "watched").await;
    let account = wait_for_health(&env, "watched", ConditionStatus::True, "MailboxesHealthy").await;
    let found = health(&account);
    assert_eq!((found.failing, found.failing_mailboxes.len()), (150, 100));
    let since = found.failing_mailboxes[0].first_seen_time.clone();
    tokio::time::sleep(Duration::from_secs(2)).await;
    // The ones that the status lists recover.
    env.woodpecker.set_mailboxes("watched", failing(101..=150));
    request_listing(&env, "watched").await;
    let listed = eventually("the others are listed", || async {
        let account: WoodpeckerAccount = env.api().get("watched").await.unwrap();
        let found = health(&account);
        if found.failing == 50 { Ok(found.failing_mailboxes) } else { Err(format!("{found:#?}")) }
    })
    .await;
    assert_eq!(listed.iter().map(|it| it.id).collect::<Vec<_>>(), (101..=150).collect::<Vec<_>>());
    assert!(listed.iter().all(|it| it.first_seen_time == since), "they fail since {since:?}: {listed:#?}");
}

#[tokio::test]
async fn after_a_restart_mailboxes_whose_failure_may_have_lasted_are_not_called_healthy() {
    let mut env = TestEnv::start().await;
    env.woodpecker.set_mailboxes("watched", failing(1..=150));
    watched(&env, "watched").await;
    let account = wait_for_health(&env, "watched", ConditionStatus::True, "MailboxesHealthy").await;
    env.stop_operator().await;
    // Since two hours, of which the operator's clock makes far more than one.
    let listed = health(&account).failing_mailboxes.into_iter().map(|it| {
        let since = (it.first_seen_time.0 - SignedDuration::from_hours(2)).strftime("%Y-%m-%dT%H:%M:%SZ");
        json!({"id": it.id, "firstSeenTime": since.to_string()})
    });
    let patch = json!({"status": {"mailboxHealth": {"failingMailboxes": listed.collect::<Vec<_>>()}}});
    let accounts = env.api::<WoodpeckerAccount>();
    accounts.patch_status("watched", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    env.start_operator().await;
    request_listing(&env, "watched").await;
    let account = wait_for_health(&env, "watched", ConditionStatus::False, "MailboxesFailing").await;
    let message = &healthy(&account).unwrap().message;
    assert!(message.starts_with("100 mailboxes have been failing"), "{message}");
    env.woodpecker.set_mailboxes("watched", failing(101..=150));
    request_listing(&env, "watched").await;
    let account = wait_for_health(&env, "watched", ConditionStatus::Unknown, "FailureTimeUnknown").await;
    assert_eq!(health(&account).failing, 50);
    env.woodpecker.set_mailboxes("watched", Vec::new());
    request_listing(&env, "watched").await;
    wait_for_health(&env, "watched", ConditionStatus::True, "MailboxesHealthy").await;
}

#[tokio::test]
async fn a_failed_listing_of_mailboxes_makes_their_health_unknown() {
    let env = TestEnv::start().await;
    let plan = json!({"title": "Unauthorized", "status": 401, "detail": "Upgrade your plan"});
    let error = json!({"status": {"status": "ERROR", "code": "E_LIMIT", "msg": "x"}});
    let faults = [
        Fault::Html502,
        Fault::ConnectionReset,
        Fault::ProcessedThenTruncated,
        Fault::ProcessedThen500,
        Fault::Unauthorized,
        Fault::RefusedBefore(401, plan),
        Fault::EmptyBody,
        Fault::WrongShape(json!({"mailboxes": []})),
        Fault::WrongShape(json!([{"id": "seven"}])),
        Fault::WrongShape(error),
    ];
    for (number, fault) in faults.iter().enumerate() {
        let name = format!("watched-{number}");
        env.woodpecker.set_mailboxes(&name, vec![mailbox(7, "jim@example.com", json!({"error": "x"}))]);
        env.woodpecker.fail_account_always(&name, Op::ListMailboxes, fault.clone());
        watched(&env, &name).await;
    }
    for (number, fault) in faults.iter().enumerate() {
        let name = format!("watched-{number}");
        let account = wait_for_health(&env, &name, ConditionStatus::Unknown, "MailboxesNotListed").await;
        let ready = find(&account.status.as_ref().unwrap().conditions, ConditionType::Ready).unwrap();
        assert_eq!(ready.status, ConditionStatus::True, "{fault:?}");
        assert_eq!(health(&account).last_listed_time, None, "{fault:?}");
    }
    env.credential("sales-eu", json!({"destination": {"woodpecker": {"accountRef": {"name": "watched-0"}}}}))
        .await;
    env.wait_until_ready("sales-eu").await;
    env.woodpecker.clear_faults();
    for number in 0..faults.len() {
        let name = format!("watched-{number}");
        let account = wait_for_health(&env, &name, ConditionStatus::True, "MailboxesHealthy").await;
        assert_eq!(health(&account).failing, 1);
    }
}

#[tokio::test]
async fn a_slow_listing_of_mailboxes_does_not_hold_up_a_repair() {
    let mut env = TestEnv::bare().await;
    // A listing may take 22 s, and gives up after 2.5 s if a request about a credential waits.
    env.time_scale = 2;
    env.start_operator().await;
    env.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    env.account("agency", json!({})).await;
    env.credential("sales-eu", json!({})).await;
    env.wait_until_ready("sales-eu").await;
    env.woodpecker.fail_always(Op::ListMailboxes, Fault::Hang(Duration::from_mins(5)));
    env.apply_account("agency", json!({"mailboxHealth": {}})).await;
    eventually("the listing is sent", || async {
        if list_requests(&env, "agency") > 0 { Ok(()) } else { Err(env.log()) }
    })
    .await;
    env.entra.set_secrets(TENANT, CLIENT, &["s3cret-two"]);
    let started = Instant::now();
    env.secret("sales-eu-graph", &[("client_secret", "s3cret-two"), ("secret_expires_at", EXPIRY)]).await;
    let id = env.remote()[0].credential_id;
    eventually("the new secret is registered", || async {
        if env.woodpecker.secret_matches("agency", id, "s3cret-two") { Ok(()) } else { Err(env.log()) }
    })
    .await;
    let took = started.elapsed();
    assert!(took < Duration::from_secs(15), "{took:?}");
    let (_, metrics) = env.get("/metrics").await;
    let given_up = "graph_credential_operator_external_requests_total{target=\"woodpecker\",operation=\"list_mailboxes\",outcome=\"given_up\"}";
    assert!(metrics.contains(given_up), "{metrics}");
    assert_eq!(env.woodpecker.max_in_flight("agency"), 1);
}

/// Mailboxes with a long signature. One of a hundred fails.
fn with_signatures(count: i64) -> Vec<Value> {
    let signature = "<div>Best regards, [and] {more}</div>".repeat(100);
    let one = |id| {
        let error = if id % 100 == 0 { "Your mailbox is full" } else { "" };
        let details = json!({"signature": signature, "error": error});
        mailbox(id, &format!("sender-{id}@example.com"), details)
    };
    (1..=count).map(one).collect()
}

/// Largest memory of the operator since it started, in MiB.
fn peak_memory(env: &TestEnv) -> u64 {
    let pid = env.operator.as_ref().unwrap().pid();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

/// How much the operator's largest memory grows with a listing of that many mailboxes, in MiB.
async fn growth_with(count: i64) -> u64 {
    let mut env = TestEnv::bare().await;
    // A listing of this size takes seconds in a debug build.
    env.time_scale = 1;
    // As in production: without TLS, the size of a read depends on how much this machine buffers.
    let authority = Authority::new().unwrap();
    let woodpecker = env.woodpecker.url().trim_start_matches("http://").to_owned();
    let relay = authority.relay(&["127.0.0.1"], &woodpecker).await.unwrap();
    let base_url = format!("https://127.0.0.1:{}/rest", relay.port());
    let ca = env.cluster.dir().join(format!("{}-ca.pem", env.namespace));
    std::fs::write(&ca, authority.pem()).unwrap();
    env.extra_args = ["--allowed-woodpecker-url", &base_url, "--ca-bundle", ca.to_str().unwrap()]
        .map(str::to_owned)
        .into();
    env.start_operator().await;
    env.woodpecker.set_mailboxes("watched", with_signatures(count));
    // A listing gives way to the question about the key, which is asked once.
    env.woodpecker.add_account("watched", "1234.watched");
    env.secret("watched-key", &[("api_key", "1234.watched")]).await;
    env.apply_account("watched", json!({"baseUrl": base_url})).await;
    eventually("the key is known", || async {
        let requests = env.woodpecker.requests("watched");
        if requests.iter().any(|it| it.op == Op::Me && it.status.is_some()) { Ok(()) } else { Err(env.log()) }
    })
    .await;
    let before = peak_memory(&env);
    env.apply_account("watched", json!({"baseUrl": base_url, "mailboxHealth": {}})).await;
    let account = wait_for_health(&env, "watched", ConditionStatus::True, "MailboxesHealthy").await;
    let found = health(&account);
    assert_eq!(i64::from(found.healthy + found.failing), count);
    assert_eq!((i64::from(found.failing), found.failing_mailboxes.len()), (count / 100, 100));
    peak_memory(&env) - before
}

#[tokio::test]
async fn ten_thousand_mailboxes_are_listed() {
    // The listing has 37 MB.
    let grown = growth_with(10_000).await;
    assert!(grown < 16, "{grown} MiB");
}

#[tokio::test]
async fn the_memory_of_a_listing_does_not_depend_on_its_length() {
    // The listing has 61 MB, nearly as many as are read.
    let grown = growth_with(16_400).await;
    assert!(grown < 16, "{grown} MiB");
}

#[tokio::test]
async fn without_the_setting_mailboxes_are_not_listed() {
    let env = TestEnv::start().await;
    env.wait_for_account("agency", ConditionStatus::True, "Authenticated").await;
    watched(&env, "watched").await;
    wait_for_health(&env, "watched", ConditionStatus::True, "MailboxesHealthy").await;
    env.apply_account("watched", json!({})).await;
    eventually("the status no longer has it", || async {
        let account: WoodpeckerAccount = env.api().get("watched").await.unwrap();
        let is_gone =
            healthy(&account).is_none() && account.status.as_ref().unwrap().mailbox_health.is_none();
        if is_gone { Ok(()) } else { Err(format!("{account:#?}")) }
    })
    .await;
    request_listing(&env, "watched").await;
    request_listing(&env, "agency").await;
    tokio::time::sleep(QUIET_TIME).await;
    assert_eq!((list_requests(&env, "agency"), list_requests(&env, "watched")), (0, 1));
    let agency: WoodpeckerAccount = env.api().get("agency").await.unwrap();
    assert!(healthy(&agency).is_none());
}
