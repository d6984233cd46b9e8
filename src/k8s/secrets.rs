//! Reads Kubernetes Secrets: the values at the moment of use, or the metadata alone to detect changes.
//!
//! This needs only the right `get` on Secrets. The operator's client sends requests for Secrets, for metadata too, over
//! connections that are closed soon after, so that no buffer of a long-lived connection keeps a value.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::api::PartialObjectMeta;
use kube::core::request::Request;
use kube::{Api, Client, Resource};
use serde::Deserialize;
use thiserror::Error;

use crate::core::model::ConditionFailure;
use crate::core::secret_value::SecretValue;
use crate::secret_text::{SecretBytes, SecretText};

/// A Secret's values, wiped on drop.
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
    #[serde(default)]
    creation_timestamp: Option<String>,
    #[serde(default)]
    managed_fields: Vec<ManagedFields>,
}

/// What a writer of the Secret last wrote.
#[derive(Debug, Default, Deserialize)]
struct ManagedFields {
    #[serde(default)]
    time: Option<String>,
}

/// Identifies a version of a Secret, to detect changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretVersion {
    /// A different uid means that the Secret was re-created.
    pub uid: String,
    pub resource_version: String,
}

/// A Secret that could not be read.
#[derive(Debug, Error)]
pub enum ReadError {
    #[error("there is no such Secret")]
    NotFound,
    #[error("the operator may not read the Secret")]
    Forbidden,
    /// Anything else; trying again may help.
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

/// Reads the version of a Secret without its values.
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
    pub fn get(&self, key: &str) -> Option<&SecretBytes> {
        self.data.get(key)
    }

    /// The text of that value, or what is wrong with it.
    pub fn text(&self, value: &SecretValue<'_>) -> Result<SecretText, ConditionFailure> {
        let bytes = self.data.get(value.key).ok_or_else(|| value.key_missing())?;
        let text = value.kind.check(bytes.expose()).map_err(|problem| value.unusable(problem))?;
        Ok(SecretText::new(text.to_owned()))
    }

    /// All keys with their values, sorted by key.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &SecretBytes)> {
        self.data.iter().map(|(key, bytes)| (key.as_str(), bytes))
    }

    /// The version at which it was read.
    pub fn version(&self) -> SecretVersion {
        let Metadata { uid, resource_version, .. } = &self.metadata;
        SecretVersion { uid: uid.clone(), resource_version: resource_version.clone() }
    }

    /// When it was created or changed last, by the clock of the API server.
    pub fn changed_at(&self) -> Option<Timestamp> {
        let written = self.metadata.managed_fields.iter().filter_map(|fields| fields.time.as_ref());
        let times = self.metadata.creation_timestamp.iter().chain(written);
        times.filter_map(|time| time.parse().ok()).max()
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_last_write_of_a_secret_is_its_last_change() {
        let changed_at = |metadata: serde_json::Value| {
            let data: SecretData = serde_json::from_value(json!({"metadata": metadata})).unwrap();
            data.changed_at().map(|at| at.to_string())
        };
        let created = "2026-11-24T08:00:00Z";
        assert_eq!(changed_at(json!({"creationTimestamp": created})).as_deref(), Some(created));
        let written =
            [json!({"time": "2026-11-24T08:05:00Z"}), json!({"manager": "x"}), json!({"time": created})];
        let changed = changed_at(json!({"creationTimestamp": created, "managedFields": written}));
        assert_eq!(changed.as_deref(), Some("2026-11-24T08:05:00Z"));
        assert_eq!(changed_at(json!({})), None);
    }
}
