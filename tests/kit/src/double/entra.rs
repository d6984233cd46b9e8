//! The implementation of [`crate::entra`]: tenants and apps, parsing of token requests, responses and faults.

pub(crate) mod assertion;
pub(crate) mod fault;
pub(crate) mod form;
pub(crate) mod handler;
pub(crate) mod record;
pub(crate) mod rejection;
pub(crate) mod state;
#[cfg(test)]
mod tests;
pub(crate) mod token;
