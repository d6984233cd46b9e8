//! Why a record of the REST API cannot be decrypted, and what to do.

use thiserror::Error;

/// What a user can always do.
pub const REMEDY: &str = "send a new client_secret with its secret_expires_at by PATCH";

#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Undecryptable {
    #[error("the record cannot be decrypted: import its key into the keyring (keys import), or {REMEDY}")]
    KeyMissing,
    /// Its cloud is not Global, for which the REST API saves every secret.
    #[error(
        "spec.cloud was changed: the REST API saves secrets for Global only, so this one is sent nowhere; re-create the \
         record with cloud Global, or delete the credential and save it again"
    )]
    CloudChanged,
    #[error("a later version wrote the record: upgrade this one, or {REMEDY}")]
    LaterFormat,
    /// Its envelope, or a field that the envelope binds, is not as it was written.
    #[error(
        "the record cannot be decrypted: its envelope, recordId, credentialId, tenantId, clientId, secretExpiresAt or \
         name was changed, or it is from another namespace; undo the change, or {REMEDY}"
    )]
    Changed,
}
