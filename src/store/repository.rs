//! Repository of the store's records in Kubernetes: how every process encrypts and writes secrets. Every write is a
//! create, or conditional on the resource version that was read, so that one without a response can be resolved by
//! reading the record again.

mod confirmed;

use crate::api::SAME_SECRET;
use std::sync::Arc;
use std::time::Duration;

use kube::api::{DeleteParams, ObjectMeta, PartialObjectMeta, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use thiserror::Error;

use crate::api::timestamp::rfc3339;
use crate::api::{FIELD_MANAGER, SealedGraphCredential};
use crate::core::error_chain::chain;
use crate::core::failure::Operation;
use crate::k8s::leadership::{Leadership, NotLeading};
use crate::secret_text::SecretText;
use crate::store::envelope::{AssociatedData, Envelope, MalformedEnvelope, OpenError, SealError, Secrets};
use crate::store::keyring::{KeyId, Keyring, KeyringCache, KeyringError};
use crate::store::record::same_secret_after_reencryption;

/// How often a write is tried again after a conflict.
pub const TRIES: usize = 8;

/// Encrypts secrets into records and writes records.
#[derive(Clone)]
pub struct Repository {
    client: Client,
    keyring: Arc<KeyringCache>,
    leadership: Leadership,
}

/// A change of a record that was not read: it must still have that uid, generation and credential id.
pub struct Change<'a> {
    pub uid: &'a str,
    pub generation: i64,
    /// The record with its new name and expiry.
    pub record: AssociatedData<'a>,
}

