//! Grants, calls and rests of a lane, with paused time.

use super::*;

struct Called(Arc<Mutex<Vec<String>>>);

impl Called {
    fn names(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

fn lane_until(stop: CancellationToken) -> (Lane, Called) {
    let called = Arc::new(Mutex::new(Vec::new()));
    let book = called.clone();
    let call: Call = Arc::new(move |owner: &Owner| book.lock().unwrap().push(owner.name.clone()));
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
    assert!(lane.ask(&new("f")).is_err());
    tokio::time::sleep(Timing::STANDARD.lane_claim + Duration::from_secs(1)).await;
    assert_eq!(called.names(), ["f"]);
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
    assert_eq!(called.names(), ["b"]);
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
