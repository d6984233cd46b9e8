//! The operations on credentials: verify at Microsoft, encrypt into a record in the account's namespace, and return
//! everything except the secret.

use std::sync::Arc;

use kube::{Client, ResourceExt};
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::api::timestamp::rfc3339;
use crate::api::{Cloud, SealedGraphCredential};
use crate::core::error_chain::chain;
use crate::core::secret_form;
use crate::core::token_result::TokenResult;
use crate::entra::{AppCredential, TokenEndpoint};
use crate::rest::error::{self, ErrorCode, RestError};
use crate::rest::quota::Quota;
use crate::rest::rate_limit::ListLimit;
use crate::rest::request::{Create, NewSecret, Update};
use crate::store::key_usage;
use crate::store::record::{is_of_rest, is_rest_record_name, rest_record_name};
use crate::store::repository::{self, Repository};
use crate::woodpecker::Credential;

pub struct Credentials {
    pub client: Client,
    pub repository: Repository,
    pub quota: Arc<Quota>,
    pub token_endpoint: TokenEndpoint,
    /// Writes in progress, which continue if their client disconnects.
    pub writes: TaskTracker,
    pub list_limit: ListLimit,
}

// === impl Credentials ===

impl Credentials {
    /// All credentials of an account, by the second of their creation and then by id. Unreadable records are left out.
    pub async fn list(&self, namespace: &str) -> Result<Vec<Credential>, RestError> {
        let permit = self.list_limit.acquire(namespace).await;
        let own = [namespace.to_owned()];
        let mut pages = key_usage::pages(&self.client, &own);
        let mut listed = Vec::new();
        while let Some(records) = pages.next().await.map_err(|error| internal_error(&error))? {
            for record in records {
                match record.0 {
                    Ok(record) if is_of_rest(&record) => {
                        listed.push((record.creation_timestamp(), to_response(&record)));
                    }
                    Err(invalid) if invalid.metadata.name.as_deref().is_some_and(is_rest_record_name) => {
                        tracing::warn!(
                            namespace,
                            record = invalid.metadata.name,
                            error = invalid.error,
                            "a record cannot be read, so the list lacks it: fix or delete it"
                        );
                    }
                    Ok(_) | Err(_) => {}
                }
            }
        }
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
        let app = AppCredential { cloud: Cloud::Global, tenant: &create.tenant, client: &create.client };
        self.verify(namespace, app, &create.secret).await?;
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
            let (cloud, spec) = (Cloud::Global, &record.spec);
            let app = AppCredential { cloud, tenant: &spec.tenant_id, client: &spec.client_id };
            self.verify(namespace, app, secret).await?;
        }
        self.clone().run_detached(async move { self.save_changed(record, &update).await }).await
    }

    /// Removes a credential, even if its record cannot be read.
    pub async fn delete(self: Arc<Self>, namespace: &str, id: i64) -> Result<(), RestError> {
        let namespace = namespace.to_owned();
        self.clone().run_detached(async move { self.remove(&namespace, id).await }).await
    }

    async fn find(&self, namespace: &str, id: i64) -> Result<SealedGraphCredential, RestError> {
        let read = repository::read(&self.client, namespace, &rest_record_name(id)).await;
        let record = read.map_err(|error| internal_error(&error))?;
        to_be_changed(record)
    }

    async fn verify(
        &self,
        namespace: &str,
        app: AppCredential<'_>,
        secret: &NewSecret,
    ) -> Result<(), RestError> {
        let endpoint = self.token_endpoint.for_account(namespace);
        let result = endpoint.verify(app, &secret.text).await.map_err(|error| internal_error(&error))?;
        let TokenResult::NotIssued { diagnosis, retry_after, request_ids } = result else { return Ok(()) };
        tracing::info!(
            tenant = %app.tenant,
            client = %app.client,
            ?diagnosis,
            status = request_ids.status,
            codes = ?request_ids.codes,
            trace_id = request_ids.id,
            correlation_id = request_ids.correlation_id,
            failure = request_ids.failure,
            "Microsoft issued no token"
        );
        let form = secret_form::recognize(secret.text.expose(), app.tenant, app.client);
        Err(error::of_diagnosis(&diagnosis, retry_after, form))
    }

    /// Completes a write even if the client disconnects meanwhile.
    async fn run_detached<T: Send + 'static>(
        &self,
        write: impl Future<Output = Result<T, RestError>> + Send + 'static,
    ) -> Result<T, RestError> {
        self.writes.spawn(write.in_current_span()).await.unwrap_or_else(|error| Err(internal_error(&error)))
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
