use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::telemetry::metrics::Metrics;

fn named(name: &str) -> Named {
    Named { namespace: "mail".into(), name: name.into() }
}

/// Runs a queue for a time. `reconcile` gets the object's name.
async fn run<R>(
    wakes: &Wakes,
    verifications: Option<Verifications>,
    time: Duration,
    reconcile: impl Fn(Arc<Named>) -> R,
) where
    R: Future<Output = Ended> + Send + 'static,
{
    let (stop, metrics) = (CancellationToken::new(), Metrics::new());
    let queue = Queue {
        name: "test",
        wakes: wakes.clone(),
        most: 4,
        verifications,
        stop: &stop,
        metrics: &metrics.queues,
    };
    let priority =
        |own: &Named| if own.name.starts_with('v') { Priority::Verification } else { Priority::Ordinary };
    let end = async {
        tokio::time::sleep(time).await;
        stop.cancel();
    };
    tokio::join!(queue.run(priority, reconcile), end);
}

const RESYNC: Ended = Ended::Again { after: Duration::from_hours(1), is_retry: false };

#[tokio::test(start_paused = true)]
async fn so_many_run_at_a_time_and_each_object_once() {
    let (wakes, running) = (Wakes::default(), Arc::new(AtomicUsize::new(0)));
    let (most, runs) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    for n in 0..100 {
        wakes.now(named(&n.to_string()));
        wakes.after(named(&n.to_string()), Duration::from_secs(1));
    }
    run(&wakes, None, Duration::from_mins(1), |_| {
        let (running, most, runs) = (running.clone(), most.clone(), runs.clone());
        async move {
            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(100)).await;
            running.fetch_sub(1, Ordering::SeqCst);
            runs.fetch_add(1, Ordering::SeqCst);
            RESYNC
        }
    })
    .await;
    assert_eq!((most.load(Ordering::SeqCst), runs.load(Ordering::SeqCst)), (4, 100));
}

#[tokio::test(start_paused = true)]
async fn what_runs_at_the_end_is_finished_and_nothing_new_begins() {
    let (wakes, ended) = (Wakes::default(), Arc::new(AtomicUsize::new(0)));
    for n in 0..10 {
        wakes.now(named(&n.to_string()));
    }
    run(&wakes, None, Duration::from_secs(1), |_| {
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
    let (wakes, runs) = (Wakes::default(), Arc::new(AtomicUsize::new(0)));
    wakes.now(named("bad"));
    wakes.now(named("good"));
    run(&wakes, None, Duration::from_secs(90), |own| {
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
async fn microsoft_never_takes_all_places() {
    let wakes = Wakes::default();
    let verifications = Verifications::of(4, wakes.clone());
    let ended = Arc::new(Mutex::new(Vec::new()));
    // `v…` is known to verify; `x…` finds out that it has to.
    for name in ["v1", "v2", "x1", "x2", "v3", "x3", "a", "b"] {
        wakes.now(named(name));
    }
    run(&wakes, Some(verifications.clone()), Duration::from_secs(100), |own| {
        let (ended, verifications) = (ended.clone(), verifications.clone());
        async move {
            if own.name.starts_with(['v', 'x']) {
                let Some(_permit) = verifications.enter(&own) else { return RESYNC };
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
    assert_eq!(first, ["a", "b"], "a black hole at Microsoft holds neither");
    assert_eq!(rest.len(), 6, "each of the others was verified: {rest:?}");
}
