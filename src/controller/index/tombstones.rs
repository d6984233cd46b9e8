//! Uids of deleted objects, so that a late write response or watch event does not bring them back.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::controller::index::table::Moment;

/// Longer than any reconcile, and than any watch lags behind.
const REMEMBERED_FOR: Duration = Duration::from_hours(1);

/// Uids of deleted objects, and when the deletion became known.
#[derive(Debug, Default)]
pub struct Tombstones {
    since: HashMap<Arc<str>, Moment>,
    /// The same by time, oldest first.
    order: VecDeque<(Instant, Arc<str>)>,
}

// === impl Tombstones ===

impl Tombstones {
    pub fn insert(&mut self, uid: Arc<str>, at: Moment) {
        while self.order.front().is_some_and(|(since, _)| since.elapsed() >= REMEMBERED_FOR) {
            if let Some((_, uid)) = self.order.pop_front() {
                self.since.remove(&uid);
            }
        }
        self.order.push_back((Instant::now(), uid.clone()));
        self.since.insert(uid, at);
    }

    /// Forgets the deletion of an object that exists after all.
    pub fn forget(&mut self, uid: &str) {
        self.since.remove(uid);
    }

    pub fn since(&self, uid: &str) -> Option<Moment> {
        self.since.get(uid).copied()
    }
}
