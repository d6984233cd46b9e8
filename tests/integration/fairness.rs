//! Fairness: objects of one tenant do not delay another tenant's, and what does not need Microsoft does not
//! wait for it.

use std::time::Duration;

use graph_credential_operator::api::MicrosoftGraphCredential;
use graph_credential_operator::api::conditions::{ConditionStatus, ConditionType, find};
use kit::entra::Fault;
use kube::api::ListParams;
use serde_json::{Value, json};

use crate::harness::{EXPIRY, TENANT, TestEnv, eventually};

/// The client id of the `n`-th object.
fn client(n: usize) -> String {
    format!("00000000-0000-4000-8000-{n:012}")
}

fn stored(n: usize) -> Value {
    json!({"clientId": client(n), "destination": {"woodpecker": null, "store": {}}})
}

/// Creates this number of objects of the store in a namespace, numbered from `first`.
async fn fill(env: &TestEnv, namespace: &TestEnv, first: usize, count: usize) {
    namespace
        .secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)])
        .await;
    for n in first..first + count {
        env.entra.add_app(TENANT, &client(n));
        env.entra.set_secrets(TENANT, &client(n), &["s3cret-one"]);
        namespace.credential(&format!("object-{n}"), stored(n)).await;
    }
}

async fn ready_in(env: &TestEnv) -> usize {
    let api: kube::Api<MicrosoftGraphCredential> = env.api();
    let objects = api.list(&ListParams::default()).await.expect("credentials can be listed");
    let is_ready = |object: &MicrosoftGraphCredential| {
        let conditions = object.status.as_ref().map(|status| status.conditions.as_slice());
        find(conditions.unwrap_or_default(), ConditionType::Ready)
            .is_some_and(|ready| ready.status == ConditionStatus::True)
    };
    objects.iter().filter(|object| is_ready(object)).count()
}

#[tokio::test]
async fn a_namespace_with_200_objects_does_not_delay_another_namespace() {
    let mut env = TestEnv::bare().await;
    let (one, other) = (TestEnv::bare().await, TestEnv::bare().await);
    env.time_scale = 5;
    for namespace in [&one, &other] {
        env.extra_args.extend(["--watch-namespace".to_owned(), namespace.namespace.clone()]);
    }
    env.extra_args.extend(["--max-concurrent-reconciles".to_owned(), "4".to_owned()]);
    env.entra.service_time(Duration::from_millis(200));
    fill(&env, &env, 0, 200).await;
    env.start_operator().await;
    eventually("the namespace with many objects is under way", || async {
        if env.entra.requests().len() > 5 { Ok(()) } else { Err(env.log()) }
    })
    .await;
    fill(&env, &one, 200, 1).await;
    fill(&env, &other, 201, 1).await;
    one.wait_until_ready("object-200").await;
    other.wait_until_ready("object-201").await;
    let ready = ready_in(&env).await;
    assert!(ready < 150, "{ready} objects of the other namespace were Ready first");
    assert!(env.entra.max_in_flight() <= 3, "three quarters of four, for the whole process");
    let (_, metrics) = env.get("/metrics").await;
    let bound = r#"controller_runtime_max_concurrent_reconciles{controller="microsoftgraphcredential"} 4"#;
    assert!(metrics.contains(bound), "{metrics}");
}

#[tokio::test]
async fn work_without_microsoft_continues_while_microsoft_does_not_respond() {
    let mut env = TestEnv::bare().await;
    env.time_scale = 1;
    env.extra_args.extend(["--max-concurrent-reconciles".to_owned(), "4".to_owned()]);
    env.start_operator().await;
    fill(&env, &env, 0, 1).await;
    env.wait_until_ready("object-0").await;
    env.entra.fail_always(Fault::Hang(Duration::from_secs(600)));
    fill(&env, &env, 1, 12).await;
    eventually("Microsoft is waited for", || async {
        if env.entra.in_flight() == 3 { Ok(()) } else { Err(env.log()) }
    })
    .await;
    let started = std::time::Instant::now();
    env.delete("object-0").await;
    env.wait_until_gone("object-0").await;
    // A request to Microsoft may take fifteen seconds.
    assert!(started.elapsed() < Duration::from_secs(10), "{}", env.log());
    assert!(env.entra.max_in_flight() <= 3, "{}", env.entra.max_in_flight());
}

#[tokio::test]
async fn a_rejected_list_is_retried_with_backoff_and_delays_no_other() {
    let mut env = TestEnv::bare().await;
    let closed = TestEnv::bare().await;
    // The keyring exists already. To create one, the operator must be able to list every namespace that it
    // serves.
    env.start_operator().await;
    env.stop_operator().await;
    env.time_scale = 1;
    env.limit_operator(&["get"]).await;
    env.extra_args.extend(["--watch-namespace".to_owned(), closed.namespace.clone()]);
    let mark = env.cluster.audit_mark().expect("the audit log can be read");
    env.spawn_operator().await;
    fill(&env, &env, 0, 1).await;
    env.wait_until_ready("object-0").await;
    tokio::time::sleep(Duration::from_secs(12)).await;
    let tried = || {
        let entries = env.cluster.audit_since(mark).expect("the audit log can be read").into_iter();
        let lists = entries.filter(|entry| entry.verb == "list" && entry.resource == "woodpeckeraccounts");
        lists.filter(|entry| entry.namespace.as_deref() == Some(&closed.namespace)).count()
    };
    // Retries start after 0, 1, 3, 7 and 15 seconds, with each delay shorter by up to a quarter.
    assert!((3..=6).contains(&tried()), "{}", tried());
}

#[tokio::test]
async fn large_metadata_uses_little_memory() {
    let mut env = TestEnv::bare().await;
    env.start_operator().await;
    let before = peak(&env);
    env.stop_operator().await;
    let fat = "x".repeat(250 << 10);
    for n in 0..120 {
        let spec = crate::harness::plain_spec(json!({"clientId": client(n), "suspend": true}));
        let body = json!({"metadata": {"annotations": {"example.com/fat": fat}}, "spec": spec});
        let name = format!("object-{n}");
        env.apply::<MicrosoftGraphCredential>(&name, body).await.expect("the object can be applied");
    }
    // The first run publishes what there is to report about them. The second one only lists and keeps them.
    for _ in 0..2 {
        if env.operator.is_some() {
            env.stop_operator().await;
        }
        env.start_operator().await;
        eventually("all objects have been reconciled", || async {
            let ended = env.reconciles().await;
            if ended >= 120 { Ok(()) } else { Err(format!("{ended}\n{}", env.log())) }
        })
        .await;
    }
    let after = peak(&env);
    assert!(after < before + (16 << 10), "{before} kB became {after} kB");
}

/// Peak memory of the operator, in kB.
fn peak(env: &TestEnv) -> u64 {
    let pid = env.operator.as_ref().expect("the operator runs").pid();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process exists");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
