//! Whether this replica leads.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Whether this replica leads.
#[derive(Debug)]
pub struct LeaderMetrics {
    leads: Family<LeaseLabels, Gauge>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct LeaseLabels {
    name: String,
}

// === impl LeaderMetrics ===

impl LeaderMetrics {
    pub(super) fn registered(registry: &mut Registry) -> Self {
        let metrics = Self { leads: Family::default() };
        registry.register(
            "leader_election_master_status",
            "1 on the replica that holds the lease of that name, 0 on the others; absent without leader election. The lease whose name ends in -records is that of processes that serve the REST API alone",
            metrics.leads.clone(),
        );
        metrics
    }

    /// Whether this replica holds the lease of that name.
    pub fn leads(&self, lease: &str, leads: bool) {
        self.leads.get_or_create(&LeaseLabels { name: lease.to_owned() }).set(leads.into());
    }
}
