//! Limits how many reconciles wait for Microsoft Graph at the same time. If Graph does not respond, everything else
//! continues.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::api::NamespacedName;
use crate::controller::queue::QueueSender;

#[derive(Clone, Debug)]
pub struct GraphSlots {
    permits: Arc<Semaphore>,
    /// Objects that found no free slot, in the order of their attempts.
    waiting: Arc<Mutex<VecDeque<NamespacedName>>>,
    sender: QueueSender,
}

/// Held during requests to Graph.
#[derive(Debug)]
pub struct GraphPermit {
    permit: Option<OwnedSemaphorePermit>,
    slots: GraphSlots,
}

// === impl GraphSlots ===

impl GraphSlots {
    /// An eighth of the concurrent reconciles, and at least one.
    pub fn new(max_concurrent: usize, sender: QueueSender) -> Self {
        let permits = (max_concurrent / 8).max(1);
        Self { permits: Arc::new(Semaphore::new(permits)), waiting: Arc::default(), sender }
    }

    /// A permit to send requests to Graph. If `None`, the object is enqueued when a slot is free.
    pub fn acquire(&self, object: &NamespacedName) -> Option<GraphPermit> {
        // Locked, so that no permit is released between the attempt and the entry in the list.
        let mut waiting = self.waiting.lock();
        if let Ok(permit) = self.permits.clone().try_acquire_owned() {
            waiting.retain(|it| it != object);
            return Some(GraphPermit { permit: Some(permit), slots: self.clone() });
        }
        if !waiting.contains(object) {
            waiting.push_back(object.clone());
        }
        None
    }
}

impl Drop for GraphPermit {
    fn drop(&mut self) {
        let mut waiting = self.slots.waiting.lock();
        self.permit = None;
        if let Some(next) = waiting.pop_front() {
            self.slots.sender.enqueue(next);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> NamespacedName {
        NamespacedName { namespace: "mail".into(), name: name.into() }
    }

    fn waiting(slots: &GraphSlots) -> Vec<String> {
        slots.waiting.lock().iter().map(|it| it.name.clone()).collect()
    }

    #[tokio::test]
    async fn objects_without_a_slot_are_enqueued_one_by_one_as_slots_become_free() {
        let slots = GraphSlots::new(16, QueueSender::default());
        let first = slots.acquire(&named("a")).unwrap();
        let second = slots.acquire(&named("b")).unwrap();
        for name in ["c", "d", "c"] {
            assert!(slots.acquire(&named(name)).is_none());
        }
        assert_eq!(waiting(&slots), ["c", "d"]);
        drop(first);
        assert_eq!(waiting(&slots), ["d"], "c is enqueued");
        let _third = slots.acquire(&named("d")).unwrap();
        assert!(waiting(&slots).is_empty());
        assert!(slots.acquire(&named("c")).is_none());
        drop(second);
        assert!(slots.acquire(&named("c")).is_some());
    }

    #[tokio::test]
    async fn there_is_always_a_slot() {
        let slots = GraphSlots::new(1, QueueSender::default());
        assert!(slots.acquire(&named("a")).is_some());
    }
}
