use std::sync::atomic::{AtomicUsize, Ordering};

use crate::controller::queue::*;
use crate::telemetry::metrics::Metrics;

fn named(name: &str) -> NamespacedName {
    NamespacedName { namespace: "mail".into(), name: name.into() }
}

/// Runs a queue for `time`.
async fn run<R>(
    sender: &QueueSender,
    verification_slots: Option<VerificationSlots>,
    time: Duration,
    reconcile: impl Fn(Arc<NamespacedName>) -> R,
) where
    R: Future<Output = QueueResult> + Send + 'static,
{
    let (stop, metrics) = (CancellationToken::new(), Metrics::new());
    let queue = Queue {
        name: "test",
        sender: sender.clone(),
        max_concurrent: 4,
        verification_slots,
        stop: &stop,
        metrics: &metrics.queues,
    };
    let priority = |own: &NamespacedName| {
        if own.name.starts_with('v') { Priority::Verification } else { Priority::Ordinary }
    };
    let end = async {
        tokio::time::sleep(time).await;
        stop.cancel();
    };
    tokio::join!(queue.run(priority, reconcile), end);
}

const RESYNC: QueueResult = QueueResult::Requeue { after: Duration::from_hours(1), is_retry: false };

#[tokio::test(start_paused = true)]
async fn concurrency_is_bounded_and_each_object_runs_once() {
    let (sender, running) = (QueueSender::default(), Arc::new(AtomicUsize::new(0)));
    let (max_concurrent, runs) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    for n in 0..100 {
        sender.enqueue(named(&n.to_string()));
        sender.enqueue_after(named(&n.to_string()), Duration::from_secs(1));
    }
    run(&sender, None, Duration::from_mins(1), |_| {
        let (running, max_concurrent, runs) = (running.clone(), max_concurrent.clone(), runs.clone());
        async move {
            max_concurrent.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(100)).await;
            running.fetch_sub(1, Ordering::SeqCst);
            runs.fetch_add(1, Ordering::SeqCst);
            RESYNC
        }
    })
    .await;
    assert_eq!((max_concurrent.load(Ordering::SeqCst), runs.load(Ordering::SeqCst)), (4, 100));
}

#[tokio::test(start_paused = true)]
async fn running_reconciles_finish_at_the_end_and_none_begins() {
    let (sender, ended) = (QueueSender::default(), Arc::new(AtomicUsize::new(0)));
    for n in 0..10 {
        sender.enqueue(named(&n.to_string()));
    }
    run(&sender, None, Duration::from_secs(1), |_| {
        let ended = ended.clone();
        async move {
            tokio::time::sleep(Duration::from_secs(10)).await;
            ended.fetch_add(1, Ordering::SeqCst);
            RESYNC
        }
    })
    .await;
    assert_eq!(ended.load(Ordering::SeqCst), 4);
}

#[tokio::test(start_paused = true)]
async fn a_reconcile_that_panics_ends_no_other_and_is_repeated() {
    let (sender, runs) = (QueueSender::default(), Arc::new(AtomicUsize::new(0)));
    sender.enqueue(named("bad"));
    sender.enqueue(named("good"));
    run(&sender, None, Duration::from_secs(90), |own| {
        let runs = runs.clone();
        async move {
            runs.fetch_add(1, Ordering::SeqCst);
            assert_ne!(own.name, "bad");
            RESYNC
        }
    })
    .await;
    assert_eq!(runs.load(Ordering::SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn requests_to_microsoft_never_use_all_workers() {
    let sender = QueueSender::default();
    let verification_slots = VerificationSlots::new(4, sender.clone());
    let ended = Arc::new(Mutex::new(Vec::new()));
    // `v…` is known to verify; the reconcile of `x…` discovers it.
    for name in ["v1", "v2", "x1", "x2", "v3", "x3", "a", "b"] {
        sender.enqueue(named(name));
    }
    run(&sender, Some(verification_slots.clone()), Duration::from_secs(100), |own| {
        let (ended, verification_slots) = (ended.clone(), verification_slots.clone());
        async move {
            if own.name.starts_with(['v', 'x']) {
                let Some(_permit) = verification_slots.acquire(&own) else { return RESYNC };
                tokio::time::sleep(Duration::from_secs(15)).await;
            }
            ended.lock().push(own.name.clone());
            RESYNC
        }
    })
    .await;
    let ended = ended.lock();
    let (first, rest) = ended.split_at(2);
    let mut first = first.to_vec();
    first.sort();
    assert_eq!(first, ["a", "b"], "they do not wait for Microsoft");
    assert_eq!(rest.len(), 6, "each of the others was verified: {rest:?}");
}
