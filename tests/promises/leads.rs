//! Of several replicas one works: the others stand by, take over when it ends or falls silent, and a replica
//! that has lost its lease sends nothing more.

use std::time::Duration;

use graph_credential_operator::resources::conditions::{ConditionStatus, ConditionType};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kit::cluster::Cluster;
use kit::entra::Fault as EntraFault;
use kit::process::{Process, Signal};
use kit::woodpecker::{Fault, Op};
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::stage::{A_WHILE, EXPIRY, Stage, TENANT, ask, eventually, prepare};

const LEASE: &str = "graph-credential-operator";
const OTHER_CLIENT: &str = "e1c6ac69-480e-4a17-9b85-3467967bd170";

/// How long a replica may take to end, and another to take over: far beyond what either takes.
const PATIENCE: Duration = Duration::from_mins(1);

/// A stage on which one replica leads and another stands by.
async fn two() -> (Stage, Process, Process) {
    let mut stage = Stage::set().await;
    let leader = stage.operator.take().unwrap();
    stage.spawn_operator().await;
    let standby = stage.operator.take().unwrap();
    standby.wait_for_log("standby: another replica leads", PATIENCE).await.unwrap();
    (stage, leader, standby)
}

async fn leads(replica: &Process) {
    replica.wait_for_log("leading: this replica holds the lease", PATIENCE).await.unwrap();
}

async fn lease(stage: &Stage) -> LeaseSpec {
    stage.api::<Lease>().get(LEASE).await.unwrap().spec.unwrap()
}

/// Adds a credential for another app.
async fn another_credential(stage: &Stage) {
    stage.entra.add_app(TENANT, OTHER_CLIENT);
    stage.entra.set_secrets(TENANT, OTHER_CLIENT, &["s3cret-us"]);
    stage.secret("sales-us-graph", &[("client_secret", "s3cret-us"), ("secret_expires_at", EXPIRY)]).await;
    let spec = json!({"clientId": OTHER_CLIENT, "secretRef": {"name": "sales-us-graph"}});
    stage.credential("sales-us", spec).await;
}

/// Everything that was sent to Microsoft and Woodpecker.
fn sent(stage: &Stage) -> (usize, usize) {
    (stage.entra.requests().len(), stage.woodpecker.requests("agency").len())
}

/// Waits until the replica has ended, as one that has lost its lease does.
async fn ends_having_lost(replica: &Process, why: &str) {
    let exit = replica.wait(PATIENCE).await.unwrap();
    let log = replica.log();
    assert_eq!(exit.code(), 1, "{exit}\n{log}");
    assert!(
        log.contains("the program ends by a failure")
            && log.contains("leadership was lost")
            && log.contains(why),
        "{log}"
    );
}

#[tokio::test]
async fn one_leads_and_the_other_stands_by_ready_and_silent() {
    let (stage, leader, mut standby) = two().await;
    stage.credential("sales-eu", json!({})).await;
    stage.wait_until_ready("sales-eu").await;
    let holder = lease(&stage).await.holder_identity.unwrap();
    for (replica, status, note) in
        [(&leader, 1, None), (&standby, 0, Some(format!("standby: {holder} leads")))]
    {
        let (code, text) = ask(replica, "/readyz").await;
        assert!(code == 200 && text.contains("standby") == note.is_some(), "{text}");
        assert!(text.contains(&note.unwrap_or_default()), "{text}");
        let (_, metrics) = ask(replica, "/metrics").await;
        let line = format!("leader_election_master_status{{name=\"{LEASE}\"}} {status}");
        assert!(metrics.contains(&line), "{metrics}");
        assert_eq!(metrics.contains("mgc_external_requests_total{"), status == 1, "{metrics}");
    }
    assert_eq!(stage.woodpecker.max_in_flight("agency"), 1);

    let exit = standby.stop().await.unwrap();
    assert!(exit.success(), "{exit}\n{}", standby.log());
    assert!(leader.is_running());
    let spec = lease(&stage).await;
    assert_eq!((spec.holder_identity, spec.lease_transitions), (Some(holder), Some(0)));
    assert_eq!(spec.lease_duration_seconds, Some(5), "4.5 s, rounded up");
}

#[tokio::test]
async fn a_killed_leader_is_followed_once_its_lease_has_run_out() {
    let (stage, mut leader, standby) = two().await;
    stage.credential("sales-eu", json!({})).await;
    stage.wait_until_ready("sales-eu").await;
    leader.kill().await.unwrap();
    let last = lease(&stage).await;
    another_credential(&stage).await;
    stage.wait_until_ready("sales-us").await;
    let now = lease(&stage).await;
    assert_ne!(now.holder_identity, last.holder_identity, "{}", standby.log());
    assert_eq!(now.lease_transitions, Some(1));
    let waited = now.acquire_time.unwrap().0.duration_since(last.renew_time.unwrap().0);
    assert!(waited >= Duration::from_secs(5).try_into().unwrap(), "{waited}");
    assert_eq!((stage.remote().len(), stage.woodpecker.max_in_flight("agency")), (2, 1));
}

