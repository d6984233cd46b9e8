//! The keyring: a Secret in the operator's namespace with the keys of the store and of fingerprints.
//!
//! It is made on the first start, and only while nothing in the cluster depends on an earlier one: a new
//! keyring in place of a lost one would silently orphan whatever was sealed under it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ListParams, ObjectMeta, PostParams};
use kube::core::DeserializeGuard;
use kube::{Api, Client};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use zeroize::Zeroizing;

use super::fingerprint::{FingerprintKey, FingerprintKeys};
use crate::resources::conditions::whole_second;
use crate::resources::{MicrosoftGraphCredential, MicrosoftGraphCredentialStatus, SealedGraphCredential};
use crate::secrets::{self, ReadError};

/// The key of the Secret under which the keyring stands.
const DATA_KEY: &str = "keyring.json";

/// Length of every key, in bytes.
const KEY_LENGTH: usize = 32;

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
    /// It is there and cannot be read as a keyring.
    #[error("the keyring Secret {place} is damaged ({what}): restore it from a backup")]
    Damaged {
        /// Namespace and name of the Secret.
        place: String,
        /// What is wrong, without its content.
        what: &'static str,
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
    /// The system gives no randomness.
    #[error("failed to draw random bytes for a new keyring")]
    Random(#[from] getrandom::Error),
}

/// The keyring's stored form.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Stored {
    /// Id of the key that seals.
    primary: String,
    /// Keys of the store, newest first.
    keys: Vec<StoredKey>,
    /// Keys of fingerprints, newest first.
    fingerprint_keys: Vec<StoredKey>,
}

#[derive(Deserialize, Serialize)]
struct StoredKey {
    id: String,
    created: Timestamp,
    bytes: Zeroized,
}

/// Base64 text of a key; wiped on drop.
#[derive(Deserialize, Serialize)]
#[serde(from = "String", into = "String")]
struct Zeroized(Zeroizing<String>);

/// Reads the keyring, or makes it where nothing depends on an earlier one.
pub async fn load_or_create(client: &Client, place: &KeyringPlace) -> Result<FingerprintKeys, KeyringError> {
    if let Some(keys) = load(client, place).await? {
        return Ok(keys);
    }
    if let Some(dependant) = find_dependant(client, place).await.map_err(KeyringError::Survey)? {
        return Err(KeyringError::Missing { place: place.to_string(), dependant });
    }
    create(client, place).await?;
    match load(client, place).await? {
        Some(keys) => Ok(keys),
        None => Err(KeyringError::Read { place: place.to_string(), source: ReadError::NotFound }),
    }
}

async fn load(client: &Client, place: &KeyringPlace) -> Result<Option<FingerprintKeys>, KeyringError> {
    let data = match secrets::read(client, &place.namespace, &place.name).await {
        Ok(data) => data,
        Err(ReadError::NotFound) => return Ok(None),
        Err(source) => return Err(KeyringError::Read { place: place.to_string(), source }),
    };
    let damaged = |what| KeyringError::Damaged { place: place.to_string(), what };
    let json = data.get(DATA_KEY).ok_or_else(|| damaged("it has no key keyring.json"))?;
    // serde's own error could show a part of the text.
    let stored: Stored =
        serde_json::from_slice(json.expose()).map_err(|_| damaged("its JSON cannot be read"))?;
    if !stored.keys.iter().any(|key| key.id == stored.primary) {
        return Err(damaged("its primary key is not among its keys"));
    }
    let mut keys = stored.fingerprint_keys.iter().map(fingerprint_key);
    let newest = keys.next().flatten().ok_or_else(|| damaged("it has no usable fingerprint key"))?;
    let older = keys
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| damaged("a fingerprint key is not 32 bytes in base64"))?;
    Ok(Some(FingerprintKeys::new(newest, older)))
}

fn fingerprint_key(stored: &StoredKey) -> Option<FingerprintKey> {
    let bytes = Zeroizing::new(STANDARD.decode(stored.bytes.0.as_bytes()).ok()?);
    (bytes.len() == KEY_LENGTH).then(|| FingerprintKey { id: stored.id.clone(), bytes })
}

/// Create-only: where another replica was faster, its keyring is the one.
async fn create(client: &Client, place: &KeyringPlace) -> Result<(), KeyringError> {
    let now = whole_second(Timestamp::now());
    let key = fresh_key(now)?;
    let stored = Stored { primary: key.id.clone(), keys: vec![key], fingerprint_keys: vec![fresh_key(now)?] };
    let json = serde_json::to_vec(&stored).map_err(|_| KeyringError::Damaged {
        place: place.to_string(),
        what: "a new one cannot be written",
    })?;
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
        data: Some([(DATA_KEY.to_owned(), ByteString(json))].into()),
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

fn fresh_key(created: Timestamp) -> Result<StoredKey, KeyringError> {
    let mut id = [0_u8; 4];
    let mut bytes = Zeroizing::new([0_u8; KEY_LENGTH]);
    getrandom::fill(&mut id)?;
    getrandom::fill(bytes.as_mut())?;
    let text = Zeroizing::new(STANDARD.encode(bytes.as_ref()));
    Ok(StoredKey { id: format!("{:08x}", u32::from_be_bytes(id)), created, bytes: Zeroized(text) })
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

// === impl Zeroized ===

impl From<String> for Zeroized {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl From<Zeroized> for String {
    fn from(text: Zeroized) -> String {
        text.0.as_str().to_owned()
    }
}

impl Clone for Zeroized {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}
