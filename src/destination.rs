//! Where a credential goes, in one vocabulary for every destination: what went wrong there, and what a
//! person can do about it.

use std::time::Duration;

use crate::woodpecker::{ApiError, Certainty, LaneClosed};

/// What was attempted at the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    List,
    Create,
    Update,
    Rename,
    Delete,
}

/// An attempt that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub operation: Operation,
    pub kind: FailureKind,
    /// How long to wait at least, where the destination said so.
    pub retry_after: Option<Duration>,
    /// The credential that it is about, where it is not simply the registered one.
    pub id: Option<i64>,
}

/// What went wrong at the destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The turn at the account has not come; nothing was sent.
    Queued(LaneClosed),
    Throttled,
    /// It could not be reached or had a failure, and nothing is known to have changed.
    Unavailable,
    /// It may have done what was asked, or do it still: a create or a change.
    OutcomeUnknown,
    /// Its listing lacks a credential of which no name is known, and it can be asked by a rename alone.
    NoName,
    /// Nothing is touched there that another object may have, before all objects are known.
    ObjectsUnknown,
    /// The API server refuses the operator's request for a record of the store, with that HTTP status.
    StoreRefused(u16),
    /// The keyring that seals records is gone or damaged; nothing is sealed without it.
    KeyringMissing,
    /// What was written into a record of the store did not stay as it was written.
    NotKept,
    Unauthorized,
    /// What was named is for another app there: the key must open another account than it did.
    Foreign,
    SecretRefused,
    Refused {
        status: u16,
        /// Its constant for the reason, where it gave one.
        word: Option<String>,
    },
}

/// The constant by which Woodpecker refuses a client secret. Source: the vendor's page on create.
const INVALID_CLIENT_SECRET: &str = "INVALID_CLIENT_SECRET";

// === impl Failure ===

impl Failure {
    /// Puts a failed request to Woodpecker into the common vocabulary.
    pub fn at_woodpecker(operation: Operation, error: &ApiError) -> Self {
        let kind = match error {
            ApiError::Lane(closed) => FailureKind::Queued(*closed),
            ApiError::NotLeading(_) => FailureKind::Queued(LaneClosed::Ending),
            ApiError::Throttled(_) => FailureKind::Throttled,
            ApiError::Unauthorized(_) => FailureKind::Unauthorized,
            // Whether something is gone is found out with a listing, not told from this alone.
            ApiError::NotFound => FailureKind::Refused { status: 404, word: None },
            ApiError::Refused { word, .. } if word.as_deref() == Some(INVALID_CLIENT_SECRET) => {
                FailureKind::SecretRefused
            }
            ApiError::Refused { status, word } => {
                FailureKind::Refused { status: *status, word: word.clone() }
            }
            ApiError::NotSent(_)
            | ApiError::Body(_)
            | ApiError::Lost(_)
            | ApiError::Failed(_)
            | ApiError::Malformed(_) => match (operation, error.certainty()) {
                (Operation::Create | Operation::Update | Operation::Rename, Certainty::Unknown) => {
                    FailureKind::OutcomeUnknown
                }
                _ => FailureKind::Unavailable,
            },
        };
        let retry_after = match error {
            ApiError::Throttled(asked) => *asked,
            _ => None,
        };
        Self { operation, kind, retry_after, id: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(operation: Operation, error: &ApiError) -> FailureKind {
        Failure::at_woodpecker(operation, error).kind
    }

    #[test]
    fn creates_and_changes_can_have_an_unknown_outcome() {
        for error in [ApiError::Failed(500), ApiError::Malformed(201), ApiError::Lost("cut".into())] {
            for operation in [Operation::Create, Operation::Update, Operation::Rename] {
                assert_eq!(kind(operation, &error), FailureKind::OutcomeUnknown, "{operation:?}");
            }
            for operation in [Operation::List, Operation::Delete] {
                assert_eq!(kind(operation, &error), FailureKind::Unavailable, "{operation:?}");
            }
        }
    }

    #[test]
    fn a_404_alone_is_not_taken_for_gone() {
        for operation in [Operation::Create, Operation::Update, Operation::Delete] {
            let refused = FailureKind::Refused { status: 404, word: None };
            assert_eq!(kind(operation, &ApiError::NotFound), refused);
        }
    }

    #[test]
    fn the_secret_itself_is_refused_only_by_the_documented_word() {
        let refused = |word: &str| ApiError::Refused { status: 422, word: Some(word.into()) };
        assert_eq!(kind(Operation::Create, &refused("INVALID_CLIENT_SECRET")), FailureKind::SecretRefused);
        let other = FailureKind::Refused { status: 422, word: Some("OTHER".into()) };
        assert_eq!(kind(Operation::Create, &refused("OTHER")), other);
    }
}
