//! Registrations that stay at their destination, because the operator could not delete them when their object or their
//! account was deleted.

use std::fmt;

/// Why a registration is left at its destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrphanCause {
    /// The object was deleted while it was suspended: `core::plan::deletion`, and `controller::credential::invalid`.
    Suspended,
    /// Its namespace was terminating and had waited long enough: decided in the same places.
    Namespace,
    /// The object was deleted while its credential was created: `roll_back` in `controller::credential::apply`.
    ObjectDeleted,
    /// Its account, which no longer allowed the object's namespace, was deleted: `controller::account::finalizer`.
    AccountDeleted,
}

// === impl OrphanCause ===

impl OrphanCause {
    /// All causes.
    pub const ALL: [Self; 4] = [Self::Suspended, Self::Namespace, Self::ObjectDeleted, Self::AccountDeleted];

    /// The value of the label `cause`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Suspended => "suspended",
            Self::Namespace => "namespace",
            Self::ObjectDeleted => "object_deleted",
            Self::AccountDeleted => "account_deleted",
        }
    }
}

impl fmt::Display for OrphanCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Suspended => "the object was suspended",
            Self::Namespace => "the namespace could not wait any longer",
            Self::ObjectDeleted => "the object was deleted during the create",
            Self::AccountDeleted => {
                "the account was deleted after it no longer allowed the object's namespace"
            }
        })
    }
}
