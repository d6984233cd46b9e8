//! The credentials REST API, served by us: the vendor's addresses, bodies, codes and errors over the encrypted store.
//!
//! It proves a secret at Microsoft before it saves it, seals it into a record of the account's namespace, and never gives
//! it back. `docs/rest-api.md` says what the vendor's page says and what is ours.

mod credentials;
mod doorkeeper;
mod fault;
mod keys;
mod openapi;
mod quota;
mod request;
mod routes;
mod saving;
mod trail;
mod turns;

pub(crate) use self::credentials::Credentials;
pub(crate) use self::doorkeeper::{Doorkeeper, KeysPlace};
pub use self::fault::Refusal;
pub(crate) use self::quota::Quota;
pub(crate) use self::routes::{Shared, router};
pub(crate) use self::turns::{Listings, Turns};
