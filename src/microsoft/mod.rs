//! Microsoft Entra: the token endpoint that proves a client secret, and what its answers mean.

mod app;
mod breaker;
mod claims;
mod cloud;
pub mod codes;
pub mod diagnosis;
mod pace;
mod token;

pub use self::app::App;
pub use self::cloud::Authorities;
pub use self::diagnosis::{Diagnosis, Refusal};
pub use self::token::{EndpointParts, TokenEndpoint, Trace, Verdict};
