//! What the API does with credentials: prove at Microsoft, seal into a record of the account's namespace, and show
//! everything but the secret.

use std::sync::Arc;

use kube::{Client, ResourceExt};
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use super::fault::{self, Fault, Refusal};
use super::listings::Listings;
use super::quota::Quota;
use super::request::{Create, NewSecret, Update};
use super::saving::{SaveError, Saving};
use crate::microsoft::{App, TokenEndpoint, Verdict};
use crate::resources::{Cloud, SealedGraphCredential};
use crate::store::census;
use crate::store::record::{is_of_rest, is_rest_record_name, rest_record_name};
use crate::store::repository::{self, RecordError, Repository, TRIES, conflict_backoff};
use crate::telemetry::logs::chain;
use crate::woodpecker::{Credential, rfc3339};

/// The credentials of all accounts.
#[derive(Clone)]
pub struct Credentials {
    parts: Arc<CredentialsParts>,
    listings: Arc<Listings>,
}

/// What they are made of.
pub struct CredentialsParts {
    /// Client of the Kubernetes API.
    pub client: Client,
    /// What seals secrets and writes records.
    pub repository: Repository,
    /// How many credentials each account has.
    pub quota: Arc<Quota>,
    /// What proves them.
    pub token_endpoint: TokenEndpoint,
    /// Writes under way, which go on when their client has left.
    pub writes: TaskTracker,
}

// === impl Credentials ===

impl Credentials {
    /// From their parts.
    pub fn new(parts: CredentialsParts) -> Self {
        Self { parts: Arc::new(parts), listings: Arc::default() }
    }

    /// All credentials of an account, by the second in which they were made and then by id. A record that cannot be read
    /// is left out.
    pub async fn list(&self, namespace: &str) -> Result<Vec<Credential>, Fault> {
        let turn = self.listings.take(namespace).await;
        let own = [namespace.to_owned()];
        let mut pages = census::pages(&self.parts.client, &own);
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
        ours.sort_by_key(|(created, shown)| (created.clone(), shown.credential_id));
        Ok(ours.into_iter().map(|(_, shown)| shown).collect())
    }

    /// Proves a secret and saves it as a new credential.
    pub async fn create(&self, namespace: &str, create: Create) -> Result<Credential, Fault> {
        let app = App { cloud: Cloud::Global, tenant: &create.tenant, client: &create.client };
        self.prove(namespace, app, &create.secret).await?;
        let (this, namespace) = (self.clone(), namespace.to_owned());
        self.to_its_end(async move { this.save_new(&namespace, &create).await }).await
    }

    /// Gives a credential another secret, once that is proved, another name, or both.
    pub async fn update(&self, namespace: &str, id: i64, update: Update) -> Result<Credential, Fault> {
        let record = self.find(namespace, id).await?;
        if let Some(secret) = &update.secret {
            let spec = &record.spec;
            let cloud = spec.cloud.unwrap_or_default();
            let app = App { cloud, tenant: &spec.tenant_id, client: &spec.client_id };
            self.prove(namespace, app, secret).await?;
        }
        let (this, namespace) = (self.clone(), namespace.to_owned());
        self.to_its_end(async move { this.save_changed(&namespace, record, &update).await }).await
    }

    /// Removes a credential.
    pub async fn delete(&self, namespace: &str, id: i64) -> Result<(), Fault> {
        let (this, namespace) = (self.clone(), namespace.to_owned());
        self.to_its_end(async move { this.remove(&namespace, id).await }).await
    }

    /// Removes the record of that name whatever it holds: it may be one that cannot be read.
    async fn remove(&self, namespace: &str, id: i64) -> Result<(), Fault> {
        let client = &self.parts.client;
        for attempt in 0..TRIES {
            let found = repository::metadata(client, namespace, &rest_record_name(id)).await;
            let found = found.map_err(|error| failed(&error))?.ok_or(Fault::NotFound)?;
            match repository::remove(client, namespace, &found).await {
                Ok(()) => {
                    self.parts.quota.remove(namespace, id);
                    tracing::info!(namespace, id, "a credential is removed");
                    return Ok(());
                }
                Err(RecordError::Conflict) => conflict_backoff(attempt).await,
                Err(error) => return Err(failed(&error)),
            }
        }
        Err(failed(&RecordError::Conflict))
    }

    /// The account's record of that id.
    async fn find(&self, namespace: &str, id: i64) -> Result<SealedGraphCredential, Fault> {
        let read = repository::read(&self.parts.client, namespace, &rest_record_name(id)).await;
        let record = read.map_err(|error| failed(&error))?;
        record.filter(is_of_rest).ok_or(Fault::NotFound)
    }

    async fn prove(&self, namespace: &str, app: App<'_>, secret: &NewSecret) -> Result<(), Fault> {
        // There is no leader to ask: every replica serves.
        let endpoint = self.parts.token_endpoint.for_account(namespace);
        let verdict = endpoint.prove(app, &secret.text).await.map_err(|error| failed(&error))?;
        let Verdict::NotIssued { diagnosis, retry_after, trace } = verdict else { return Ok(()) };
        tracing::info!(
            tenant = %app.tenant,
            client = %app.client,
            ?diagnosis,
            status = trace.status,
            codes = ?trace.codes,
            trace_id = trace.trace_id,
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
        self.parts.writes.spawn(write.in_current_span()).await.unwrap_or_else(|error| Err(failed(&error)))
    }

    async fn save_new(&self, namespace: &str, create: &Create) -> Result<Credential, Fault> {
        let record = self.saving(namespace).create(create).await.map_err(|error| unsaved(&error))?;
        tracing::info!(namespace, id = record.spec.credential_id, "a credential is saved");
        Ok(shown(&record))
    }

    async fn save_changed(
        &self,
        namespace: &str,
        record: SealedGraphCredential,
        update: &Update,
    ) -> Result<Credential, Fault> {
        let record = self.saving(namespace).update(record, update).await.map_err(|error| unsaved(&error))?;
        tracing::info!(
            namespace,
            id = record.spec.credential_id,
            has_new_secret = update.secret.is_some(),
            "a credential is changed"
        );
        Ok(shown(&record))
    }

    fn saving<'a>(&'a self, namespace: &'a str) -> Saving<'a> {
        Saving { repository: &self.parts.repository, quota: &self.parts.quota, namespace }
    }
}

/// A record as the API shows it.
fn shown(record: &SealedGraphCredential) -> Credential {
    let spec = &record.spec;
    Credential {
        credential_id: spec.credential_id,
        tenant_id: spec.tenant_id.to_string(),
        client_id: spec.client_id.to_string(),
        secret_expires_at: Some(rfc3339(spec.secret_expires_at.0)),
        name: Some(spec.name.clone()),
    }
}

fn unsaved(error: &SaveError) -> Fault {
    match error {
        SaveError::Gone => Fault::NotFound,
        SaveError::Full(_) => Refusal::TooManyCredentials.into(),
        SaveError::Record(RecordError::Refused { status: 404, .. }) => {
            tracing::error!(
                "the namespace of an API key does not exist: make it, or take the key out of the Secret"
            );
            failed(error)
        }
        error => failed(error),
    }
}

/// What failed on our side is told in the log alone.
fn failed(error: &dyn std::error::Error) -> Fault {
    tracing::error!(error = chain(error), "a request failed");
    Fault::Internal
}
