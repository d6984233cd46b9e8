//! Writes of the records of credentials. They continue if the client disconnects.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use crate::api::{SealedGraphCredential, SealedGraphCredentialSpec};
use crate::core::status::record::status_is_current;
use crate::rest::backend::Backend;
use crate::rest::credentials::{Credentials, internal_error, to_be_changed, to_response};
use crate::rest::error::{ErrorCode, RestError};
use crate::rest::request::{Create, Update};
use crate::store::envelope::{SealError, generate_record_id};
use crate::store::record::{self, generate_credential_id, rest_record_name};
use crate::store::repository::{RecordError, TRIES, conflict_backoff};
use crate::woodpecker::Credential;

// === impl Credentials ===

impl<B: Backend> Credentials<B> {
    /// Creates a record with a unique id: its name contains the id.
    pub(super) async fn save_new(&self, namespace: &str, create: &Create) -> Result<Credential, RestError> {
        for attempt in 0..TRIES {
            let record = new_record(namespace, create).map_err(|error| internal_error(&error))?;
            let reserved = self.quota.reserve(namespace, record.spec.credential_id);
            let reserved = reserved.map_err(|_exceeded| ErrorCode::TooManyCredentials)?;
            match self.backend.create(record, &create.secret.text).await {
                Ok(saved) => {
                    reserved.commit();
                    let response = to_response(&saved);
                    self.backend.update_status(saved, true).await;
                    tracing::info!(namespace, id = response.id, "saved a credential");
                    return Ok(response);
                }
                // Another record has the same id.
                Err(RecordError::Conflict) => conflict_backoff(attempt).await,
                Err(error) => return Err(map_save_error(&error)),
            }
        }
        Err(internal_error(&RecordError::Conflict))
    }

    /// Changes the record. After a conflict, it is read again.
    pub(super) async fn save_changed(
        &self,
        mut record: SealedGraphCredential,
        update: &Update,
    ) -> Result<Credential, RestError> {
        let has_new_secret = update.secret.is_some();
        for attempt in 0..TRIES {
            let mut changed = record.clone();
            if let Some(name) = &update.name {
                changed.spec.name.clone_from(name);
            }
            let written = match &update.secret {
                Some(secret) => {
                    changed.spec.secret_expires_at = Time(secret.expires_at);
                    self.backend.replace(&record, changed, &secret.text).await
                }
                None => self.backend.replace_fields(&record, changed).await,
            };
            match written {
                Ok(written) => {
                    let (namespace, response) = (written.namespace(), to_response(&written));
                    // A new name does not verify an external change of the record.
                    if has_new_secret || status_is_current(&record) {
                        self.backend.update_status(written, has_new_secret).await;
                    }
                    tracing::info!(namespace, id = response.id, has_new_secret, "changed a credential");
                    return Ok(response);
                }
                Err(RecordError::Conflict) => {
                    conflict_backoff(attempt).await;
                    let found = self.backend.same(&record).await.map_err(|error| map_save_error(&error))?;
                    record = to_be_changed(found)?;
                }
                Err(error) => return Err(map_save_error(&error)),
            }
        }
        Err(internal_error(&RecordError::Conflict))
    }

    /// Removes the record, even if it cannot be read.
    pub(super) async fn remove(&self, namespace: &str, id: i64) -> Result<(), RestError> {
        for attempt in 0..TRIES {
            let found = self.backend.metadata(namespace, &rest_record_name(id)).await;
            let found = found.map_err(|error| internal_error(&error))?.ok_or(RestError::NotFound)?;
            match self.backend.remove(namespace, &found).await {
                Ok(()) => {
                    self.quota.remove(namespace, id);
                    tracing::info!(namespace, id, "removed a credential");
                    return Ok(());
                }
                Err(RecordError::Conflict) => conflict_backoff(attempt).await,
                Err(error) => return Err(internal_error(&error)),
            }
        }
        Err(internal_error(&RecordError::Conflict))
    }
}

/// A record for the request, without the secret.
pub(crate) fn new_record(namespace: &str, create: &Create) -> Result<SealedGraphCredential, SealError> {
    let credential_id = generate_credential_id()?;
    let spec = SealedGraphCredentialSpec {
        created_secret: None,
        pending_secret: None,
        record_id: generate_record_id()?,
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

fn map_save_error(error: &RecordError) -> RestError {
    if let RecordError::Rejected { status: 404, .. } = error {
        tracing::error!(
            "the namespace of an API key does not exist: create it, or remove the key from the Secret"
        );
    }
    internal_error(error)
}
