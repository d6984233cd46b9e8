//! The lanes of all accounts: which requests go one after the other.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::identity::KeyDigest;
use super::lane::{Call, Lane, Owner, Rules, WeakLane};
use crate::settings::{BaseUrl, Timing};
use crate::telemetry::metrics::Metrics;

pub struct Lanes {
    rules: Rules,
    open: Mutex<HashMap<LaneKey, WeakLane>>,
}

/// Address, key, and the company where companies are told apart.
type LaneKey = (BaseUrl, KeyDigest, Option<i64>);

// === impl Lanes ===

impl Lanes {
    /// No lane yet. All of them close when `stop` is cancelled; `call` wakes the owner of a ticket.
    pub fn new(timing: &Timing, stop: CancellationToken, metrics: Arc<Metrics>, call: Call) -> Self {
        Self { rules: Rules::new(timing, stop, metrics, call), open: Mutex::default() }
    }

    /// The lane of that address, key and company, made where there is none.
    pub fn lane(&self, base_url: &BaseUrl, digest: KeyDigest, company: Option<i64>) -> Lane {
        let mut lanes = self.open.lock();
        let key = (base_url.clone(), digest, company);
        if let Some(lane) = lanes.get(&key).and_then(WeakLane::upgrade) {
            return lane;
        }
        // Those that are gone are looked for each time when there are twice as many.
        if lanes.len().is_power_of_two() {
            lanes.retain(|_, lane| lane.upgrade().is_some());
        }
        let lane = Lane::new(self.rules.clone());
        lanes.insert(key, lane.downgrade());
        lane
    }

    /// Takes an owner's tickets back in all lanes but the one in which it waits.
    pub fn withdraw(&self, owner: &Owner, waits_in: Option<&Lane>) {
        self.rules.withdraw(owner, waits_in);
    }
}

impl std::fmt::Debug for Lanes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lanes").finish_non_exhaustive()
    }
}
