//! Leader election: of several replicas one works. The others stand by and take over when it exits or
//! crashes, and a replica that has lost its lease sends nothing more.

use std::time::Duration;

use graph_credential_operator::api::conditions::{ConditionStatus, ConditionType};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kit::entra::Fault as EntraFault;
use kit::process::{Process, Signal};
use kit::woodpecker::{Fault, Op};
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::harness::{EXPIRY, QUIET_TIME, TENANT, TestEnv, eventually, prepare, send_get};

const LEASE: &str = "graph-credential-operator";
const OTHER_CLIENT: &str = "e1c6ac69-480e-4a17-9b85-3467967bd170";

/// How long a replica may take to exit, and another one to take over: far longer than either takes.
const TIMEOUT: Duration = Duration::from_mins(1);

/// A test environment with a leader and a standby replica.
async fn two_replicas() -> (TestEnv, Process, Process) {
    let mut env = TestEnv::start().await;
    let leader = env.operator.take().unwrap();
    env.spawn_operator().await;
    let standby = env.operator.take().unwrap();
    standby.wait_for_log("standby: another replica leads", TIMEOUT).await.unwrap();
    (env, leader, standby)
}

async fn wait_until_leader(replica: &Process) {
    replica.wait_for_log("leading: this replica holds the lease", TIMEOUT).await.unwrap();
}

async fn lease(env: &TestEnv) -> LeaseSpec {
    env.api::<Lease>().get(LEASE).await.unwrap().spec.unwrap()
}

/// Adds a credential for another app.
async fn another_credential(env: &TestEnv) {
    env.entra.add_app(TENANT, OTHER_CLIENT);
    env.entra.set_secrets(TENANT, OTHER_CLIENT, &["s3cret-us"]);
    env.secret("sales-us-graph", &[("client_secret", "s3cret-us"), ("secret_expires_at", EXPIRY)]).await;
    let spec = json!({"clientId": OTHER_CLIENT, "secretRef": {"name": "sales-us-graph"}});
    env.credential("sales-us", spec).await;
}

/// Number of requests to Microsoft and Woodpecker.
fn request_counts(env: &TestEnv) -> (usize, usize) {
    (env.entra.requests().len(), env.woodpecker.requests("agency").len())
}

/// Waits until the replica has exited because it lost its lease.
async fn exits_without_lease(replica: &Process, why: &str) {
    let exit = replica.wait(TIMEOUT).await.unwrap();
    let log = replica.log();
    assert_eq!(exit.code(), 1, "{exit}\n{log}");
    assert!(
        log.contains("exiting because of an error")
            && log.contains("leadership was lost")
            && log.contains(why),
        "{log}"
    );
}

#[tokio::test]
async fn one_replica_leads_and_the_standby_is_ready_and_sends_nothing() {
    let (env, leader, mut standby) = two_replicas().await;
    env.credential("sales-eu", json!({})).await;
    env.wait_until_ready("sales-eu").await;
    let holder = lease(&env).await.holder_identity.unwrap();
    for (replica, status, note) in
        [(&leader, 1, None), (&standby, 0, Some(format!("standby: {holder} leads")))]
    {
        let (code, text) = send_get(replica, "/readyz").await;
        assert!(code == 200 && text.contains("standby") == note.is_some(), "{text}");
        assert!(text.contains(&note.unwrap_or_default()), "{text}");
        let (_, metrics) = send_get(replica, "/metrics").await;
        let line = format!("leader_election_master_status{{name=\"{LEASE}\"}} {status}");
        assert!(metrics.contains(&line), "{metrics}");
        assert_eq!(
            metrics.contains("graph_credential_operator_external_requests_total{"),
            status == 1,
            "{metrics}"
        );
    }
    assert_eq!(env.woodpecker.max_in_flight("agency"), 1);

    let exit = standby.stop().await.unwrap();
    assert!(exit.success(), "{exit}\n{}", standby.log());
    assert!(leader.is_running());
    let spec = lease(&env).await;
    assert_eq!((spec.holder_identity, spec.lease_transitions), (Some(holder), Some(0)));
    assert_eq!(spec.lease_duration_seconds, Some(5), "4.5 s, rounded up");
}

#[tokio::test]
async fn a_killed_leader_is_replaced_when_its_lease_expires() {
    let (env, mut leader, standby) = two_replicas().await;
    env.credential("sales-eu", json!({})).await;
    env.wait_until_ready("sales-eu").await;
    leader.kill().await.unwrap();
    let last = lease(&env).await;
    another_credential(&env).await;
    env.wait_until_ready("sales-us").await;
    let now = lease(&env).await;
    assert_ne!(now.holder_identity, last.holder_identity, "{}", standby.log());
    assert_eq!(now.lease_transitions, Some(1));
    let waited = now.acquire_time.unwrap().0.duration_since(last.renew_time.unwrap().0);
    assert!(waited >= Duration::from_secs(5).try_into().unwrap(), "{waited}");
    assert_eq!((env.remote().len(), env.woodpecker.max_in_flight("agency")), (2, 1));
}

