//! Signs in to Microsoft Graph with the identity of an `EntraIdentity` object.

mod assertion;
mod credential;
mod error;
mod exchange;
mod federated;
mod snapshot;
mod tokens;

pub use self::error::GraphTokenError;
pub use self::federated::FederatedTokens;
pub use self::snapshot::{IdentitySnapshot, SignInSpec};
#[cfg(test)]
pub(crate) use self::tokens::testing;
pub use self::tokens::{GraphToken, GraphTokens};
