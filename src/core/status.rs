//! The statuses of all three kinds.

pub mod account;
pub mod credential;
pub mod record;
pub mod undecryptable;
