//! What the API does with credentials: prove at Microsoft, seal into a record of the account's namespace, and show
//! everything but the secret.

use std::sync::Arc;

use kube::{Client, ResourceExt};
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use super::fault::{self, Fault};
use super::quota::Quota;
use super::request::{Create, NewSecret, Update};
use super::turns::Listings;
use crate::microsoft::{App, TokenEndpoint, Verdict};
use crate::resources::{Cloud, SealedGraphCredential};
use crate::store::census;
use crate::store::record::{is_of_rest, is_rest_record_name, rest_record_name};
use crate::store::repository::{self, Repository};
use crate::telemetry::logs::chain;
use crate::woodpecker::{Credential, rfc3339};

pub struct Credentials {
    pub client: Client,
    pub repository: Repository,
    /// How many credentials each account has.
    pub quota: Arc<Quota>,
    pub token_endpoint: TokenEndpoint,
    /// Writes under way, which go on when their client has left.
    pub writes: TaskTracker,
    /// How many listings are made at a time.
    pub listings: Listings,
}

// === impl Credentials ===

impl Credentials {
    /// All credentials of an account, by the second in which they were made and then by id. A record that cannot be read
    /// is left out.
    pub async fn list(&self, namespace: &str) -> Result<Vec<Credential>, Fault> {
        let turn = self.listings.take(namespace).await;
        let own = [namespace.to_owned()];
        let mut pages = census::pages(&self.client, &own);
        let mut ours = Vec::new();
        while let Some(records) = pages.next().await.map_err(|error| failed(&error))? {
            for record in records {
                match record.0 {
                    Ok(record) if is_of_rest(&record) => {
                        ours.push((record.creation_timestamp(), shown(&record)));
                    }
                    // It keeps nobody from the others.
                    Err(invalid) if invalid.metadata.name.as_deref().is_some_and(is_rest_record_name) => {
                        tracing::warn!(
                            namespace,
                            record = invalid.metadata.name,
                            error = invalid.error,
                            "a record cannot be read, and a listing leaves it out: mend or delete it"
                        );
                    }
                    Ok(_) | Err(_) => {}
                }
            }
        }
        drop(turn);
        ours.sort_by_key(|(created, shown)| (created.clone(), shown.id));
        Ok(ours.into_iter().map(|(_, shown)| shown).collect())
    }

    /// Proves a secret and saves it as a new credential.
    pub async fn create(self: Arc<Self>, namespace: &str, create: Create) -> Result<Credential, Fault> {
        let app = App { cloud: Cloud::Global, tenant: &create.tenant, client: &create.client };
        self.prove(namespace, app, &create.secret).await?;
        let namespace = namespace.to_owned();
        self.clone().to_its_end(async move { self.save_new(&namespace, &create).await }).await
    }

    /// Gives a credential another secret, once that is proved, another name, or both.
    pub async fn update(
        self: Arc<Self>,
        namespace: &str,
        id: i64,
        update: Update,
    ) -> Result<Credential, Fault> {
        let record = self.find(namespace, id).await?;
        if let Some(secret) = &update.secret {
            let spec = &record.spec;
            let cloud = spec.cloud.unwrap_or_default();
            let app = App { cloud, tenant: &spec.tenant_id, client: &spec.client_id };
            self.prove(namespace, app, secret).await?;
        }
        self.clone().to_its_end(async move { self.save_changed(record, &update).await }).await
    }

    /// Removes a credential, whatever its record holds: it may be one that cannot be read.
    pub async fn delete(self: Arc<Self>, namespace: &str, id: i64) -> Result<(), Fault> {
        let namespace = namespace.to_owned();
        self.clone().to_its_end(async move { self.remove(&namespace, id).await }).await
    }

    /// The account's record of that id.
    async fn find(&self, namespace: &str, id: i64) -> Result<SealedGraphCredential, Fault> {
        let read = repository::read(&self.client, namespace, &rest_record_name(id)).await;
        let record = read.map_err(|error| failed(&error))?;
        record.filter(is_of_rest).ok_or(Fault::NotFound)
    }

    async fn prove(&self, namespace: &str, app: App<'_>, secret: &NewSecret) -> Result<(), Fault> {
        // There is no leader to ask: every replica serves.
        let endpoint = self.token_endpoint.for_account(namespace);
        let verdict = endpoint.prove(app, &secret.text).await.map_err(|error| failed(&error))?;
        let Verdict::NotIssued { diagnosis, retry_after, trace } = verdict else { return Ok(()) };
        tracing::info!(
            tenant = %app.tenant,
            client = %app.client,
            ?diagnosis,
            status = trace.status,
            codes = ?trace.codes,
            trace_id = trace.id,
            correlation_id = trace.correlation_id,
            failure = trace.failure,
            "Microsoft issued no token"
        );
        Err(fault::of_diagnosis(&diagnosis, retry_after))
    }

    /// Carries a write out to its end, even if the client leaves meanwhile.
    async fn to_its_end<T: Send + 'static>(
        &self,
        write: impl Future<Output = Result<T, Fault>> + Send + 'static,
    ) -> Result<T, Fault> {
        self.writes.spawn(write.in_current_span()).await.unwrap_or_else(|error| Err(failed(&error)))
    }
}

/// A record as the API shows it.
pub(super) fn shown(record: &SealedGraphCredential) -> Credential {
    let spec = &record.spec;
    Credential {
        id: spec.credential_id,
        tenant_id: spec.tenant_id.to_string(),
        client_id: spec.client_id.to_string(),
        secret_expires_at: Some(rfc3339(spec.secret_expires_at.0)),
        name: Some(spec.name.clone()),
    }
}

/// What failed on our side is told in the log alone.
pub(super) fn failed(error: &dyn std::error::Error) -> Fault {
    tracing::error!(error = chain(error), "a request failed");
    Fault::Internal
}
