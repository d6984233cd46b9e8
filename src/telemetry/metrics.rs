//! Metrics, under controller-runtime's names where the meaning is the same. What belongs to a single object is made
//! at the moment of a scrape, from the objects as they are known then.

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

/// Declares the metrics of a subject, each with its name and help text, a histogram of seconds with its buckets as well; and
/// what is read at the moment of a scrape.
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
mod lanes;
mod leader;
mod objects;
mod passes;
mod process;
mod queues;
mod remote;
mod rest;
mod scrape;
mod store;
mod waiting;

pub(crate) use self::credentials::CredentialMetrics;
pub use self::credentials::Drift;
pub(crate) use self::kubernetes::KubernetesMetrics;
pub(crate) use self::lanes::LaneMetrics;
pub(crate) use self::leader::LeaderMetrics;
pub(crate) use self::objects::ObjectMetrics;
pub use self::objects::{AccountSeries, CredentialSeries, Held, LaneSeries, Objects, Standing};
pub(crate) use self::passes::PassMetrics;
pub(crate) use self::queues::QueueMetrics;
pub(crate) use self::remote::RemoteMetrics;
pub use self::rest::RecordSeries;
pub(crate) use self::rest::RestMetrics;
pub(crate) use self::store::StoreMetrics;
use super::readiness::Readiness;

/// Every metric of the program, by subject.
#[derive(Debug)]
pub struct Metrics {
    /// Passes over objects.
    pub passes: PassMetrics,
    /// The queues that passes come from.
    pub queues: QueueMetrics,
    /// Requests to Microsoft and Woodpecker.
    pub remote: RemoteMetrics,
    /// Requests to the Kubernetes API, and watches.
    pub kubernetes: KubernetesMetrics,
    /// The lanes of Woodpecker accounts.
    pub lanes: LaneMetrics,
    /// What happened to credentials.
    pub credentials: CredentialMetrics,
    /// The encrypted store.
    pub store: StoreMetrics,
    /// The credentials REST API.
    pub rest: RestMetrics,
    /// Every object that is known.
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
    /// A fresh registry with all metrics at zero, of no command in particular.
    pub fn new() -> Self {
        Self::of("none", Readiness::default())
    }

    /// The same, of a process that runs that command, and shows what it waits for.
    pub fn of(command: &'static str, readiness: Readiness) -> Self {
        let mut registry = Registry::default();
        registry.register(
            "mgc_build",
            "Always 1; the labels are the operator's version, and the command that this process runs: run or serve",
            Info::new([("version", env!("CARGO_PKG_VERSION")), ("command", command)]),
        );
        registry.register_collector(Box::new(waiting::Waiting(readiness)));
        registry.register_collector(Box::new(process::ThisProcess));
        let metrics = Self {
            passes: PassMetrics::registered(&mut registry),
            queues: QueueMetrics::registered(&mut registry),
            remote: RemoteMetrics::registered(&mut registry),
            kubernetes: KubernetesMetrics::registered(&mut registry),
            lanes: LaneMetrics::registered(&mut registry),
            credentials: CredentialMetrics::registered(&mut registry),
            store: StoreMetrics::registered(&mut registry),
            rest: RestMetrics::registered(&mut registry),
            objects: ObjectMetrics::registered(&mut registry),
            leader: LeaderMetrics::registered(&mut registry),
            registry,
        };
        // There from the start, so that the first of each kind is seen as a rise.
        metrics.credentials.begin();
        metrics.store.begin();
        metrics
    }

    /// All metrics as OpenMetrics text.
    pub fn render(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// Adds a metric to the registry.
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
