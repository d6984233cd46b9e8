//! Why a pass could not be carried out at all. What goes wrong at Microsoft or Woodpecker is no such error:
//! it is an outcome, and stands in the object's status; so does what stands in the way at the store.

use thiserror::Error;

use crate::destination::{Failure, FailureKind, Operation};
use crate::leadership::NotLeading;
use crate::secrets::ReadError;
use crate::store::envelope::SealError;
use crate::store::keyring::KeyringError;
use crate::store::repository::RecordError;

/// What a pass or a part of it comes to.
pub type Result<T, E = PassError> = std::result::Result<T, E>;

/// A pass that ended without a report.
#[derive(Debug, Error)]
pub enum PassError {
    #[error("failed to read the object")]
    ReadObject(#[source] kube::Error),
    /// Its Secret could not be read, for now.
    #[error("failed to read Secret {name}")]
    ReadSecret { name: String, source: ReadError },
    #[error("failed to read the WoodpeckerAccount")]
    ReadAccount(#[source] kube::Error),
    /// A record of the store could not be read or written.
    #[error(transparent)]
    Record(RecordError),
    /// The keyring could not be read again.
    #[error(transparent)]
    ReadKeyring(#[from] KeyringError),
    /// The key of its record is not known, and could not be looked up: nothing can be said of the record.
    #[error("the key of the record could not be looked up")]
    LookUpKey(#[source] KeyringError),
    /// The secret could not be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
    #[error("failed to read the namespace")]
    ReadNamespace(#[source] kube::Error),
    #[error("failed to write the status")]
    WriteStatus(#[source] kube::Error),
    #[error("failed to change the finalizer")]
    WriteFinalizer(#[source] kube::Error),
    /// It is gone, or another one has its name.
    #[error("the object is gone")]
    Gone,
    /// A step failed at the destination, which is an outcome for the status.
    #[error("a step failed at the destination")]
    Step(Failure),
    /// Somebody else changed it meanwhile.
    #[error("the object was changed meanwhile")]
    Conflict,
    /// Only a leader may go on.
    #[error("interrupted")]
    NotLeading(#[from] NotLeading),
    /// It took longer than any pass may.
    #[error("the pass took too long")]
    Deadline,
    #[error("the pass panicked: this is a defect of the operator")]
    Panicked,
    /// It asked for more steps than any pass has.
    #[error("the pass did not come to an end: this is a defect of the operator")]
    Endless,
    /// The system gives no randomness.
    #[error("failed to draw random bytes")]
    Random(#[from] getrandom::Error),
}

// === impl PassError ===

impl PassError {
    /// As metrics name it.
    pub fn category(&self) -> &'static str {
        match self {
            Self::ReadObject(_) => "read_object",
            Self::ReadSecret { .. } => "read_secret",
            Self::ReadAccount(_) => "read_account",
            Self::Record(RecordError::Refused { .. }) => "record_refused",
            Self::Record(RecordError::Read { .. }) => "read_record",
            Self::Record(_) => "write_record",
            Self::ReadKeyring(_) => "read_keyring",
            Self::LookUpKey(_) => "look_up_key",
            Self::Seal(_) => "seal",
            Self::ReadNamespace(_) => "read_namespace",
            Self::WriteStatus(_) => "write_status",
            Self::WriteFinalizer(_) => "write_finalizer",
            Self::Gone => "gone",
            Self::Step(_) => "step",
            Self::Conflict => "conflict",
            Self::NotLeading(_) => "not_leading",
            Self::Deadline => "deadline",
            Self::Panicked => "panic",
            Self::Endless => "endless",
            Self::Random(_) => "random",
        }
    }

    /// What is no accident of the way, but stands until somebody mends it: an outcome for the status.
    pub fn as_failure(&self) -> Option<Failure> {
        let (operation, kind) = match self {
            Self::Step(failure) => return Some(failure.clone()),
            Self::Record(RecordError::Refused { operation, status }) => {
                (*operation, FailureKind::StoreRefused(*status))
            }
            Self::ReadKeyring(error) if error.is_lasting() => {
                (Operation::Create, FailureKind::KeyringMissing)
            }
            _ => return None,
        };
        Some(Failure { operation, kind, retry_after: None, id: None })
    }

    /// Whether it is the ordinary course of things and no failure.
    pub fn is_ordinary(&self) -> bool {
        matches!(self, Self::Conflict | Self::NotLeading(_) | Self::LookUpKey(_))
    }
}

/// A record that was changed meanwhile is an object that was changed meanwhile.
impl From<RecordError> for PassError {
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
