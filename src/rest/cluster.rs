//! The backend of `run` and `serve`: API keys from a Secret, verification at Microsoft, and records in Kubernetes.

use std::sync::Arc;

use kube::api::ObjectMeta;
use kube::{Client, ResourceExt};

use crate::api::{ClientId, Cloud, SealedGraphCredential, TenantId};
use crate::core::error_chain::chain;
use crate::core::secret_form;
use crate::core::status::record::{RecordVerification, next_status};
use crate::core::token_result::TokenResult;
use crate::entra::{AppCredential, TokenEndpoint};
use crate::rest::api_keys::Account;
use crate::rest::auth::Authenticator;
use crate::rest::backend::Backend;
use crate::rest::credentials::internal_error;
use crate::rest::error::{self, RestError};
use crate::rest::request::NewSecret;
use crate::secret_text::SecretText;
use crate::store::key_usage;
use crate::store::record::{is_of_rest, is_rest_record_name};
use crate::store::repository::{self, RecordError, Repository};

pub struct Cluster {
    pub client: Client,
    pub authenticator: Arc<Authenticator>,
    pub repository: Repository,
    pub token_endpoint: TokenEndpoint,
}

// === impl Cluster ===

impl Backend for Cluster {
    fn authenticate(&self, key: &[u8]) -> Option<Arc<Account>> {
        self.authenticator.authenticate(key)
    }

    async fn verify(
        &self,
        namespace: &str,
        tenant: &TenantId,
        client: &ClientId,
        secret: &NewSecret,
    ) -> Result<(), RestError> {
        let app = AppCredential { cloud: Cloud::Global, tenant, client };
        let endpoint = self.token_endpoint.for_account(namespace);
        let result = endpoint.verify(app, &secret.text).await.map_err(|error| internal_error(&error))?;
        let TokenResult::NotIssued { diagnosis, retry_after, request_ids } = result else { return Ok(()) };
        tracing::info!(
            %tenant,
            %client,
            ?diagnosis,
            status = request_ids.status,
            codes = ?request_ids.codes,
            trace_id = request_ids.id,
            correlation_id = request_ids.correlation_id,
            failure = request_ids.failure,
            "Microsoft issued no token"
        );
        let form = secret_form::recognize(secret.text.expose(), tenant, client);
        Err(error::of_diagnosis(&diagnosis, retry_after, form))
    }

    async fn list(
        &self,
        namespace: &str,
        mut add: impl FnMut(&SealedGraphCredential) + Send,
    ) -> Result<(), RestError> {
        let own = [namespace.to_owned()];
        let mut pages = key_usage::pages(&self.client, &own);
        while let Some(records) = pages.next().await.map_err(|error| internal_error(&error))? {
            for record in records {
                match record.0 {
                    Ok(record) if is_of_rest(&record) => add(&record),
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
        Ok(())
    }

    async fn read(&self, namespace: &str, name: &str) -> Result<Option<SealedGraphCredential>, RecordError> {
        repository::read(&self.client, namespace, name).await
    }

    async fn metadata(&self, namespace: &str, name: &str) -> Result<Option<ObjectMeta>, RecordError> {
        repository::metadata(&self.client, namespace, name).await
    }

    async fn same(
        &self,
        record: &SealedGraphCredential,
    ) -> Result<Option<SealedGraphCredential>, RecordError> {
        self.repository.same(record).await
    }

    async fn create(
        &self,
        record: SealedGraphCredential,
        secret: &SecretText,
    ) -> Result<SealedGraphCredential, RecordError> {
        self.repository.create(record, secret).await
    }

    async fn replace(
        &self,
        record: &SealedGraphCredential,
        changed: SealedGraphCredential,
        secret: &SecretText,
    ) -> Result<SealedGraphCredential, RecordError> {
        self.repository.replace(record, changed, secret).await
    }

    async fn replace_fields(
        &self,
        record: &SealedGraphCredential,
        changed: SealedGraphCredential,
    ) -> Result<SealedGraphCredential, RecordError> {
        self.repository.replace_fields(record, changed).await
    }

    /// If it fails, the record controller writes it later.
    async fn update_status(&self, record: SealedGraphCredential, is_verified: bool) {
        let verification = is_verified.then_some(RecordVerification::Issued);
        let status = next_status(&record, verification.as_ref(), self.now());
        let updated = SealedGraphCredential { status: Some(status), ..record };
        if let Err(error) = self.repository.write_status(&updated).await {
            tracing::info!(
                record = updated.name_any(),
                error = chain(&error),
                "failed to write the status of a record; the record controller writes it later"
            );
        }
    }

    async fn remove(&self, namespace: &str, record: &ObjectMeta) -> Result<(), RecordError> {
        repository::remove(&self.client, namespace, record).await
    }
}
