//! Grants, calls and rests of a lane, with paused time.

use super::*;

struct Called(Arc<Mutex<Vec<String>>>);

impl Called {
    fn names(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock())
    }
}

fn lane_until(stop: CancellationToken) -> (Lane, Called) {
    let called = Arc::new(Mutex::new(Vec::new()));
    let book = called.clone();
    let call: Call = Arc::new(move |owner: &Owner| book.lock().push(owner.name.clone()));
    let rules = Rules::new(&Timing::STANDARD, stop, Arc::new(Metrics::new()), call);
    (Lane::new(rules), Called(called))
}

fn lane() -> (Lane, Called) {
    lane_until(CancellationToken::new())
}

fn ticket(name: &str, class: Class) -> Ticket {
    let owner = Owner { kind: OwnerKind::Credential, namespace: "mail".into(), name: name.into() };
    Ticket { owner, class, is_failing: false }
}

fn new(name: &str) -> Ticket {
    ticket(name, Class::New)
}

#[tokio::test(start_paused = true)]
async fn a_lane_has_one_turn_and_one_grant_ahead() {
    let (lane, _) = lane();
    let (first, ahead) = (lane.ask(&new("a")).unwrap(), lane.ask(&new("b")).unwrap());
    assert_eq!(lane.ask(&new("c")).map(drop), Err(LaneClosed::Queued));
    let turn = first.turn().await.unwrap();
    let waiting = tokio::time::timeout(Duration::from_secs(1), ahead.turn()).await;
    assert!(waiting.is_err(), "one request at a time");
    drop(turn);
    assert!(ahead.turn().await.is_ok());
}

/// Serves 500 who take that long to get ready, to be answered and to write down the answer; returns the share of the time
/// in which no request was under way.
async fn idle(ready: Duration, request: Duration, record: Duration) -> f64 {
    let (sender, mut called) = tokio::sync::mpsc::unbounded_channel();
    let call: Call = Arc::new(move |owner: &Owner| drop(sender.send(owner.clone())));
    let (stop, metrics) = (CancellationToken::new(), Arc::new(Metrics::new()));
    let lane = Lane::new(Rules::new(&Timing::STANDARD, stop, metrics, call));
    let mut work = tokio::task::JoinSet::new();
    let serve = |grant: Grant| async move {
        tokio::time::sleep(ready).await;
        let turn = grant.turn().await.unwrap();
        tokio::time::sleep(request).await;
        drop(turn);
        tokio::time::sleep(record).await;
        drop(grant);
    };
    let start = Instant::now();
    for n in 0..500 {
        if let Ok(grant) = lane.ask(&new(&format!("{n}"))) {
            work.spawn(serve(grant));
        }
    }
    for _ in work.len()..500 {
        let owner = called.recv().await.unwrap();
        work.spawn(serve(lane.ask(&Ticket { owner, class: Class::New, is_failing: false }).unwrap()));
    }
    while work.join_next().await.is_some() {}
    let all = start.elapsed().as_secs_f64() - (ready + record).as_secs_f64();
    1.0 - request.as_secs_f64() * 500.0 / all
}

#[tokio::test(start_paused = true)]
async fn the_next_request_is_ready_when_the_one_before_ends() {
    let ms = Duration::from_millis;
    for (ready, request, record) in [(20, 50, 10), (50, 50, 50), (150, 50, 50), (5, 2, 5)] {
        let idle = idle(ms(ready), ms(request), ms(record)).await;
        assert!(idle <= 0.05, "{ready} ms, {request} ms, {record} ms: idle for {idle}");
    }
}

#[tokio::test(start_paused = true)]
async fn where_requests_take_long_few_are_ahead_of_an_urgent_one() {
    let mut state = State::default();
    state.queue.put(new("waits"), Instant::now());
    for _ in 0..100 {
        state.adapt();
    }
    assert_eq!(state.capacity(), 16, "none was ready");
    state.ready = 1;
    state.adapt();
    assert_eq!(state.capacity(), 16, "that is right");
    for ready in [14, 7, 3] {
        state.ready = ready;
        state.adapt();
    }
    assert_eq!(state.capacity(), 6);
}

