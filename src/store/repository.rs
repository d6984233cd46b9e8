//! The records of the store in Kubernetes: how a secret is sealed and written, by whoever does it. Every write is create-only
//! or under the resource version that was seen, so that one without an answer is settled by reading the record again.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{DeleteParams, ObjectMeta, PartialObjectMeta, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use thiserror::Error;

use super::envelope::{Binding, Envelope, MalformedEnvelope, OpenError, SealError};
use super::keyring::{KeyId, Keyring, KeyringError, LiveKeyring};
use super::record::{SAME_SECRET, same_secret_after_resealing};
use crate::destination::Operation;
use crate::leadership::{Leadership, NotLeading};
use crate::resources::{FIELD_MANAGER, SealedGraphCredential};
use crate::secret::SecretText;
use crate::telemetry::logs::chain;

/// How often a write is tried again after a conflict.
pub const TRIES: usize = 8;

/// Seals secrets into records and writes records.
#[derive(Clone)]
pub struct Repository {
    client: Client,
    keyring: Arc<LiveKeyring>,
    leadership: Leadership,
}

/// What changes about a record that was not read: it must still be of that uid and generation.
pub struct Change<'a> {
    pub uid: &'a str,
    pub generation: i64,
    /// Its new name, for people.
    pub name: &'a str,
    pub expires_at: Time,
}

