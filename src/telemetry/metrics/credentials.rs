//! What happened to credentials: how long they took, what was changed by other hands, what was left behind.

use std::time::Duration;

use super::{Counters, Histogram, Registry, Unit, add};

/// Seconds: one pass of some calls, a turn behind many, the twenty minutes of a new secret, a weekend.
const BUCKETS: [f64; 10] = [1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 14400.0, 86400.0];

metrics! {
    /// What happened to credentials.
    CredentialMetrics {
        time_to_ready: Histogram = "mgc_credential_time_to_ready",
            "How long a credential had been in the making when it became ready: from its creation, or from when it was last ready",
            Histogram::new(BUCKETS);
        drift: Counters<1> = "mgc_drift",
            "Differences found between a destination and what is written down, by kind: vanished (registered anew), duplicate (removed), hidden (a listing lacked what is there), changed (a record of the store, sealed anew)";
        orphans: Counters<1> = "mgc_orphans",
            "Credentials left at a destination although they should have been removed, by cause: suspended, namespace (it could not wait longer), object_gone (deleted while its credential was made)";
    }
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

// === impl CredentialMetrics ===

impl CredentialMetrics {
    /// Shows every kind and cause.
    pub(super) fn begin(&self) {
        for kind in Drift::ALL {
            self.drift.get_or_create(&[("kind", kind.as_str())]).inc_by(0);
        }
        for cause in ["suspended", "namespace", "object_gone"] {
            self.orphans.get_or_create(&[("cause", cause)]).inc_by(0);
        }
    }

    /// A credential became ready, after having been in the making for so long.
    pub fn became_ready(&self, after: Duration) {
        self.time_to_ready.observe(after.as_secs_f64());
    }

    /// Something differed from what is written down.
    pub fn drifted(&self, kind: Drift) {
        self.drift.get_or_create(&[("kind", kind.as_str())]).inc();
    }

    /// A credential was left behind at its destination.
    pub fn orphaned(&self, cause: &'static str) {
        self.orphans.get_or_create(&[("cause", cause)]).inc();
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
