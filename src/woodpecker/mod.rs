//! Woodpecker's credentials API: its bodies, a client, one lane per account, and what its answers mean.

pub mod access;
mod account;
mod client;
mod error;
mod lane;
mod listing;
mod wire;

pub use self::account::{RemoteAccount, RemoteIdentity};
pub use self::client::{Client, ClientParts};
pub use self::error::{ApiError, Certainty};
pub use self::lane::{Call, Class, Grant, Lane, LaneClosed, Lanes, Owner, OwnerKind, Ticket, Turn};
pub use self::listing::{Entry, Listings, TOKEN_ALPHABET, TOKEN_LENGTH, mark, unmarked};
pub use self::wire::{Credential, NewCredential, SecretUpdate, rfc3339};
