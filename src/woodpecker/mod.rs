//! Woodpecker's API: types, client, request queues, cached listings and errors.

pub mod access;
mod account;
mod array_elements;
mod client;
mod companies;
mod connect;
mod error;
pub mod failure;
mod identity;
mod key_identity;
mod listing;
mod mailboxes;
mod missing_plan;
mod queue;
mod queues;
mod types;

pub use self::account::{RemoteAccount, SharedAccounts};
pub use self::client::Client;
pub use self::companies::{CompaniesError, Company};
pub use self::connect::{ConnectError, NewMailbox, read_connected};
pub use self::error::{ApiError, Effect};
pub use self::failure::failure;
pub use self::identity::{KeyDigest, RemoteIdentity};
pub use self::listing::Listing;
pub use self::queue::{AccountQueue, Permit, QueueEntry, RequestSlot, Requester, RequesterKind, Waker};
pub use self::queues::AccountQueues;
pub use self::types::{Credential, CredentialList, NewCredential, SecretUpdate, read_listing};

#[cfg(test)]
pub(crate) use self::identity::testing;
