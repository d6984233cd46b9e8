//! What is wrong with a value that an object takes from a Secret, in the same words for every kind.

use super::model::ConditionFailure;
use crate::api::reasons::Reason;

/// A value in a Secret, and the fields of the object that point to it.
#[derive(Clone, Copy, Debug)]
pub struct SecretValue<'a> {
    /// What the value is, such as `client secret`.
    pub what: &'static str,
    /// Name of the Secret.
    pub secret: &'a str,
    /// Field that names the Secret.
    pub name_field: &'static str,
    /// Key of the value.
    pub key: &'a str,
    /// Field that names the key.
    pub key_field: &'static str,
    /// Who would reject a value with invalid characters.
    pub rejected_by: &'static str,
}

// === impl SecretValue ===

impl SecretValue<'_> {
    pub fn not_found(&self) -> ConditionFailure {
        let Self { secret, name_field, .. } = self;
        let message =
            format!("Secret {secret} does not exist in this namespace: create it or fix {name_field}");
        ConditionFailure { reason: Reason::SecretNotFound, message }
    }

    pub fn access_denied(&self) -> ConditionFailure {
        let message = format!(
            "the operator is not allowed to read Secret {}: grant its ServiceAccount get on Secrets in this namespace",
            self.secret
        );
        ConditionFailure { reason: Reason::AccessDenied, message }
    }

    pub fn key_missing(&self) -> ConditionFailure {
        let Self { secret, key, key_field, .. } = self;
        let message = format!(
            "Secret {secret} does not have the key {key}: add it, or set {key_field} to the right key"
        );
        ConditionFailure { reason: Reason::KeyMissing, message }
    }

    pub fn empty(&self) -> ConditionFailure {
        let Self { what, secret, key, .. } = self;
        let message = format!("key {key} of Secret {secret} is empty: put the {what} into it");
        ConditionFailure { reason: Reason::EmptyValue, message }
    }

    /// A key that cannot be sent in a header.
    pub fn not_ascii(&self) -> ConditionFailure {
        let Self { what, secret, key, .. } = self;
        let message = format!(
            "key {key} of Secret {secret} contains characters that an {what} cannot have, such as letters outside ASCII: \
             copy the {what} again"
        );
        ConditionFailure { reason: Reason::InvalidCharacters, message }
    }

    pub fn invalid_characters(&self) -> ConditionFailure {
        let Self { secret, key, rejected_by, .. } = self;
        let message = format!(
            "key {key} of Secret {secret} has white space at an end, or contains a line break, an invisible character or \
             invalid UTF-8; {rejected_by} would reject it: write the bare value (stringData, or echo -n)"
        );
        ConditionFailure { reason: Reason::InvalidCharacters, message }
    }
}
