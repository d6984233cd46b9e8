//! Tests of the election with a fake API server and paused time.

mod api;

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::api::{FakeApi, Mode};
use crate::core::timing::Timing;
use crate::k8s::leader_election::{Candidate, ElectionConfig, HeldLease, LeadershipLost, LeaseObserver};
use crate::k8s::leadership::testing::{clock, suspend_machine};
use crate::k8s::relist::Relist;
use crate::telemetry::health::Readiness;
use crate::telemetry::metrics::Metrics;

const TIMING: Timing = Timing::STANDARD;

/// A replica that tries to acquire the lease.
struct Replica {
    readiness: Readiness,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
    acquiring: JoinHandle<Option<HeldLease>>,
}

fn replica(api: &FakeApi, pod: &str) -> Replica {
    let (readiness, metrics) = (Readiness::default(), Arc::new(Metrics::new()));
    let config = ElectionConfig {
        client: api.client(),
        namespace: "operators".into(),
        lease: "the-lease".into(),
        instance: pod.into(),
        clock,
        timing: TIMING,
        relist: Relist::default(),
        metrics: metrics.clone(),
    };
    let candidate = Candidate::new(config, readiness.clone()).unwrap();
    let stop = CancellationToken::new();
    let token = stop.clone();
    let acquiring = tokio::spawn(async move { candidate.acquire(&token).await });
    Replica { readiness, metrics, stop, acquiring }
}

/// A replica that leads and renews its lease.
async fn leader(
    api: &FakeApi,
    pod: &str,
) -> (Replica, JoinHandle<Result<HeldLease, LeadershipLost>>, CancellationToken) {
    let mut replica = replica(api, pod);
    let held = (&mut replica.acquiring).await.unwrap().expect("it leads");
    let over = CancellationToken::new();
    let renewing = tokio::spawn(held.renew_until(over.clone()));
    (replica, renewing, over)
}

