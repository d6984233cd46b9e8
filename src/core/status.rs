//! The statuses of all kinds.

pub mod account;
pub mod credential;
pub mod identity;
pub mod mailboxes;
pub mod record;
pub mod undecryptable;
