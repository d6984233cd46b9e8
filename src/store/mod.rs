//! The keyring and the encrypted store.

pub mod envelope;
pub(crate) mod fingerprint;
mod key;
pub(crate) mod key_usage;
pub mod keyring;
pub mod record;
pub(crate) mod repository;
