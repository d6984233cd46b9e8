//! The address and the API key of an account, checked before a request is sent.

use jiff::Timestamp;
use kube::Client;
use thiserror::Error;

use crate::api::{WoodpeckerAccount, WoodpeckerAccountSpec};
use crate::config::BaseUrl;
use crate::core::model::ConditionFailure;
use crate::core::secret_value::{SecretValue, ValueKind};
use crate::k8s::secrets::{self, ReadError, SecretData};
use crate::secret_text::SecretText;

/// Why the account cannot be used. The messages name the problem and what to do.
#[derive(Debug, Error)]
pub enum AccessError {
    /// The address is not on the allow-list.
    #[error(
        "the operator does not send API keys to {0}: its administrator must add it with --allowed-woodpecker-url (the chart's allowedWoodpeckerUrls)"
    )]
    BaseUrlNotAllowed(String),
    /// The Secret does not hold a usable API key.
    #[error("{}", .problem.message)]
    Unusable {
        problem: ConditionFailure,
        /// When the Secret changed last, if it was read.
        changed_at: Option<Timestamp>,
    },
    /// The Secret could not be read; trying again may help.
    #[error("failed to read Secret {name}")]
    Unreadable { name: String, source: ReadError },
}

/// The account's address, if the operator may send API keys to it.
pub fn base_url(spec: &WoodpeckerAccountSpec, allowed: &[BaseUrl]) -> Result<BaseUrl, AccessError> {
    let url = spec.base_url().parse().ok().filter(|url| allowed.contains(url));
    url.ok_or_else(|| AccessError::BaseUrlNotAllowed(spec.base_url().to_owned()))
}

/// The account's API key, from the Secret of its own namespace.
pub async fn api_key(client: &Client, account: &WoodpeckerAccount) -> Result<SecretText, AccessError> {
    let value = value(account);
    let namespace = account.metadata.namespace.as_deref().unwrap_or_default();
    let unusable = |problem| AccessError::Unusable { problem, changed_at: None };
    let data = match secrets::read(client, namespace, value.secret).await {
        Ok(data) => data,
        Err(ReadError::NotFound) => return Err(unusable(value.not_found(None))),
        Err(ReadError::Forbidden) => return Err(unusable(value.access_denied())),
        Err(source @ ReadError::Kube(_)) => {
            return Err(AccessError::Unreadable { name: value.secret.to_owned(), source });
        }
    };
    api_key_in(&data, account)
}

/// The account's API key in its Secret.
pub fn api_key_in(data: &SecretData, account: &WoodpeckerAccount) -> Result<SecretText, AccessError> {
    let changed_at = data.changed_at();
    data.text(&value(account)).map_err(|problem| AccessError::Unusable { problem, changed_at })
}

/// The value of the API key, for messages about it.
fn value(account: &WoodpeckerAccount) -> SecretValue<'_> {
    let reference = &account.spec.api_key_secret_ref;
    SecretValue {
        kind: ValueKind::ApiKey,
        secret: &reference.name,
        name_field: "spec.apiKeySecretRef.name",
        key: reference.key(),
        key_field: "spec.apiKeySecretRef.key",
    }
}
