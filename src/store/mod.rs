//! The operator's own keys, and the encrypted store that lives on them.

pub(crate) mod census;
pub mod envelope;
pub(crate) mod fingerprint;
mod key;
pub mod keyring;
pub mod record;
pub(crate) mod repository;
