//! Kubernetes Secrets: read whole at the moment of use, or their metadata alone to see whether they changed.
//!
//! Reading needs the right `get` on Secrets and no other. The operator's client closes the connection of every
//! request for Secrets after it, metadata or not, so that no buffer of a pooled one keeps what came through it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use kube::api::PartialObjectMeta;
use kube::core::request::Request;
use kube::{Api, Client, Resource};
use serde::Deserialize;
use thiserror::Error;

use crate::secret::SecretBytes;

/// A Secret's values, wiped when they go.
#[derive(Debug, Default, Deserialize)]
pub struct SecretData {
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    data: BTreeMap<String, SecretBytes>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    #[serde(default)]
    uid: String,
    #[serde(default)]
    resource_version: String,
}

/// By what a change of a Secret is seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretVersion {
    /// Its uid: another one means that it was made anew.
    pub uid: String,
    pub resource_version: String,
}

/// A Secret that could not be read.
#[derive(Debug, Error)]
pub enum ReadError {
    #[error("there is no such Secret")]
    NotFound,
    /// The operator lacks the right.
    #[error("the operator may not read the Secret")]
    Forbidden,
    /// Something else went wrong, for now.
    #[error("failed to read the Secret")]
    Kube(#[source] kube::Error),
}

/// Reads the values of a Secret.
pub async fn read(client: &Client, namespace: &str, name: &str) -> Result<SecretData, ReadError> {
    let path = Secret::url_path(&(), Some(namespace));
    let request = Request::new(path)
        .get(name, &kube::api::GetParams::default())
        .map_err(|error| ReadError::Kube(kube::Error::BuildRequest(error)))?;
    client.request::<SecretData>(request).await.map_err(ReadError::from)
}

/// Asks whether a Secret changed, without its values.
pub async fn version(client: &Client, namespace: &str, name: &str) -> Result<SecretVersion, ReadError> {
    let secrets: Api<PartialObjectMeta<Secret>> = Api::namespaced(client.clone(), namespace);
    let meta = secrets.get_metadata(name).await.map_err(ReadError::from)?.metadata;
    Ok(SecretVersion {
        uid: meta.uid.unwrap_or_default(),
        resource_version: meta.resource_version.unwrap_or_default(),
    })
}

// === impl SecretData ===

impl SecretData {
    /// The bytes under that key.
    pub fn get(&self, key: &str) -> Option<&SecretBytes> {
        self.data.get(key)
    }

    /// All keys with their bytes, sorted by key.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &SecretBytes)> {
        self.data.iter().map(|(key, bytes)| (key.as_str(), bytes))
    }

    /// The version at which it was read.
    pub fn version(&self) -> SecretVersion {
        let Metadata { uid, resource_version } = &self.metadata;
        SecretVersion { uid: uid.clone(), resource_version: resource_version.clone() }
    }

    /// The resource version at which it was read.
    pub fn resource_version(&self) -> &str {
        &self.metadata.resource_version
    }
}

// === impl ReadError ===

impl From<kube::Error> for ReadError {
    fn from(error: kube::Error) -> Self {
        match &error {
            kube::Error::Api(status) if status.is_not_found() => Self::NotFound,
            kube::Error::Api(status) if status.is_forbidden() => Self::Forbidden,
            _ => Self::Kube(error),
        }
    }
}
