//! The request queue of a Woodpecker account: one request at a time, the most urgent one first.
//!
//! Woodpecker processes one request of an account at a time, queues six and drops the rest with 429. An object needs a
//! permit to send requests. Two permits are out at a time: one for the request in flight, one for an object that
//! prepares the next. More are out if requests are answered faster than the next one is prepared. An object without a
//! permit stays in the wait list, holds nothing, and is woken when a permit is reserved for it.
//!
//! A queue belongs to a base URL and an API key. Accounts that differ only in the company id share one until Woodpecker
//! is known to separate its companies, because it does not document that these endpoints do.

mod permit;
mod state;
mod wait_list;

use crate::core::failure::QueueError;
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Mutex as AsyncMutex, Notify};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use self::permit::{Permit, RequestSlot};
use self::state::{FAILURE_THRESHOLD, MAX_EXPIRATIONS, Pause, Reservation, State};
pub use self::wait_list::{QueueEntry, Requester, RequesterKind};
use self::wait_list::{WaitList, Waiter};
use crate::core::backoff::doubled;
use crate::core::timing::Timing;
use crate::k8s::jitter::jittered;
use crate::telemetry::metrics::{Metrics, QueueSeries};

/// What a response means for the requests that follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseSignal {
    /// Woodpecker responded.
    Responded,
    /// Woodpecker asks to slow down, with its `Retry-After` if it sent one.
    Throttled(Option<Duration>),
    /// Woodpecker failed or is unreachable; with the `Retry-After` of a 503.
    Failed(Option<Duration>),
}

/// Requeues an object for which a permit is reserved.
pub type Waker = Arc<dyn Fn(&Requester) + Send + Sync>;

/// What all queues share.
#[derive(Clone)]
pub(super) struct QueueContext {
    pause: Duration,
    longest_pause: Duration,
    aging: Duration,
    reservation: Duration,
    overdue: Duration,
    stop: CancellationToken,
    metrics: Arc<Metrics>,
    waker: Waker,
    pending: PendingRequests,
}

/// The queues in which each requester may still be waiting or have a permit reserved.
#[derive(Clone, Default)]
pub(super) struct PendingRequests(Arc<Mutex<HashMap<Requester, Vec<WeakAccountQueue>>>>);

/// The request queue of one account. Clones are the same queue.
#[derive(Clone)]
pub struct AccountQueue(Arc<Shared>);

/// A queue that is dropped with its last [`AccountQueue`].
#[derive(Clone)]
pub(super) struct WeakAccountQueue(Weak<Shared>);

struct Shared {
    context: QueueContext,
    slot: Arc<AsyncMutex<()>>,
    state: Mutex<State>,
    /// Notified when a request begins to wait for a permit or for the slot.
    demand: Notify,
}

// === impl QueueContext ===

impl QueueContext {
    /// All queues close when `stop` is cancelled.
    pub(super) fn new(timing: &Timing, stop: CancellationToken, metrics: Arc<Metrics>, waker: Waker) -> Self {
        Self {
            pause: timing.throttle_pause,
            longest_pause: timing.queue_longest_pause,
            aging: timing.queue_aging,
            reservation: timing.permit_reservation,
            overdue: timing.permit_overdue,
            stop,
            metrics,
            waker,
            pending: PendingRequests::default(),
        }
    }

    /// `Retry-After` counts up to this bound.
    fn bounded(&self, retry_after: Duration) -> Duration {
        retry_after.min(self.longest_pause * 12)
    }

    /// Removes a requester from all queues except one.
    pub(super) fn withdraw(&self, requester: &Requester, except: Option<&AccountQueue>) {
        let left = self.pending.remove(requester, except);
        left.iter().filter_map(WeakAccountQueue::upgrade).for_each(|queue| queue.withdraw(requester));
    }
}

// === impl PendingRequests ===

impl PendingRequests {
    fn add(&self, requester: &Requester, queue: &AccountQueue) {
        let mut pending = self.lock();
        let queues = pending.entry(requester.clone()).or_default();
        if !queues.iter().any(|known| known.is(queue)) {
            queues.push(queue.downgrade());
        }
    }

