//! The queues that passes come from, as client-go counts its work queues.

use std::collections::{BTreeMap, HashMap};
use std::fmt::{Display, Error};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use tokio::time::Instant;

use super::scrape;

/// Seconds: at once in a quiet queue, minutes where all workers are busy.
const BUCKETS: [f64; 10] = [0.001, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0];

/// The queues that passes come from.
#[derive(Debug)]
pub struct QueueMetrics {
    under_way: UnderWay,
    depth: Family<QueueLabels, Gauge>,
    adds: Family<QueueLabels, Counter>,
    retries: Family<QueueLabels, Counter>,
    waited: Family<QueueLabels, Histogram, fn() -> Histogram>,
    worked: Family<QueueLabels, Histogram, fn() -> Histogram>,
}

/// Since when each object of a queue has its pass, by the name of its controller.
#[derive(Clone, Debug, Default)]
struct UnderWay(Arc<Mutex<BTreeMap<&'static str, HashMap<String, Instant>>>>);

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct QueueLabels {
    controller: &'static str,
    name: &'static str,
}

// === impl QueueMetrics ===

impl QueueMetrics {
    pub(super) fn registered(registry: &mut Registry) -> Self {
        let metrics = Self {
            under_way: UnderWay::default(),
            depth: Family::default(),
            adds: Family::default(),
            retries: Family::default(),
            waited: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            worked: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
        };
        registry.register_collector(Box::new(metrics.under_way.clone()));
        registry.register(
            "workqueue_depth",
            "Objects in the queue that wait for their pass",
            metrics.depth.clone(),
        );
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

    /// So many objects wait.
    pub fn waiting(&self, queue: &'static str, objects: usize) {
        self.depth.get_or_create(&labels(queue)).set(i64::try_from(objects).unwrap_or(i64::MAX));
    }

    /// So many objects began to wait.
    pub fn added(&self, queue: &'static str, objects: usize) {
        self.adds.get_or_create(&labels(queue)).inc_by(u64::try_from(objects).unwrap_or(u64::MAX));
    }

    /// The pass over an object begins, which waited for it that long.
    pub fn started(&self, queue: &'static str, object: &(impl Display + ?Sized), waited: Duration) {
        self.waited.get_or_create(&labels(queue)).observe(waited.as_secs_f64());
        self.under_way.lock().entry(queue).or_default().insert(object.to_string(), Instant::now());
    }

    /// The pass over an object has ended; it is due again because of a failure or not.
    pub fn ended(&self, queue: &'static str, object: &(impl Display + ?Sized), is_retry: bool) {
        let since = self.under_way.lock().entry(queue).or_default().remove(&object.to_string());
        if let Some(since) = since {
            self.worked.get_or_create(&labels(queue)).observe(since.elapsed().as_secs_f64());
        }
        if is_retry {
            self.retries.get_or_create(&labels(queue)).inc();
        }
    }
}

fn labels(queue: &'static str) -> QueueLabels {
    QueueLabels { controller: queue, name: queue }
}

// === impl UnderWay ===

impl UnderWay {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, HashMap<String, Instant>>> {
        self.0.lock()
    }
}

impl Collector for UnderWay {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let under_way = self.lock();
        let ages = |since: &HashMap<String, Instant>| -> Vec<Duration> {
            since.values().map(Instant::elapsed).collect()
        };
        let ages: Vec<_> = under_way.iter().map(|(queue, since)| (labels(queue), ages(since))).collect();
        scrape::gauge(
            &mut encoder,
            "workqueue_unfinished_work",
            Some(&Unit::Seconds),
            "How long all passes under way have taken so far, together.",
            ages.iter().map(|(queue, ages)| (queue.clone(), ages.iter().sum::<Duration>().as_secs_f64())),
        )?;
        scrape::gauge(
            &mut encoder,
            "workqueue_longest_running_processor",
            Some(&Unit::Seconds),
            "How long the longest pass under way has taken so far.",
            ages.iter().map(|(queue, ages)| {
                (queue.clone(), ages.iter().max().unwrap_or(&Duration::ZERO).as_secs_f64())
            }),
        )
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
    async fn an_object_waits_and_works() {
        let metrics = Metrics::new();
        let second = Duration::from_secs(1);
        metrics.queues.added("c", 2);
        metrics.queues.waiting("c", 1);
        metrics.queues.started("c", &"a/b", second * 3);
        tokio::time::advance(second * 2).await;
        assert_eq!(read(&metrics, "workqueue_depth"), "1");
        assert_eq!(read(&metrics, "workqueue_adds_total"), "2");
        assert_eq!(read(&metrics, "workqueue_unfinished_work_seconds"), "2.0");
        assert_eq!(read(&metrics, "workqueue_longest_running_processor_seconds"), "2.0");
        assert_eq!(read(&metrics, "workqueue_queue_duration_seconds_sum"), "3.0");
        metrics.queues.ended("c", &"a/b", true);
        assert_eq!(read(&metrics, "workqueue_work_duration_seconds_sum"), "2.0");
        assert_eq!(read(&metrics, "workqueue_retries_total"), "1");
        assert_eq!(read(&metrics, "workqueue_unfinished_work_seconds"), "0.0");
    }
}
