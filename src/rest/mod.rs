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

pub use self::credentials::Credentials;
pub use self::doorkeeper::{Doorkeeper, KeysError, KeysPlace};
pub use self::fault::{Fault, Refusal};
pub use self::keys::Account;
pub use self::quota::Quota;
pub use self::routes::{Shared, router};
pub use self::turns::{Listings, Turns};
