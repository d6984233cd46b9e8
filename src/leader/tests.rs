//! The election against an API server in memory, in paused time.

mod api;

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::api::{FakeApi, Mood};
use super::{Candidate, ElectionParts, Lost, Onlooker, Tenure};
use crate::k8s::relist::Relist;
use crate::leadership::testing::{clock, sleep_of_the_machine};
use crate::settings::Timing;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::probes::Readiness;

const TIMING: Timing = Timing::STANDARD;

/// One replica: what it shows of itself, and its campaign.
struct Replica {
    readiness: Readiness,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
    campaign: JoinHandle<Option<Tenure>>,
}

fn replica(api: &FakeApi, pod: &str) -> Replica {
    let (readiness, metrics) = (Readiness::default(), Arc::new(Metrics::new()));
    let parts = ElectionParts {
        client: api.client(),
        namespace: "operators".into(),
        lease: "the-lease".into(),
        instance: pod.into(),
        clock,
        timing: TIMING,
        relist: Relist::default(),
        metrics: metrics.clone(),
    };
    let candidate = Candidate::new(parts, readiness.clone()).unwrap();
    let stop = CancellationToken::new();
    let token = stop.clone();
    let campaign = tokio::spawn(async move { candidate.campaign(&token).await });
    Replica { readiness, metrics, stop, campaign }
}

/// A replica that leads, and its renewing.
async fn leader(api: &FakeApi, pod: &str) -> (Replica, JoinHandle<Result<Tenure, Lost>>, CancellationToken) {
    let mut replica = replica(api, pod);
    let tenure = (&mut replica.campaign).await.unwrap().expect("it leads");
    let over = CancellationToken::new();
    let holding = tokio::spawn(tenure.hold(over.clone()));
    (replica, holding, over)
}

