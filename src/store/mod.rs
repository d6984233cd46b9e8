//! The operator's own keys, and (once it exists) the encrypted store that lives on them.

pub mod fingerprint;
pub mod keyring;
