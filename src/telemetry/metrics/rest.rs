//! Metrics of the credentials REST API that the program serves itself.

use std::collections::BTreeMap;
use std::fmt::Error;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::objects::object;
use super::{Counter, Family, Gauge, Histogram, Histograms, Label, Registry, Unit, add, scrape};

/// Seconds: a listing takes milliseconds, a create waits for Microsoft.
const BUCKETS: [f64; 10] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0];

metrics! {
    /// Metrics of the credentials REST API.
    RestMetrics {
        requests: Family<[Label<String>; 3], Counter> = "mgc_rest_requests",
            "Requests to the credentials REST API by method, route and HTTP status, or client_gone: its client did not wait for the answer";
        seconds: Histograms<2> = "mgc_rest_request_duration",
            "Duration of requests to the credentials REST API",
            Family::new_with_constructor(|| Histogram::new(BUCKETS));
        connections: Gauge = "mgc_rest_connections", "Open connections to the credentials REST API";
    } with records: Records
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

/// The records that are known, by namespace and name.
#[derive(Clone, Debug, Default)]
struct Records(Arc<Mutex<BTreeMap<(String, String), RecordSeries>>>);

// === impl RestMetrics ===

impl RestMetrics {
    /// A request was answered with that HTTP status, or its client was gone before.
    pub fn answered(&self, method: &'static str, route: &'static str, code: Option<u16>, took: Duration) {
        let code = code.map_or_else(|| "client_gone".to_owned(), |code| code.to_string());
        let labels = [("method", method.to_owned()), ("route", route.to_owned()), ("code", code)];
        self.requests.get_or_create(&labels).inc();
        self.seconds.get_or_create(&[("method", method), ("route", route)]).observe(took.as_secs_f64());
    }

    /// A record is there, or has changed.
    pub fn show_record(&self, record: &RecordSeries) {
        self.records.0.lock().insert((record.namespace.clone(), record.name.clone()), record.clone());
    }

    /// A record is gone.
    pub fn forget_record(&self, namespace: &str, name: &str) {
        self.records.0.lock().remove(&(namespace.to_owned(), name.to_owned()));
    }

    /// This process does not know of records any longer.
    pub fn forget_records(&self) {
        self.records.0.lock().clear();
    }

    /// So many more connections are open, or fewer.
    pub fn connections(&self, change: i64) {
        self.connections.inc_by(change);
    }
}

impl Collector for Records {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let records = self.0.lock();
        scrape::gauge(
            &mut encoder,
            "mgc_rest_record_ready",
            None,
            "Whether a record of the REST API is ready (1) or not (0), with the reason of its condition Ready, InvalidObject where it cannot be read; shown by the process that runs the record controller.",
            records.values().map(|it| {
                let [namespace, name] = object(&it.namespace, &it.name);
                ([namespace, name, ("reason", it.reason.as_str())], i64::from(it.is_ready))
            }),
        )?;
        scrape::gauge(
            &mut encoder,
            "mgc_rest_record_expiry_timestamp",
            Some(&Unit::Seconds),
            "When the secret of a record of the REST API expires, in seconds since 1970; absent where the record cannot be read.",
            records.values().filter_map(|it| Some((object(&it.namespace, &it.name), it.expires_at?))),
        )
    }
}
