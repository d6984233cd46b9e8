//! The request queues of all accounts.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::config::BaseUrl;
use crate::core::timing::Timing;
use crate::telemetry::metrics::Metrics;
use crate::woodpecker::identity::KeyDigest;
use crate::woodpecker::queue::{AccountQueue, QueueContext, Requester, Waker, WeakAccountQueue};

#[derive(Clone)]
pub struct AccountQueues {
    context: QueueContext,
    open: Arc<Mutex<HashMap<QueueKey, WeakAccountQueue>>>,
}

/// Address, API key, and the company if Woodpecker is known to separate companies.
type QueueKey = (BaseUrl, KeyDigest, Option<i64>);

// === impl AccountQueues ===

impl AccountQueues {
    /// All queues close when `stop` is cancelled.
    pub fn new(timing: &Timing, stop: CancellationToken, metrics: Arc<Metrics>, waker: Waker) -> Self {
        Self { context: QueueContext::new(timing, stop, metrics, waker), open: Arc::default() }
    }

    /// The queue of that address, key and company, created if there is none.
    pub fn queue(&self, base_url: &BaseUrl, digest: KeyDigest, company: Option<i64>) -> AccountQueue {
        let mut queues = self.open.lock();
        let key = (base_url.clone(), digest, company);
        if let Some(queue) = queues.get(&key).and_then(WeakAccountQueue::upgrade) {
            return queue;
        }
        // Dropped queues are removed each time the number has doubled.
        if queues.len().is_power_of_two() {
            queues.retain(|_, queue| queue.upgrade().is_some());
        }
        let queue = AccountQueue::new(self.context.clone());
        queues.insert(key, queue.downgrade());
        queue
    }

    /// Removes a requester from all queues except one.
    pub fn withdraw(&self, requester: &Requester, except: Option<&AccountQueue>) {
        self.context.withdraw(requester, except);
    }
}

impl std::fmt::Debug for AccountQueues {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccountQueues").finish_non_exhaustive()
    }
}