#[tokio::test]
async fn sigterm_finishes_the_work_and_hands_over_at_once() {
    let (stage, leader, standby) = two().await;
    stage.woodpecker.fail_next(Op::Create, 1, Fault::Slow(Duration::from_millis(1500)));
    stage.credential("sales-eu", json!({})).await;
    eventually("the create is under way", || async {
        let is_so = stage.woodpecker.in_flight("agency") == 1 && stage.woodpecker.writes("agency") == 1;
        if is_so { Ok(()) } else { Err(leader.log()) }
    })
    .await;
    leader.signal(Signal::TERM).unwrap();
    let exit = leader.wait(PATIENCE).await.unwrap();
    let ended = Timestamp::now();
    assert!(exit.success(), "{exit}\n{}", leader.log());
    leads(&standby).await;
    let after = lease(&stage).await.acquire_time.unwrap().0.duration_since(ended);
    assert!(after < Duration::from_secs(3).try_into().unwrap(), "{after}: well before it would run out");

    let status = stage.read("sales-eu").await.status.unwrap();
    assert!(status.registration.is_some() && status.pending.is_none(), "it was written down: {status:#?}");
    stage.wait_until_ready("sales-eu").await;
    another_credential(&stage).await;
    stage.wait_until_ready("sales-us").await;
    assert_eq!((stage.remote().len(), stage.woodpecker.max_in_flight("agency")), (2, 1));
}

#[tokio::test]
async fn a_leader_that_stood_still_past_its_lease_sends_nothing_when_it_goes_on() {
    let (stage, leader, standby) = two().await;
    stage.wait_for_account("agency", ConditionStatus::True, "Authenticated").await;
    stage.entra.fail_next(1, EntraFault::SlowBody(Duration::from_millis(700)));
    stage.credential("sales-eu", json!({})).await;
    eventually("the secret is being proved", || async {
        if stage.entra.in_flight() == 1 { Ok(()) } else { Err(leader.log()) }
    })
    .await;
    leader.signal(Signal::STOP).unwrap();
    leads(&standby).await;
    stage.wait_until_ready("sales-eu").await;
    tokio::time::sleep(A_WHILE).await;

    let (before, mark) = (sent(&stage), stage.cluster.audit_mark().unwrap());
    leader.signal(Signal::CONT).unwrap();
    ends_having_lost(&leader, "could not be renewed").await;
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(sent(&stage), before, "{}", leader.log());
    assert_eq!(stage.status_writes(mark), Vec::<String>::new());
    assert!(standby.is_running());
    assert_eq!((stage.remote().len(), stage.woodpecker.max_in_flight("agency")), (1, 1));
}

#[tokio::test]
async fn a_leader_whose_lease_is_taken_ends_and_leaves_it_alone() {
    let mut stage = Stage::set().await;
    stage.wait_for_account("agency", ConditionStatus::True, "Authenticated").await;
    let leader = stage.operator.take().unwrap();
    let theft = json!({"spec": {"holderIdentity": "thief"}});
    stage.api::<Lease>().patch(LEASE, &PatchParams::default(), &Patch::Merge(theft)).await.unwrap();
    ends_having_lost(&leader, "thief holds the lease now").await;
    assert_eq!(lease(&stage).await.holder_identity.as_deref(), Some("thief"));

    // Started again, as the kubelet would, it waits until the thief has been silent for long enough.
    let (before, mark) = (sent(&stage), stage.cluster.audit_mark().unwrap());
    stage.credential("sales-eu", json!({})).await;
    stage.spawn_operator().await;
    let operator = stage.operator.as_ref().unwrap();
    operator.wait_for_log("standby: another replica leads", PATIENCE).await.unwrap();
    let (now, writes) = (sent(&stage), stage.status_writes(mark));
    let still_stands_by = !operator.log().contains("leading:");
    assert!(!still_stands_by || (now == before && writes.is_empty()), "{now:?} {writes:?}");
    stage.wait_until_ready("sales-eu").await;
    assert_eq!(lease(&stage).await.lease_transitions, Some(1));
}

#[tokio::test]
async fn a_leader_without_an_api_server_gives_up_before_its_lease_runs_out() {
    let cluster: &'static Cluster = Box::leak(Box::new(Cluster::start().await.unwrap()));
    prepare(cluster).await;
    let mut stage = Stage::on(cluster).await;
    stage.start_operator().await;
    stage.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    stage.account("agency", json!({})).await;
    stage.wait_for_account("agency", ConditionStatus::True, "Authenticated").await;
    let leader = stage.operator.take().unwrap();
    cluster.apiserver().signal(Signal::STOP).unwrap();
    ends_having_lost(&leader, "could not be renewed").await;
    cluster.apiserver().signal(Signal::CONT).unwrap();
    let before = sent(&stage);
    stage.credential("sales-eu", json!({})).await;
    assert_eq!(sent(&stage), before);
    stage.start_operator().await;
    stage.wait_for("sales-eu", ConditionType::Ready, ConditionStatus::True, "Ready").await;
    assert_eq!(stage.remote().len(), 1);
}

#[tokio::test]
async fn without_leader_election_there_is_no_lease() {
    let mut stage = Stage::bare().await;
    stage.extra_args.push("--leader-elect=false".to_owned());
    stage.start_operator().await;
    assert!(stage.log().contains("this must be the only replica"));
    assert_eq!(stage.api::<Lease>().get_opt(LEASE).await.unwrap(), None);
    stage.extra_args = vec!["--leader-election-lease=another".to_owned()];
    stage.stop_operator().await;
    stage.start_operator().await;
    assert!(stage.api::<Lease>().get_opt("another").await.unwrap().is_some());
}
