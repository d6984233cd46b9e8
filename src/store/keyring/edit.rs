//! Changes of the keyring's Secret: each is made to what was just read, and written only over that very version.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use thiserror::Error;

use super::Keyring;
use super::secret::{DATA_KEY, KeyringError, KeyringPlace, load_existing};
use crate::resources::FIELD_MANAGER;
use crate::secret::SecretText;

/// Attempts until others who change it at the same time count as an obstacle.
const ATTEMPTS: usize = 10;

/// A change that was not made.
#[derive(Debug, Error)]
pub enum EditError<E> {
    /// It must not be.
    #[error(transparent)]
    Refused(E),
    /// The keyring cannot be read or written as JSON.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// The right is missing.
    #[error("the keyring Secret {place} may not be changed: it needs the right to patch it")]
    Forbidden { place: String, source: kube::Error },
    /// The API server did not take it.
    #[error("failed to write the keyring Secret {place}")]
    Write { place: String, source: kube::Error },
    /// Somebody else changed it each time.
    #[error(
        "the keyring Secret {0} was changed by somebody else at the same time, again and again: try again"
    )]
    Contended(String),
}

/// Changes the keyring. `change` is asked anew where somebody else was faster; what it refuses is not written, and
/// neither is what changes nothing.
pub async fn edit<T, E>(
    client: &Client,
    place: &KeyringPlace,
    mut change: impl FnMut(&mut Keyring) -> Result<T, E>,
) -> Result<(T, Keyring), EditError<E>> {
    for _ in 0..ATTEMPTS {
        let (mut keyring, version) = load_existing(client, place).await?;
        let before = keyring.to_json().map_err(KeyringError::Write)?;
        let outcome = change(&mut keyring).map_err(EditError::Refused)?;
        let after = keyring.to_json().map_err(KeyringError::Write)?;
        if before.expose() == after.expose() {
            return Ok((outcome, keyring));
        }
        let encoded = SecretText::new(STANDARD.encode(after.expose()));
        let patch = json!({"metadata": {"resourceVersion": version}, "data": {DATA_KEY: encoded.expose()}});
        let secrets: Api<Secret> = Api::namespaced(client.clone(), &place.namespace);
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        match secrets.patch(&place.name, &params, &Patch::Merge(patch)).await {
            Ok(_) => return Ok((outcome, keyring)),
            Err(kube::Error::Api(answer)) if answer.is_conflict() => {}
            Err(kube::Error::Api(answer)) if answer.is_forbidden() => {
                let source = kube::Error::Api(answer);
                return Err(EditError::Forbidden { place: place.to_string(), source });
            }
            Err(source) => return Err(EditError::Write { place: place.to_string(), source }),
        }
    }
    Err(EditError::Contended(place.to_string()))
}
