//! In-memory state of each identity, beside the object.

use crate::api::EntraIdentity;
use crate::core::tenant_checks::TenantChecks;
use crate::entra::identity::{IdentitySnapshot, SignInSpec};

/// In-memory state of an identity. It ends with the object.
#[derive(Debug, Default)]
pub struct IdentityState {
    /// Of the last known version of the object.
    snapshot: Option<IdentitySnapshot>,
    /// What the last reconcile found; `None` before the first one.
    pub checked: Option<Checked>,
}

/// What the last reconcile of an identity found, and with which settings.
#[derive(Clone, Debug)]
pub struct Checked {
    pub checks: TenantChecks,
    pub spec: SignInSpec,
    /// The last handled annotation that requests a reconcile.
    pub requested: Option<String>,
}

// === impl IdentityState ===

impl IdentityState {
    /// What is needed of the object to sign in; built once per generation.
    pub fn snapshot(&mut self, object: &EntraIdentity) -> IdentitySnapshot {
        let generation = object.metadata.generation.unwrap_or_default();
        let known = self.snapshot.take().filter(|known| known.generation == generation);
        self.snapshot.insert(known.unwrap_or_else(|| IdentitySnapshot::of(object))).clone()
    }
}
