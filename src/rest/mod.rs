//! The credentials REST API: the vendor's paths, bodies, codes and errors, backed by the encrypted store.
//!
//! It verifies a secret at Microsoft before it saves it, encrypts it into a record in the account's namespace, and never
//! returns it. `docs/reference/rest-api.md` says which parts come from the vendor's page and which are ours.

mod access_log;
mod api_keys;
mod auth;
mod backend;
mod cluster;
mod credentials;
mod error;
mod openapi;
mod quota;
mod rate_limit;
mod records;
mod request;
mod router;

pub(crate) use self::access_log::ITEM;
pub(crate) use self::api_keys::Account;
pub use self::api_keys::ApiKeys;
pub(crate) use self::auth::{ApiKeysRef, Authenticator};
pub(crate) use self::backend::Backend;
pub(crate) use self::cluster::Cluster;
pub(crate) use self::credentials::Credentials;
pub use self::error::ErrorCode;
pub(crate) use self::error::{RestError, problem};
pub(crate) use self::openapi::document;
pub(crate) use self::quota::Quota;
pub(crate) use self::rate_limit::{ListLimit, RateLimiter};
pub(crate) use self::records::new_record;
pub(crate) use self::request::{NewSecret, UnknownFields, credential_id, read_create};
pub(crate) use self::router::{AppState, SharedState, json_body, router, routes};