/// A request for a record that came to nothing.
#[derive(Debug, Error)]
pub enum RecordError {
    /// The API server refuses it, until somebody mends rights, quota or an admission policy.
    #[error("the API server refuses a request for SealedGraphCredentials (HTTP {status})")]
    Refused { operation: Operation, status: u16 },
    #[error("failed to read SealedGraphCredential {name}")]
    Read { name: String, source: kube::Error },
    #[error("failed to write SealedGraphCredential {name}")]
    Write { name: String, source: kube::Error },
    /// Somebody else made, changed or removed it meanwhile.
    #[error("the record was changed meanwhile")]
    Conflict,
    /// The keyring cannot be read, and without it nothing is sealed.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    #[error(transparent)]
    Seal(#[from] SealError),
    #[error("the record's envelope is malformed")]
    Malformed(#[from] MalformedEnvelope),
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Only a leader may write.
    #[error(transparent)]
    NotLeading(#[from] NotLeading),
}

pub async fn read(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<Option<SealedGraphCredential>, RecordError> {
    api(client, namespace).get_opt(name).await.map_err(|source| unread(name, source))
}

/// What the API server says of a record, without the record: also of one that cannot be read.
pub async fn metadata(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<Option<ObjectMeta>, RecordError> {
    let records: Api<PartialObjectMeta<SealedGraphCredential>> = Api::namespaced(client.clone(), namespace);
    let read = records.get_metadata_opt(name).await.map_err(|source| unread(name, source))?;
    Ok(read.map(|found| found.metadata))
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
        Err(source) => Err(failure(Operation::Delete, name, source)),
    }
}

/// A short pause of random length after a conflict, longer the more often it was in vain, so that several writers do not
/// meet again and again. All of them together take two seconds at most.
pub async fn conflict_backoff(attempt: usize) {
    let longest = 20_u64 << attempt.min(5);
    // Without randomness it is the longest.
    let pause = getrandom::u64().map_or(longest, |number| number % (longest + 1));
    tokio::time::sleep(Duration::from_millis(pause)).await;
}

// === impl Repository ===

impl Repository {
    /// Records that are sealed with that keyring, and written while that leadership lasts.
    pub fn new(client: Client, keyring: Arc<LiveKeyring>, leadership: Leadership) -> Self {
        Self { client, keyring, leadership }
    }

    /// Seals a secret into a record, under the primary key, and writes the record. For a secret that stands in a Secret as
    /// well: if the key stops being primary meanwhile, a later look at the records re-encrypts it.
    pub async fn seal(
        &self,
        mut record: SealedGraphCredential,
        secret: &SecretText,
    ) -> Result<SealedGraphCredential, RecordError> {
        let keyring = self.keyring.for_sealing().await?;
        put(&mut record, &keyring, secret)?;
        self.write(&record).await
    }

    /// Changes a record that was not read, and seals a secret into it unless it holds the right one. One that is not as it is
    /// remembered is a conflict.
    pub async fn change(
        &self,
        name: &str,
        binding: Binding<'_>,
        change: Change<'_>,
        secret: Option<&SecretText>,
    ) -> Result<SealedGraphCredential, RecordError> {
        let mut operations = vec![
            json!({"op": "test", "path": "/metadata/uid", "value": change.uid}),
            json!({"op": "test", "path": "/metadata/generation", "value": change.generation}),
            json!({"op": "replace", "path": "/spec/name", "value": change.name}),
            json!({"op": "replace", "path": "/spec/secretExpiresAt", "value": change.expires_at}),
        ];
        if let Some(secret) = secret {
            let keyring = self.keyring.for_sealing().await?;
            let envelope = Envelope::seal(&keyring, binding, secret)?.to_base64();
            operations.push(json!({"op": "replace", "path": "/spec/envelope", "value": envelope}));
        }
        let unwritten = |source| failure(Operation::Update, name.to_owned(), source);
        let patch: json_patch::Patch = serde_json::from_value(operations.into())
            .map_err(|error| unwritten(kube::Error::SerdeError(error)))?;
        self.leadership.admit_write()?;
        let patch = Patch::Json::<()>(patch);
        let written = api(&self.client, binding.namespace).patch(name, &params(), &patch).await;
        written.map_err(|source| match &source {
            // A test failed, or it is gone.
            kube::Error::Api(answer) if answer.is_invalid() || answer.is_not_found() => RecordError::Conflict,
            _ => unwritten(source),
        })
    }

    /// Seals a secret that stands nowhere else into a record, and writes the record. It is sealed under the primary key by a
    /// read of the keyring that began after the write. If nothing may open it, a new record is removed again.
    pub async fn save(
        &self,
        record: SealedGraphCredential,
        secret: &SecretText,
    ) -> Result<SealedGraphCredential, RecordError> {
        let is_new = record.metadata.resource_version.is_none();
        let written = self.seal(record, secret).await?;
        let confirmed = self.confirm(written.clone(), secret).await;
        if is_new && confirmed.is_err() {
            self.take_back(&written).await;
        }
        confirmed
    }

    /// Re-encrypts a record under the primary key. Returns whether it had to be.
    pub async fn reencrypt(
        &self,
        keyring: &Keyring,
        record: &SealedGraphCredential,
    ) -> Result<bool, RecordError> {
        let (binding, envelope) = (Binding::of(record), Envelope::from_base64(&record.spec.envelope)?);
        if envelope.key_id() == keyring.primary() {
            return Ok(false);
        }
        // The key's id is bound to the secret as well, so the secret is encrypted anew, under a new data key.
        let envelope = Envelope::seal(keyring, binding, &envelope.open(keyring, binding)?)?;
        // What a later version has added to a record stays.
        let mut patch = json!({
            "metadata": {"resourceVersion": record.metadata.resource_version},
            "spec": {"envelope": envelope.to_base64()}
        });
        if let Some(noted) = same_secret_after_resealing(record) {
            patch["metadata"]["annotations"] = json!({SAME_SECRET: noted});
        }
        self.leadership.admit_write()?;
        let name = record.name_any();
        let patched = self.api(record).patch(&name, &params(), &Patch::Merge(patch)).await;
        patched.map(|_| true).map_err(|source| failure(Operation::Update, name, source))
    }

    /// Creates a record that carries no version, or replaces the version that it carries. If the answer is lost, the record
    /// is read to see what became of the write.
    pub async fn write(&self, record: &SealedGraphCredential) -> Result<SealedGraphCredential, RecordError> {
        self.leadership.admit_write()?;
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
        tracing::warn!(record = name, error = chain(&error), "looking what became of a write");
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
        self.leadership.admit_write()?;
        let name = record.name_any();
        let written = self.api(record).replace_status(&name, &PostParams::default(), record).await;
        written.map_err(|source| failure(Operation::Update, name, source))
    }

    /// The record as it is now, if it is still the same one.
    pub async fn same(
        &self,
        record: &SealedGraphCredential,
    ) -> Result<Option<SealedGraphCredential>, RecordError> {
        let namespace = record.namespace().unwrap_or_default();
        let found = read(&self.client, &namespace, &record.name_any()).await?;
        Ok(found.filter(|found| found.spec.record_id == record.spec.record_id))
    }

    /// Makes sure that the record is sealed under the primary key. Fails only if nothing may open it: what can be opened
    /// stays saved, and a later look at the records re-encrypts it.
    async fn confirm(
        &self,
        record: SealedGraphCredential,
        secret: &SecretText,
    ) -> Result<SealedGraphCredential, RecordError> {
        let written = record.clone();
        let error = match self.follow_primary(record, secret).await {
            Err(RecordError::Keyring(error)) if error.is_lasting() => return Err(error.into()),
            Err(error) => error,
            confirmed => return confirmed,
        };
        let key = key_of(&written)?;
        if !self.keyring.current().keys().any(|known| known.id == key) {
            return Err(error);
        }
        tracing::warn!(
            record = written.name_any(),
            error = chain(&error),
            "it is not known whether a record is sealed under the primary key"
        );
        Ok(written)
    }

    /// Seals the secret again until the record is under the primary key, whatever became of the key before it.
    async fn follow_primary(
        &self,
        mut record: SealedGraphCredential,
        secret: &SecretText,
    ) -> Result<SealedGraphCredential, RecordError> {
        for attempt in 0..TRIES {
            let key = key_of(&record)?;
            let keyring = self.keyring.confirmed(key).await?;
            if keyring.primary() == key {
                return Ok(record);
            }
            let mut changed = record.clone();
            put(&mut changed, &keyring, secret)?;
            match self.write(&changed).await {
                Ok(written) => record = written,
                Err(RecordError::Conflict) => {
                    conflict_backoff(attempt).await;
                    match self.same(&record).await? {
                        Some(found) if found.spec.envelope == record.spec.envelope => record = found,
                        // It was saved, and removed or given another envelope since, whose key its writer confirms.
                        Some(_) | None => return Ok(record),
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Err(RecordError::Conflict)
    }

    /// Removes a record that was just made and that nothing opens.
    async fn take_back(&self, record: &SealedGraphCredential) {
        let namespace = record.namespace().unwrap_or_default();
        let removed = match self.same(record).await {
            Ok(Some(found)) => remove(&self.client, &namespace, &found.metadata).await,
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        match removed {
            Ok(()) => {
                tracing::warn!(record = record.name_any(), "a record that nothing opens is removed again");
            }
            Err(error) => tracing::error!(
                record = record.name_any(),
                error = chain(&error),
                "a record is left that nothing opens: delete it"
            ),
        }
    }

    fn api(&self, record: &SealedGraphCredential) -> Api<SealedGraphCredential> {
        api(&self.client, record.metadata.namespace.as_deref().unwrap_or_default())
    }
}

fn put(record: &mut SealedGraphCredential, keyring: &Keyring, secret: &SecretText) -> Result<(), SealError> {
    record.spec.envelope = Envelope::seal(keyring, Binding::of(record), secret)?.to_base64();
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
        // There is no such namespace.
        kube::Error::Api(answer) if answer.is_not_found() && operation == Operation::Create => {
            RecordError::Refused { operation, status: answer.code }
        }
        kube::Error::Api(answer)
            if answer.is_conflict() || answer.is_already_exists() || answer.is_not_found() =>
        {
            RecordError::Conflict
        }
        _ => refusal(operation, &source).unwrap_or(RecordError::Write { name, source }),
    }
}

fn unread(name: &str, source: kube::Error) -> RecordError {
    refusal(Operation::List, &source).unwrap_or_else(|| RecordError::Read { name: name.to_owned(), source })
}

/// What the API server will go on refusing until somebody mends rights, quota or an admission policy.
fn refusal(operation: Operation, error: &kube::Error) -> Option<RecordError> {
    match error {
        kube::Error::Api(answer) if matches!(answer.code, 400 | 403 | 422) => {
            Some(RecordError::Refused { operation, status: answer.code })
        }
        _ => None,
    }
}

fn api(client: &Client, namespace: &str) -> Api<SealedGraphCredential> {
    Api::namespaced(client.clone(), namespace)
}
