//! Objects as the watches deliver them: parsed, or with the reason why they are invalid.

use kube::core::DeserializeGuard;

use crate::api::{MicrosoftGraphCredential, WoodpeckerAccount};

/// A credential, or why it is invalid. An invalid object must not hide the others from the watch.
pub type ParsedCredential = DeserializeGuard<MicrosoftGraphCredential>;

/// An account, or why it is invalid.
pub type ParsedAccount = DeserializeGuard<WoodpeckerAccount>;
