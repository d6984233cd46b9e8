//! The keyring's place: a Secret in the operator's namespace.
//!
//! It is made on the first start, and only while nothing in the cluster depends on an earlier one: a new
//! keyring in place of a lost one would silently orphan whatever was sealed under it.

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ListParams, ObjectMeta, PostParams};
use kube::core::DeserializeGuard;
use kube::{Api, Client};
use thiserror::Error;

use super::{Keyring, KeyringFormatError};
use crate::resources::{MicrosoftGraphCredential, MicrosoftGraphCredentialStatus, SealedGraphCredential};
use crate::secrets::{self, ReadError, SecretData};

/// The key of the Secret under which the keyring stands.
pub(super) const DATA_KEY: &str = "keyring.json";

/// Where the keyring is, and whose objects could depend on it.
#[derive(Clone, Debug)]
pub struct KeyringPlace {
    /// The operator's namespace.
    pub namespace: String,
    /// Name of the Secret.
    pub name: String,
    /// The namespaces that are served; none means all.
    pub served: Vec<String>,
}

/// A keyring that cannot be used.
#[derive(Debug, Error)]
pub enum KeyringError {
    /// There is none, and something depends on the one that was.
    #[error(
        "the keyring Secret {place} is missing, although {dependant} depends on it: restore that Secret from a \
         backup; nothing is written before"
    )]
    Missing {
        /// Namespace and name of the Secret.
        place: String,
        /// An object that holds a fingerprint or a sealed secret.
        dependant: String,
    },
    /// It is there and holds no keyring.
    #[error("the keyring Secret {place} is damaged (it has no key {DATA_KEY}): restore it from a backup")]
    Empty {
        /// Namespace and name of the Secret.
        place: String,
    },
    /// It is there and cannot be read as a keyring.
    #[error("the keyring Secret {place} is damaged ({what}): restore it from a backup")]
    Damaged {
        /// Namespace and name of the Secret.
        place: String,
        /// What is wrong, without its content.
        what: KeyringFormatError,
    },
    /// The Secret cannot be read.
    #[error("failed to read the keyring Secret {place}")]
    Read {
        /// Namespace and name of the Secret.
        place: String,
        /// Why.
        source: ReadError,
    },
    /// The Secret cannot be made.
    #[error(
        "failed to create the keyring Secret {place}: the operator needs the right to create Secrets there"
    )]
    Create {
        /// Namespace and name of the Secret.
        place: String,
        /// Why.
        source: kube::Error,
    },
    /// It cannot be told whether anything depends on an earlier keyring.
    #[error("failed to look for objects that depend on an earlier keyring")]
    Survey(#[source] kube::Error),
    /// A keyring cannot be written as JSON.
    #[error("failed to put a keyring into JSON")]
    Write(#[from] serde_json::Error),
    /// The system gives no randomness.
    #[error("failed to draw random bytes for a new keyring")]
    Random(#[from] getrandom::Error),
}

// === impl KeyringError ===

impl KeyringError {
    /// Whether it lasts until somebody mends the Secret.
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::Missing { .. } | Self::Empty { .. } | Self::Damaged { .. } => true,
            Self::Read { source, .. } => matches!(source, ReadError::NotFound | ReadError::Forbidden),
            _ => false,
        }
    }
}

/// Reads the keyring, or makes it where nothing depends on an earlier one.
pub async fn load_or_create(client: &Client, place: &KeyringPlace) -> Result<Keyring, KeyringError> {
    if let Some(keyring) = load(client, place).await? {
        return Ok(keyring);
    }
    if let Some(dependant) = find_dependant(client, place).await.map_err(KeyringError::Survey)? {
        return Err(KeyringError::Missing { place: place.to_string(), dependant });
    }
    create(client, place).await?;
    load_existing(client, place).await
}

/// Reads a keyring that must be there.
pub(super) async fn load_existing(client: &Client, place: &KeyringPlace) -> Result<Keyring, KeyringError> {
    match load(client, place).await? {
        Some(keyring) => Ok(keyring),
        None => Err(KeyringError::Read { place: place.to_string(), source: ReadError::NotFound }),
    }
}

