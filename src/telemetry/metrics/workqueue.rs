//! Metrics of the controllers' work queues, as in client-go.

use std::collections::{BTreeMap, HashMap};
use std::fmt::{Display, Error};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use tokio::time::Instant;

use crate::telemetry::metrics::{
    Counters, Family, Gauges, Histogram, Histograms, Label, Registry, Unit, add, scrape,
};

/// Seconds: at once in a quiet queue, minutes if all workers are busy.
const BUCKETS: [f64; 10] = [0.001, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0];

metrics! {
    /// Metrics of the controllers' work queues.
    QueueMetrics {
        depth: Gauges<2> = "workqueue_depth", "Objects in the queue that wait for a reconciliation";
        adds: Counters<2> = "workqueue_adds",
            "Objects that entered the queue, because of a change or because they were due";
        retries: Counters<2> = "workqueue_retries",
            "Objects that were requeued after a failure at the Kubernetes API";
        waited: Histograms<2> = "workqueue_queue_duration",
            "How long an object waited in the queue before its reconciliation",
            Family::new_with_constructor(|| Histogram::new(BUCKETS));
        worked: Histograms<2> = "workqueue_work_duration",
            "How long the reconciliation of an object from the queue took",
            Family::new_with_constructor(|| Histogram::new(BUCKETS));
    } with in_progress: InProgress
}

/// When the reconcile of each object started, by the name of the controller.
#[derive(Clone, Debug, Default)]
struct InProgress(Arc<Mutex<BTreeMap<&'static str, HashMap<String, Instant>>>>);

// === impl QueueMetrics ===

impl QueueMetrics {
    pub fn set_depth(&self, queue: &'static str, objects: usize) {
        self.depth.get_or_create(&labels(queue)).set(i64::try_from(objects).unwrap_or(i64::MAX));
    }

    pub fn added(&self, queue: &'static str, objects: usize) {
        self.adds.get_or_create(&labels(queue)).inc_by(u64::try_from(objects).unwrap_or(u64::MAX));
    }

    /// The reconcile of an object starts, which waited for that long.
    pub fn started(&self, queue: &'static str, object: &(impl Display + ?Sized), waited: Duration) {
        self.waited.get_or_create(&labels(queue)).observe(waited.as_secs_f64());
        self.in_progress.0.lock().entry(queue).or_default().insert(object.to_string(), Instant::now());
    }

    /// The reconcile of an object has ended. `is_retry` means that the object is requeued because of a failure.
    pub fn ended(&self, queue: &'static str, object: &(impl Display + ?Sized), is_retry: bool) {
        let since = self.in_progress.0.lock().entry(queue).or_default().remove(&object.to_string());
        if let Some(since) = since {
            self.worked.get_or_create(&labels(queue)).observe(since.elapsed().as_secs_f64());
        }
        if is_retry {
            self.retries.get_or_create(&labels(queue)).inc();
        }
    }
}

fn labels(queue: &'static str) -> [Label; 2] {
    [("controller", queue), ("name", queue)]
}

impl Collector for InProgress {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let in_progress = self.0.lock();
        let ages = |since: &HashMap<String, Instant>| -> Vec<Duration> {
            since.values().map(Instant::elapsed).collect()
        };
        let ages: Vec<_> = in_progress.iter().map(|(queue, since)| (labels(queue), ages(since))).collect();
        scrape::gauge(
            &mut encoder,
            "workqueue_unfinished_work",
            Some(&Unit::Seconds),
            "How long all reconciliations in progress have taken so far, in total.",
            ages.iter().map(|(queue, ages)| (*queue, ages.iter().sum::<Duration>().as_secs_f64())),
        )?;
        scrape::gauge(
            &mut encoder,
            "workqueue_longest_running_processor",
            Some(&Unit::Seconds),
            "How long the longest reconciliation in progress has taken so far.",
            ages.iter()
                .map(|(queue, ages)| (*queue, ages.iter().max().unwrap_or(&Duration::ZERO).as_secs_f64())),
        )
    }
}

#[cfg(test)]
mod tests {
    use crate::telemetry::metrics::Metrics;

    use super::*;

    /// The values of that metric, separated by spaces.
    fn read(metrics: &Metrics, name: &str) -> String {
        let text = metrics.render().unwrap();
        let start = format!("{name}{{");
        let lines = text.lines().filter(|line| line.starts_with(&start));
        lines.filter_map(|line| line.rsplit(' ').next()).collect::<Vec<_>>().join(" ")
    }

    #[tokio::test(start_paused = true)]
    async fn waits_and_reconciles_of_an_object_are_measured() {
        let metrics = Metrics::new();
        let second = Duration::from_secs(1);
        metrics.queues.added("c", 2);
        metrics.queues.set_depth("c", 1);
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
