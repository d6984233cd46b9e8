//! The share of reconciles that may wait for Microsoft at the same time: where it does not answer, deletions, repairs of
//! what is verified already, and everything else goes on.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Wakes;
use crate::controller::index::Named;

/// The permits to wait for Microsoft.
#[derive(Clone, Debug)]
pub struct Verifications {
    permits: Arc<Semaphore>,
    /// Permits of reconciles that were begun with one.
    reserved: Arc<Mutex<HashMap<Named, OwnedSemaphorePermit>>>,
    wakes: Wakes,
}

/// Held while Microsoft is waited for.
#[derive(Debug)]
pub struct VerificationPermit {
    permit: Option<OwnedSemaphorePermit>,
    wakes: Wakes,
}

// === impl Verifications ===

impl Verifications {
    /// Three quarters of the reconciles that may run at the same time, and at least one.
    pub fn of(most: usize, wakes: Wakes) -> Self {
        let permits = (most * 3 / 4).max(1);
        Self { permits: Arc::new(Semaphore::new(permits)), reserved: Arc::default(), wakes }
    }

    /// The permit to wait for Microsoft in the reconcile of that object. Where there is none, the reconcile is to end: it
    /// is repeated with one.
    pub fn enter(&self, object: &Named) -> Option<VerificationPermit> {
        let reserved = self.reserved.lock().remove(object);
        let Some(permit) = reserved.or_else(|| self.free()) else {
            self.wakes.to_verify(object.clone());
            return None;
        };
        Some(VerificationPermit { permit: Some(permit), wakes: self.wakes.clone() })
    }

    /// A permit that nobody has.
    pub(super) fn free(&self) -> Option<OwnedSemaphorePermit> {
        self.permits.clone().try_acquire_owned().ok()
    }

    /// Keeps a permit for the reconcile of an object that is about to begin.
    pub(super) fn reserve(&self, object: &Named, permit: OwnedSemaphorePermit) {
        self.reserved.lock().insert(object.clone(), permit);
    }

    /// The reconcile has ended.
    pub(super) fn give_back(&self, object: &Named) {
        self.reserved.lock().remove(object);
    }
}

// === impl VerificationPermit ===

impl Drop for VerificationPermit {
    fn drop(&mut self) {
        self.permit = None;
        self.wakes.0.changed.notify_one();
    }
}
