//! Requests to the Kubernetes API, under client-go's name, and watches.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// Requests to the Kubernetes API, and watches.
#[derive(Debug)]
pub struct KubernetesMetrics {
    requests: Family<RequestLabels, Counter>,
    opens: Family<KindLabels, Counter>,
    errors: Family<KindLabels, Counter>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    code: String,
    method: String,
    host: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

// === impl KubernetesMetrics ===

impl KubernetesMetrics {
    pub(super) fn registered(registry: &mut Registry) -> Self {
        let metrics =
            Self { requests: Family::default(), opens: Family::default(), errors: Family::default() };
        registry.register(
            "rest_client_requests",
            "Requests to the Kubernetes API by status code (<error> where there was no answer), method and host",
            metrics.requests.clone(),
        );
        registry.register(
            "mgc_watch_opens",
            "Watches that the Kubernetes API accepted, by kind; they end by themselves after a few minutes",
            metrics.opens.clone(),
        );
        registry.register(
            "mgc_watch_errors",
            "Errors of watches by kind; each watch is tried again by its own back-off",
            metrics.errors.clone(),
        );
        metrics
    }

    /// A request was answered with that status, or not at all. `method` is one of HTTP's own.
    pub fn answered(&self, host: &str, method: &str, status: Option<u16>) {
        let code = status.map_or_else(|| "<error>".to_owned(), |status| status.to_string());
        let labels = RequestLabels { code, method: method.to_owned(), host: host.to_owned() };
        self.requests.get_or_create(&labels).inc();
    }

    /// A watch was accepted.
    pub fn watch_opened(&self, kind: &'static str) {
        self.opens.get_or_create(&KindLabels { kind }).inc();
    }

    /// A watch reported an error.
    pub fn watch_failed(&self, kind: &'static str) {
        self.errors.get_or_create(&KindLabels { kind }).inc();
    }
}
