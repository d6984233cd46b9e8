//! Clients, caches and policy that every reconcile shares.

use std::sync::Arc;

use kube::{Api, Client};
use tokio_util::sync::CancellationToken;

use crate::api::{MicrosoftGraphCredential, NamespacedName, ObservedRecord, ObservedSecret};
use crate::controller::account::Accounts;
use crate::controller::graph_slots::GraphSlots;
use crate::controller::identities::Identities;
use crate::controller::index::Index;
use crate::controller::kind::Kind;
use crate::controller::mailboxes::Submissions;
use crate::controller::parsed::ParsedCredential;
use crate::controller::queue::VerificationSlots;
use crate::controller::record::owner::KnownRecords;
use crate::controller::requeue::Requeuer;
use crate::controller::secret_watch::KnownSecrets;
use crate::controller::version::Version;
use crate::core::app_reading::AppAccess;
use crate::core::model::OperatorPolicy;
use crate::entra::TokenEndpoint;
use crate::entra::identity::GraphTokens;
use crate::k8s::events::Events;
use crate::k8s::leadership::Leadership;
use crate::k8s::relist::Relist;
use crate::k8s::watch::WatchClient;
use crate::store::keyring::KeyringCache;
use crate::store::repository::Repository;
use crate::telemetry::health::Readiness;
use crate::telemetry::metrics::Metrics;

/// Clients, caches and policy that every reconcile shares.
pub struct Context {
    /// Without retries, and with a timeout on every response.
    pub client: Client,
    /// Settings of the operator's administrator.
    pub policy: OperatorPolicy,
    /// Per kind.
    pub max_concurrent_reconciles: u16,
    /// Keys of records and of fingerprints.
    pub keyring: Arc<KeyringCache>,
    /// Whether this replica leads, and for how long.
    pub leadership: Leadership,
    pub token_endpoint: TokenEndpoint,
    /// The operator's namespace, if identities in it are used.
    pub identity_namespace: Option<String>,
    /// Whether `WoodpeckerMailboxes` objects are reconciled.
    pub connects_mailboxes: bool,
    /// The mailboxes that this process has submitted.
    pub submissions: Submissions,
    /// Tokens for Microsoft Graph.
    pub graph_tokens: GraphTokens,
    pub accounts: Accounts,
    /// Which apps may be read for an object.
    pub identities: Identities,
    pub index: Arc<Index>,
    /// Last known versions of the Secrets that objects refer to.
    pub secrets: KnownSecrets,
    /// Versions of records, from the watches.
    pub records: KnownRecords,
    /// Makes all watches list again.
    pub relist: Relist,
    pub requeuer: Requeuer,
    /// Limits how many reconciles may wait for Microsoft's token endpoint.
    pub verification_slots: VerificationSlots,
    /// Limits how many reconciles may wait for Microsoft Graph.
    pub graph_slots: GraphSlots,
    pub events: Events,
    pub metrics: Arc<Metrics>,
    /// Readiness checks that have not passed yet.
    pub readiness: Readiness,
    /// Cancelled on shutdown: no new step may begin.
    pub stop: CancellationToken,
}

// === impl Context ===

impl Context {
    pub fn watching(&self) -> WatchClient {
        WatchClient {
            client: self.client.clone(),
            timing: self.policy.timing,
            relist: self.relist.clone(),
            metrics: self.metrics.clone(),
        }
    }

    /// Encrypts and writes records while this replica leads.
    pub fn repository(&self) -> Repository {
        Repository::new(self.client.clone(), self.keyring.clone(), self.leadership.clone())
    }

    /// The newest known version of a credential, from the watch, reads and writes.
    pub fn latest(&self, own: &NamespacedName) -> Option<Arc<ParsedCredential>> {
        self.index.get(own)
    }

    /// Whether a Secret still has that version, as far as is known. If it does not, the Secret watch requeues the
    /// object.
    pub fn is_secret_unchanged(&self, secret: &NamespacedName, recorded: &ObservedSecret) -> bool {
        // Before the first read nothing is known, and that read requeues the objects concerned.
        self.secrets.known_state(secret).is_none_or(|known| known.matches(recorded))
    }

    /// Whether a record still has that version, as far as is known.
    pub fn is_record_unchanged(&self, record: &NamespacedName, recorded: &ObservedRecord) -> bool {
        self.records.known_record(record) == Some(Version::of_observed_record(recorded))
    }

    /// Whether the app of a credential may be read at Microsoft Entra; `None` without `spec.entra`.
    pub fn app_access(&self, object: &MicrosoftGraphCredential) -> Option<AppAccess> {
        self.identities.access(self, object)
    }

    /// Reads an object. A GET takes precedence over the watch.
    pub async fn read<K: Kind>(&self, own: &NamespacedName) -> Result<Option<K>, kube::Error> {
        let api: Api<K> = Api::namespaced(self.client.clone(), &own.namespace);
        let requested_at = self.index.now::<K>();
        let found = api.get_opt(&own.name).await?;
        self.requeuer.apply::<K>(self.index.on_read(own, requested_at, found.as_ref()));
        Ok(found)
    }

    /// Updates the index with the API server's response to a write.
    pub fn on_written<K: Kind>(&self, object: &K) {
        self.requeuer.apply::<K>(self.index.on_written(object));
    }

    /// Removes a deleted credential from the index.
    pub fn on_deleted(&self, object: &MicrosoftGraphCredential) {
        let uid = object.metadata.uid.as_deref().unwrap_or_default();
        self.requeuer.apply::<MicrosoftGraphCredential>(self.index.on_deleted(uid));
    }
}
