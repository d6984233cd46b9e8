//! Promise 10: no tenant's objects slow down another's, and what does not need Microsoft does not wait for it.

use std::time::Duration;

use graph_credential_operator::resources::MicrosoftGraphCredential;
use graph_credential_operator::resources::conditions::{ConditionStatus, ConditionType, find};
use kit::entra::Fault;
use kube::api::ListParams;
use serde_json::{Value, json};

use crate::stage::{EXPIRY, Stage, TENANT, eventually};

/// The app of the `n`-th object.
fn client(n: usize) -> String {
    format!("00000000-0000-4000-8000-{n:012}")
}

fn stored(n: usize) -> Value {
    json!({"clientId": client(n), "destination": {"woodpecker": null, "store": {}}})
}

/// A namespace with so many objects of the store, counted from `first`.
async fn fill(stage: &Stage, namespace: &Stage, first: usize, count: usize) {
    namespace
        .secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)])
        .await;
    for n in first..first + count {
        stage.entra.add_app(TENANT, &client(n));
        stage.entra.set_secrets(TENANT, &client(n), &["s3cret-one"]);
        namespace.credential(&format!("object-{n}"), stored(n)).await;
    }
}

async fn ready_in(stage: &Stage) -> usize {
    let api: kube::Api<MicrosoftGraphCredential> = stage.api();
    let objects = api.list(&ListParams::default()).await.expect("credentials can be listed");
    let is_ready = |object: &MicrosoftGraphCredential| {
        let conditions = object.status.as_ref().map(|status| status.conditions.as_slice());
        find(conditions.unwrap_or_default(), ConditionType::Ready)
            .is_some_and(|ready| ready.status == ConditionStatus::True)
    };
    objects.iter().filter(|object| is_ready(object)).count()
}

#[tokio::test]
async fn a_namespace_with_200_objects_does_not_delay_the_one_of_another_and_one_bound_holds_for_all() {
    let mut stage = Stage::bare().await;
    let (one, other) = (Stage::bare().await, Stage::bare().await);
    stage.time_scale = 5;
    for namespace in [&one, &other] {
        stage.extra_args.extend(["--watch-namespace".to_owned(), namespace.namespace.clone()]);
    }
    stage.extra_args.extend(["--max-concurrent-passes".to_owned(), "4".to_owned()]);
    stage.entra.service_time(Duration::from_millis(200));
    fill(&stage, &stage, 0, 200).await;
    stage.start_operator().await;
    eventually("the namespace with many objects is under way", || async {
        if stage.entra.requests().len() > 5 { Ok(()) } else { Err(stage.log()) }
    })
    .await;
    fill(&stage, &one, 200, 1).await;
    fill(&stage, &other, 201, 1).await;
    one.wait_until_ready("object-200").await;
    other.wait_until_ready("object-201").await;
    let ready = ready_in(&stage).await;
    assert!(ready < 150, "{ready} of the others' came before");
    assert!(stage.entra.max_in_flight() <= 3, "three quarters of four, for the whole process");
    let (_, metrics) = stage.get("/metrics").await;
    let bound = r#"controller_runtime_max_concurrent_reconciles{controller="microsoftgraphcredential"} 4"#;
    assert!(metrics.contains(bound), "{metrics}");
}

#[tokio::test]
async fn what_does_not_need_microsoft_goes_on_while_microsoft_does_not_answer() {
    let mut stage = Stage::bare().await;
    stage.time_scale = 1;
    stage.extra_args.extend(["--max-concurrent-passes".to_owned(), "4".to_owned()]);
    stage.start_operator().await;
    fill(&stage, &stage, 0, 1).await;
    stage.wait_until_ready("object-0").await;
    stage.entra.fail_always(Fault::Hang(Duration::from_secs(600)));
    fill(&stage, &stage, 1, 12).await;
    eventually("Microsoft is waited for", || async {
        if stage.entra.in_flight() == 3 { Ok(()) } else { Err(stage.log()) }
    })
    .await;
    let started = std::time::Instant::now();
    stage.delete("object-0").await;
    stage.wait_until_gone("object-0").await;
    // A call to Microsoft may take fifteen seconds.
    assert!(started.elapsed() < Duration::from_secs(10), "{}", stage.log());
    assert!(stage.entra.max_in_flight() <= 3, "{}", stage.entra.max_in_flight());
}

#[tokio::test]
async fn a_list_that_is_refused_is_tried_ever_more_rarely_and_holds_up_no_other() {
    let mut stage = Stage::bare().await;
    let closed = Stage::bare().await;
    // The keyring is there already: to make one, the operator must see every namespace that it serves.
    stage.start_operator().await;
    stage.stop_operator().await;
    stage.time_scale = 1;
    stage.limit_operator(&["get"]).await;
    stage.extra_args.extend(["--watch-namespace".to_owned(), closed.namespace.clone()]);
    let mark = stage.cluster.audit_mark().expect("the audit log can be read");
    stage.spawn_operator().await;
    fill(&stage, &stage, 0, 1).await;
    stage.wait_until_ready("object-0").await;
    tokio::time::sleep(Duration::from_secs(12)).await;
    let tried = || {
        let entries = stage.cluster.audit_since(mark).expect("the audit log can be read").into_iter();
        let lists = entries.filter(|entry| entry.verb == "list" && entry.resource == "woodpeckeraccounts");
        lists.filter(|entry| entry.namespace.as_deref() == Some(&closed.namespace)).count()
    };
    // After 0, 1, 3, 7 and 15 seconds, each wait less up to a quarter.
    assert!((3..=6).contains(&tried()), "{}", tried());
}

#[tokio::test]
async fn large_metadata_of_others_costs_next_to_no_memory() {
    let mut stage = Stage::bare().await;
    stage.start_operator().await;
    let before = peak(&stage);
    stage.stop_operator().await;
    let fat = "x".repeat(250 << 10);
    for n in 0..120 {
        let spec = crate::stage::plain_spec(json!({"clientId": client(n), "suspend": true}));
        let body = json!({"metadata": {"annotations": {"example.com/fat": fat}}, "spec": spec});
        let name = format!("object-{n}");
        stage.apply::<MicrosoftGraphCredential>(&name, body).await.expect("the object can be applied");
    }
    // One run writes what there is to say about them; the next one lists and keeps them, and no more.
    for _ in 0..2 {
        if stage.operator.is_some() {
            stage.stop_operator().await;
        }
        stage.start_operator().await;
        eventually("all objects have been looked at", || async {
            let ended = stage.reconciles().await;
            if ended >= 120 { Ok(()) } else { Err(format!("{ended}\n{}", stage.log())) }
        })
        .await;
    }
    let after = peak(&stage);
    assert!(after < before + (16 << 10), "{before} kB became {after} kB");
}

/// The most memory that the operator has had, in kB.
fn peak(stage: &Stage) -> u64 {
    let pid = stage.operator.as_ref().expect("the operator runs").pid();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process is there");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
