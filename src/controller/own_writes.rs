//! The answers to our own writes, for as long as the watch has not brought them: a reconcile begins with the newer of the
//! two.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::core::DeserializeGuard;

use super::index::Named;
use super::scope::GuardedCredential;
use crate::resources::MicrosoftGraphCredential;

/// What our own requests have shown of credentials, and the watch has not.
#[derive(Debug, Default)]
pub struct OwnWrites(Mutex<HashMap<Named, Shown>>);

#[derive(Debug)]
struct Shown {
    object: Arc<GuardedCredential>,
    /// By a GET, which counts whatever the version that the watch has brought before.
    by_get: bool,
}

// === impl OwnWrites ===

impl OwnWrites {
    /// The newer of what the watch has brought and what our own requests have shown.
    pub fn newest(&self, own: &Named, watched: Arc<GuardedCredential>) -> Arc<GuardedCredential> {
        match self.lock().get(own) {
            Some(shown) if shown.by_get || is_newer(&shown.object, &watched) => shown.object.clone(),
            Some(_) | None => watched,
        }
    }

    /// Keeps what a request of ours has shown.
    pub fn note(&self, own: Named, object: &MicrosoftGraphCredential, by_get: bool) {
        let object = Arc::new(DeserializeGuard(Ok(object.clone())));
        self.lock().insert(own, Shown { object, by_get });
    }

    /// The watch has brought something of the object.
    pub fn arrived(&self, own: &Named, watched: &GuardedCredential) {
        let mut all = self.lock();
        if all.get(own).is_some_and(|shown| shown.by_get || !is_newer(&shown.object, watched)) {
            all.remove(own);
        }
    }

    /// Forgets an object that is gone.
    pub fn forget(&self, own: &Named) {
        self.lock().remove(own);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Named, Shown>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether it is a later version of the same object.
fn is_newer(one: &GuardedCredential, other: &GuardedCredential) -> bool {
    let of = |guarded: &GuardedCredential| {
        guarded.0.as_ref().ok().map(|object| (object.metadata.uid.clone(), version(object)))
    };
    match (of(one), of(other)) {
        (Some((uid, version)), Some((other_uid, other_version))) => {
            uid == other_uid && version > other_version
        }
        _ => false,
    }
}

fn version(object: &MicrosoftGraphCredential) -> Option<u64> {
    object.metadata.resource_version.as_deref()?.parse().ok()
}
