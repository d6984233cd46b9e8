//! What an object observed about the client secrets that the operator created for it.

use crate::api::{CreatedSecret, NamespacedName, RotationStatus};
use crate::core::app_reading::AppAccess;
use crate::core::app_secrets::AppSecret;
use crate::core::model::Observed;
use crate::core::rotation::SecretRecord;
use crate::core::rotation::failure::RotationFailure;

/// The client secrets that the operator created for an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnSecrets {
    /// What the object's record contains.
    pub record: SecretRecord,
    /// Whether the record still has a pending client secret that was given up or removed.
    pub is_outdated: bool,
    /// Another object that rotates the client secrets of the same app, and comes first.
    pub other: Option<NamespacedName>,
}

/// The results of the steps of a rotation.
#[derive(Clone, Debug, Default)]
pub struct RotationResults {
    /// All client secrets of the app, as read in this reconcile.
    pub entries: Option<Vec<AppSecret>>,
    pub failure: Option<RotationFailure>,
}

// === impl Observed ===

impl Observed {
    /// Whether the operator creates the client secret itself.
    pub fn rotates(&self) -> bool {
        self.object.spec.rotation.is_some()
    }

    /// Whether a credential is or may be registered for the object.
    pub fn has_registrations(&self) -> bool {
        let status = &self.status;
        status.registration.is_some()
            || status.pending_create.is_some()
            || !status.previous_registrations.is_empty()
    }

    /// Whether something outside the cluster belongs to the object: a registration, or a client secret at Entra.
    pub fn has_external_state(&self) -> bool {
        self.has_registrations() || self.has_secrets_at_entra()
    }

    /// What the status says about client secrets that the operator created.
    pub fn rotation(&self) -> Option<&RotationStatus> {
        self.status.rotation.as_deref()
    }

    /// Whether a client secret that the operator created is or may be at Entra.
    pub fn has_secrets_at_entra(&self) -> bool {
        self.rotation().is_some_and(RotationStatus::has_secrets)
    }

    /// The new client secret in the record that is to replace the current one.
    pub fn pending_in_record(&self) -> Option<&CreatedSecret> {
        match &self.own_secrets.as_ref()?.record {
            SecretRecord::Readable { pending, .. } => pending.as_deref(),
            SecretRecord::NotRead
            | SecretRecord::Missing
            | SecretRecord::Unreadable { .. }
            | SecretRecord::Foreign => None,
        }
    }

    /// The newest client secret in the record.
    pub fn newest_in_record(&self) -> Option<&CreatedSecret> {
        match &self.own_secrets.as_ref()?.record {
            SecretRecord::Readable { current, pending } => Some(pending.as_deref().unwrap_or(current)),
            SecretRecord::NotRead
            | SecretRecord::Missing
            | SecretRecord::Unreadable { .. }
            | SecretRecord::Foreign => None,
        }
    }

    /// Whether the record contains the registered client secret and no other one.
    pub fn has_settled_secret_record(&self) -> bool {
        let is_registered = self.usable_source().is_some_and(|source| source.is_registered);
        let record = self.own_secrets.as_ref().map(|own| &own.record);
        is_registered && matches!(record, Some(SecretRecord::Readable { pending: None, .. }))
    }

    /// Whether a new client secret is requested by annotation and not created yet.
    pub fn is_rotation_requested(&self) -> bool {
        let handled = self.rotation().and_then(|rotation| rotation.last_handled_rotate_at.as_deref());
        self.rotates()
            && self.object.rotate_requested_at().is_some_and(|requested| Some(requested) != handled)
    }

    /// Whether the identity may change the app of the object.
    pub fn may_change_app(&self) -> bool {
        self.app_access == Some(AppAccess::Granted)
    }
}
