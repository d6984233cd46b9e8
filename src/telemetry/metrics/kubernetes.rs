//! Requests to the Kubernetes API, under client-go's name, and watches.

use crate::telemetry::metrics::{Counter, Counters, Family, Label, Registry, add};

metrics! {
    /// Requests to the Kubernetes API, and watches.
    KubernetesMetrics {
        requests: Family<[Label<String>; 3], Counter> = "rest_client_requests",
            "Requests to the Kubernetes API by status code (<error> if there was no response), method and host";
        opens: Counters<1> = "graph_credential_operator_watch_opens",
            "Watches that the Kubernetes API accepted, by kind; each of them ends after a few minutes";
        errors: Counters<1> = "graph_credential_operator_watch_errors",
            "Watch errors by kind; each watch is retried with its own backoff";
    }
}

// === impl KubernetesMetrics ===

impl KubernetesMetrics {
    /// `status` is `None` if there was no response.
    pub fn responded(&self, host: &str, method: &str, status: Option<u16>) {
        let code = status.map_or_else(|| "<error>".to_owned(), |status| status.to_string());
        let labels = [("code", code), ("method", method.to_owned()), ("host", host.to_owned())];
        self.requests.get_or_create(&labels).inc();
    }

    pub fn watch_opened(&self, kind: &'static str) {
        self.opens.get_or_create(&[("kind", kind)]).inc();
    }

    pub fn watch_failed(&self, kind: &'static str) {
        self.errors.get_or_create(&[("kind", kind)]).inc();
    }
}
