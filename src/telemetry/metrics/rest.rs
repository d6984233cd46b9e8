//! Metrics of the credentials REST API.

use std::collections::BTreeMap;
use std::fmt::Error;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use crate::telemetry::metrics::objects::object;
use crate::telemetry::metrics::{
    Counter, Family, Gauge, Histogram, Histograms, Label, Registry, Unit, add, scrape,
};

/// Buckets in seconds: a list takes milliseconds, a create waits for Microsoft.
const BUCKETS: [f64; 10] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0];

metrics! {
    /// Metrics of the credentials REST API.
    RestMetrics {
        requests: Family<[Label<String>; 3], Counter> = "graph_credential_rest_requests",
            "Requests to the credentials REST API by method, route and HTTP status, or client_gone if the client did not wait for the response";
        seconds: Histograms<2> = "graph_credential_rest_request_duration",
            "Duration of requests to the credentials REST API",
            Family::new_with_constructor(|| Histogram::new(BUCKETS));
        connections: Gauge = "graph_credential_rest_connections", "Open connections to the credentials REST API";
    } with records: Records
}

/// The series of a record of the REST API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordSeries {
    /// Namespace of the record.
    pub namespace: String,
    /// Name of the record.
    pub name: String,
    /// Whether its condition `Ready` is True.
    pub is_ready: bool,
    /// The reason of its condition `Ready`.
    pub reason: String,
    /// When its secret expires, in seconds since 1970; `None` if the record cannot be read.
    pub expires_at: Option<i64>,
}

/// The known records, by namespace and name.
#[derive(Clone, Debug, Default)]
struct Records(Arc<Mutex<BTreeMap<(String, String), RecordSeries>>>);

// === impl RestMetrics ===

impl RestMetrics {
    /// `code` is `None` if the client did not wait for the response.
    pub fn responded(&self, method: &'static str, route: &'static str, code: Option<u16>, took: Duration) {
        let code = code.map_or_else(|| "client_gone".to_owned(), |code| code.to_string());
        let labels = [("method", method.to_owned()), ("route", route.to_owned()), ("code", code)];
        self.requests.get_or_create(&labels).inc();
        self.seconds.get_or_create(&[("method", method), ("route", route)]).observe(took.as_secs_f64());
    }

    pub fn set_record(&self, record: &RecordSeries) {
        self.records.0.lock().insert((record.namespace.clone(), record.name.clone()), record.clone());
    }

    pub fn remove_record(&self, namespace: &str, name: &str) {
        self.records.0.lock().remove(&(namespace.to_owned(), name.to_owned()));
    }

    /// Another process now shows the records.
    pub fn clear_records(&self) {
        self.records.0.lock().clear();
    }

    pub fn add_connections(&self, change: i64) {
        self.connections.inc_by(change);
    }
}

impl Collector for Records {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let records = self.0.lock();
        scrape::gauge(
            &mut encoder,
            "graph_credential_record_ready",
            None,
            "Whether a record of the REST API is ready (1) or not (0), with the reason of its condition Ready, or InvalidObject if it cannot be read; shown by the process that runs the record controller.",
            records.values().map(|it| {
                let [namespace, name] = object(&it.namespace, &it.name);
                ([namespace, name, ("reason", it.reason.as_str())], i64::from(it.is_ready))
            }),
        )?;
        scrape::gauge(
            &mut encoder,
            "graph_credential_record_expiry_timestamp",
            Some(&Unit::Seconds),
            "When the secret of a record of the REST API expires, in seconds since 1970; absent if the record cannot be read.",
            records.values().filter_map(|it| Some((object(&it.namespace, &it.name), it.expires_at?))),
        )
    }
}
