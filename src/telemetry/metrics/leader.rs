//! Metrics of leader election.

use crate::telemetry::metrics::{Family, Gauge, Label, Registry, add};

metrics! {
    /// Metrics of leader election.
    LeaderMetrics {
        status: Family<[Label<String>; 1], Gauge> = "leader_election_master_status",
            "1 on the replica that holds the Lease of that name, 0 on the others; absent without leader election. Processes that serve only the REST API use the Lease whose name ends in -records";
    }
}

// === impl LeaderMetrics ===

impl LeaderMetrics {
    /// Whether this replica holds the lease of that name.
    pub fn set_leader(&self, lease: &str, is_leader: bool) {
        self.status.get_or_create(&[("name", lease.to_owned())]).set(is_leader.into());
    }
}
