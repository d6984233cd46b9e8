//! What an object with `spec.entra` observed about its app at Microsoft Entra.

use crate::api::EntraStatus;
use crate::core::app_reading::AppAccess;
use crate::core::model::Observed;

/// The client secret that readings are about, identified without its expiry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadingSubject {
    /// Fingerprint of the secret alone, under the newest key.
    pub fingerprint: String,
    /// Whether `status.entra` is about this secret.
    pub is_recorded: bool,
}

// === impl Observed ===

impl Observed {
    /// What was last read about the secret of the source.
    pub fn last_reading(&self) -> Option<&EntraStatus> {
        let is_recorded = self.usable_source()?.reading.as_ref()?.is_recorded;
        self.status.entra.as_deref().filter(|_| is_recorded)
    }

    /// Whether the app of the object may be read.
    pub fn may_read_app(&self) -> bool {
        self.app_access == Some(AppAccess::Granted)
    }

    /// Names the app, alike for all objects of it.
    pub fn app_name(&self) -> String {
        format!("{}/{}", self.object.spec.tenant_id, self.object.spec.client_id)
    }
}
