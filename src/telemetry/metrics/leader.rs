//! Whether this replica leads.

use super::{Family, Gauge, Label, Registry, add};

metrics! {
    /// Whether this replica leads.
    LeaderMetrics {
        leads: Family<[Label<String>; 1], Gauge> = "leader_election_master_status",
            "1 on the replica that holds the lease of that name, 0 on the others; absent without leader election. The lease whose name ends in -records is that of processes that serve the REST API alone";
    }
}

// === impl LeaderMetrics ===

impl LeaderMetrics {
    /// Whether this replica holds the lease of that name.
    pub fn leads(&self, lease: &str, leads: bool) {
        self.leads.get_or_create(&[("name", lease.to_owned())]).set(leads.into());
    }
}