#[tokio::test]
async fn sigterm_finishes_the_work_and_releases_the_lease() {
    let (env, leader, standby) = two_replicas().await;
    env.woodpecker.fail_next(Op::Create, 1, Fault::Slow(Duration::from_millis(1500)));
    env.credential("sales-eu", json!({})).await;
    eventually("the create is under way", || async {
        let is_so = env.woodpecker.in_flight("agency") == 1 && env.woodpecker.writes("agency") == 1;
        if is_so { Ok(()) } else { Err(leader.log()) }
    })
    .await;
    leader.signal(Signal::TERM).unwrap();
    let exit = leader.wait(TIMEOUT).await.unwrap();
    let ended = Timestamp::now();
    assert!(exit.success(), "{exit}\n{}", leader.log());
    wait_until_leader(&standby).await;
    let after = lease(&env).await.acquire_time.unwrap().0.duration_since(ended);
    assert!(after < Duration::from_secs(3).try_into().unwrap(), "{after}: well before it would run out");

    let status = env.read("sales-eu").await.status.unwrap();
    assert!(
        status.registration.is_some() && status.pending_create.is_none(),
        "it was written down: {status:#?}"
    );
    env.wait_until_ready("sales-eu").await;
    another_credential(&env).await;
    env.wait_until_ready("sales-us").await;
    assert_eq!((env.remote().len(), env.woodpecker.max_in_flight("agency")), (2, 1));
}

#[tokio::test]
async fn a_leader_frozen_past_its_lease_sends_nothing_when_it_resumes() {
    let (env, leader, standby) = two_replicas().await;
    env.wait_for_account("agency", ConditionStatus::True, "Authenticated").await;
    env.entra.fail_next(1, EntraFault::SlowBody(Duration::from_millis(700)));
    env.credential("sales-eu", json!({})).await;
    eventually("the secret is being verified", || async {
        if env.entra.in_flight() == 1 { Ok(()) } else { Err(leader.log()) }
    })
    .await;
    leader.signal(Signal::STOP).unwrap();
    wait_until_leader(&standby).await;
    env.wait_until_ready("sales-eu").await;
    tokio::time::sleep(QUIET_TIME).await;

    let (before, mark) = (request_counts(&env), env.cluster.audit_mark().unwrap());
    leader.signal(Signal::CONT).unwrap();
    exits_without_lease(&leader, "could not be renewed").await;
    tokio::time::sleep(QUIET_TIME).await;
    assert_eq!(request_counts(&env), before, "{}", leader.log());
    assert_eq!(env.status_writes(mark), Vec::<String>::new());
    assert!(standby.is_running());
    assert_eq!((env.remote().len(), env.woodpecker.max_in_flight("agency")), (1, 1));
}

#[tokio::test]
async fn a_leader_whose_lease_is_taken_exits_without_changing_the_lease() {
    let mut env = TestEnv::start().await;
    env.wait_for_account("agency", ConditionStatus::True, "Authenticated").await;
    let leader = env.operator.take().unwrap();
    let takeover = json!({"spec": {"holderIdentity": "another-process"}});
    env.api::<Lease>().patch(LEASE, &PatchParams::default(), &Patch::Merge(takeover)).await.unwrap();
    exits_without_lease(&leader, "another-process holds the lease now").await;
    assert_eq!(lease(&env).await.holder_identity.as_deref(), Some("another-process"));

    // Restarted, as the kubelet would, it waits until the lease of the other holder has expired.
    let (before, mark) = (request_counts(&env), env.cluster.audit_mark().unwrap());
    env.credential("sales-eu", json!({})).await;
    env.spawn_operator().await;
    let operator = env.operator.as_ref().unwrap();
    operator.wait_for_log("standby: another replica leads", TIMEOUT).await.unwrap();
    let (now, writes) = (request_counts(&env), env.status_writes(mark));
    let still_stands_by = !operator.log().contains("leading:");
    assert!(!still_stands_by || (now == before && writes.is_empty()), "{now:?} {writes:?}");
    env.wait_until_ready("sales-eu").await;
    assert_eq!(lease(&env).await.lease_transitions, Some(1));
}

#[tokio::test]
async fn a_leader_without_an_api_server_exits_before_its_lease_expires() {
    let cluster = crate::harness::own_cluster().await;
    prepare(cluster).await;
    let mut env = TestEnv::on(cluster).await;
    env.start_operator().await;
    env.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    env.account("agency", json!({})).await;
    env.wait_for_account("agency", ConditionStatus::True, "Authenticated").await;
    let leader = env.operator.take().unwrap();
    cluster.apiserver().signal(Signal::STOP).unwrap();
    exits_without_lease(&leader, "could not be renewed").await;
    cluster.apiserver().signal(Signal::CONT).unwrap();
    let before = request_counts(&env);
    env.credential("sales-eu", json!({})).await;
    assert_eq!(request_counts(&env), before);
    env.start_operator().await;
    env.wait_for("sales-eu", ConditionType::Ready, ConditionStatus::True, "Ready").await;
    assert_eq!(env.remote().len(), 1);
}

#[tokio::test]
async fn without_leader_election_there_is_no_lease() {
    let mut env = TestEnv::bare().await;
    env.extra_args.push("--leader-elect=false".to_owned());
    env.start_operator().await;
    assert!(env.log().contains("this must be the only replica"));
    assert_eq!(env.api::<Lease>().get_opt(LEASE).await.unwrap(), None);
    env.extra_args = vec!["--leader-election-lease=another".to_owned()];
    env.stop_operator().await;
    env.start_operator().await;
    assert!(env.api::<Lease>().get_opt("another").await.unwrap().is_some());
}
