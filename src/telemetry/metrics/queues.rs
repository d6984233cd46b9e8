//! The queues that passes come from, as client-go counts its work queues.

use std::collections::{BTreeMap, HashMap};
use std::fmt::{Display, Error};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use tokio::time::Instant;

use super::{Counters, Family, Gauges, Histogram, Histograms, Label, Registry, Unit, add, scrape};

/// Seconds: at once in a quiet queue, minutes where all workers are busy.
const BUCKETS: [f64; 10] = [0.001, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0];

metrics! {
    /// The queues that passes come from.
    QueueMetrics {
        depth: Gauges<2> = "workqueue_depth", "Objects in the queue that wait for their pass";
        adds: Counters<2> = "workqueue_adds",
            "Objects that entered the queue: woken by a change, or due by themselves";
        retries: Counters<2> = "workqueue_retries",
            "Objects that are to enter the queue again after a failure at the Kubernetes API";
        waited: Histograms<2> = "workqueue_queue_duration",
            "How long an object waited in the queue before its pass",
            Family::new_with_constructor(|| Histogram::new(BUCKETS));
        worked: Histograms<2> = "workqueue_work_duration",
            "How long the pass over an object from the queue took",
            Family::new_with_constructor(|| Histogram::new(BUCKETS));
    } with under_way: UnderWay
}

/// Since when each object of a queue has its pass, by the name of its controller.
#[derive(Clone, Debug, Default)]
struct UnderWay(Arc<Mutex<BTreeMap<&'static str, HashMap<String, Instant>>>>);

// === impl QueueMetrics ===

impl QueueMetrics {
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
        self.under_way.0.lock().entry(queue).or_default().insert(object.to_string(), Instant::now());
    }

    /// The pass over an object has ended; it is due again because of a failure or not.
    pub fn ended(&self, queue: &'static str, object: &(impl Display + ?Sized), is_retry: bool) {
        let since = self.under_way.0.lock().entry(queue).or_default().remove(&object.to_string());
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

impl Collector for UnderWay {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let under_way = self.0.lock();
        let ages = |since: &HashMap<String, Instant>| -> Vec<Duration> {
            since.values().map(Instant::elapsed).collect()
        };
        let ages: Vec<_> = under_way.iter().map(|(queue, since)| (labels(queue), ages(since))).collect();
        scrape::gauge(
            &mut encoder,
            "workqueue_unfinished_work",
            Some(&Unit::Seconds),
            "How long all passes under way have taken so far, together.",
            ages.iter().map(|(queue, ages)| (*queue, ages.iter().sum::<Duration>().as_secs_f64())),
        )?;
        scrape::gauge(
            &mut encoder,
            "workqueue_longest_running_processor",
            Some(&Unit::Seconds),
            "How long the longest pass under way has taken so far.",
            ages.iter()
                .map(|(queue, ages)| (*queue, ages.iter().max().unwrap_or(&Duration::ZERO).as_secs_f64())),
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
