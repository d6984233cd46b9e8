//! The double of Microsoft Graph. [`crate::graph`] is its public interface.

pub(crate) mod fault;
pub(crate) mod handler;
pub(crate) mod progress;
pub(crate) mod record;
mod route;
pub(crate) mod state;
#[cfg(test)]
mod tests;
mod token;
pub(crate) mod writes;
