//! The state of a queue: its wait list, reserved permits and pauses.

use crate::core::failure::QueueError;
use crate::core::request_priority::RequestPriority;
use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::telemetry::metrics::Metrics;
use crate::woodpecker::queue::wait_list::{Requester, WaitList, Waiter};

/// Fewest permits that are out at a time: one for the request in flight, one for the next that is prepared.
const MIN_PERMITS: usize = 2;

/// Most permits that are out at a time, if requests get a response in less time than it takes to prepare one.
const MAX_PERMITS: usize = 16;

/// How often a requester may leave its permit unused before it is removed from the wait list.
pub(super) const MAX_EXPIRATIONS: u32 = 3;

/// Failures in a row after which a queue pauses.
pub(super) const FAILURE_THRESHOLD: u32 = 5;

#[derive(Default)]
pub(super) struct State {
    pub(super) queue: WaitList,
    /// Permits granted or reserved.
    pub(super) permits_out: usize,
    /// Permits allowed beyond [`MIN_PERMITS`].
    pub(super) extra_permits: usize,
    /// Permits that wait for the request slot.
    pub(super) ready: usize,
    /// Those of them that are more urgent than a listing of mailboxes.
    pub(super) urgent_ready: usize,
    /// Permits reserved for requesters that have been woken.
    pub(super) reserved: HashMap<Requester, Reservation>,
    pub(super) reservations: u64,
    pub(super) pause: Option<Pause>,
    pub(super) failures: u32,
    pub(super) throttles: u32,
    /// Requests that got a response.
    pub(super) responses: u64,
    /// The depths last reported to the metrics, by priority.
    reported: [i64; RequestPriority::ALL.len()],
}

/// A permit that its requester has yet to use.
pub(super) struct Reservation {
    pub(super) number: u64,
    pub(super) waiter: Waiter,
    pub(super) at: Instant,
}

/// Until when, and why, no request is sent.
#[derive(Clone, Copy)]
pub(super) struct Pause {
    pub(super) until: Instant,
    pub(super) reason: QueueError,
}

// === impl State ===

impl State {
    /// How many permits may be out. After failures in a row, one request at a time probes whether Woodpecker is back.
    pub(super) fn capacity(&self) -> usize {
        if self.failures >= FAILURE_THRESHOLD { 1 } else { MIN_PERMITS + self.extra_permits }
    }

    /// Adapts the number of permits after a request. One more is allowed if no request was ready to follow, and fewer
    /// if several were, because an urgent request would have to wait for them.
    pub(super) fn adapt(&mut self) {
        match self.ready {
            0 if !self.queue.is_empty() => {
                self.extra_permits = (self.extra_permits + 1).min(MAX_PERMITS - MIN_PERMITS);
            }
            0..=2 => {}
            ready => self.extra_permits = self.extra_permits.saturating_sub((ready - 1) / 2),
        }
    }

    /// Takes back a permit that its requester has not used for a while. The requester rejoins the wait list.
    pub(super) fn take_back_overdue(&mut self, now: Instant, overdue: Duration) {
        let is_late = |reserved: &Reservation| now - reserved.at > overdue;
        let late = self
            .reserved
            .iter()
            .find(|(_, reserved)| is_late(reserved))
            .map(|(requester, _)| requester.clone());
        let Some(reserved) = late.and_then(|requester| self.reserved.remove(&requester)) else { return };
        self.permits_out = self.permits_out.saturating_sub(1);
        // It is still woken: it requests a permit again if it was removed from the wait list.
        let expirations = reserved.waiter.expirations + 1;
        if expirations <= MAX_EXPIRATIONS {
            self.queue.put_back(reserved.waiter, expirations);
        }
    }

    /// Adds the change of the depth of each priority to the metrics.
    pub(super) fn report_depths(
        &mut self,
        metrics: &Metrics,
        depth: impl Fn(&WaitList, RequestPriority) -> usize,
    ) {
        for (priority, reported) in RequestPriority::ALL.into_iter().zip(&mut self.reported) {
            let now = i64::try_from(depth(&self.queue, priority)).unwrap_or(i64::MAX);
            if now != *reported {
                metrics.account_queues.add_waiting(priority.as_str(), now - *reported);
                *reported = now;
            }
        }
    }
}
