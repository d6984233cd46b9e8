//! Whether this replica leads, or looks after records where nobody leads.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Whether this replica leads, or looks after records where nobody leads.
#[derive(Debug)]
pub struct LeaderMetrics {
    leads: Family<LeaseLabels, Gauge>,
    looks_after_records: Family<LeaseLabels, Gauge>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct LeaseLabels {
    name: String,
}

// === impl LeaderMetrics ===

impl LeaderMetrics {
    pub(super) fn registered(registry: &mut Registry) -> Self {
        let metrics = Self { leads: Family::default(), looks_after_records: Family::default() };
        registry.register(
            "leader_election_master_status",
            "1 on the replica that holds the lease of that name, 0 on the others; absent without leader election",
            metrics.leads.clone(),
        );
        registry.register(
            "mgc_rest_caretaker",
            "1 on the process that serves the REST API alone and holds the lease of that name, where no controller does: it looks \
             after the API's records; 0 on the others of its kind",
            metrics.looks_after_records.clone(),
        );
        metrics
    }

    /// Whether this replica holds the lease of that name.
    pub fn leads(&self, lease: &str, leads: bool) {
        self.leads.get_or_create(&LeaseLabels { name: lease.to_owned() }).set(leads.into());
    }

    /// Whether this process holds the lease of that name to look after the records alone.
    pub fn looks_after_records(&self, lease: &str, does: bool) {
        self.looks_after_records.get_or_create(&LeaseLabels { name: lease.to_owned() }).set(does.into());
    }
}
