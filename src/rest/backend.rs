//! What the API stands on: accounts, verification and records. `run` and `serve` have the cluster's, in [`Cluster`].
//!
//! [`Cluster`]: crate::rest::cluster::Cluster

use std::sync::Arc;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use http::HeaderValue;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::api::{ClientId, SealedGraphCredential, TenantId};
use crate::rest::api_keys::Account;
use crate::rest::error::{ErrorCode, RestError};
use crate::rest::request::{NewSecret, UnknownFields};
use crate::secret_text::SecretText;
use crate::store::repository::RecordError;

/// Accounts, verification and records. A record is written only as the version that was read: anything else is a
/// [`RecordError::Conflict`].
pub(crate) trait Backend: Send + Sync + 'static {
    /// The account of an API key.
    fn authenticate(&self, key: &[u8]) -> Option<Arc<Account>>;

    /// The account of a company that the request names in `x-company-id`. A key belongs to one account, and a request
    /// that means another one must not change this one.
    fn company(&self, _account: &Account, _company: &HeaderValue) -> Result<Arc<Account>, RestError> {
        Err(ErrorCode::UnknownCompany.into())
    }

    /// What happens to fields of a body that the endpoint does not know.
    fn unknown_fields(&self) -> UnknownFields {
        UnknownFields::Reject
    }

    /// Handles a request of an account, within its limits.
    fn handle(&self, request: Request, next: Next) -> impl Future<Output = Response> + Send {
        next.run(request)
    }

    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    /// Whether Microsoft issues a token for the secret of that app. If not, the error that the client receives.
    fn verify(
        &self,
        namespace: &str,
        tenant: &TenantId,
        client: &ClientId,
        secret: &NewSecret,
    ) -> impl Future<Output = Result<(), RestError>> + Send;

    /// Calls `add` with each record of the account that was created through the API and can be read.
    fn list(
        &self,
        namespace: &str,
        add: impl FnMut(&SealedGraphCredential) + Send,
    ) -> impl Future<Output = Result<(), RestError>> + Send;

    fn read(
        &self,
        namespace: &str,
        name: &str,
    ) -> impl Future<Output = Result<Option<SealedGraphCredential>, RecordError>> + Send;

    /// The metadata of a record, even if the record cannot be read.
    fn metadata(
        &self,
        namespace: &str,
        name: &str,
    ) -> impl Future<Output = Result<Option<ObjectMeta>, RecordError>> + Send;

    /// Reads the record again; `None` if it no longer exists or was re-created.
    fn same(
        &self,
        record: &SealedGraphCredential,
    ) -> impl Future<Output = Result<Option<SealedGraphCredential>, RecordError>> + Send;

    /// Encrypts the secret into a new record.
    fn create(
        &self,
        record: SealedGraphCredential,
        secret: &SecretText,
    ) -> impl Future<Output = Result<SealedGraphCredential, RecordError>> + Send;

    /// Replaces a record, and encrypts the new secret into it.
    fn replace(
        &self,
        record: &SealedGraphCredential,
        changed: SealedGraphCredential,
        secret: &SecretText,
    ) -> impl Future<Output = Result<SealedGraphCredential, RecordError>> + Send;

    /// Replaces a record, and encrypts the same secret into it.
    fn replace_fields(
        &self,
        record: &SealedGraphCredential,
        changed: SealedGraphCredential,
    ) -> impl Future<Output = Result<SealedGraphCredential, RecordError>> + Send;

    /// Writes the status of a record after a change, if records have one: whether Microsoft has just issued a token.
    fn update_status(
        &self,
        record: SealedGraphCredential,
        is_verified: bool,
    ) -> impl Future<Output = ()> + Send;

    /// Removes a record; one that no longer exists counts as removed.
    fn remove(
        &self,
        namespace: &str,
        record: &ObjectMeta,
    ) -> impl Future<Output = Result<(), RecordError>> + Send;
}