    /// Forgets the queues of a requester except one, and returns them.
    fn remove(&self, requester: &Requester, except: Option<&AccountQueue>) -> Vec<WeakAccountQueue> {
        let mut pending = self.lock();
        let Some(queues) = pending.remove(requester) else { return Vec::new() };
        let is_kept = |queue: &WeakAccountQueue| except.is_some_and(|except| queue.is(except));
        let (kept, left): (Vec<_>, Vec<_>) = queues.into_iter().partition(is_kept);
        if !kept.is_empty() {
            pending.insert(requester.clone(), kept);
        }
        left
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Requester, Vec<WeakAccountQueue>>> {
        self.0.lock()
    }
}

// === impl WeakAccountQueue ===

impl WeakAccountQueue {
    pub(super) fn upgrade(&self) -> Option<AccountQueue> {
        self.0.upgrade().map(AccountQueue)
    }

    fn is(&self, queue: &AccountQueue) -> bool {
        std::ptr::eq(self.0.as_ptr(), Arc::as_ptr(&queue.0))
    }
}

// === impl AccountQueue ===

impl AccountQueue {
    pub(super) fn new(context: QueueContext) -> Self {
        let (slot, state, demand) = (Arc::default(), Mutex::default(), Notify::new());
        Self(Arc::new(Shared { context, slot, state, demand }))
    }

    pub(super) fn downgrade(&self) -> WeakAccountQueue {
        WeakAccountQueue(Arc::downgrade(&self.0))
    }

    /// Returns a permit if one is free and nothing more urgent waits. Otherwise the requester joins the wait list and
    /// is woken when a permit is reserved for it.
    pub fn request_permit(&self, entry: &QueueEntry) -> Result<Permit, QueueError> {
        if self.0.context.stop.is_cancelled() {
            return Err(QueueError::Ending);
        }
        let now = Instant::now();
        self.0.context.pending.add(&entry.requester, self);
        let mut state = self.state();
        if let Some(reserved) = state.reserved.remove(&entry.requester) {
            let waiter = Waiter { entry: entry.clone(), ..reserved.waiter };
            return Ok(Permit { queue: self.clone(), waiter });
        }
        let aging = self.0.context.aging;
        let pause = state.pause.filter(|pause| now < pause.until);
        state.queue.put(entry.clone(), now);
        let may_have_one =
            pause.is_none() && (state.permits_out < state.capacity() || !state.reserved.is_empty());
        let is_next = may_have_one && state.queue.is_next(&entry.requester, now, aging);
        if is_next && state.permits_out >= state.capacity() {
            state.take_back_overdue(now, self.0.context.overdue);
        }
        if is_next
            && state.permits_out < state.capacity()
            && let Some(waiter) = state.queue.take_out(&entry.requester)
        {
            state.permits_out += 1;
            state.queue.record_permit(&waiter.entry);
            self.0.context.metrics.account_queues.permit_granted(now - waiter.since);
            self.report_depth(&mut state);
            return Ok(Permit { queue: self.clone(), waiter });
        }
        // A permit that was taken back goes to the next in the wait list.
        self.assign_permits(&mut state);
        self.report_depth(&mut state);
        self.0.demand.notify_waiters();
        Err(pause.map_or(QueueError::Queued, |pause| pause.reason))
    }

    /// Removes a requester from the wait list and frees a permit reserved for it.
    fn withdraw(&self, requester: &Requester) {
        let mut state = self.state();
        let was_waiting = state.queue.take_out(requester).is_some();
        let had_permit = state.reserved.remove(requester).is_some();
        if had_permit {
            state.permits_out = state.permits_out.saturating_sub(1);
            self.assign_permits(&mut state);
        }
        if was_waiting || had_permit {
            self.report_depth(&mut state);
        }
    }