/// A failed request for a record.
#[derive(Debug, Error)]
pub enum RecordError {
    /// The API server rejects it until permissions, quota or an admission policy are fixed.
    #[error("the API server rejected a request for SealedGraphCredentials (HTTP {status})")]
    Rejected { operation: Operation, status: u16 },
    #[error("failed to read SealedGraphCredential {name}")]
    Read { name: String, source: kube::Error },
    #[error("failed to write SealedGraphCredential {name}")]
    Write { name: String, source: kube::Error },
    /// It was created, changed or deleted concurrently.
    #[error("the record was changed concurrently")]
    Conflict,
    /// The keyring cannot be read, and nothing is encrypted without it.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    #[error(transparent)]
    Seal(#[from] SealError),
    #[error("the record's envelope is malformed")]
    Malformed(#[from] MalformedEnvelope),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    NotLeading(#[from] NotLeading),
}

pub async fn read(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<Option<SealedGraphCredential>, RecordError> {
    api(client, namespace).get_opt(name).await.map_err(|source| read_failure(name, source))
}

/// The metadata of a record, even if the record cannot be deserialized.
pub async fn metadata(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<Option<ObjectMeta>, RecordError> {
    let records: Api<PartialObjectMeta<SealedGraphCredential>> = Api::namespaced(client.clone(), namespace);
    let read = records.get_metadata_opt(name).await.map_err(|source| read_failure(name, source))?;
    Ok(read.map(|found| found.metadata))
}

/// Deletes the version of a record whose metadata were read; one that no longer exists counts as deleted.
pub async fn remove(client: &Client, namespace: &str, record: &ObjectMeta) -> Result<(), RecordError> {
    let name = record.name.clone().unwrap_or_default();
    let preconditions =
        Preconditions { uid: record.uid.clone(), resource_version: record.resource_version.clone() };
    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    match api(client, namespace).delete(&name, &params).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(source) => Err(failure(Operation::Delete, name, source)),
    }
}

/// Sleeps for a random time after a conflict, longer with each attempt, so that concurrent writers do not collide again
/// and again. All attempts together take two seconds at most.
pub async fn conflict_backoff(attempt: usize) {
    let longest = 20_u64 << attempt.min(5);
    // If there is no randomness, the longest time.
    let pause = getrandom::u64().map_or(longest, |number| number % (longest + 1));
    tokio::time::sleep(Duration::from_millis(pause)).await;
}

// === impl Repository ===

impl Repository {
    /// `leadership` limits how long records may be written.
    pub fn new(client: Client, keyring: Arc<KeyringCache>, leadership: Leadership) -> Self {
        Self { client, keyring, leadership }
    }

    /// Encrypts a secret with the primary key into a record, and writes the record. For a secret that is also in a
    /// Secret: if the key stops being primary meanwhile, a later sweep re-encrypts the record.
    pub async fn seal(
        &self,
        mut record: SealedGraphCredential,
        secrets: impl Into<Secrets<'_>>,
    ) -> Result<SealedGraphCredential, RecordError> {
        let keyring = self.keyring.for_encryption().await?;
        encrypt_into(&mut record, &keyring, secrets.into())?;
        self.write(&record).await
    }

    /// Finds out whether a record can be created, or replaced if it has a resource version: nothing is changed.
    pub async fn check_writable(
        &self,
        mut record: SealedGraphCredential,
        placeholder: &SecretText,
    ) -> Result<(), RecordError> {
        let keyring = self.keyring.for_encryption().await?;
        encrypt_into(&mut record, &keyring, placeholder.into())?;
        let (name, api) = (record.name_any(), self.api(&record));
        let params = PostParams { dry_run: true, ..PostParams::default() };
        let (operation, written) = if record.metadata.resource_version.is_none() {
            (Operation::Create, api.create(&params, &record).await)
        } else {
            (Operation::Update, api.replace(&name, &params, &record).await)
        };
        written.map(|_| ()).map_err(|source| failure(operation, name, source))
    }

    /// Changes a record that was not read, and encrypts a secret into it. If the record is not as expected, that is a
    /// conflict.
    pub async fn change(
        &self,
        name: &str,
        Change { uid, generation, record }: Change<'_>,
        secret: &SecretText,
    ) -> Result<SealedGraphCredential, RecordError> {
        let keyring = self.keyring.for_encryption().await?;
        let envelope = Envelope::seal(&keyring, record, secret)?.to_base64();
        let operations = json!([
            {"op": "test", "path": "/metadata/uid", "value": uid},
            {"op": "test", "path": "/metadata/generation", "value": generation},
            {"op": "test", "path": "/spec/credentialId", "value": record.credential_id},
            {"op": "replace", "path": "/spec/name", "value": record.name},
            {"op": "replace", "path": "/spec/secretExpiresAt", "value": rfc3339(record.expires_at)},
            {"op": "replace", "path": "/spec/envelope", "value": envelope},
        ]);
        let write_failure = |source| failure(Operation::Update, name.to_owned(), source);
        let patch: json_patch::Patch = serde_json::from_value(operations)
            .map_err(|error| write_failure(kube::Error::SerdeError(error)))?;
        self.leadership.check_write()?;
        let patch = Patch::Json::<()>(patch);
        let written = api(&self.client, record.namespace).patch(name, &params(), &patch).await;
        written.map_err(|source| match &source {
            // A test failed, or the record no longer exists.
            kube::Error::Api(status) if status.is_invalid() || status.is_not_found() => RecordError::Conflict,
            _ => write_failure(source),
        })
    }

    /// Re-encrypts a record with the primary key in the current format. Returns whether that was needed.
    pub async fn reencrypt(
        &self,
        keyring: &Keyring,
        record: &SealedGraphCredential,
    ) -> Result<bool, RecordError> {
        let (binding, envelope) = (AssociatedData::of(record), Envelope::from_base64(&record.spec.envelope)?);
        if envelope.key_id() == keyring.primary() && !envelope.has_earlier_format() {
            return Ok(false);
        }
        // The key id is part of the associated data, so the secret itself is encrypted again, with a new data key.
        let (current, pending) = envelope.open_all(keyring, binding)?;
        let secrets = Secrets { current: &current, pending: pending.as_ref() };
        let envelope = Envelope::seal(keyring, binding, secrets)?;
        // A merge patch keeps fields that a later version has added.
        let mut patch = json!({
            "metadata": {"resourceVersion": record.metadata.resource_version},
            "spec": {"envelope": envelope.to_base64()}
        });
        if let Some(noted) = same_secret_after_reencryption(record) {
            patch["metadata"]["annotations"] = json!({SAME_SECRET: noted});
        }
        self.leadership.check_write()?;
        let name = record.name_any();
        let patched = self.api(record).patch(&name, &params(), &Patch::Merge(patch)).await;
        patched.map(|_| true).map_err(|source| failure(Operation::Update, name, source))
    }

    /// Creates a record without resource version, or replaces that version of the record. If the response is lost, the
    /// record is read to determine the outcome.
    pub async fn write(&self, record: &SealedGraphCredential) -> Result<SealedGraphCredential, RecordError> {
        self.leadership.check_write()?;
        let (name, api) = (record.name_any(), self.api(record));
        let (operation, written) = if record.metadata.resource_version.is_none() {
            (Operation::Create, api.create(&PostParams::default(), record).await)
        } else {
            (Operation::Update, api.replace(&name, &PostParams::default(), record).await)
        };
        let error = match written.map_err(|source| failure(operation, name.clone(), source)) {
            Err(error @ RecordError::Write { .. }) => error,
            ended => return ended,
        };
        tracing::warn!(
            record = name,
            error = chain(&error),
            "checking the outcome of a write without a response"
        );
        let was_written = |found: &SealedGraphCredential| {
            found.spec == record.spec && found.metadata.annotations == record.metadata.annotations
        };
        match api.get_opt(&name).await {
            Ok(Some(found)) if was_written(&found) => Ok(found),
            _ => Err(error),
        }
    }

    /// Writes the status of the version of a record that was read.
    pub async fn write_status(
        &self,
        record: &SealedGraphCredential,
    ) -> Result<SealedGraphCredential, RecordError> {
        self.leadership.check_write()?;
        let name = record.name_any();
        let written = self.api(record).replace_status(&name, &PostParams::default(), record).await;
        written.map_err(|source| failure(Operation::Update, name, source))
    }

    /// Reads the record again; `None` if it no longer exists or was re-created.
    pub async fn same(
        &self,
        record: &SealedGraphCredential,
    ) -> Result<Option<SealedGraphCredential>, RecordError> {
        let namespace = record.namespace().unwrap_or_default();
        let found = read(&self.client, &namespace, &record.name_any()).await?;
        Ok(found.filter(|found| found.spec.record_id == record.spec.record_id))
    }

    fn api(&self, record: &SealedGraphCredential) -> Api<SealedGraphCredential> {
        api(&self.client, record.metadata.namespace.as_deref().unwrap_or_default())
    }
}

fn encrypt_into(
    record: &mut SealedGraphCredential,
    keyring: &Keyring,
    secrets: Secrets<'_>,
) -> Result<(), SealError> {
    record.spec.envelope = Envelope::seal(keyring, AssociatedData::of(record), secrets)?.to_base64();
    Ok(())
}

fn params() -> PatchParams {
    PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() }
}

fn key_of(record: &SealedGraphCredential) -> Result<KeyId, MalformedEnvelope> {
    Ok(Envelope::from_base64(&record.spec.envelope)?.key_id())
}

fn failure(operation: Operation, name: String, source: kube::Error) -> RecordError {
    match &source {
        // The namespace does not exist.
        kube::Error::Api(status) if status.is_not_found() && operation == Operation::Create => {
            RecordError::Rejected { operation, status: status.code }
        }
        kube::Error::Api(status)
            if status.is_conflict() || status.is_already_exists() || status.is_not_found() =>
        {
            RecordError::Conflict
        }
        _ => rejection(operation, &source).unwrap_or(RecordError::Write { name, source }),
    }
}

fn read_failure(name: &str, source: kube::Error) -> RecordError {
    rejection(Operation::List, &source).unwrap_or_else(|| RecordError::Read { name: name.to_owned(), source })
}

/// What the API server will reject until permissions, quota or an admission policy are fixed.
fn rejection(operation: Operation, error: &kube::Error) -> Option<RecordError> {
    match error {
        kube::Error::Api(status) if matches!(status.code, 400 | 403 | 422) => {
            Some(RecordError::Rejected { operation, status: status.code })
        }
        _ => None,
    }
}

fn api(client: &Client, namespace: &str) -> Api<SealedGraphCredential> {
    Api::namespaced(client.clone(), namespace)
}
