//! The queues that passes come from, as client-go counts its work queues. kube tells nothing of its own queue, so it
//! is followed from outside: what was woken, what is due by itself, what is under way.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use tokio::time::Instant;

use super::scrape;

/// Seconds: at once in a quiet queue, minutes where all workers are busy.
const BUCKETS: [f64; 10] = [0.001, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0];

/// The queues that passes come from.
#[derive(Debug)]
pub struct QueueMetrics {
    books: Books,
    adds: Family<QueueLabels, Counter>,
    retries: Family<QueueLabels, Counter>,
    waited: Family<QueueLabels, Histogram, fn() -> Histogram>,
    worked: Family<QueueLabels, Histogram, fn() -> Histogram>,
}

/// What is in each queue, by the name of its controller.
#[derive(Clone, Debug, Default)]
struct Books(Arc<Mutex<BTreeMap<&'static str, Book>>>);

/// Since when each object waits, or works, or from when on it is due by itself.
#[derive(Debug, Default)]
struct Book {
    woken: HashMap<String, Instant>,
    due: HashMap<String, Instant>,
    under_way: HashMap<String, Instant>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct QueueLabels {
    controller: &'static str,
    name: &'static str,
}

// === impl QueueMetrics ===

impl QueueMetrics {
    pub(super) fn registered(registry: &mut Registry) -> Self {
        let metrics = Self {
            books: Books::default(),
            adds: Family::default(),
            retries: Family::default(),
            waited: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            worked: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
        };
        registry.register_collector(Box::new(metrics.books.clone()));
        registry.register(
            "workqueue_adds",
            "Objects that entered the queue: woken by a change, or due by themselves",
            metrics.adds.clone(),
        );
        registry.register(
            "workqueue_retries",
            "Objects that are to enter the queue again after a failure at the Kubernetes API",
            metrics.retries.clone(),
        );
        registry.register_with_unit(
            "workqueue_queue_duration",
            "How long an object waited in the queue before its pass",
            Unit::Seconds,
            metrics.waited.clone(),
        );
        registry.register_with_unit(
            "workqueue_work_duration",
            "How long the pass over an object from the queue took",
            Unit::Seconds,
            metrics.worked.clone(),
        );
        metrics
    }

    /// An object was woken.
    pub fn woken(&self, queue: &'static str, object: &str) {
        let mut books = self.books.lock();
        let book = books.entry(queue).or_default();
        book.due.remove(object);
        if !book.woken.contains_key(object) {
            book.woken.insert(object.to_owned(), Instant::now());
            self.adds.get_or_create(&labels(queue)).inc();
        }
    }

    /// The pass over an object begins.
    pub fn started(&self, queue: &'static str, object: &str) {
        let now = Instant::now();
        let mut books = self.books.lock();
        let book = books.entry(queue).or_default();
        let due = book.due.remove(object);
        let since = book.woken.remove(object).or_else(|| {
            self.adds.get_or_create(&labels(queue)).inc();
            due
        });
        let waited = since.map(|since| now.saturating_duration_since(since)).unwrap_or_default();
        self.waited.get_or_create(&labels(queue)).observe(waited.as_secs_f64());
        book.under_way.insert(object.to_owned(), now);
    }

    /// The pass over an object has ended; it is due again after a time, because of a failure or not.
    pub fn ended(&self, queue: &'static str, object: &str, again_in: Duration, is_retry: bool) {
        let now = Instant::now();
        let mut books = self.books.lock();
        let book = books.entry(queue).or_default();
        if let Some(since) = book.under_way.remove(object) {
            let took = now.saturating_duration_since(since);
            self.worked.get_or_create(&labels(queue)).observe(took.as_secs_f64());
        }
        if let (false, Some(due)) = (book.woken.contains_key(object), now.checked_add(again_in)) {
            book.due.insert(object.to_owned(), due);
        }
        if is_retry {
            self.retries.get_or_create(&labels(queue)).inc();
        }
    }

    /// An object is gone.
    pub fn forget(&self, queue: &'static str, object: &str) {
        if let Some(book) = self.books.lock().get_mut(queue) {
            book.woken.remove(object);
            book.due.remove(object);
        }
    }
}

fn labels(queue: &'static str) -> QueueLabels {
    QueueLabels { controller: queue, name: queue }
}

// === impl Books ===

impl Books {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Book>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collector for Books {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let now = Instant::now();
        let books = self.lock();
        scrape::gauge(
            &mut encoder,
            "workqueue_depth",
            None,
            "Objects in the queue that wait for their pass.",
            books.iter().map(|(queue, book)| (labels(queue), book.depth(now))),
        )?;
        scrape::gauge(
            &mut encoder,
            "workqueue_unfinished_work",
            Some(&Unit::Seconds),
            "How long all passes under way have taken so far, together.",
            books.iter().map(|(queue, book)| (labels(queue), book.ages(now).sum::<Duration>().as_secs_f64())),
        )?;
        scrape::gauge(
            &mut encoder,
            "workqueue_longest_running_processor",
            Some(&Unit::Seconds),
            "How long the longest pass under way has taken so far.",
            books
                .iter()
                .map(|(queue, book)| (labels(queue), book.ages(now).max().unwrap_or_default().as_secs_f64())),
        )
    }
}

// === impl Book ===

impl Book {
    fn depth(&self, now: Instant) -> usize {
        self.woken.len() + self.due.values().filter(|due| **due <= now).count()
    }

    fn ages(&self, now: Instant) -> impl Iterator<Item = Duration> {
        self.under_way.values().map(move |since| now.saturating_duration_since(*since))
    }
}

#[cfg(test)]
mod tests {
    use crate::telemetry::metrics::Metrics;

    use super::*;

    /// The values of that metric.
    fn read(metrics: &Metrics, name: &str) -> String {
        let text = metrics.render().unwrap();
        let start = format!("{name}{{");
        let lines = text.lines().filter(|line| line.starts_with(&start));
        lines.filter_map(|line| line.rsplit(' ').next()).collect::<Vec<_>>().join(" ")
    }

    #[tokio::test(start_paused = true)]
    async fn an_object_waits_works_and_comes_again() {
        let metrics = Metrics::new();
        let second = Duration::from_secs(1);
        metrics.queues.woken("c", "a/b");
        metrics.queues.woken("c", "a/b");
        assert_eq!(read(&metrics, "workqueue_depth"), "1", "it is in the queue once");
        tokio::time::advance(second * 3).await;
        metrics.queues.started("c", "a/b");
        tokio::time::advance(second * 2).await;
        assert_eq!(read(&metrics, "workqueue_depth"), "0");
        assert_eq!(read(&metrics, "workqueue_unfinished_work_seconds"), "2.0");
        assert_eq!(read(&metrics, "workqueue_longest_running_processor_seconds"), "2.0");
        assert_eq!(read(&metrics, "workqueue_queue_duration_seconds_sum"), "3.0");
        metrics.queues.ended("c", "a/b", second * 10, true);
        assert_eq!(read(&metrics, "workqueue_work_duration_seconds_sum"), "2.0");
        assert_eq!(read(&metrics, "workqueue_retries_total"), "1");
        assert_eq!(read(&metrics, "workqueue_depth"), "0", "it is not due yet");
        tokio::time::advance(second * 11).await;
        assert_eq!(read(&metrics, "workqueue_depth"), "1", "it is due by itself");
        metrics.queues.started("c", "a/b");
        assert_eq!(read(&metrics, "workqueue_queue_duration_seconds_sum"), "4.0", "since it was due");
        assert_eq!(read(&metrics, "workqueue_adds_total"), "2");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_woken_during_its_pass_waits_for_the_next_and_what_is_gone_does_not() {
        let metrics = Metrics::new();
        metrics.queues.started("c", "a/b");
        metrics.queues.woken("c", "a/b");
        metrics.queues.ended("c", "a/b", Duration::from_hours(1), false);
        assert_eq!(read(&metrics, "workqueue_depth"), "1");
        metrics.queues.forget("c", "a/b");
        assert_eq!(read(&metrics, "workqueue_depth"), "0");
    }
}
