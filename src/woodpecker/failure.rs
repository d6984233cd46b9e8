//! Maps request errors to failures of a credential.

use std::time::Duration;

use super::error::{ApiError, Effect};
use crate::core::failure::{Failure, FailureKind, Operation, QueueError};

/// Woodpecker's error code for a rejected client secret. Source: the vendor's page on create.
const INVALID_CLIENT_SECRET: &str = "INVALID_CLIENT_SECRET";

/// Longest wait that Woodpecker may ask of an object, as of an account queue.
const MAX_RETRY_AFTER: Duration = Duration::from_hours(1);

/// A failed request to Woodpecker as a failure at a destination.
pub fn failure(operation: Operation, error: &ApiError) -> Failure {
    let kind = match error {
        ApiError::Queue(closed) => FailureKind::Queued(*closed),
        ApiError::NotLeading(_) => FailureKind::Queued(QueueError::Ending),
        ApiError::GivenUp => FailureKind::Queued(QueueError::Queued),
        ApiError::Throttled(_) => FailureKind::Throttled,
        ApiError::Unauthorized(_) => FailureKind::Unauthorized,
        ApiError::NotInPlan { .. } => FailureKind::NotInPlan,
        // Only a listing shows whether a credential was deleted.
        ApiError::NotFound => FailureKind::Rejected { status: 404, code: None },
        ApiError::Rejected { error_code, .. } if error_code.as_deref() == Some(INVALID_CLIENT_SECRET) => {
            FailureKind::SecretRejected
        }
        ApiError::Rejected { status, error_code } => {
            FailureKind::Rejected { status: *status, code: error_code.clone() }
        }
        ApiError::NotSent(_)
        | ApiError::Body(_)
        | ApiError::Lost(_)
        | ApiError::Failed { .. }
        | ApiError::Malformed(_) => match (operation, error.effect()) {
            (Operation::Create | Operation::Update | Operation::Rename, Effect::Unknown) => {
                FailureKind::OutcomeUnknown
            }
            _ => FailureKind::Unavailable,
        },
    };
    let retry_after = match error {
        ApiError::Throttled(retry_after) | ApiError::Failed { retry_after, .. } => *retry_after,
        _ => None,
    };
    let retry_after = retry_after.map(|wait| wait.min(MAX_RETRY_AFTER));
    Failure { operation, kind, retry_after, id: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(operation: Operation, error: &ApiError) -> FailureKind {
        failure(operation, error).kind
    }

    #[test]
    fn creates_and_changes_can_have_an_unknown_outcome() {
        for error in [
            ApiError::Failed { status: 500, retry_after: None },
            ApiError::Malformed(201),
            ApiError::Lost("cut".into()),
        ] {
            for operation in [Operation::Create, Operation::Update, Operation::Rename] {
                assert_eq!(kind(operation, &error), FailureKind::OutcomeUnknown, "{operation:?}");
            }
            for operation in [Operation::List, Operation::Delete] {
                assert_eq!(kind(operation, &error), FailureKind::Unavailable, "{operation:?}");
            }
        }
    }

    #[test]
    fn a_404_alone_does_not_count_as_deleted() {
        for operation in [Operation::Create, Operation::Update, Operation::Delete] {
            let rejected = FailureKind::Rejected { status: 404, code: None };
            assert_eq!(kind(operation, &ApiError::NotFound), rejected);
        }
    }

    #[test]
    fn only_the_documented_error_code_refuses_the_secret_itself() {
        let rejected = |code: &str| ApiError::Rejected { status: 422, error_code: Some(code.into()) };
        assert_eq!(kind(Operation::Create, &rejected("INVALID_CLIENT_SECRET")), FailureKind::SecretRejected);
        let other = FailureKind::Rejected { status: 422, code: Some("OTHER".into()) };
        assert_eq!(kind(Operation::Create, &rejected("OTHER")), other);
    }
}