async fn seconds(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

fn since(start: Duration) -> Duration {
    clock().saturating_sub(start)
}

impl Replica {
    fn shows_leading(&self, leads: u8) -> bool {
        let line = format!("leader_election_master_status{{name=\"the-lease\"}} {leads}\n");
        self.metrics.render().unwrap().contains(&line)
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_leads_and_the_second_stands_by_ready() {
    let api = FakeApi::default();
    let (first, _holding, _) = leader(&api, "one").await;
    let second = replica(&api, "two");
    seconds(600).await;
    assert!(!second.campaign.is_finished());
    assert!(first.shows_leading(1) && second.shows_leading(0));
    let holder = api.holder();
    assert!(holder.starts_with("one_") && holder.len() == "one_".len() + 16, "{holder}");
    assert_eq!(second.readiness.report(), (true, format!("ready\nnote: standby: {holder} leads\n")));
    assert_eq!(api.lease().spec.unwrap().lease_transitions, Some(0));
}

#[tokio::test(start_paused = true)]
async fn a_silent_leader_is_followed_after_its_lease_has_run_out() {
    let api = FakeApi::default();
    let (_first, holding, _) = leader(&api, "one").await;
    let second = replica(&api, "two");
    seconds(12).await;
    holding.abort();
    let renewed = api.lease().spec.unwrap().renew_time;
    let start = clock();
    let tenure = second.campaign.await.unwrap().expect("it leads");
    assert!((Duration::from_secs(80)..=TIMING.lease).contains(&since(start)));
    assert_ne!(api.lease().spec.unwrap().renew_time, renewed);
    assert_eq!(api.lease().spec.unwrap().lease_transitions, Some(1));
    assert_eq!(tenure.leadership().remaining(), TIMING.lease);
}

#[tokio::test(start_paused = true)]
async fn a_released_lease_is_taken_at_the_next_look() {
    let api = FakeApi::default();
    let (first, holding, over) = leader(&api, "one").await;
    let second = replica(&api, "two");
    seconds(12).await;
    over.cancel();
    let tenure = holding.await.unwrap().expect("it was not lost");
    let leadership = tenure.leadership();
    tenure.release().await;
    assert!(!leadership.is_held() && first.shows_leading(0));
    let start = clock();
    assert!(second.campaign.await.unwrap().is_some());
    assert!(since(start) <= TIMING.lease_retry, "{:?}", since(start));
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_released_although_the_last_answer_was_lost() {
    let api = FakeApi::default();
    let (_first, holding, over) = leader(&api, "one").await;
    seconds(12).await;
    api.fares(Mood::Losing);
    seconds(4).await;
    over.cancel();
    let tenure = holding.await.unwrap().expect("it was not lost");
    api.fares(Mood::Well);
    tenure.release().await;
    assert_eq!(api.holder(), "");
}

#[tokio::test(start_paused = true)]
async fn what_another_holds_is_not_released() {
    let api = FakeApi::default();
    let mut replica = replica(&api, "one");
    let tenure = (&mut replica.campaign).await.unwrap().unwrap();
    api.edit(|lease| lease.spec.as_mut().unwrap().holder_identity = Some("thief".into()));
    tenure.release().await;
    assert_eq!(api.holder(), "thief");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_finds_another_holder_has_lost_at_once() {
    for (holder, word) in [("thief", "thief holds"), ("", "nobody holds")] {
        let api = FakeApi::default();
        let mut replica = replica(&api, "one");
        let tenure = (&mut replica.campaign).await.unwrap().unwrap();
        let leadership = tenure.leadership();
        let holding = tokio::spawn(tenure.hold(CancellationToken::new()));
        seconds(12).await;
        api.edit(|lease| lease.spec.as_mut().unwrap().holder_identity = Some(holder.into()));
        let lost = holding.await.unwrap().map(drop).unwrap_err();
        assert!(lost.to_string().contains(word), "{lost}");
        assert!(!leadership.is_held() && replica.shows_leading(0));
        assert_eq!(api.holder(), holder, "it is not taken back");
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_without_an_api_server_gives_up_at_the_renew_deadline() {
    for mood in [Mood::Silent, Mood::Failing] {
        let api = FakeApi::default();
        let mut replica = replica(&api, "one");
        let tenure = (&mut replica.campaign).await.unwrap().unwrap();
        let leadership = tenure.leadership();
        let start = clock();
        api.fares(mood);
        let holding = tenure.hold(CancellationToken::new()).await;
        assert!(matches!(holding, Err(Lost::NotRenewed { source: Some(_), .. })));
        assert_eq!(since(start), TIMING.renew_deadline);
        assert_eq!(leadership.remaining(), Duration::from_secs(30), "{mood:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_short_outage_is_survived_and_no_time_is_made_up() {
    let api = FakeApi::default();
    let mut replica = replica(&api, "one");
    let tenure = (&mut replica.campaign).await.unwrap().unwrap();
    let leadership = tenure.leadership();
    let holding = tokio::spawn(tenure.hold(CancellationToken::new()));
    for mood in [Mood::Silent, Mood::Failing, Mood::Losing] {
        seconds(12).await;
        api.fares(mood);
        seconds(40).await;
        assert!(leadership.remaining() <= Duration::from_secs(55), "{mood:?}");
        api.fares(Mood::Well);
        seconds(21).await;
        assert!(leadership.allows(TIMING.woodpecker_call), "{mood:?}: renewed again");
    }
    assert!(!holding.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_slept_past_its_deadline_knows_before_it_asks() {
    let api = FakeApi::default();
    let mut replica = replica(&api, "one");
    let tenure = (&mut replica.campaign).await.unwrap().unwrap();
    let leadership = tenure.leadership();
    let holding = tokio::spawn(tenure.hold(CancellationToken::new()));
    seconds(12).await;
    let asked = api.requests();
    sleep_of_the_machine(TIMING.lease);
    assert!(!leadership.is_held());
    assert!(matches!(holding.await.unwrap(), Err(Lost::NotRenewed { source: None, .. })));
    assert_eq!(api.requests(), asked);
}

#[tokio::test(start_paused = true)]
async fn a_standby_that_slept_looks_before_it_takes() {
    let api = FakeApi::default();
    let (_first, holding, _) = leader(&api, "one").await;
    let second = replica(&api, "two");
    seconds(12).await;
    // Only the standby's view is meant: the leader renews before anybody looks.
    holding.abort();
    api.edit(|lease| lease.spec.as_mut().unwrap().lease_transitions = Some(7));
    sleep_of_the_machine(TIMING.lease);
    seconds(30).await;
    assert!(!second.campaign.is_finished(), "the lease was changed while it slept");
}

#[tokio::test(start_paused = true)]
async fn a_change_that_leaves_the_holder_alone_costs_nothing() {
    let api = FakeApi::default();
    let (_first, holding, _) = leader(&api, "one").await;
    let label = ("team".to_owned(), "mail".to_owned());
    api.edit(|lease| lease.metadata.labels = Some([label.clone()].into()));
    seconds(12).await;
    let renewed = api.lease();
    assert_eq!(renewed.metadata.labels, Some([label].into()), "it is kept");
    api.remove();
    seconds(12).await;
    assert!(!holding.is_finished() && api.holder().starts_with("one_"), "it is made again");
}

#[tokio::test(start_paused = true)]
async fn of_many_that_take_a_free_lease_at_once_one_leads() {
    let api = FakeApi::default();
    let replicas: Vec<Replica> = (0..8).map(|pod| replica(&api, &pod.to_string())).collect();
    seconds(60).await;
    assert_eq!(replicas.iter().filter(|replica| replica.campaign.is_finished()).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_standby_that_is_told_to_stop_stops_at_once() {
    let api = FakeApi::default();
    let (_first, _holding, _) = leader(&api, "one").await;
    for mood in [Mood::Well, Mood::Silent] {
        api.fares(mood);
        let second = replica(&api, "two");
        seconds(2).await;
        let start = clock();
        second.stop.cancel();
        assert!(second.campaign.await.unwrap().is_none());
        assert_eq!(since(start), Duration::ZERO, "{mood:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_cannot_be_looked_at_is_named_by_readiness() {
    let api = FakeApi::default();
    api.fares(Mood::Failing);
    let replica = replica(&api, "one");
    seconds(2).await;
    let (ready, text) = replica.readiness.report();
    assert!(!ready && text.contains("failed to read Lease operators/the-lease"), "{text}");
}

fn onlooker(api: &FakeApi) -> Onlooker {
    Onlooker::new(api.client(), "operators", "the-lease", clock, &TIMING)
}

#[tokio::test(start_paused = true)]
async fn an_onlooker_sees_who_renews_and_that_nobody_does() {
    let api = FakeApi::default();
    assert_eq!(onlooker(&api).holder().await.unwrap(), None);
    assert_eq!(onlooker(&api).leader().await.unwrap(), None);

    let (_replica, holding, over) = leader(&api, "a").await;
    let start = clock();
    let mut looking = onlooker(&api);
    assert_eq!(looking.leader().await.unwrap(), Some(api.holder()));
    assert!(since(start) <= TIMING.lease_retry * 2, "{:?}", since(start));

    holding.abort();
    assert_eq!(onlooker(&api).leader().await.unwrap(), None);
    assert!(since(start) >= TIMING.lease, "{:?}", since(start));
    drop(over);
}

#[tokio::test(start_paused = true)]
async fn an_onlooker_takes_a_silent_holder_for_gone_once_its_time_has_passed() {
    let api = FakeApi::default();
    let (_replica, holding, _over) = leader(&api, "a").await;
    let mut looking = onlooker(&api);
    for _ in 0..40 {
        assert_eq!(looking.holder().await.unwrap(), Some(api.holder().as_str()));
        seconds(5).await;
    }
    holding.abort();
    looking.holder().await.unwrap();
    let start = clock();
    while looking.holder().await.unwrap().is_some() {
        seconds(1).await;
    }
    assert!(
        since(start) <= TIMING.lease && since(start) + Duration::from_secs(5) >= TIMING.lease,
        "{:?}",
        since(start)
    );
    api.edit(|lease| lease.spec.as_mut().unwrap().lease_transitions = Some(7));
    assert!(looking.holder().await.unwrap().is_some(), "it was changed");
    api.edit(|lease| lease.spec.as_mut().unwrap().holder_identity = Some(String::new()));
    assert_eq!(looking.holder().await.unwrap(), None, "it was released");
}
