//! Makes all watches of the process list again after resource versions went back.
//!
//! Resource versions only grow, unless etcd was restored from a backup. A watch that starts at a later version than the
//! current one delivers nothing until the versions have caught up.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch::Sender;

/// Makes all watches of the process list again. Clones share the state.
#[derive(Clone, Debug, Default)]
pub struct Relist(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// How often everything had to be listed again.
    rounds: Sender<u64>,
    /// The last version seen of objects that are read repeatedly.
    newest: Mutex<HashMap<&'static str, u64>>,
}

// === impl Relist ===

impl Relist {
    /// Makes every watch list again. Returns the number of the new round.
    pub fn trigger(&self, seen: &str) -> u64 {
        tracing::warn!(
            seen,
            "resource versions went back, as after a restore of etcd: everything is listed again"
        );
        self.0.rounds.send_modify(|round| *round += 1);
        self.round()
    }

    /// The current round. Lists from an earlier one must be repeated.
    pub fn round(&self) -> u64 {
        *self.0.rounds.borrow()
    }

    /// Returns when that round has ended.
    pub async fn round_ended(&self, round: u64) {
        let mut rounds = self.0.rounds.subscribe();
        // The sender lives as long as `self`.
        let _sent = rounds.wait_for(|now| *now != round).await;
    }

    /// Records the version of an object that was read by GET or written. The calls for one object must be in the order
    /// of its requests.
    pub fn observe(&self, object: &'static str, version: Option<&str>) {
        let Some(version) = number(version) else { return };
        let mut newest = self.0.newest.lock();
        if newest.insert(object, version).is_some_and(|before| version < before) {
            self.trigger(object);
        }
    }
}

/// A resource version as the growing number that it is at every API server; `None` if it is not a number.
pub(super) fn number(version: Option<&str>) -> Option<u64> {
    version?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_a_version_that_went_back_starts_a_round() {
        let relist = Relist::default();
        for version in [Some("7"), Some("9"), Some("9"), None, Some("none")] {
            relist.observe("lease", version);
        }
        relist.observe("another", Some("3"));
        assert_eq!(relist.round(), 0);
        relist.observe("lease", Some("8"));
        assert_eq!(relist.round(), 1);
        relist.round_ended(0).await;
        relist.observe("lease", Some("8"));
        assert_eq!(relist.round(), 1, "one round for one restore");
    }
}
