//! Permits to send requests to an account, and the slot for one request.

use crate::core::failure::QueueError;
use crate::core::request_priority::RequestPriority;
use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;

use crate::woodpecker::queue::AccountQueue;
use crate::woodpecker::queue::wait_list::Waiter;

/// Permission to send requests to an account one after the other. Dropping it frees the permit.
pub struct Permit {
    pub(super) queue: AccountQueue,
    /// The entry that it was granted for. The requester keeps its age if it has to wait again.
    pub(super) waiter: Waiter,
}

/// The only request slot of a queue. Dropping it lets the next request begin.
#[derive(Debug)]
pub struct RequestSlot {
    _guard: OwnedMutexGuard<()>,
    queue: AccountQueue,
}

/// Counts a permit that is ready and waits for the slot.
struct Ready<'a> {
    queue: &'a AccountQueue,
    is_urgent: bool,
}

// === impl Permit ===

impl Permit {
    /// Waits for the request slot, which the request in flight holds.
    pub async fn slot(&self) -> Result<RequestSlot, QueueError> {
        let stop = &self.queue.0.context.stop;
        let slot = self.queue.0.slot.clone().lock_owned();
        let ready = Ready::count(&self.queue, self.waiter.entry.priority);
        let guard = stop.run_until_cancelled(slot).await.ok_or(QueueError::Ending)?;
        drop(ready);
        if stop.is_cancelled() {
            return Err(QueueError::Ending);
        }
        let mut state = self.queue.state();
        if let Some(pause) = state.pause.filter(|pause| Instant::now() < pause.until) {
            state.queue.put_back(self.waiter.clone(), 0);
            return Err(pause.reason);
        }
        drop(state);
        self.queue.0.context.metrics.account_queues.add_in_flight(1);
        Ok(RequestSlot { _guard: guard, queue: self.queue.clone() })
    }

    pub fn set_priority(&mut self, priority: RequestPriority) {
        self.waiter.entry.priority = priority;
    }

    /// Whether something more urgent waits, so the next request should too.
    pub fn should_yield(&self) -> bool {
        let aging = self.queue.0.context.aging;
        self.queue.state().queue.has_more_urgent(&self.waiter, Instant::now(), aging)
    }

    /// Waits until a more urgent request waits for a permit, or for the slot while this one is a listing of mailboxes.
    pub async fn outranked(&self) {
        loop {
            let demand = self.queue.0.demand.notified();
            let is_slot_wanted = self.queue.state().urgent_ready > 0;
            if is_slot_wanted || self.should_yield() {
                return;
            }
            demand.await;
        }
    }

    /// Returns the permit and rejoins the wait list, to be woken again.
    pub fn yield_now(self) -> QueueError {
        self.queue.state().queue.put_back(self.waiter.clone(), 0);
        QueueError::Queued
    }

    /// Rejoins the wait list while the queue is paused, to be woken after the pause. Returns why it is paused.
    pub fn wait_for_pause(self) -> Option<(AccountQueue, QueueError)> {
        let queue = self.queue.clone();
        let mut state = queue.state();
        let pause = state.pause.filter(|pause| Instant::now() < pause.until)?;
        state.queue.put_back(self.waiter.clone(), 0);
        drop(state);
        Some((queue, pause.reason))
    }

    pub fn is_of(&self, queue: &AccountQueue) -> bool {
        self.queue.is(queue)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.queue.state();
        state.permits_out = state.permits_out.saturating_sub(1);
        self.queue.assign_permits(&mut state);
    }
}

impl std::fmt::Debug for Permit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Permit").field("entry", &self.waiter.entry).finish_non_exhaustive()
    }
}

// === impl RequestSlot ===

impl Drop for RequestSlot {
    fn drop(&mut self) {
        self.queue.0.context.metrics.account_queues.add_in_flight(-1);
        let mut state = self.queue.state();
        state.adapt();
        self.queue.assign_permits(&mut state);
    }
}

// === impl Ready ===

impl<'a> Ready<'a> {
    fn count(queue: &'a AccountQueue, priority: RequestPriority) -> Self {
        let is_urgent = priority < RequestPriority::Mailboxes;
        let mut state = queue.state();
        state.ready += 1;
        state.urgent_ready += usize::from(is_urgent);
        drop(state);
        queue.0.demand.notify_waiters();
        Self { queue, is_urgent }
    }
}

impl Drop for Ready<'_> {
    fn drop(&mut self) {
        let mut state = self.queue.state();
        state.ready = state.ready.saturating_sub(1);
        state.urgent_ready = state.urgent_ready.saturating_sub(usize::from(self.is_urgent));
    }
}
