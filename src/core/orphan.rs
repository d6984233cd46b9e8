//! Registrations that a deleted object leaves at its destination, because the operator could not delete them.

use std::fmt;

/// Why a registration is left at its destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrphanCause {
    /// The object was deleted while it was suspended.
    Suspended,
    /// Its namespace was terminating and had waited long enough.
    Namespace,
    /// The object was deleted while its credential was created.
    ObjectDeleted,
    /// Its account, which no longer allowed the object's namespace, was deleted.
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
            Self::ObjectDeleted => "object_gone",
            Self::AccountDeleted => "account_gone",
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
