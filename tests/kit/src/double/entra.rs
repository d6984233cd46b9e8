//! The implementation of [`crate::entra`]: tenants and apps, parsing of token requests, responses and faults.

pub(crate) mod books;
pub(crate) mod desk;
pub(crate) mod fault;
pub(crate) mod form;
pub(crate) mod record;
pub(crate) mod refusal;
#[cfg(test)]
mod tests;
pub(crate) mod token;
