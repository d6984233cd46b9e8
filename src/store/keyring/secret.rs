//! The keyring's Secret in the operator's namespace. The operator creates it at its first start, if nothing in the
//! cluster depends on an earlier keyring: a new keyring in place of a lost one would silently orphan whatever was
//! encrypted with it. Each change is applied to what was just read, and written conditional on that resource version.

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

use crate::api::FIELD_MANAGER;
use crate::k8s::secrets::{self, ReadError};
use crate::secret_text::SecretText;
use crate::store::keyring::dependents::{self, DependentsError};
use crate::store::keyring::{Keyring, KeyringFormatError};

/// The key of the Secret's data with the keyring.
pub(super) const DATA_KEY: &str = "keyring.json";

/// Attempts before concurrent changes count as a failure.
const ATTEMPTS: usize = 10;

/// The keyring's Secret.
#[derive(Clone, Debug)]
pub struct KeyringRef {
    /// The operator's namespace.
    pub namespace: String,
    /// Name of the Secret.
    pub name: String,
}

/// A keyring that cannot be used.
#[derive(Debug, Error)]
pub enum KeyringError {
    /// It does not exist, and something depends on an earlier one.
    #[error(
        "the keyring Secret {secret_ref} is missing, although {dependent} depends on it: restore it from a backup \
         (graph-credential-operator keys import), or continue without it (keys create --accept-loss); nothing \
         is written until then"
    )]
    Missing {
        secret_ref: String,
        /// An object with a fingerprint or an encrypted secret.
        dependent: String,
    },
    #[error(
        "the keyring Secret {secret_ref} is damaged ({what}): keep a copy of it, delete it, and restore it from a \
         backup (graph-credential-operator keys import)"
    )]
    Damaged { secret_ref: String, what: KeyringFormatError },
    #[error("failed to read the keyring Secret {secret_ref}")]
    Read { secret_ref: String, source: ReadError },
    #[error(
        "failed to create the keyring Secret {secret_ref}: the operator needs the right to create Secrets there"
    )]
    Create { secret_ref: String, source: kube::Error },
    #[error(transparent)]
    Dependents(#[from] DependentsError),
    #[error("failed to serialize the keyring")]
    Write(#[from] serde_json::Error),
    #[error("failed to draw random bytes for a new keyring")]
    Random(#[from] getrandom::Error),
    /// The error of a read that was shared with other callers.
    #[error(transparent)]
    Shared(#[from] Arc<Self>),
}

/// A change that was not made.
#[derive(Debug, Error)]
pub enum EditError<E> {
    #[error(transparent)]
    Rejected(E),
    /// The keyring cannot be read or written as JSON.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    #[error("the keyring Secret {secret_ref} could not be changed: the right to patch it is missing")]
    Forbidden { secret_ref: String, source: kube::Error },
    #[error("failed to write the keyring Secret {secret_ref}")]
    Write { secret_ref: String, source: kube::Error },
    #[error("the keyring Secret {0} was changed concurrently several times: try again")]
    Contended(String),
}

// === impl KeyringError ===

impl KeyringError {
    /// Whether it lasts until the Secret is fixed.
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::Missing { .. } | Self::Damaged { .. } => true,
            Self::Read { source, .. } => matches!(source, ReadError::NotFound | ReadError::Forbidden),
            Self::Shared(error) => error.is_lasting(),
            _ => false,
        }
    }
}

/// Reads the keyring. Creates it if it does not exist and nothing in these namespaces, or in any if none is given,
/// depends on an earlier one.
pub async fn load_or_create(
    client: &Client,
    secret_ref: &KeyringRef,
    served: &[String],
) -> Result<Keyring, KeyringError> {
    if let Some(keyring) = load(client, secret_ref).await? {
        return Ok(keyring);
    }
    if let Some(dependent) = dependents::find(client, served).await? {
        return Err(KeyringError::Missing { secret_ref: secret_ref.to_string(), dependent });
    }
    create(client, secret_ref, &Keyring::random(Timestamp::now())?).await?;
    Ok(load_existing(client, secret_ref).await?.0)
}

/// Reads a keyring that must exist, with its resource version.
pub(super) async fn load_existing(
    client: &Client,
    secret_ref: &KeyringRef,
) -> Result<(Keyring, String), KeyringError> {
    let data = secrets::read(client, &secret_ref.namespace, &secret_ref.name).await;
    let data = data.map_err(|source| KeyringError::Read { secret_ref: secret_ref.to_string(), source })?;
    let json = data.get(DATA_KEY).ok_or(KeyringFormatError::Missing);
    let keyring = json.and_then(|json| Keyring::from_json(json.expose()));
    let keyring =
        keyring.map_err(|what| KeyringError::Damaged { secret_ref: secret_ref.to_string(), what })?;
    Ok((keyring, data.resource_version().to_owned()))
}

/// Reads the keyring; `None` if its Secret does not exist.
pub async fn load(client: &Client, secret_ref: &KeyringRef) -> Result<Option<Keyring>, KeyringError> {
    match load_existing(client, secret_ref).await {
        Ok((keyring, _)) => Ok(Some(keyring)),
        Err(KeyringError::Read { source: ReadError::NotFound, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Creates the Secret of a keyring. Returns false if it already exists, for example because another replica was faster;
/// it is then left unchanged.
pub async fn create(
    client: &Client,
    secret_ref: &KeyringRef,
    keyring: &Keyring,
) -> Result<bool, KeyringError> {
    let json = keyring.to_json()?;
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(secret_ref.name.clone()),
            namespace: Some(secret_ref.namespace.clone()),
            labels: Some([("app.kubernetes.io/managed-by".to_owned(), FIELD_MANAGER.to_owned())].into()),
            ..ObjectMeta::default()
        },
        type_: Some("graph-credentials.io/keyring".into()),
        data: Some([(DATA_KEY.to_owned(), ByteString(json.expose().to_vec()))].into()),
        ..Secret::default()
    };
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &secret_ref.namespace);
    match secrets.create(&PostParams::default(), &secret).await {
        Ok(_) => {
            tracing::info!(secret = %secret_ref, "created the keyring's Secret: back it up (keys export)");
            Ok(true)
        }
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(false),
        Err(source) => Err(KeyringError::Create { secret_ref: secret_ref.to_string(), source }),
    }
}

/// Changes the keyring. `change` is called again after a conflicting write. Nothing is written if it fails or changes
/// nothing.
pub async fn edit<T, E>(
    client: &Client,
    secret_ref: &KeyringRef,
    mut change: impl FnMut(&mut Keyring) -> Result<T, E>,
) -> Result<(T, Keyring), EditError<E>> {
    for _ in 0..ATTEMPTS {
        let (mut keyring, version) = load_existing(client, secret_ref).await?;
        let before = keyring.to_json().map_err(KeyringError::Write)?;
        let outcome = change(&mut keyring).map_err(EditError::Rejected)?;
        let after = keyring.to_json().map_err(KeyringError::Write)?;
        if before.expose() == after.expose() {
            return Ok((outcome, keyring));
        }
        let encoded = SecretText::new(STANDARD.encode(after.expose()));
        let patch = json!({"metadata": {"resourceVersion": version}, "data": {DATA_KEY: encoded.expose()}});
        let secrets: Api<Secret> = Api::namespaced(client.clone(), &secret_ref.namespace);
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        match secrets.patch(&secret_ref.name, &params, &Patch::Merge(patch)).await {
            Ok(_) => return Ok((outcome, keyring)),
            Err(kube::Error::Api(status)) if status.is_conflict() => {}
            Err(kube::Error::Api(status)) if status.is_forbidden() => {
                let source = kube::Error::Api(status);
                return Err(EditError::Forbidden { secret_ref: secret_ref.to_string(), source });
            }
            Err(source) => return Err(EditError::Write { secret_ref: secret_ref.to_string(), source }),
        }
    }
    Err(EditError::Contended(secret_ref.to_string()))
}

// === impl KeyringRef ===

impl std::fmt::Display for KeyringRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}
