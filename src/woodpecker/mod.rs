//! Woodpecker's credentials API: its bodies, a client, one lane per account, and what its answers mean.

pub mod access;
mod account;
mod client;
mod error;
mod identity;
mod lane;
mod lanes;
mod listing;
mod wire;

pub use self::account::{Commons, RemoteAccount};
pub use self::client::Client;
pub use self::error::{ApiError, Certainty};
pub use self::identity::{KeyDigest, RemoteIdentity};
pub use self::lane::{Call, Class, Grant, Lane, LaneClosed, Owner, OwnerKind, Ticket, Turn};
pub use self::lanes::Lanes;
pub use self::listing::{Entry, Listing, TOKEN_ALPHABET, TOKEN_LENGTH, mark, marked, unmarked};
pub use self::wire::{Credential, CredentialList, NewCredential, SecretUpdate, rfc3339};

#[cfg(test)]
pub(crate) use self::identity::testing;
