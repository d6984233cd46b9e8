//! The operator's own keys, and the encrypted store that lives on them.

pub mod census;
pub mod envelope;
pub mod fingerprint;
mod key;
pub mod keyring;
pub mod record;
pub mod repository;
