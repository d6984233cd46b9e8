//! The inside of [`crate::entra`]: what is known of tenants and apps, how a token request is read, what is answered, and
//! how it goes wrong.

pub(crate) mod books;
pub(crate) mod desk;
pub(crate) mod fault;
pub(crate) mod form;
pub(crate) mod record;
pub(crate) mod refusal;
#[cfg(test)]
mod tests;
pub(crate) mod token;
