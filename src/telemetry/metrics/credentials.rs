//! What happened to credentials: how long they took, what was changed by other hands, what was left behind.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// Seconds: one pass of some calls, a turn behind many, the twenty minutes of a new secret, a weekend.
const BUCKETS: [f64; 10] = [1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 14400.0, 86400.0];

/// What happened to credentials.
#[derive(Debug)]
pub struct CredentialMetrics {
    time_to_ready: Histogram,
    drift: Family<DriftLabels, Counter>,
    orphans: Family<CauseLabels, Counter>,
}

/// How what a destination holds had come to differ from what was written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drift {
    /// It was gone, and is registered anew.
    Vanished,
    /// A request of ours had made it twice; the second one was removed.
    Duplicate,
    /// A listing lacked it although it is there; nothing is created on the word of such a listing.
    Hidden,
    /// A record of the store was changed, and was sealed anew.
    Changed,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct DriftLabels {
    kind: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CauseLabels {
    cause: &'static str,
}

// === impl CredentialMetrics ===

impl CredentialMetrics {
    pub(super) fn registered(registry: &mut Registry) -> Self {
        let metrics = Self {
            time_to_ready: Histogram::new(BUCKETS),
            drift: Family::default(),
            orphans: Family::default(),
        };
        registry.register_with_unit(
            "mgc_credential_time_to_ready",
            "How long a credential had been in the making when it became ready: from its creation, or from when it was last ready",
            Unit::Seconds,
            metrics.time_to_ready.clone(),
        );
        registry.register(
            "mgc_drift",
            "Differences found between a destination and what is written down, by kind: vanished (registered anew), duplicate (removed), hidden (a listing lacked what is there), changed (a record of the store, sealed anew)",
            metrics.drift.clone(),
        );
        // All kinds are there from the start, so that the first of one is seen as a rise.
        for kind in Drift::ALL {
            metrics.drift.get_or_create(&DriftLabels { kind: kind.as_str() }).inc_by(0);
        }
        registry.register(
            "mgc_orphans",
            "Credentials left at a destination although they should have been removed, by cause: suspended, namespace (it could not wait longer), object_gone (deleted while its credential was made)",
            metrics.orphans.clone(),
        );
        for cause in ["suspended", "namespace", "object_gone"] {
            metrics.orphans.get_or_create(&CauseLabels { cause }).inc_by(0);
        }
        metrics
    }

    /// A credential became ready, after having been in the making for so long.
    pub fn became_ready(&self, after: Duration) {
        self.time_to_ready.observe(after.as_secs_f64());
    }

    /// Something differed from what is written down.
    pub fn drifted(&self, kind: Drift) {
        self.drift.get_or_create(&DriftLabels { kind: kind.as_str() }).inc();
    }

    /// A credential was left behind at its destination.
    pub fn orphaned(&self, cause: &'static str) {
        self.orphans.get_or_create(&CauseLabels { cause }).inc();
    }
}

// === impl Drift ===

impl Drift {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Vanished, Self::Duplicate, Self::Hidden, Self::Changed];

    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Vanished => "vanished",
            Self::Duplicate => "duplicate",
            Self::Hidden => "hidden",
            Self::Changed => "changed",
        }
    }
}
