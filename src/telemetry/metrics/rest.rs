//! Metrics of the credentials REST API that the program serves itself.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// Seconds: a listing takes milliseconds, a create waits for Microsoft.
const REQUEST_BUCKETS: [f64; 10] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0];

/// Metrics of the credentials REST API.
#[derive(Debug)]
pub struct RestMetrics {
    requests: Family<RequestLabels, Counter>,
    seconds: Family<RouteLabels, Histogram, fn() -> Histogram>,
    connections: Gauge,
    ready: Family<ReadyLabels, Gauge>,
    expiry: Family<RecordLabels, Gauge>,
    /// The reason that is shown of each record.
    shown: Mutex<HashMap<RecordLabels, String>>,
}

/// What is shown of a record of the REST API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordSeries {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Whether it is ready.
    pub is_ready: bool,
    /// Why, or why not.
    pub reason: String,
    /// When its secret expires, in seconds since 1970; nothing where the record cannot be read.
    pub expires_at: Option<i64>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReadyLabels {
    namespace: String,
    name: String,
    reason: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RecordLabels {
    namespace: String,
    name: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    route: &'static str,
    code: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RouteLabels {
    method: &'static str,
    route: &'static str,
}

// === impl RestMetrics ===

impl RestMetrics {
    /// All of them at zero.
    pub(super) fn registered(registry: &mut Registry) -> Self {
        let seconds = Family::new_with_constructor((|| Histogram::new(REQUEST_BUCKETS)) as fn() -> Histogram);
        let metrics = Self {
            requests: Family::default(),
            seconds,
            connections: Gauge::default(),
            ready: Family::default(),
            expiry: Family::default(),
            shown: Mutex::default(),
        };
        registry.register(
            "mgc_rest_record_ready",
            "Whether a record of the REST API is ready (1) or not (0), with the reason of its condition Ready, InvalidObject where it cannot be read; shown by the process that runs the record controller",
            metrics.ready.clone(),
        );
        registry.register_with_unit(
            "mgc_rest_record_expiry_timestamp",
            "When the secret of a record of the REST API expires, in seconds since 1970; absent where the record cannot be read",
            Unit::Seconds,
            metrics.expiry.clone(),
        );
        registry.register(
            "mgc_rest_requests",
            "Requests to the credentials REST API by method, route and HTTP status, or client_gone: its client did not wait for the answer",
            metrics.requests.clone(),
        );
        registry.register_with_unit(
            "mgc_rest_request_duration",
            "Duration of requests to the credentials REST API",
            Unit::Seconds,
            metrics.seconds.clone(),
        );
        registry.register(
            "mgc_rest_connections",
            "Open connections to the credentials REST API",
            metrics.connections.clone(),
        );
        metrics
    }

    /// A request was answered with that HTTP status, or its client was gone before.
    pub fn answered(&self, method: &'static str, route: &'static str, code: Option<u16>, took: Duration) {
        let code = code.map_or_else(|| "client_gone".to_owned(), |code| code.to_string());
        self.requests.get_or_create(&RequestLabels { method, route, code }).inc();
        self.seconds.get_or_create(&RouteLabels { method, route }).observe(took.as_secs_f64());
    }

    /// A record is there, or has changed.
    pub fn show_record(&self, record: &RecordSeries) {
        let RecordSeries { namespace, name, is_ready, reason, expires_at } = record;
        let labels = RecordLabels { namespace: namespace.clone(), name: name.clone() };
        let mut shown = self.shown();
        if let Some(before) = shown.insert(labels.clone(), reason.clone())
            && before != *reason
        {
            self.ready.remove(&labels.with(before));
        }
        self.ready.get_or_create(&labels.with(reason.clone())).set((*is_ready).into());
        match expires_at {
            Some(at) => {
                self.expiry.get_or_create(&labels).set(*at);
            }
            None => {
                self.expiry.remove(&labels);
            }
        }
    }

    /// A record is gone.
    pub fn forget_record(&self, namespace: &str, name: &str) {
        let labels = RecordLabels { namespace: namespace.to_owned(), name: name.to_owned() };
        if let Some(reason) = self.shown().remove(&labels) {
            self.ready.remove(&labels.with(reason));
            self.expiry.remove(&labels);
        }
    }

    /// This process does not know of records any longer.
    pub fn forget_records(&self) {
        self.shown().clear();
        self.ready.clear();
        self.expiry.clear();
    }

    fn shown(&self) -> MutexGuard<'_, HashMap<RecordLabels, String>> {
        self.shown.lock()
    }

    /// So many more connections are open, or fewer.
    pub fn connections(&self, change: i64) {
        self.connections.inc_by(change);
    }
}

// === impl RecordLabels ===

impl RecordLabels {
    fn with(&self, reason: String) -> ReadyLabels {
        ReadyLabels { namespace: self.namespace.clone(), name: self.name.clone(), reason }
    }
}
