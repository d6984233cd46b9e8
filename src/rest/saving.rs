//! Writes the records of one account.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use kube::api::ObjectMeta;
use thiserror::Error;

use super::quota::{Full, Quota};
use super::request::{Create, Update};
use crate::controller::{Proof, is_seen, next_status};
use crate::resources::{FIELD_MANAGER, SealedGraphCredential, SealedGraphCredentialSpec};
use crate::store::envelope::fresh_record_id;
use crate::store::record::{fresh_credential_id, is_of_rest, rest_record_name};
use crate::store::repository::{RecordError, Repository, TRIES, conflict_backoff};
use crate::telemetry::logs::chain;

/// Writes the records of one account.
pub(super) struct Saving<'a> {
    /// What seals and writes them.
    pub(super) repository: &'a Repository,
    /// How many each account has.
    pub(super) quota: &'a Quota,
    /// The account's namespace.
    pub(super) namespace: &'a str,
}

/// Why a credential was not saved.
#[derive(Debug, Error)]
pub(super) enum SaveError {
    /// The account has as many credentials as it may have.
    #[error(transparent)]
    Full(#[from] Full),
    /// It was removed meanwhile.
    #[error("the credential was removed meanwhile")]
    Gone,
    /// The record cannot be sealed, read or written.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The system gives no randomness.
    #[error("failed to draw random bytes")]
    Random(#[from] getrandom::Error),
}

// === impl Saving ===

impl Saving<'_> {
    /// Creates a record under an id that no other one has: its name is taken once.
    pub(super) async fn create(&self, create: &Create) -> Result<SealedGraphCredential, SaveError> {
        for attempt in 0..TRIES {
            let record = self.blank(create)?;
            let reserved = self.quota.reserve(self.namespace, record.spec.credential_id)?;
            match self.repository.save(record, &create.secret.text).await {
                Ok(saved) => {
                    reserved.keep();
                    return Ok(self.note(saved, true).await);
                }
                // Another record has that id.
                Err(RecordError::Conflict) => conflict_backoff(attempt).await,
                Err(error) => return Err(error.into()),
            }
        }
        Err(RecordError::Conflict.into())
    }

    /// Changes the record, which is read again where another change got ahead.
    pub(super) async fn update(
        &self,
        mut record: SealedGraphCredential,
        update: &Update,
    ) -> Result<SealedGraphCredential, SaveError> {
        for attempt in 0..TRIES {
            let mut changed = record.clone();
            if let Some(name) = &update.name {
                changed.spec.name.clone_from(name);
            }
            let written = match &update.secret {
                Some(secret) => {
                    changed.spec.secret_expires_at = Time(secret.expires_at);
                    self.repository.save(changed, &secret.text).await
                }
                None => self.repository.write(&changed).await,
            };
            match written {
                // What others have put there is not verified by a new name.
                Ok(written) if update.secret.is_none() && !is_seen(&record) => return Ok(written),
                Ok(written) => return Ok(self.note(written, update.secret.is_some()).await),
                Err(RecordError::Conflict) => {
                    conflict_backoff(attempt).await;
                    let found = self.repository.same(&record).await?;
                    record = found.filter(is_of_rest).ok_or(SaveError::Gone)?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(RecordError::Conflict.into())
    }

    /// A record of the request without its secret.
    fn blank(&self, create: &Create) -> Result<SealedGraphCredential, getrandom::Error> {
        let credential_id = fresh_credential_id()?;
        let managed_by = ("app.kubernetes.io/managed-by".to_owned(), FIELD_MANAGER.to_owned());
        Ok(SealedGraphCredential {
            metadata: ObjectMeta {
                name: Some(rest_record_name(credential_id)),
                namespace: Some(self.namespace.to_owned()),
                labels: Some([managed_by].into()),
                ..ObjectMeta::default()
            },
            spec: SealedGraphCredentialSpec {
                record_id: fresh_record_id()?,
                credential_id,
                tenant_id: create.tenant.clone(),
                client_id: create.client.clone(),
                cloud: None,
                secret_expires_at: Time(create.secret.expires_at),
                name: create.name.clone().unwrap_or_else(|| format!("Microsoft Graph {}", create.client)),
                envelope: String::new(),
            },
            status: None,
        })
    }

    /// Says on the status what is known of the record now. If that fails, the record controller finds out.
    async fn note(&self, record: SealedGraphCredential, is_proved: bool) -> SealedGraphCredential {
        let proof = is_proved.then_some(Proof::Issued);
        let status = next_status(&record, proof.as_ref(), Timestamp::now());
        let noted = SealedGraphCredential { status: Some(status), ..record };
        if let Err(error) = self.repository.write_status(&noted).await {
            tracing::info!(record = noted.name_any(), error = chain(&error), "a status is not written yet");
        }
        noted
    }
}
