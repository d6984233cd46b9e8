//! Errors that end a reconcile without a status. Failures at Microsoft, Woodpecker or the store are results instead,
//! which the status shows.

use thiserror::Error;

use crate::core::failure::{Failure, FailureKind, Operation};
use crate::entra::identity::GraphTokenError;
use crate::k8s::leadership::NotLeading;
use crate::k8s::secrets::ReadError;
use crate::store::envelope::SealError;
use crate::store::keyring::KeyringError;
use crate::store::repository::RecordError;

/// Result of a reconcile or a part of it.
pub type Result<T, E = ReconcileError> = std::result::Result<T, E>;

/// Why a reconcile ended without a status.
#[derive(Debug, Error)]
pub enum ReconcileError {
    #[error("failed to read the object")]
    ReadObject(#[source] kube::Error),
    #[error("failed to read Secret {name}")]
    ReadSecret { name: String, source: ReadError },
    #[error("failed to read the WoodpeckerAccount")]
    ReadAccount(#[source] kube::Error),
    #[error("failed to read the EntraIdentity")]
    ReadIdentity(#[source] kube::Error),
    #[error(transparent)]
    Record(RecordError),
    #[error(transparent)]
    ReadKeyring(#[from] KeyringError),
    /// The key of the record is unknown and could not be read, so the record cannot be evaluated.
    #[error("failed to look up the key of the record")]
    LookUpKey(#[source] KeyringError),
    #[error(transparent)]
    Seal(#[from] SealError),
    #[error("failed to read the namespace")]
    ReadNamespace(#[source] kube::Error),
    #[error("failed to write the status")]
    WriteStatus(#[source] kube::Error),
    #[error("failed to change the finalizer")]
    WriteFinalizer(#[source] kube::Error),
    /// Deleted, or re-created under the same name.
    #[error("the object was deleted")]
    Deleted,
    /// The status shows it.
    #[error("a step failed at the destination")]
    Step(Failure),
    #[error("the object has changed since it was read")]
    Conflict,
    #[error("interrupted")]
    NotLeading(#[from] NotLeading),
    #[error("the reconcile took too long")]
    Deadline,
    #[error("the reconcile panicked; this is a bug in the operator")]
    Panicked,
    /// The API server did not respond with the Secret of an identity.
    #[error("failed to sign in to Microsoft Graph")]
    SignIn(#[source] GraphTokenError),
    /// The plan had more steps than any reconcile needs.
    #[error("the reconcile did not end; this is a bug in the operator")]
    StepLimit,
    #[error("failed to generate random bytes")]
    Random(#[from] getrandom::Error),
}

// === impl ReconcileError ===

impl ReconcileError {
    /// As log lines name it.
    pub fn category(&self) -> &'static str {
        match self {
            Self::ReadObject(_) => "read_object",
            Self::ReadSecret { .. } => "read_secret",
            Self::ReadAccount(_) => "read_account",
            Self::ReadIdentity(_) => "read_identity",
            Self::Record(RecordError::Rejected { .. }) => "record_rejected",
            Self::Record(RecordError::Read { .. }) => "read_record",
            Self::Record(_) => "write_record",
            Self::ReadKeyring(_) => "read_keyring",
            Self::LookUpKey(_) => "look_up_key",
            Self::Seal(_) => "seal",
            Self::ReadNamespace(_) => "read_namespace",
            Self::WriteStatus(_) => "write_status",
            Self::WriteFinalizer(_) => "write_finalizer",
            Self::Deleted => "deleted",
            Self::Step(_) => "step",
            Self::Conflict => "conflict",
            Self::NotLeading(_) => "not_leading",
            Self::Deadline => "deadline",
            Self::Panicked => "panic",
            Self::SignIn(_) => "sign_in",
            Self::StepLimit => "step_limit",
            Self::Random(_) => "random",
        }
    }

    /// The failure for the status, if the error lasts until someone fixes its cause.
    pub fn as_status_failure(&self) -> Option<Failure> {
        let (operation, kind) = match self {
            Self::Step(failure) => return Some(failure.clone()),
            Self::Record(RecordError::Rejected { operation, status }) => {
                (*operation, FailureKind::StoreRejected(*status))
            }
            Self::ReadKeyring(error) if error.is_lasting() => {
                (Operation::Create, FailureKind::KeyringUnavailable)
            }
            _ => return None,
        };
        Some(Failure { operation, kind, retry_after: None, id: None })
    }

    /// Whether it happens in normal operation and is no failure.
    pub fn is_expected(&self) -> bool {
        matches!(self, Self::Conflict | Self::NotLeading(_) | Self::LookUpKey(_))
    }
}

impl From<RecordError> for ReconcileError {
    fn from(error: RecordError) -> Self {
        match error {
            RecordError::Conflict => Self::Conflict,
            RecordError::Keyring(error) => Self::ReadKeyring(error),
            RecordError::Seal(error) => Self::Seal(error),
            RecordError::NotLeading(error) => Self::NotLeading(error),
            error => Self::Record(error),
        }
    }
}
