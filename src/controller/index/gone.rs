//! Objects that are gone for good: what a write or a watch still says of them comes too late.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::table::Moment;

/// Longer than any reconcile, and than any watch lags behind.
const REMEMBERED_FOR: Duration = Duration::from_hours(1);

/// Uids of objects that are gone, and when that became known.
#[derive(Debug, Default)]
pub struct Gone {
    since: HashMap<Arc<str>, Moment>,
    /// The same by time, oldest first.
    order: VecDeque<(Instant, Arc<str>)>,
}

// === impl Gone ===

impl Gone {
    pub fn bury(&mut self, uid: Arc<str>, at: Moment) {
        while self.order.front().is_some_and(|(since, _)| since.elapsed() >= REMEMBERED_FOR) {
            if let Some((_, uid)) = self.order.pop_front() {
                self.since.remove(&uid);
            }
        }
        self.order.push_back((Instant::now(), uid.clone()));
        self.since.insert(uid, at);
    }

    /// An object is there after all.
    pub fn resurrect(&mut self, uid: &str) {
        self.since.remove(uid);
    }

    /// When the object became known to be gone.
    pub fn since(&self, uid: &str) -> Option<Moment> {
        self.since.get(uid).copied()
    }
}
