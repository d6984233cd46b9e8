//! Permits, wake-ups and pauses of a queue, with paused time.

use crate::core::request_priority::RequestPriority;
use crate::woodpecker::queue::*;

struct Woken(Arc<Mutex<Vec<String>>>);

impl Woken {
    fn names(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock())
    }
}

fn queue_until(stop: CancellationToken) -> (AccountQueue, Woken) {
    let woken = Arc::new(Mutex::new(Vec::new()));
    let log = woken.clone();
    let waker: Waker = Arc::new(move |requester: &Requester| log.lock().push(requester.name.clone()));
    let context = QueueContext::new(&Timing::STANDARD, stop, Arc::new(Metrics::new()), waker);
    (AccountQueue::new(context), Woken(woken))
}

fn queue() -> (AccountQueue, Woken) {
    queue_until(CancellationToken::new())
}

fn entry(name: &str, priority: RequestPriority) -> QueueEntry {
    let requester =
        Requester { kind: RequesterKind::Credential, namespace: "mail".into(), name: name.into() };
    QueueEntry { requester, priority, is_failing: false }
}

fn new(name: &str) -> QueueEntry {
    entry(name, RequestPriority::New)
}

#[tokio::test(start_paused = true)]
async fn a_queue_has_one_request_slot_and_one_permit_ahead() {
    let (queue, _) = queue();
    let (first, ahead) = (queue.request_permit(&new("a")).unwrap(), queue.request_permit(&new("b")).unwrap());
    assert_eq!(queue.request_permit(&new("c")).map(drop), Err(QueueError::Queued));
    let slot = first.slot().await.unwrap();
    let waiting = tokio::time::timeout(Duration::from_secs(1), ahead.slot()).await;
    assert!(waiting.is_err(), "one request at a time");
    drop(slot);
    assert!(ahead.slot().await.is_ok());
}

