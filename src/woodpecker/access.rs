//! Whether there is a way into an account: an address that API keys may be sent to, and a key that can be sent.

use kube::Client;
use thiserror::Error;

use crate::resources::{WoodpeckerAccount, WoodpeckerAccountSpec};
use crate::secret::SecretText;
use crate::secrets::{self, ReadError};
use crate::settings::BaseUrl;

/// Why there is no way in. The texts name the problem and the cure.
#[derive(Debug, Error)]
pub enum AccessError {
    /// The address is not on the allow-list.
    #[error(
        "the operator does not send API keys to {0}: its administrator must add it with --woodpecker-base-url"
    )]
    BaseUrlNotAllowed(String),
    #[error("there is no Secret {0} in this namespace: create it or mend spec.apiKeySecretRef.name")]
    NoSecret(String),
    /// The Secret may not be read.
    #[error(
        "the operator may not read Secret {0}: grant its ServiceAccount get on Secrets in this namespace"
    )]
    Forbidden(String),
    /// The Secret holds no API key.
    #[error(
        "Secret {name} has no key {key} or it is empty: put the API key into it, or name the right key in spec.apiKeySecretRef.key"
    )]
    NoKey {
        name: String,
        /// Key that was looked for.
        key: String,
    },
    /// What the Secret holds is no API key.
    #[error(
        "key {key} of Secret {name} holds a line break, white space around the value or other characters that no API key has: write the value without (echo -n, or stringData)"
    )]
    Stray {
        name: String,
        /// Key under which it is.
        key: String,
    },
    /// The Secret could not be read for now.
    #[error("failed to read Secret {name}")]
    Unreadable { name: String, source: ReadError },
}

/// The account's address, where API keys may be sent to it.
pub fn base_url(spec: &WoodpeckerAccountSpec, allowed: &[BaseUrl]) -> Result<BaseUrl, AccessError> {
    let url = spec.base_url().parse().ok().filter(|url| allowed.contains(url));
    url.ok_or_else(|| AccessError::BaseUrlNotAllowed(spec.base_url().to_owned()))
}

/// The account's API key, from the Secret of its own namespace.
pub async fn api_key(client: &Client, account: &WoodpeckerAccount) -> Result<SecretText, AccessError> {
    let reference = &account.spec.api_key_secret_ref;
    let (name, key) = (reference.name.clone(), reference.key().to_owned());
    let namespace = account.metadata.namespace.as_deref().unwrap_or_default();
    let data = match secrets::read(client, namespace, &name).await {
        Ok(data) => data,
        Err(ReadError::NotFound) => return Err(AccessError::NoSecret(name)),
        Err(ReadError::Forbidden) => return Err(AccessError::Forbidden(name)),
        Err(source @ ReadError::Kube(_)) => return Err(AccessError::Unreadable { name, source }),
    };
    let Some(bytes) = data.get(&key).filter(|bytes| !bytes.expose().is_empty()) else {
        return Err(AccessError::NoKey { name, key });
    };
    // What is not ASCII cannot stand in a header either.
    let text = bytes.to_text().filter(|text| !text.has_stray_whitespace() && text.expose().is_ascii());
    text.ok_or(AccessError::Stray { name, key })
}
