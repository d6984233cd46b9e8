//! Counts open requests as a client can know them: from the arrival of the request until the last byte of the
//! response is handed over, the double closes the connection, or the client disconnects.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The open requests of one account or service.
#[derive(Debug, Default)]
pub(crate) struct InFlight {
    open: AtomicUsize,
    max: AtomicUsize,
    hanging: AtomicUsize,
    /// How long at least one request was open, and since when one is.
    busy: Mutex<(Duration, Option<Instant>)>,
}

/// One open request; closed when dropped.
#[derive(Debug)]
pub(crate) struct Open(Arc<InFlight>);

/// One request that is delayed on purpose; ends when dropped.
#[derive(Debug)]
pub(crate) struct Hanging(Arc<InFlight>);

// === impl InFlight ===

impl InFlight {
    /// Opens a request; returns how many are open with it. The maximum is recorded only by
    /// [`InFlight::record_max`].
    pub(crate) fn enter(self: &Arc<Self>) -> (Open, usize) {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        busy.1.get_or_insert_with(Instant::now);
        let open = self.open.fetch_add(1, Ordering::SeqCst) + 1;
        (Open(Arc::clone(self)), open)
    }

    /// How long at least one request was open, without the current one.
    pub(crate) fn busy(&self) -> Duration {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    pub(crate) fn record_max(&self, open: usize) {
        self.max.fetch_max(open, Ordering::SeqCst);
    }

    pub(crate) fn now(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    pub(crate) fn max(&self) -> usize {
        self.max.load(Ordering::SeqCst)
    }

    pub(crate) fn hang(self: &Arc<Self>) -> Hanging {
        self.hanging.fetch_add(1, Ordering::SeqCst);
        Hanging(Arc::clone(self))
    }

    /// Whether a request is delayed on purpose. Its client may have given up before the double has noticed.
    pub(crate) fn hangs(&self) -> bool {
        self.hanging.load(Ordering::SeqCst) > 0
    }
}

// === impl Open, Hanging ===

impl Drop for Open {
    fn drop(&mut self) {
        let mut busy = self.0.busy.lock().unwrap_or_else(PoisonError::into_inner);
        if self.0.open.fetch_sub(1, Ordering::SeqCst) == 1
            && let Some(since) = busy.1.take()
        {
            busy.0 += since.elapsed();
        }
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        self.0.hanging.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_maximum_stays_after_the_requests_are_closed() {
        let requests = Arc::new(InFlight::default());
        let (first, first_count) = requests.enter();
        let (second, second_count) = requests.enter();
        assert_eq!((first_count, second_count), (1, 2));

        requests.record_max(second_count);
        let hanging = requests.hang();
        assert!(requests.hangs());
        drop((first, second, hanging));
        assert_eq!((requests.now(), requests.max(), requests.hangs()), (0, 2, false));
        let busy = requests.busy();
        assert!(busy > Duration::ZERO);
        drop(requests.enter());
        assert!(requests.busy() > busy, "later requests add up");
    }
}