async fn seconds(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

fn since(start: Duration) -> Duration {
    clock().saturating_sub(start)
}

impl Replica {
    fn reports_leading(&self, leads: u8) -> bool {
        let line = format!("leader_election_master_status{{name=\"the-lease\"}} {leads}\n");
        self.metrics.render().unwrap().contains(&line)
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_replica_leads_and_the_second_is_a_ready_standby() {
    let api = FakeApi::default();
    let (first, _holding, _) = leader(&api, "one").await;
    let second = replica(&api, "two");
    seconds(600).await;
    assert!(!second.acquiring.is_finished());
    assert!(first.reports_leading(1) && second.reports_leading(0));
    let holder = api.holder();
    assert!(holder.starts_with("one_") && holder.len() == "one_".len() + 16, "{holder}");
    assert_eq!(second.readiness.report(), (true, format!("ready\nnote: standby: {holder} leads\n")));
    assert_eq!(api.lease().spec.unwrap().lease_transitions, Some(0));
}

#[tokio::test(start_paused = true)]
async fn a_standby_takes_over_when_the_lease_has_expired() {
    let api = FakeApi::default();
    let (_first, renewing, _) = leader(&api, "one").await;
    let second = replica(&api, "two");
    seconds(12).await;
    renewing.abort();
    let renewed = api.lease().spec.unwrap().renew_time;
    let start = clock();
    let held = second.acquiring.await.unwrap().expect("it leads");
    assert!((Duration::from_secs(80)..=TIMING.lease).contains(&since(start)));
    assert_ne!(api.lease().spec.unwrap().renew_time, renewed);
    assert_eq!(api.lease().spec.unwrap().lease_transitions, Some(1));
    assert_eq!(held.leadership().remaining(), TIMING.lease);
}

#[tokio::test(start_paused = true)]
async fn a_released_lease_is_acquired_at_the_next_read() {
    let api = FakeApi::default();
    let (first, renewing, over) = leader(&api, "one").await;
    let second = replica(&api, "two");
    seconds(12).await;
    over.cancel();
    let held = renewing.await.unwrap().expect("it was not lost");
    let leadership = held.leadership();
    held.release().await;
    assert!(!leadership.is_held() && first.reports_leading(0));
    let start = clock();
    assert!(second.acquiring.await.unwrap().is_some());
    assert!(since(start) <= TIMING.lease_retry, "{:?}", since(start));
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_released_although_the_last_response_was_lost() {
    let api = FakeApi::default();
    let (_first, renewing, over) = leader(&api, "one").await;
    seconds(12).await;
    api.set_mode(Mode::Losing);
    seconds(4).await;
    over.cancel();
    let held = renewing.await.unwrap().expect("it was not lost");
    api.set_mode(Mode::Well);
    held.release().await;
    assert_eq!(api.holder(), "");
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_another_replica_holds_is_not_released() {
    let api = FakeApi::default();
    let mut replica = replica(&api, "one");
    let held = (&mut replica.acquiring).await.unwrap().unwrap();
    api.edit(|lease| lease.spec.as_mut().unwrap().holder_identity = Some("thief".into()));
    held.release().await;
    assert_eq!(api.holder(), "thief");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_finds_another_holder_loses_leadership_at_once() {
    for (holder, word) in [("thief", "thief holds"), ("", "nobody holds")] {
        let api = FakeApi::default();
        let mut replica = replica(&api, "one");
        let held = (&mut replica.acquiring).await.unwrap().unwrap();
        let leadership = held.leadership();
        let renewing = tokio::spawn(held.renew_until(CancellationToken::new()));
        seconds(12).await;
        api.edit(|lease| lease.spec.as_mut().unwrap().holder_identity = Some(holder.into()));
        let lost = renewing.await.unwrap().map(drop).unwrap_err();
        assert!(lost.to_string().contains(word), "{lost}");
        assert!(!leadership.is_held() && replica.reports_leading(0));
        assert_eq!(api.holder(), holder, "it is not taken back");
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_without_an_api_server_gives_up_at_the_renew_deadline() {
    for mode in [Mode::Silent, Mode::Failing] {
        let api = FakeApi::default();
        let mut replica = replica(&api, "one");
        let held = (&mut replica.acquiring).await.unwrap().unwrap();
        let leadership = held.leadership();
        let start = clock();
        api.set_mode(mode);
        let renewing = held.renew_until(CancellationToken::new()).await;
        assert!(matches!(renewing, Err(LeadershipLost::NotRenewed { source: Some(_), .. })));
        assert_eq!(since(start), TIMING.renew_deadline);
        assert_eq!(leadership.remaining(), Duration::from_secs(30), "{mode:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_short_outage_keeps_leadership_without_extending_it() {
    let api = FakeApi::default();
    let mut replica = replica(&api, "one");
    let held = (&mut replica.acquiring).await.unwrap().unwrap();
    let leadership = held.leadership();
    let renewing = tokio::spawn(held.renew_until(CancellationToken::new()));
    for mode in [Mode::Silent, Mode::Failing, Mode::Losing] {
        seconds(12).await;
        api.set_mode(mode);
        seconds(40).await;
        assert!(leadership.remaining() <= Duration::from_secs(55), "{mode:?}");
        api.set_mode(Mode::Well);
        seconds(21).await;
        assert!(leadership.has_remaining(TIMING.woodpecker_call), "{mode:?}: renewed again");
    }
    assert!(!renewing.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_slept_past_its_deadline_notices_without_a_request() {
    let api = FakeApi::default();
    let mut replica = replica(&api, "one");
    let held = (&mut replica.acquiring).await.unwrap().unwrap();
    let leadership = held.leadership();
    let renewing = tokio::spawn(held.renew_until(CancellationToken::new()));
    seconds(12).await;
    let requests = api.requests();
    suspend_machine(TIMING.lease);
    assert!(!leadership.is_held());
    assert!(matches!(renewing.await.unwrap(), Err(LeadershipLost::NotRenewed { source: None, .. })));
    assert_eq!(api.requests(), requests);
}

#[tokio::test(start_paused = true)]
async fn a_standby_that_slept_reads_the_lease_before_it_acquires_it() {
    let api = FakeApi::default();
    let (_first, renewing, _) = leader(&api, "one").await;
    let second = replica(&api, "two");
    seconds(12).await;
    // Only the standby's view matters: the lease is changed before it is read.
    renewing.abort();
    api.edit(|lease| lease.spec.as_mut().unwrap().lease_transitions = Some(7));
    suspend_machine(TIMING.lease);
    seconds(30).await;
    assert!(!second.acquiring.is_finished(), "the lease was changed while it slept");
}

#[tokio::test(start_paused = true)]
async fn a_change_that_keeps_the_holder_keeps_leadership() {
    let api = FakeApi::default();
    let (_first, renewing, _) = leader(&api, "one").await;
    let label = ("team".to_owned(), "mail".to_owned());
    api.edit(|lease| lease.metadata.labels = Some([label.clone()].into()));
    seconds(12).await;
    let renewed = api.lease();
    assert_eq!(renewed.metadata.labels, Some([label].into()), "it is kept");
    api.remove();
    seconds(12).await;
    assert!(!renewing.is_finished() && api.holder().starts_with("one_"), "it is re-created");
}

#[tokio::test(start_paused = true)]
async fn one_of_many_concurrent_candidates_leads() {
    let api = FakeApi::default();
    let replicas: Vec<Replica> = (0..8).map(|pod| replica(&api, &pod.to_string())).collect();
    seconds(60).await;
    assert_eq!(replicas.iter().filter(|replica| replica.acquiring.is_finished()).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stopped_standby_ends_at_once() {
    let api = FakeApi::default();
    let (_first, _holding, _) = leader(&api, "one").await;
    for mode in [Mode::Well, Mode::Silent] {
        api.set_mode(mode);
        let second = replica(&api, "two");
        seconds(2).await;
        let start = clock();
        second.stop.cancel();
        assert!(second.acquiring.await.unwrap().is_none());
        assert_eq!(since(start), Duration::ZERO, "{mode:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn readiness_names_a_lease_that_cannot_be_read() {
    let api = FakeApi::default();
    api.set_mode(Mode::Failing);
    let replica = replica(&api, "one");
    seconds(2).await;
    let (ready, text) = replica.readiness.report();
    assert!(!ready && text.contains("failed to read Lease operators/the-lease"), "{text}");
}

fn observer(api: &FakeApi) -> LeaseObserver {
    LeaseObserver::new(api.client(), "operators", "the-lease", clock, &TIMING)
}

#[tokio::test(start_paused = true)]
async fn an_observer_detects_whether_the_lease_is_renewed() {
    let api = FakeApi::default();
    assert_eq!(observer(&api).holder().await.unwrap(), None);
    assert_eq!(observer(&api).leader().await.unwrap(), None);

    let (_replica, renewing, over) = leader(&api, "a").await;
    let start = clock();
    let mut observing = observer(&api);
    assert_eq!(observing.leader().await.unwrap(), Some(api.holder()));
    assert!(since(start) <= TIMING.lease_retry * 2, "{:?}", since(start));

    renewing.abort();
    assert_eq!(observer(&api).leader().await.unwrap(), None);
    assert!(since(start) >= TIMING.lease, "{:?}", since(start));
    drop(over);
}

#[tokio::test(start_paused = true)]
async fn an_observer_considers_a_silent_holder_dead_when_the_lease_has_expired() {
    let api = FakeApi::default();
    let (_replica, renewing, _over) = leader(&api, "a").await;
    let mut observing = observer(&api);
    for _ in 0..40 {
        assert_eq!(observing.holder().await.unwrap(), Some(api.holder().as_str()));
        seconds(5).await;
    }
    renewing.abort();
    observing.holder().await.unwrap();
    let start = clock();
    while observing.holder().await.unwrap().is_some() {
        seconds(1).await;
    }
    assert!(
        since(start) <= TIMING.lease && since(start) + Duration::from_secs(5) >= TIMING.lease,
        "{:?}",
        since(start)
    );
    api.edit(|lease| lease.spec.as_mut().unwrap().lease_transitions = Some(7));
    assert!(observing.holder().await.unwrap().is_some(), "it was changed");
    api.edit(|lease| lease.spec.as_mut().unwrap().holder_identity = Some(String::new()));
    assert_eq!(observing.holder().await.unwrap(), None, "it was released");
}
