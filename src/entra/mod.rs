//! Microsoft Entra: verifies client secrets at the token endpoint, and signs the operator in to Microsoft Graph.

mod app;
pub(crate) mod breaker;
mod cloud;
pub mod identity;
mod rate_limit;
mod roles;
mod token;

pub(crate) use self::app::AppCredential;
pub(crate) use self::cloud::Authorities;
pub use self::token::read_response;
pub(crate) use self::token::request_id;
pub(crate) use self::token::{EndpointConfig, TokenEndpoint};
