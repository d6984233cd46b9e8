//! The operations on credentials: verify the secret, encrypt it into a record of the account, and return everything except
//! the secret.

use std::sync::Arc;
use std::task::Poll;

use kube::ResourceExt;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::api::timestamp::rfc3339;
use crate::api::{Cloud, SealedGraphCredential};
use crate::core::error_chain::chain;
use crate::rest::backend::Backend;
use crate::rest::error::{ErrorCode, RestError};
use crate::rest::quota::Quota;
use crate::rest::rate_limit::ListLimit;
use crate::rest::request::{Create, Update};
use crate::store::record::{is_of_rest, rest_record_name};
use crate::woodpecker::Credential;

pub struct Credentials<B> {
    pub backend: B,
    pub quota: Arc<Quota>,
    /// Writes in progress, which continue if their client disconnects.
    pub writes: TaskTracker,
    pub list_limit: ListLimit,
}

// === impl Credentials ===

impl<B: Backend> Credentials<B> {
    /// All credentials of an account, by the second of their creation and then by id. Unreadable records are left out.
    pub async fn list(&self, namespace: &str) -> Result<Vec<Credential>, RestError> {
        let permit = self.list_limit.acquire(namespace).await;
        let mut listed = Vec::new();
        let add = |record: &SealedGraphCredential| {
            listed.push((record.creation_timestamp(), to_response(record)));
        };
        self.backend.list(namespace, add).await?;
        drop(permit);
        listed.sort_by_key(|(created, credential)| (created.clone(), credential.id));
        Ok(listed.into_iter().map(|(_, credential)| credential).collect())
    }

    /// Verifies a secret and saves it as a new credential.
    pub async fn create(self: Arc<Self>, namespace: &str, create: Create) -> Result<Credential, RestError> {
        // A secret that cannot be saved is not sent to Microsoft.
        if self.quota.is_reached(namespace) {
            return Err(ErrorCode::TooManyCredentials.into());
        }
        self.backend.verify(namespace, &create.tenant, &create.client, &create.secret).await?;
        let namespace = namespace.to_owned();
        self.clone().run_detached(async move { self.save_new(&namespace, &create).await }).await
    }

    /// Changes the secret of a credential, once the new one is verified, its name, or both.
    pub async fn update(
        self: Arc<Self>,
        namespace: &str,
        id: i64,
        update: Update,
    ) -> Result<Credential, RestError> {
        let record = self.find(namespace, id).await?;
        if let Some(secret) = &update.secret {
            self.backend.verify(namespace, &record.spec.tenant_id, &record.spec.client_id, secret).await?;
        }
        self.clone().run_detached(async move { self.save_changed(record, &update).await }).await
    }

    /// Removes a credential, even if its record cannot be read.
    pub async fn delete(self: Arc<Self>, namespace: &str, id: i64) -> Result<(), RestError> {
        let namespace = namespace.to_owned();
        self.clone().run_detached(async move { self.remove(&namespace, id).await }).await
    }

    async fn find(&self, namespace: &str, id: i64) -> Result<SealedGraphCredential, RestError> {
        let read = self.backend.read(namespace, &rest_record_name(id)).await;
        let record = read.map_err(|error| internal_error(&error))?;
        to_be_changed(record)
    }

    /// Completes a write even if the client disconnects meanwhile.
    async fn run_detached<T: Send + 'static>(
        &self,
        write: impl Future<Output = Result<T, RestError>> + Send + 'static,
    ) -> Result<T, RestError> {
        let mut write = Box::pin(write.in_current_span());
        // One that waits for nothing needs no task.
        match futures::poll!(&mut write) {
            Poll::Ready(result) => result,
            Poll::Pending => {
                self.writes.spawn(write).await.unwrap_or_else(|error| Err(internal_error(&error)))
            }
        }
    }
}

/// A record that was read, if the API may change it: it saves secrets for the Global cloud only.
pub(super) fn to_be_changed(read: Option<SealedGraphCredential>) -> Result<SealedGraphCredential, RestError> {
    let record = read.filter(is_of_rest).ok_or(RestError::NotFound)?;
    if record.spec.cloud.is_some_and(|cloud| cloud != Cloud::Global) {
        tracing::error!(
            record = record.name_any(),
            "the cloud of a record was changed, so it is left alone: re-create it with cloud Global"
        );
        return Err(RestError::Internal);
    }
    Ok(record)
}

pub(super) fn to_response(record: &SealedGraphCredential) -> Credential {
    let spec = &record.spec;
    Credential {
        id: spec.credential_id,
        tenant_id: spec.tenant_id.to_string(),
        client_id: spec.client_id.to_string(),
        secret_expires_at: Some(rfc3339(spec.secret_expires_at.0)),
        name: Some(spec.name.clone()),
    }
}

/// Logs the error; the response does not show it.
pub(super) fn internal_error(error: &dyn std::error::Error) -> RestError {
    tracing::error!(error = chain(error), "a request failed");
    RestError::Internal
}
