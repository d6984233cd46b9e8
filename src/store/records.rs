//! The records of the store in Kubernetes. Every write is create-only or under the resource version that was seen, so
//! that one without an answer is settled by reading the record again.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{
    DeleteParams, ListParams, ObjectMeta, PartialObjectMeta, Patch, PatchParams, PostParams, Preconditions,
};
use kube::core::DeserializeGuard;
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use thiserror::Error;

use crate::resources::{FIELD_MANAGER, SealedGraphCredential};

/// What is attempted with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordRequest {
    /// Look at it, or at all of a namespace.
    Read,
    /// Make it.
    Create,
    /// Replace it.
    Replace,
    /// Remove it.
    Remove,
}

/// A request for a record that came to nothing.
#[derive(Debug, Error)]
pub enum RecordError {
    /// The API server refuses it, until somebody mends rights, quota or an admission policy.
    #[error("the API server refuses a request for SealedGraphCredentials (HTTP {status})")]
    Refused {
        /// What was attempted.
        request: RecordRequest,
        /// HTTP status.
        status: u16,
    },
    /// It could not be read.
    #[error("failed to read SealedGraphCredential {name}")]
    Read {
        /// The record's name.
        name: String,
        /// Why.
        source: kube::Error,
    },
    /// The namespace's records could not be listed.
    #[error("failed to list the SealedGraphCredentials of the namespace")]
    List(#[source] kube::Error),
    /// It could not be written.
    #[error("failed to write SealedGraphCredential {name}")]
    Write {
        /// The record's name.
        name: String,
        /// Why.
        source: kube::Error,
    },
    /// Somebody else made, changed or removed it meanwhile.
    #[error("the record was changed meanwhile")]
    Conflict,
}

/// Reads a record.
pub async fn read(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<Option<SealedGraphCredential>, RecordError> {
    let read = api(client, namespace).get_opt(name).await;
    read.map_err(|source| {
        refusal(RecordRequest::Read, &source)
            .unwrap_or_else(|| RecordError::Read { name: name.to_owned(), source })
    })
}

/// What the API server says of a record, without the record: also of one that cannot be read.
pub async fn metadata(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<Option<ObjectMeta>, RecordError> {
    let records: Api<PartialObjectMeta<SealedGraphCredential>> = Api::namespaced(client.clone(), namespace);
    let read = records.get_metadata_opt(name).await.map_err(|source| {
        refusal(RecordRequest::Read, &source)
            .unwrap_or_else(|| RecordError::Read { name: name.to_owned(), source })
    })?;
    Ok(read.map(|found| found.metadata))
}

/// All records of a namespace, those that cannot be read as one among them.
pub async fn list(
    client: &Client,
    namespace: &str,
) -> Result<Vec<DeserializeGuard<SealedGraphCredential>>, RecordError> {
    let records: Api<DeserializeGuard<SealedGraphCredential>> = Api::namespaced(client.clone(), namespace);
    let mut all = Vec::new();
    let mut page = ListParams::default().limit(500);
    loop {
        let list = records
            .list(&page)
            .await
            .map_err(|source| refusal(RecordRequest::Read, &source).unwrap_or(RecordError::List(source)))?;
        all.extend(list.items);
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(all),
        }
    }
}

/// The ids of the credentials of all records of a namespace.
pub async fn credential_ids(client: &Client, namespace: &str) -> Result<BTreeSet<i64>, RecordError> {
    Ok(ids_of(&list(client, namespace).await?))
}

/// The ids of the credentials of these records, as far as they can be read.
pub fn ids_of(records: &[DeserializeGuard<SealedGraphCredential>]) -> BTreeSet<i64> {
    records.iter().filter_map(|record| Some(record.0.as_ref().ok()?.spec.credential_id)).collect()
}

/// Makes a record that does not exist, or replaces the version of it that was read. What came in between is a conflict.
pub async fn write(
    client: &Client,
    namespace: &str,
    record: &SealedGraphCredential,
) -> Result<SealedGraphCredential, RecordError> {
    let name = record.name_any();
    let api = api(client, namespace);
    let (request, written) = if record.metadata.resource_version.is_none() {
        (RecordRequest::Create, api.create(&PostParams::default(), record).await)
    } else {
        (RecordRequest::Replace, api.replace(&name, &PostParams::default(), record).await)
    };
    written.map_err(|source| failure(request, name, source))
}

/// What is changed of a record that was not read: it must still be of that uid and generation.
pub struct Change<'a> {
    /// Its uid.
    pub uid: &'a str,
    /// Its generation.
    pub generation: i64,
    /// Its new name, for people.
    pub name: &'a str,
    /// When the new secret expires.
    pub expires_at: Time,
    /// The new envelope.
    pub envelope: &'a str,
}

/// Changes a record. One that is not as it is remembered is a conflict.
pub async fn change(
    client: &Client,
    namespace: &str,
    name: &str,
    change: Change<'_>,
) -> Result<SealedGraphCredential, RecordError> {
    let patch = json!([
        {"op": "test", "path": "/metadata/uid", "value": change.uid},
        {"op": "test", "path": "/metadata/generation", "value": change.generation},
        {"op": "replace", "path": "/spec/name", "value": change.name},
        {"op": "replace", "path": "/spec/secretExpiresAt", "value": change.expires_at},
        {"op": "replace", "path": "/spec/envelope", "value": change.envelope},
    ]);
    let patch: json_patch::Patch = serde_json::from_value(patch).map_err(|source| RecordError::Write {
        name: name.to_owned(),
        source: kube::Error::SerdeError(source),
    })?;
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let written = api(client, namespace).patch(name, &params, &Patch::Json::<()>(patch)).await;
    written.map_err(|source| match &source {
        // A test failed, or it is gone.
        kube::Error::Api(answer) if answer.is_invalid() || answer.is_not_found() => RecordError::Conflict,
        _ => failure(RecordRequest::Replace, name.to_owned(), source),
    })
}

/// Writes the status of the version of a record that was read.
pub async fn write_status(
    client: &Client,
    record: &SealedGraphCredential,
) -> Result<SealedGraphCredential, RecordError> {
    let (namespace, name) = (record.namespace().unwrap_or_default(), record.name_any());
    let written = api(client, &namespace).replace_status(&name, &PostParams::default(), record).await;
    written.map_err(|source| failure(RecordRequest::Replace, name, source))
}

/// Removes the version of a record whose metadata were read; one that is gone already counts as removed.
pub async fn remove(client: &Client, namespace: &str, record: &ObjectMeta) -> Result<(), RecordError> {
    let name = record.name.clone().unwrap_or_default();
    let preconditions =
        Preconditions { uid: record.uid.clone(), resource_version: record.resource_version.clone() };
    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    match api(client, namespace).delete(&name, &params).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(answer)) if answer.is_not_found() => Ok(()),
        Err(source) => Err(failure(RecordRequest::Remove, name, source)),
    }
}

fn failure(request: RecordRequest, name: String, source: kube::Error) -> RecordError {
    match &source {
        // There is no such namespace.
        kube::Error::Api(answer) if answer.is_not_found() && request == RecordRequest::Create => {
            RecordError::Refused { request, status: answer.code }
        }
        kube::Error::Api(answer)
            if answer.is_conflict() || answer.is_already_exists() || answer.is_not_found() =>
        {
            RecordError::Conflict
        }
        _ => refusal(request, &source).unwrap_or(RecordError::Write { name, source }),
    }
}

/// What the API server will go on refusing until somebody mends rights, quota or an admission policy.
fn refusal(request: RecordRequest, error: &kube::Error) -> Option<RecordError> {
    match error {
        kube::Error::Api(answer) if matches!(answer.code, 400 | 403 | 422) => {
            Some(RecordError::Refused { request, status: answer.code })
        }
        _ => None,
    }
}

fn api(client: &Client, namespace: &str) -> Api<SealedGraphCredential> {
    Api::namespaced(client.clone(), namespace)
}