#[tokio::test(start_paused = true)]
async fn who_leaves_its_lanes_leaves_all_but_the_one_in_which_it_waits() {
    let call: Call = Arc::new(|_: &Owner| {});
    let rules = Rules::new(&Timing::STANDARD, CancellationToken::new(), Arc::new(Metrics::new()), call);
    let (left, kept) = (Lane::new(rules.clone()), Lane::new(rules.clone()));
    let mut grants = Vec::new();
    for lane in [&left, &kept] {
        grants.extend([lane.ask(&new("a")).unwrap(), lane.ask(&new("b")).unwrap()]);
        assert!(lane.ask(&new("c")).is_err());
    }
    rules.withdraw(&new("c").owner, Some(&kept));
    assert_eq!((left.series().waiting, kept.series().waiting), (0, 1));
    rules.withdraw(&new("c").owner, None);
    assert_eq!((kept.series().waiting, rules.asked.lock().len()), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_called_when_a_grant_is_free_and_finds_it_kept() {
    let (lane, called) = lane();
    let (first, _ahead) = (lane.ask(&new("a")).unwrap(), lane.ask(&new("b")).unwrap());
    assert!(lane.ask(&new("c")).is_err() && lane.ask(&new("d")).is_err());
    assert!(called.names().is_empty());
    drop(first);
    assert_eq!(called.names(), ["c"]);
    assert_eq!(lane.ask(&new("d")).map(drop), Err(LaneClosed::Queued), "it is c's");
    let kept = lane.ask(&new("c")).unwrap();
    drop(kept);
    assert_eq!(called.names(), ["d"]);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_come_or_withdraws_makes_room_for_the_next() {
    let (lane, called) = lane();
    let grants = (lane.ask(&new("a")).unwrap(), lane.ask(&new("b")).unwrap());
    for name in ["c", "d", "e"] {
        assert!(lane.ask(&new(name)).is_err());
        tokio::time::advance(Duration::from_millis(1)).await;
    }
    lane.withdraw(&new("d").owner);
    drop(grants);
    assert_eq!(called.names(), ["c", "e"]);
    assert!(lane.ask(&new("f")).is_err(), "c and e were called a moment ago");
    tokio::time::sleep(Timing::STANDARD.lane_claim + Duration::from_secs(1)).await;
    assert_eq!(called.names(), ["c", "e"], "they keep their place and are called once more");
    let running = lane.ask(&new("f"));
    assert!(running.is_err(), "it is not its turn");
    tokio::time::sleep(Timing::STANDARD.lane_claim * 4).await;
    assert!(called.names().contains(&"f".to_owned()), "in the end they lose it");
}

#[tokio::test(start_paused = true)]
async fn who_runs_takes_the_turn_of_one_who_does_not_come() {
    let (lane, called) = lane();
    let grants = (lane.ask(&new("a")).unwrap(), lane.ask(&new("b")).unwrap());
    assert!(lane.ask(&new("c")).is_err());
    drop(grants);
    assert_eq!(called.names(), ["c"]);
    let other = lane.ask(&new("x")).unwrap();
    assert!(lane.ask(&ticket("d", Class::Repair)).is_err(), "c was called a moment ago");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(lane.ask(&ticket("d", Class::Repair)).is_ok());
    drop(other);
    assert_eq!(called.names(), ["c"], "it is called again");
}

#[tokio::test(start_paused = true)]
async fn a_rest_that_begins_meanwhile_costs_nobody_the_turn() {
    let (lane, called) = lane();
    let ahead = lane.ask(&new("a")).unwrap();
    lane.heed(Signal::Throttled(None));
    assert_eq!(ahead.turn().await.map(drop), Err(LaneClosed::Paused));
    drop(ahead);
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(called.names(), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn an_urgent_one_goes_before_a_thousand_others() {
    let (lane, called) = lane();
    let (first, ahead) = (lane.ask(&new("a")).unwrap(), lane.ask(&new("b")).unwrap());
    for n in 0..1000 {
        assert!(lane.ask(&new(&format!("new-{n}"))).is_err());
    }
    assert!(!first.should_yield());
    assert!(lane.ask(&ticket("urgent", Class::Repair)).is_err());
    assert!(first.should_yield() && ahead.should_yield());
    drop(first);
    assert_eq!(called.names(), ["urgent"]);
}

#[tokio::test(start_paused = true)]
async fn a_429_keeps_the_lane_shut_for_a_while_and_then_calls() {
    let (lane, called) = lane();
    let grant = lane.ask(&new("a")).unwrap();
    lane.heed(Signal::Throttled(None));
    assert_eq!(grant.turn().await.map(drop), Err(LaneClosed::Paused));
    drop(grant);
    assert_eq!(lane.ask(&new("b")).map(drop), Err(LaneClosed::Paused));
    tokio::time::sleep(Duration::from_secs(14)).await;
    assert!(called.names().is_empty());
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(called.names(), ["a", "b"]);
    assert!(lane.ask(&new("b")).is_ok());
}

#[tokio::test(start_paused = true)]
async fn what_woodpecker_asks_for_is_waited_for_and_a_shorter_wish_changes_nothing() {
    let (lane, _) = lane();
    lane.heed(Signal::Throttled(Some(Duration::from_secs(100))));
    lane.heed(Signal::Throttled(Some(Duration::from_secs(1))));
    tokio::time::sleep(Duration::from_secs(99)).await;
    assert_eq!(lane.ask(&new("a")).map(drop), Err(LaneClosed::Paused));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(lane.ask(&new("a")).is_ok());
}

#[tokio::test(start_paused = true)]
async fn after_failures_in_a_row_it_rests_and_then_tries_one_at_a_time() {
    let (lane, _) = lane();
    for _ in 0..FAILURES - 1 {
        lane.heed(Signal::Failed);
    }
    drop(lane.ask(&new("a")).unwrap());
    lane.heed(Signal::Failed);
    assert_eq!(lane.ask(&new("a")).map(drop), Err(LaneClosed::Failing));
    tokio::time::sleep(Duration::from_secs(20)).await;
    let probe = lane.ask(&new("a")).unwrap();
    assert_eq!(lane.ask(&new("b")).map(drop), Err(LaneClosed::Queued), "one at a time");
    lane.heed(Signal::Answered);
    assert!(lane.ask(&new("c")).is_err(), "b was called first");
    assert!(lane.ask(&new("b")).is_ok());
    drop(probe);
}

#[tokio::test(start_paused = true)]
async fn who_still_waits_when_the_program_ends_is_turned_away_at_once() {
    let stop = CancellationToken::new();
    let (lane, _) = lane_until(stop.clone());
    let (first, ahead) = (lane.ask(&new("a")).unwrap(), lane.ask(&new("b")).unwrap());
    let _turn = first.turn().await.unwrap();
    let (waiting, ()) = tokio::join!(ahead.turn(), async { stop.cancel() });
    assert_eq!(waiting.map(drop), Err(LaneClosed::Ending));
    assert_eq!(lane.ask(&new("c")).map(drop), Err(LaneClosed::Ending));
}
