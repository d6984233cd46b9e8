//! Failures at a destination, in the same terms for Woodpecker and the store.

use std::time::Duration;

use thiserror::Error;

/// Why there is no permit now. The requester is requeued when there is one.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum QueueError {
    /// Other requests are ahead of it.
    #[error("other requests to the account are ahead in its queue")]
    Queued,
    /// Woodpecker asked to slow down a moment ago.
    #[error("requests to the account are paused after Woodpecker asked to slow down")]
    Paused,
    /// Woodpecker failed several times in a row.
    #[error("requests to the account are paused after repeated failures")]
    Failing,
    /// The program is shutting down, and no new request may start.
    #[error("the program is shutting down")]
    Ending,
}

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
    /// The minimum wait, if the destination gave one.
    pub retry_after: Option<Duration>,
    /// The credential that it is about, if that is not the registered one.
    pub id: Option<i64>,
}

/// What went wrong at the destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// There is no permit of the account's queue yet; nothing was sent.
    Queued(QueueError),
    Throttled,
    /// It could not be reached or returned an error, and nothing is known to have changed.
    Unavailable,
    /// A create or an update may have taken effect, or may still do so.
    OutcomeUnknown,
    /// Its listing lacks a credential, and the only request that shows whether it exists is a rename to its unknown
    /// name.
    NameUnknown,
    /// Not all objects are known yet, and another object may own the credential.
    ObjectsUnknown,
    /// The API server rejected a request for a record, with that HTTP status.
    StoreRejected(u16),
    /// The keyring is missing or damaged; nothing is encrypted without it.
    KeyringUnavailable,
    /// A record did not keep what was written into it.
    NotPersisted,
    Unauthorized,
    /// Woodpecker refuses the API key because of the account's plan.
    NotInPlan,
    /// The listing shows the credential without a readable app, so it is not changed.
    Unreadable,
    /// The credential is for another app there: the API key must belong to another account.
    WrongAccount,
    /// Woodpecker ignores the company id of the account.
    CompanyIdIgnored,
    SecretRejected,
    Rejected {
        status: u16,
        /// The error code in the response, if there is one.
        code: Option<String>,
    },
}
