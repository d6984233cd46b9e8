//! Writes the records of credentials: what is begun here goes on when its client has left.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::credentials::{Credentials, failed, shown};
use super::fault::{Fault, Refusal};
use super::request::{Create, Update};
use crate::controller::{Proof, is_seen, next_status};
use crate::resources::{SealedGraphCredential, SealedGraphCredentialSpec};
use crate::store::envelope::{SealError, fresh_record_id};
use crate::store::record::{self, fresh_credential_id, is_of_rest, rest_record_name};
use crate::store::repository::{self, RecordError, TRIES, conflict_backoff};
use crate::telemetry::logs::chain;
use crate::woodpecker::Credential;

// === impl Credentials ===

impl Credentials {
    /// Creates a record under an id that no other one has: its name is taken once.
    pub(super) async fn save_new(&self, namespace: &str, create: &Create) -> Result<Credential, Fault> {
        for attempt in 0..TRIES {
            let record = blank(namespace, create).map_err(|error| failed(&error))?;
            let reserved = self.quota.reserve(namespace, record.spec.credential_id);
            let reserved = reserved.map_err(|_full| Refusal::TooManyCredentials)?;
            match self.repository.save(record, &create.secret.text).await {
                Ok(saved) => {
                    reserved.keep();
                    let saved = self.note(saved, true).await;
                    tracing::info!(namespace, id = saved.spec.credential_id, "a credential is saved");
                    return Ok(shown(&saved));
                }
                // Another record has that id.
                Err(RecordError::Conflict) => conflict_backoff(attempt).await,
                Err(error) => return Err(unsaved(&error)),
            }
        }
        Err(failed(&RecordError::Conflict))
    }

    /// Changes the record, which is read again where another change got ahead.
    pub(super) async fn save_changed(
        &self,
        mut record: SealedGraphCredential,
        update: &Update,
    ) -> Result<Credential, Fault> {
        let has_new_secret = update.secret.is_some();
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
                Ok(mut written) => {
                    // What others have put there is not verified by a new name.
                    if has_new_secret || is_seen(&record) {
                        written = self.note(written, has_new_secret).await;
                    }
                    let (namespace, id) = (written.namespace(), written.spec.credential_id);
                    tracing::info!(namespace, id, has_new_secret, "a credential is changed");
                    return Ok(shown(&written));
                }
                Err(RecordError::Conflict) => {
                    conflict_backoff(attempt).await;
                    let found = self.repository.same(&record).await.map_err(|error| unsaved(&error))?;
                    record = found.filter(is_of_rest).ok_or(Fault::NotFound)?;
                }
                Err(error) => return Err(unsaved(&error)),
            }
        }
        Err(failed(&RecordError::Conflict))
    }

    /// Removes the record of that name whatever it holds.
    pub(super) async fn remove(&self, namespace: &str, id: i64) -> Result<(), Fault> {
        for attempt in 0..TRIES {
            let found = repository::metadata(&self.client, namespace, &rest_record_name(id)).await;
            let found = found.map_err(|error| failed(&error))?.ok_or(Fault::NotFound)?;
            match repository::remove(&self.client, namespace, &found).await {
                Ok(()) => {
                    self.quota.remove(namespace, id);
                    tracing::info!(namespace, id, "a credential is removed");
                    return Ok(());
                }
                Err(RecordError::Conflict) => conflict_backoff(attempt).await,
                Err(error) => return Err(failed(&error)),
            }
        }
        Err(failed(&RecordError::Conflict))
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

/// A record of the request without its secret.
fn blank(namespace: &str, create: &Create) -> Result<SealedGraphCredential, SealError> {
    let credential_id = fresh_credential_id()?;
    let spec = SealedGraphCredentialSpec {
        record_id: fresh_record_id()?,
        credential_id,
        tenant_id: create.tenant.clone(),
        client_id: create.client.clone(),
        cloud: None,
        secret_expires_at: Time(create.secret.expires_at),
        name: create.name.clone().unwrap_or_else(|| format!("Microsoft Graph {}", create.client)),
        envelope: String::new(),
    };
    Ok(record::new(namespace, rest_record_name(credential_id), spec))
}

fn unsaved(error: &RecordError) -> Fault {
    if let RecordError::Refused { status: 404, .. } = error {
        tracing::error!(
            "the namespace of an API key does not exist: make it, or take the key out of the Secret"
        );
    }
    failed(error)
}
