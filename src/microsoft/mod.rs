//! Microsoft Entra: the token endpoint that proves a client secret, and what its answers mean.

mod app;
mod breaker;
mod claims;
mod cloud;
pub mod codes;
pub(crate) mod diagnosis;
mod pace;
mod token;

pub(crate) use self::app::App;
pub(crate) use self::cloud::Authorities;
pub(crate) use self::diagnosis::{Diagnosis, Refusal};
pub(crate) use self::token::{EndpointParts, TokenEndpoint, Trace, Verdict};