/// The keyring with the resource version that it was read at.
pub(super) async fn load_version(
    client: &Client,
    place: &KeyringPlace,
) -> Result<(Keyring, String), KeyringError> {
    let data = secrets::read(client, &place.namespace, &place.name).await;
    let data = data.map_err(|source| KeyringError::Read { place: place.to_string(), source })?;
    Ok((parse(&data, place)?, data.resource_version().to_owned()))
}

async fn load(client: &Client, place: &KeyringPlace) -> Result<Option<Keyring>, KeyringError> {
    let data = match secrets::read(client, &place.namespace, &place.name).await {
        Ok(data) => data,
        Err(ReadError::NotFound) => return Ok(None),
        Err(source) => return Err(KeyringError::Read { place: place.to_string(), source }),
    };
    parse(&data, place).map(Some)
}

fn parse(data: &SecretData, place: &KeyringPlace) -> Result<Keyring, KeyringError> {
    let json = data.get(DATA_KEY).ok_or_else(|| KeyringError::Empty { place: place.to_string() })?;
    Keyring::from_json(json.expose()).map_err(|what| KeyringError::Damaged { place: place.to_string(), what })
}

/// Create-only: where another replica was faster, its keyring is the one.
async fn create(client: &Client, place: &KeyringPlace) -> Result<(), KeyringError> {
    let json = Keyring::random(Timestamp::now())?.to_json()?;
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(place.name.clone()),
            namespace: Some(place.namespace.clone()),
            labels: Some(
                [("app.kubernetes.io/managed-by".to_owned(), "graph-credential-operator".to_owned())].into(),
            ),
            ..ObjectMeta::default()
        },
        type_: Some("graph-credentials.io/keyring".into()),
        data: Some([(DATA_KEY.to_owned(), ByteString(json.expose().to_vec()))].into()),
        ..Secret::default()
    };
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &place.namespace);
    match secrets.create(&PostParams::default(), &secret).await {
        Ok(_) => {
            tracing::info!(secret = %place, "made a new keyring: back this Secret up");
            Ok(())
        }
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
        Err(source) => Err(KeyringError::Create { place: place.to_string(), source }),
    }
}

/// An object that holds a fingerprint or a sealed secret, if any does.
async fn find_dependant(client: &Client, place: &KeyringPlace) -> Result<Option<String>, kube::Error> {
    let scopes: Vec<Option<&str>> = if place.served.is_empty() {
        vec![None]
    } else {
        place.served.iter().map(|ns| Some(ns.as_str())).collect()
    };
    for scope in scopes {
        let sealed: Api<DeserializeGuard<SealedGraphCredential>> = api(client, scope);
        if let Some(record) = sealed.list(&ListParams::default().limit(1)).await?.items.first() {
            return Ok(Some(format!("SealedGraphCredential {}", full_name(record))));
        }
        let credentials: Api<DeserializeGuard<MicrosoftGraphCredential>> = api(client, scope);
        let mut page = ListParams::default().limit(500);
        loop {
            let list = credentials.list(&page).await?;
            // One that cannot be read may well hold a fingerprint.
            let holds = |guarded: &&DeserializeGuard<MicrosoftGraphCredential>| match &guarded.0 {
                Ok(object) => object.status.as_ref().is_some_and(holds_fingerprint),
                Err(_) => true,
            };
            if let Some(object) = list.items.iter().find(holds) {
                return Ok(Some(format!("MicrosoftGraphCredential {}", full_name(object))));
            }
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = page.continue_token(&token),
                None => break,
            }
        }
    }
    Ok(None)
}

fn holds_fingerprint(status: &MicrosoftGraphCredentialStatus) -> bool {
    status.registration.is_some()
        || status.pending.is_some()
        || status.candidate.is_some()
        || !status.retiring.is_empty()
}

fn api<K>(client: &Client, namespace: Option<&str>) -> Api<DeserializeGuard<K>>
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()> + Clone,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

fn full_name(object: &impl kube::ResourceExt) -> String {
    format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any())
}

// === impl KeyringPlace ===

impl std::fmt::Display for KeyringPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}
