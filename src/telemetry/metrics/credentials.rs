//! Metrics of credentials: time to ready, external changes, orphans.

use std::time::Duration;

use crate::core::orphan::OrphanCause;
use crate::telemetry::metrics::{Counters, Histogram, Registry, Unit, add};

/// Buckets in seconds: one reconcile with some requests, a long queue, the twenty minutes of a new secret, a weekend.
const BUCKETS: [f64; 10] = [1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 14400.0, 86400.0];

metrics! {
    /// Metrics of credentials.
    CredentialMetrics {
        time_to_ready: Histogram = "graph_credential_time_to_ready",
            "How long a credential took to become ready, since its creation or since it was last ready",
            Histogram::new(BUCKETS);
        drift: Counters<1> = "graph_credential_drift",
            "Differences found between a destination and the recorded state, by kind: deleted (registered again), duplicate (deleted), unlisted (a list lacked an existing credential), modified (a record of the store, re-encrypted)";
        orphans: Counters<1> = "graph_credential_orphans",
            "Credentials left at a destination although they should have been deleted, by cause: suspended, namespace (its deletion could not wait any longer), object_deleted (the object was deleted while its credential was created), account_deleted (its account was deleted after it no longer allowed the namespace)";
    }
}

/// A difference between a destination and the recorded state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drift {
    /// It was deleted, and is registered again.
    Deleted,
    /// A request of the operator had created it twice; the second one was deleted.
    Duplicate,
    /// A list lacked it although it exists; nothing is created because of such a list.
    Unlisted,
    /// A record of the store was changed, and was re-encrypted.
    Modified,
}

// === impl CredentialMetrics ===

impl CredentialMetrics {
    /// Adds a series for each kind and cause.
    pub(super) fn init(&self) {
        for kind in Drift::ALL {
            self.drift.get_or_create(&[("kind", kind.as_str())]).inc_by(0);
        }
        for cause in OrphanCause::ALL {
            self.orphans.get_or_create(&[("cause", cause.as_str())]).inc_by(0);
        }
    }

    pub fn became_ready(&self, after: Duration) {
        self.time_to_ready.observe(after.as_secs_f64());
    }

    pub fn drifted(&self, kind: Drift) {
        self.drift.get_or_create(&[("kind", kind.as_str())]).inc();
    }

    pub fn orphaned(&self, cause: OrphanCause) {
        self.orphans.get_or_create(&[("cause", cause.as_str())]).inc();
    }
}

// === impl Drift ===

impl Drift {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Deleted, Self::Duplicate, Self::Unlisted, Self::Modified];

    /// The value of the label `kind`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deleted => "deleted",
            Self::Duplicate => "duplicate",
            Self::Unlisted => "unlisted",
            Self::Modified => "modified",
        }
    }
}