/// Serves 500 requesters that take so long to prepare a request, to be answered and to record the response. Returns the
/// share of the time in which no request was in flight.
async fn idle(ready: Duration, request: Duration, record: Duration) -> f64 {
    let (sender, mut woken) = tokio::sync::mpsc::unbounded_channel();
    let waker: Waker = Arc::new(move |requester: &Requester| drop(sender.send(requester.clone())));
    let (stop, metrics) = (CancellationToken::new(), Arc::new(Metrics::new()));
    let queue = AccountQueue::new(QueueContext::new(&Timing::STANDARD, stop, metrics, waker));
    let mut work = tokio::task::JoinSet::new();
    let serve = |permit: Permit| async move {
        tokio::time::sleep(ready).await;
        let slot = permit.slot().await.unwrap();
        tokio::time::sleep(request).await;
        drop(slot);
        tokio::time::sleep(record).await;
        drop(permit);
    };
    let start = Instant::now();
    for n in 0..500 {
        if let Ok(permit) = queue.request_permit(&new(&format!("{n}"))) {
            work.spawn(serve(permit));
        }
    }
    for _ in work.len()..500 {
        let requester = woken.recv().await.unwrap();
        work.spawn(serve(
            queue
                .request_permit(&QueueEntry { requester, priority: RequestPriority::New, is_failing: false })
                .unwrap(),
        ));
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
async fn few_prepared_requests_are_ahead_of_an_urgent_one_if_requests_take_long() {
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
async fn withdrawing_removes_a_requester_from_all_queues_except_one() {
    let waker: Waker = Arc::new(|_: &Requester| {});
    let context =
        QueueContext::new(&Timing::STANDARD, CancellationToken::new(), Arc::new(Metrics::new()), waker);
    let (left, kept) = (AccountQueue::new(context.clone()), AccountQueue::new(context.clone()));
    let mut permits = Vec::new();
    for queue in [&left, &kept] {
        permits.extend([queue.request_permit(&new("a")).unwrap(), queue.request_permit(&new("b")).unwrap()]);
        assert!(queue.request_permit(&new("c")).is_err());
    }
    context.withdraw(&new("c").requester, Some(&kept));
    assert_eq!((left.series().waiting, kept.series().waiting), (0, 1));
    context.withdraw(&new("c").requester, None);
    assert_eq!((kept.series().waiting, context.pending.lock().len()), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn a_waiting_requester_is_woken_when_a_permit_is_free_and_finds_it_reserved() {
    let (queue, woken) = queue();
    let (first, _ahead) =
        (queue.request_permit(&new("a")).unwrap(), queue.request_permit(&new("b")).unwrap());
    assert!(queue.request_permit(&new("c")).is_err() && queue.request_permit(&new("d")).is_err());
    assert!(woken.names().is_empty());
    drop(first);
    assert_eq!(woken.names(), ["c"]);
    assert_eq!(queue.request_permit(&new("d")).map(drop), Err(QueueError::Queued), "it is c's");
    let kept = queue.request_permit(&new("c")).unwrap();
    drop(kept);
    assert_eq!(woken.names(), ["d"]);
}

#[tokio::test(start_paused = true)]
async fn an_unused_or_withdrawn_permit_goes_to_the_next() {
    let (queue, woken) = queue();
    let permits = (queue.request_permit(&new("a")).unwrap(), queue.request_permit(&new("b")).unwrap());
    for name in ["c", "d", "e"] {
        assert!(queue.request_permit(&new(name)).is_err());
        tokio::time::advance(Duration::from_millis(1)).await;
    }
    queue.withdraw(&new("d").requester);
    drop(permits);
    assert_eq!(woken.names(), ["c", "e"]);
    assert!(queue.request_permit(&new("f")).is_err(), "c and e were woken a moment ago");
    tokio::time::sleep(Timing::STANDARD.permit_reservation + Duration::from_secs(1)).await;
    assert_eq!(woken.names(), ["c", "e"], "they keep their age and are woken once more");
    let running = queue.request_permit(&new("f"));
    assert!(running.is_err(), "it is not its slot");
    tokio::time::sleep(Timing::STANDARD.permit_reservation * 4).await;
    assert!(woken.names().contains(&"f".to_owned()), "in the end they are removed");
}

#[tokio::test(start_paused = true)]
async fn a_running_requester_takes_the_permit_that_another_leaves_unused() {
    let (queue, woken) = queue();
    let permits = (queue.request_permit(&new("a")).unwrap(), queue.request_permit(&new("b")).unwrap());
    assert!(queue.request_permit(&new("c")).is_err());
    drop(permits);
    assert_eq!(woken.names(), ["c"]);
    let other = queue.request_permit(&new("x")).unwrap();
    assert!(queue.request_permit(&entry("d", RequestPriority::Repair)).is_err(), "c was woken a moment ago");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(queue.request_permit(&entry("d", RequestPriority::Repair)).is_ok());
    drop(other);
    assert_eq!(woken.names(), ["c"], "it is woken again");
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_begins_meanwhile_keeps_the_requester_waiting() {
    let (queue, woken) = queue();
    let ahead = queue.request_permit(&new("a")).unwrap();
    queue.record_response(ResponseSignal::Throttled(None));
    assert_eq!(ahead.slot().await.map(drop), Err(QueueError::Paused));
    drop(ahead);
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(woken.names(), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn an_urgent_request_goes_before_a_thousand_others() {
    let (queue, woken) = queue();
    let (first, ahead) = (queue.request_permit(&new("a")).unwrap(), queue.request_permit(&new("b")).unwrap());
    for n in 0..1000 {
        assert!(queue.request_permit(&new(&format!("new-{n}"))).is_err());
    }
    assert!(!first.should_yield());
    assert!(queue.request_permit(&entry("urgent", RequestPriority::Repair)).is_err());
    assert!(first.should_yield() && ahead.should_yield());
    drop(first);
    assert_eq!(woken.names(), ["urgent"]);
}

#[tokio::test(start_paused = true)]
async fn a_429_pauses_the_queue_for_a_while_and_then_wakes_requesters() {
    let (queue, woken) = queue();
    let permit = queue.request_permit(&new("a")).unwrap();
    queue.record_response(ResponseSignal::Throttled(None));
    assert_eq!(permit.slot().await.map(drop), Err(QueueError::Paused));
    drop(permit);
    assert_eq!(queue.request_permit(&new("b")).map(drop), Err(QueueError::Paused));
    tokio::time::sleep(Duration::from_secs(14)).await;
    assert!(woken.names().is_empty());
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(woken.names(), ["a", "b"]);
    assert!(queue.request_permit(&new("b")).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_requested_wait_is_kept_and_a_shorter_one_changes_nothing() {
    let (queue, _) = queue();
    queue.record_response(ResponseSignal::Throttled(Some(Duration::from_secs(100))));
    queue.record_response(ResponseSignal::Throttled(Some(Duration::from_secs(1))));
    tokio::time::sleep(Duration::from_secs(99)).await;
    assert_eq!(queue.request_permit(&new("a")).map(drop), Err(QueueError::Paused));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(queue.request_permit(&new("a")).is_ok());
}

#[tokio::test(start_paused = true)]
async fn after_failures_in_a_row_it_pauses_and_then_sends_one_request_at_a_time() {
    let (queue, _) = queue();
    for _ in 0..FAILURE_THRESHOLD - 1 {
        queue.record_response(ResponseSignal::Failed(None));
    }
    drop(queue.request_permit(&new("a")).unwrap());
    queue.record_response(ResponseSignal::Failed(None));
    assert_eq!(queue.request_permit(&new("a")).map(drop), Err(QueueError::Failing));
    tokio::time::sleep(Duration::from_secs(20)).await;
    let probe = queue.request_permit(&new("a")).unwrap();
    assert_eq!(queue.request_permit(&new("b")).map(drop), Err(QueueError::Queued), "one at a time");
    queue.record_response(ResponseSignal::Responded);
    assert!(queue.request_permit(&new("c")).is_err(), "b was woken first");
    assert!(queue.request_permit(&new("b")).is_ok());
    drop(probe);
}

#[tokio::test(start_paused = true)]
async fn a_503_with_retry_after_pauses_the_queue_for_that_long() {
    let (queue, _) = queue();
    queue.record_response(ResponseSignal::Failed(Some(Duration::from_secs(100))));
    tokio::time::sleep(Duration::from_secs(99)).await;
    assert_eq!(queue.request_permit(&new("a")).map(drop), Err(QueueError::Failing));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(queue.request_permit(&new("a")).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_requester_that_met_a_429_is_woken_after_the_pause() {
    let (queue, woken) = queue();
    let permit = queue.request_permit(&new("a")).unwrap();
    queue.record_response(ResponseSignal::Throttled(Some(Duration::from_secs(100))));
    assert_eq!(permit.wait_for_pause().map(|(_, reason)| reason), Some(QueueError::Paused));
    tokio::time::sleep(Duration::from_secs(99)).await;
    assert!(woken.0.lock().is_empty());
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(woken.0.lock().len(), 1);
    let permit = queue.request_permit(&new("a")).unwrap();
    assert!(permit.wait_for_pause().is_none(), "there is no pause any longer");
}

#[tokio::test(start_paused = true)]
async fn waiting_requesters_are_rejected_at_once_when_the_process_stops() {
    let stop = CancellationToken::new();
    let (queue, _) = queue_until(stop.clone());
    let (first, ahead) = (queue.request_permit(&new("a")).unwrap(), queue.request_permit(&new("b")).unwrap());
    let _slot = first.slot().await.unwrap();
    let (waiting, ()) = tokio::join!(ahead.slot(), async { stop.cancel() });
    assert_eq!(waiting.map(drop), Err(QueueError::Ending));
    assert_eq!(queue.request_permit(&new("c")).map(drop), Err(QueueError::Ending));
}
