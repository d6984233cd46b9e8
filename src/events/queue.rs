//! Events that wait to be published: one for each object and reason, warnings first.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, Semaphore};

/// Values that wait, each under a key; clones of a key wait once.
#[derive(Debug)]
pub struct Queue<K, V> {
    state: Mutex<State<K, V>>,
    /// Room for further keys.
    room: Semaphore,
    /// Something waits, or is done.
    changed: Notify,
}

#[derive(Debug)]
struct State<K, V> {
    urgent: VecDeque<K>,
    others: VecDeque<K>,
    waiting: HashMap<K, V>,
    in_flight: usize,
}

// === impl Queue ===

impl<K: Clone + Eq + Hash, V> Queue<K, V> {
    /// An empty queue with room for so many keys.
    pub fn new(capacity: usize) -> Self {
        let (urgent, others) = (VecDeque::new(), VecDeque::new());
        let state = State { urgent, others, waiting: HashMap::new(), in_flight: 0 };
        Self { state: Mutex::new(state), room: Semaphore::new(capacity), changed: Notify::new() }
    }

    /// Puts a value in, in place of one that waits under the same key. Waits where the queue is full.
    pub async fn put(&self, key: K, value: V, is_urgent: bool) {
        if let Some(waiting) = self.lock().waiting.get_mut(&key) {
            *waiting = value;
            return;
        }
        // The semaphore is never closed.
        if let Ok(permit) = self.room.acquire().await {
            permit.forget();
        }
        let mut state = self.lock();
        if state.waiting.insert(key.clone(), value).is_some() {
            // Another one came in while this one waited for room.
            self.room.add_permits(1);
            return;
        }
        let State { urgent, others, .. } = &mut *state;
        let line = if is_urgent { urgent } else { others };
        line.push_back(key);
        drop(state);
        self.changed.notify_waiters();
    }

    /// The next value, once there is one. It counts as in flight until [`Queue::done`].
    pub async fn next(&self) -> V {
        loop {
            // Before the look: what comes in between the two is not missed.
            let changed = self.changed.notified();
            if let Some(value) = self.take() {
                return value;
            }
            changed.await;
        }
    }

    /// A value that was taken out has been dealt with.
    pub fn done(&self) {
        self.lock().in_flight -= 1;
        self.changed.notify_waiters();
    }

    /// Returns once nothing waits and nothing is in flight.
    pub async fn drained(&self) {
        loop {
            let changed = self.changed.notified();
            if self.is_drained() {
                return;
            }
            changed.await;
        }
    }

    fn is_drained(&self) -> bool {
        let state = self.lock();
        state.waiting.is_empty() && state.in_flight == 0
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.lock().waiting.len()
    }

    fn take(&self) -> Option<V> {
        let mut state = self.lock();
        let key = state.urgent.pop_front().or_else(|| state.others.pop_front())?;
        let value = state.waiting.remove(&key)?;
        state.in_flight += 1;
        drop(state);
        self.room.add_permits(1);
        Some(value)
    }

    fn lock(&self) -> MutexGuard<'_, State<K, V>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn warnings_come_first_and_one_of_each_key() {
        let queue = Queue::new(10);
        queue.put("a", 1, false).await;
        queue.put("b", 2, true).await;
        queue.put("a", 3, false).await;
        assert_eq!((queue.next().await, queue.next().await), (2, 3));
        assert_eq!(queue.next().now_or_never(), None);
    }

    #[tokio::test]
    async fn a_full_queue_makes_wait_and_takes_a_newer_value_for_what_waits() {
        let queue = Queue::new(1);
        queue.put("a", 1, false).await;
        queue.put("a", 2, false).await;
        let mut waiting = Box::pin(queue.put("b", 3, false));
        assert!(waiting.as_mut().now_or_never().is_none());
        assert_eq!(queue.next().await, 2);
        waiting.await;
        assert_eq!(queue.next().await, 3);
    }

    #[tokio::test]
    async fn it_is_drained_once_everything_is_done() {
        let queue = Queue::new(10);
        assert!(queue.drained().now_or_never().is_some());
        queue.put("a", 1, false).await;
        assert_eq!(queue.next().await, 1);
        assert!(queue.drained().now_or_never().is_none(), "it is in flight");
        queue.done();
        assert!(queue.drained().now_or_never().is_some());
    }
}
