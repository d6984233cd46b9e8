//! The keyring's place: a Secret in the operator's namespace.
//!
//! It is made on the first start, and only while nothing in the cluster depends on an earlier one: a new
//! keyring in place of a lost one would silently orphan whatever was sealed under it. Each change is made to what was just
//! read, and written only over that very version.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use thiserror::Error;

use super::dependants::{self, SurveyError};
use super::{Keyring, KeyringFormatError};
use crate::resources::FIELD_MANAGER;
use crate::secret::SecretText;
use crate::secrets::{self, ReadError};

/// The key of the Secret under which the keyring stands.
pub(super) const DATA_KEY: &str = "keyring.json";

/// Attempts until others who change it at the same time count as an obstacle.
const ATTEMPTS: usize = 10;

/// Where the keyring is.
#[derive(Clone, Debug)]
pub struct KeyringPlace {
    /// The operator's namespace.
    pub namespace: String,
    /// Name of the Secret.
    pub name: String,
}

/// A keyring that cannot be used.
#[derive(Debug, Error)]
pub enum KeyringError {
    /// There is none, and something depends on the one that was.
    #[error(
        "the keyring Secret {place} is missing, although {dependant} depends on it: bring it back from a backup \
         (graph-credential-operator keys import), or go on without it (keys create --accept-loss); nothing is \
         written before"
    )]
    Missing {
        place: String,
        /// An object that holds a fingerprint or a sealed secret.
        dependant: String,
    },
    #[error(
        "the keyring Secret {place} is damaged ({what}): keep a copy of it, delete it, and bring it back from a \
         backup (graph-credential-operator keys import)"
    )]
    Damaged { place: String, what: KeyringFormatError },
    #[error("failed to read the keyring Secret {place}")]
    Read { place: String, source: ReadError },
    #[error(
        "failed to create the keyring Secret {place}: the operator needs the right to create Secrets there"
    )]
    Create { place: String, source: kube::Error },
    #[error(transparent)]
    Survey(#[from] SurveyError),
    #[error("failed to put a keyring into JSON")]
    Write(#[from] serde_json::Error),
    #[error("failed to draw random bytes for a new keyring")]
    Random(#[from] getrandom::Error),
    /// The failure of a read that others waited for too.
    #[error(transparent)]
    Shared(#[from] Arc<Self>),
}

/// A change that was not made.
#[derive(Debug, Error)]
pub enum EditError<E> {
    #[error(transparent)]
    Refused(E),
    /// The keyring cannot be read or written as JSON.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    #[error("the keyring Secret {place} may not be changed: it needs the right to patch it")]
    Forbidden { place: String, source: kube::Error },
    #[error("failed to write the keyring Secret {place}")]
    Write { place: String, source: kube::Error },
    #[error(
        "the keyring Secret {0} was changed by somebody else at the same time, again and again: try again"
    )]
    Contended(String),
}

// === impl KeyringError ===

impl KeyringError {
    /// Whether it lasts until somebody mends the Secret.
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::Missing { .. } | Self::Damaged { .. } => true,
            Self::Read { source, .. } => matches!(source, ReadError::NotFound | ReadError::Forbidden),
            Self::Shared(error) => error.is_lasting(),
            _ => false,
        }
    }
}

/// Reads the keyring, or makes it where nothing in these namespaces, or in any where none is named, depends on an earlier
/// one.
pub async fn load_or_create(
    client: &Client,
    place: &KeyringPlace,
    served: &[String],
) -> Result<Keyring, KeyringError> {
    if let Some(keyring) = load(client, place).await? {
        return Ok(keyring);
    }
    if let Some(dependant) = dependants::find(client, served).await? {
        return Err(KeyringError::Missing { place: place.to_string(), dependant });
    }
    create(client, place, &Keyring::random(Timestamp::now())?).await?;
    Ok(load_existing(client, place).await?.0)
}

/// Reads a keyring that must be there, with the resource version that it was read at.
pub(super) async fn load_existing(
    client: &Client,
    place: &KeyringPlace,
) -> Result<(Keyring, String), KeyringError> {
    let data = secrets::read(client, &place.namespace, &place.name).await;
    let data = data.map_err(|source| KeyringError::Read { place: place.to_string(), source })?;
    let json = data.get(DATA_KEY).ok_or(KeyringFormatError::Missing);
    let keyring = json.and_then(|json| Keyring::from_json(json.expose()));
    let keyring = keyring.map_err(|what| KeyringError::Damaged { place: place.to_string(), what })?;
    Ok((keyring, data.resource_version().to_owned()))
}

/// Reads the keyring; nothing where there is no such Secret.
pub async fn load(client: &Client, place: &KeyringPlace) -> Result<Option<Keyring>, KeyringError> {
    match load_existing(client, place).await {
        Ok((keyring, _)) => Ok(Some(keyring)),
        Err(KeyringError::Read { source: ReadError::NotFound, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes the Secret of a keyring. Returns false where there is one already, which is left alone: where another replica
/// was faster, its keyring is the one.
pub async fn create(client: &Client, place: &KeyringPlace, keyring: &Keyring) -> Result<bool, KeyringError> {
    let json = keyring.to_json()?;
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(place.name.clone()),
            namespace: Some(place.namespace.clone()),
            labels: Some([("app.kubernetes.io/managed-by".to_owned(), FIELD_MANAGER.to_owned())].into()),
            ..ObjectMeta::default()
        },
        type_: Some("graph-credentials.io/keyring".into()),
        data: Some([(DATA_KEY.to_owned(), ByteString(json.expose().to_vec()))].into()),
        ..Secret::default()
    };
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &place.namespace);
    match secrets.create(&PostParams::default(), &secret).await {
        Ok(_) => {
            tracing::info!(secret = %place, "the keyring's Secret is made: back it up (keys export)");
            Ok(true)
        }
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(false),
        Err(source) => Err(KeyringError::Create { place: place.to_string(), source }),
    }
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

// === impl KeyringPlace ===

impl std::fmt::Display for KeyringPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}
