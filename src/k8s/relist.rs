//! Tells all watches of the process to list again. Resource versions only grow, unless etcd was restored from a backup:
//! then a watch waits at a version from the future, and shows nothing until the versions have caught up with it.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch::Sender;

/// Tells all watches of the process to list again.
#[derive(Clone, Debug, Default)]
pub struct Relist(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// How often everything was to be listed again.
    rounds: Sender<u64>,
    /// The newest version seen of objects that are read again and again.
    newest: Mutex<HashMap<&'static str, u64>>,
}

// === impl Relist ===

impl Relist {
    /// Has every watch list again. Returns the number of the round that begins.
    pub fn raise(&self, seen: &str) -> u64 {
        tracing::warn!(
            seen,
            "resource versions went back, as after a restore of etcd: everything is listed again"
        );
        self.0.rounds.send_modify(|round| *round += 1);
        self.round()
    }

    /// The present round. What was listed in an earlier one must be listed again.
    pub fn round(&self) -> u64 {
        *self.0.rounds.borrow()
    }

    /// Returns once that round is over.
    pub async fn is_after(&self, round: u64) {
        let mut rounds = self.0.rounds.subscribe();
        // The sender lives as long as this.
        let _sent = rounds.wait_for(|now| *now != round).await;
    }

    /// An object had that version when it was read by GET or written. The calls about one object must come in the order
    /// of its requests.
    pub fn saw(&self, object: &'static str, version: Option<&str>) {
        let Some(version) = number(version) else { return };
        let mut newest = self.0.newest.lock();
        if newest.insert(object, version).is_some_and(|before| version < before) {
            self.raise(object);
        }
    }
}

/// A version as what it is at every API server: a number that grows. Nothing where it is none.
pub(super) fn number(version: Option<&str>) -> Option<u64> {
    version?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_a_version_that_went_back_begins_a_round() {
        let relist = Relist::default();
        for version in [Some("7"), Some("9"), Some("9"), None, Some("none")] {
            relist.saw("lease", version);
        }
        relist.saw("another", Some("3"));
        assert_eq!(relist.round(), 0);
        relist.saw("lease", Some("8"));
        assert_eq!(relist.round(), 1);
        relist.is_after(0).await;
        relist.saw("lease", Some("8"));
        assert_eq!(relist.round(), 1, "it is told once");
    }
}