    /// Pauses or resumes the queue according to a response.
    pub fn record_response(&self, signal: ResponseSignal) {
        let now = Instant::now();
        let context = &self.0.context;
        let mut state = self.state();
        let pause = match signal {
            ResponseSignal::Responded => {
                (state.failures, state.throttles) = (0, 0);
                state.responses += 1;
                None
            }
            ResponseSignal::Throttled(retry_after) => {
                state.throttles = state.throttles.saturating_add(1);
                let own = jittered(doubled(context.pause, state.throttles).min(context.longest_pause));
                // The lower bound of `Retry-After` grows with each 429 in a row.
                let least = if state.throttles > 1 { own } else { context.pause / 15 };
                let requested = retry_after.map(|wait| context.bounded(wait.max(least)));
                Some((requested.unwrap_or(own), QueueError::Paused))
            }
            ResponseSignal::Failed(retry_after) => {
                state.failures = state.failures.saturating_add(1);
                let beyond = state.failures.saturating_sub(FAILURE_THRESHOLD);
                let own = (state.failures >= FAILURE_THRESHOLD)
                    .then(|| jittered(doubled(context.pause, beyond + 1).min(context.longest_pause)));
                let requested = retry_after.map(|wait| context.bounded(wait));
                requested.max(own).map(|long| (long, QueueError::Failing))
            }
        };
        let Some((long, reason)) = pause else {
            self.assign_permits(&mut state);
            return;
        };
        let until = now + long;
        // A longer pause that already runs continues.
        if state.pause.is_none_or(|pause| pause.until < until) {
            state.pause = Some(Pause { until, reason });
        }
        drop(state);
        self.schedule(long, |queue| queue.assign_permits(&mut queue.state()));
    }

    /// The state of the queue for metrics.
    pub fn series(&self) -> QueueSeries {
        let state = self.state();
        state.queue.series(Instant::now(), state.responses)
    }

    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Reserves free permits for the next in the wait list and wakes them.
    fn assign_permits(&self, state: &mut State) {
        let now = Instant::now();
        if state.pause.is_some_and(|pause| now < pause.until) || self.0.context.stop.is_cancelled() {
            return;
        }
        while state.permits_out < state.capacity() {
            let Some(waiter) = state.queue.pop(now, self.0.context.aging) else { break };
            self.0.context.metrics.account_queues.permit_granted(now - waiter.since);
            state.permits_out += 1;
            self.reserve(state, waiter, now);
        }
        self.report_depth(state);
    }

    /// Reserves a permit for a waiter and wakes it.
    fn reserve(&self, state: &mut State, waiter: Waiter, now: Instant) {
        state.reservations += 1;
        let number = state.reservations;
        let requester = waiter.entry.requester.clone();
        state.reserved.insert(requester.clone(), Reservation { number, waiter, at: now });
        (self.0.context.waker)(&requester);
        self.schedule(self.0.context.reservation, move |queue| queue.expire_reservation(&requester, number));
    }

    /// A requester that did not use its reserved permit keeps its age in the wait list, and is removed after several times.
    fn expire_reservation(&self, requester: &Requester, number: u64) {
        let mut state = self.state();
        let is_it = |reserved: &Reservation| reserved.number == number;
        let Some(reserved) = state.reserved.get(requester).filter(|reserved| is_it(reserved)) else { return };
        tracing::debug!(
            ?requester,
            expirations = reserved.waiter.expirations,
            "a reserved permit was not used"
        );
        let Some(reserved) = state.reserved.remove(requester) else { return };
        state.permits_out = state.permits_out.saturating_sub(1);
        let expirations = reserved.waiter.expirations + 1;
        if expirations <= MAX_EXPIRATIONS {
            state.queue.put_back(reserved.waiter, expirations);
        }
        self.assign_permits(&mut state);
    }

    fn schedule(&self, after: Duration, then: impl FnOnce(&Self) + Send + 'static) {
        let queue = Arc::downgrade(&self.0);
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            if let Some(queue) = queue.upgrade() {
                then(&Self(queue));
            }
        });
    }

    fn report_depth(&self, state: &mut State) {
        state.report_depths(&self.0.context.metrics, WaitList::depth);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock()
    }
}

impl std::fmt::Debug for AccountQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccountQueue").finish_non_exhaustive()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let state = self.state.get_mut();
        state.report_depths(&self.context.metrics, |_, _| 0);
    }
}

#[cfg(test)]
mod tests;
