//! Metrics, under controller-runtime's names if the meaning is the same. Series of single objects are created on each
//! scrape, from the objects as they are known then.

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry, Unit};

/// A label: its name and its value.
type Label<V = &'static str> = (&'static str, V);
type Counters<const LABELS: usize> = Family<[Label; LABELS], Counter>;
type Gauges<const LABELS: usize> = Family<[Label; LABELS], Gauge>;
type Histograms<const LABELS: usize> = Family<[Label; LABELS], Histogram, fn() -> Histogram>;

/// Declares the metrics of a subject, each with its name and help text, and with its buckets if it is a histogram of
/// seconds; and a collector that is read on each scrape.
macro_rules! metrics {
    ($(#[$doc:meta])+ $subject:ident {
        $($field:ident: $type:ty = $name:literal, $help:literal $(, $histogram:expr)?;)*
    } $(with $source:ident: $collector:ty)?) => {
        $(#[$doc])+
        #[derive(Debug)]
        pub struct $subject { $($field: $type,)* $($source: $collector,)? }

        impl $subject {
            pub(super) fn registered(registry: &mut Registry) -> Self {
                let metrics = Self {
                    $($field: metrics!(@add registry, $name, $help $(, $histogram)?),)*
                    $($source: <$collector>::default(),)?
                };
                $(registry.register_collector(Box::new(metrics.$source.clone()));)?
                metrics
            }
        }
    };
    (@add $registry:ident, $name:literal, $help:literal) => { add($registry, $name, $help, None, Default::default()) };
    (@add $registry:ident, $name:literal, $help:literal, $histogram:expr) => {
        add($registry, $name, $help, Some(Unit::Seconds), $histogram)
    };
}

mod credentials;
mod kubernetes;
mod leader;
mod not_ready;
mod objects;
mod process;
mod reconcile;
mod remote;
mod rest;
mod scrape;
mod store;
mod woodpecker_queue;
mod workqueue;

pub(crate) use self::credentials::CredentialMetrics;
pub use self::credentials::Drift;
pub(crate) use self::kubernetes::KubernetesMetrics;
pub(crate) use self::leader::LeaderMetrics;
pub(crate) use self::objects::ObjectMetrics;
pub use self::objects::{
    AccountSeries, ConditionSample, CredentialCounts, CredentialSeries, IdentitySeries, MailboxesSeries,
    ObjectSource, QueueSeries,
};
pub(crate) use self::reconcile::ReconcileMetrics;
pub(crate) use self::remote::RemoteMetrics;
pub use self::rest::RecordSeries;
pub(crate) use self::rest::RestMetrics;
pub(crate) use self::store::StoreMetrics;
pub(crate) use self::woodpecker_queue::AccountQueueMetrics;
pub(crate) use self::workqueue::QueueMetrics;
use crate::telemetry::readiness::Readiness;

/// Every metric of the program, by subject.
#[derive(Debug)]
pub struct Metrics {
    /// Reconciles of objects.
    pub reconciles: ReconcileMetrics,
    /// The work queues of the controllers.
    pub queues: QueueMetrics,
    /// Requests to Microsoft and Woodpecker.
    pub remote: RemoteMetrics,
    /// Requests to the Kubernetes API, and watches.
    pub kubernetes: KubernetesMetrics,
    /// The request queues of Woodpecker accounts.
    pub account_queues: AccountQueueMetrics,
    /// Metrics of credentials.
    pub credentials: CredentialMetrics,
    /// The encrypted store.
    pub store: StoreMetrics,
    /// The credentials REST API.
    pub rest: RestMetrics,
    /// The known objects.
    pub objects: ObjectMetrics,
    /// Whether this replica leads.
    pub leader: LeaderMetrics,
    registry: Registry,
}

// === impl Metrics ===

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Metrics that belong to no command.
    pub fn new() -> Self {
        Self::of("none", Readiness::default())
    }

    /// Metrics of a process that runs that command.
    pub fn of(command: &'static str, readiness: Readiness) -> Self {
        let mut registry = Registry::default();
        registry.register(
            "graph_credential_operator_build",
            "Always 1; the labels are the operator's version and the command that this process runs: run or serve",
            Info::new([("version", env!("CARGO_PKG_VERSION")), ("command", command)]),
        );
        registry.register_collector(Box::new(not_ready::NotReadyCollector(readiness)));
        registry.register_collector(Box::new(process::ProcessCollector));
        let metrics = Self {
            reconciles: ReconcileMetrics::registered(&mut registry),
            queues: QueueMetrics::registered(&mut registry),
            remote: RemoteMetrics::registered(&mut registry),
            kubernetes: KubernetesMetrics::registered(&mut registry),
            account_queues: AccountQueueMetrics::registered(&mut registry),
            credentials: CredentialMetrics::registered(&mut registry),
            store: StoreMetrics::registered(&mut registry),
            rest: RestMetrics::registered(&mut registry),
            objects: ObjectMetrics::registered(&mut registry),
            leader: LeaderMetrics::registered(&mut registry),
            registry,
        };
        // Present from the start, so that the first of each kind counts as an increase.
        metrics.credentials.init();
        metrics.store.init();
        metrics
    }

    /// All metrics as OpenMetrics text.
    pub fn render(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

fn add<M: Metric + Clone>(
    registry: &mut Registry,
    name: &str,
    help: &str,
    unit: Option<Unit>,
    metric: M,
) -> M {
    match unit {
        Some(unit) => registry.register_with_unit(name, help, unit, metric.clone()),
        None => registry.register(name, help, metric.clone()),
    }
    metric
}
