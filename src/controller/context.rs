//! What every pass may use.

use std::sync::Arc;

use kube::Client;
use tokio_util::sync::CancellationToken;

use super::accounts::Accounts;
use super::calls::Calls;
use super::claims::Claims;
use super::holdings::{self, Holdings, Word};
use super::index::{Index, Named, Referrer};
use super::makings::Makings;
use super::observed::Rules;
use super::own_writes::OwnWrites;
use super::queue::Verifications;
use super::queued::Queued;
use super::records::watch::KnownRecords;
use super::scope::GuardedCredential;
use super::sightings::Sightings;
use super::sources::KnownSecrets;
use super::watches::Scopes;
use crate::events::Events;
use crate::k8s::relist::Relist;
use crate::k8s::watch::Watching;
use crate::leadership::Leadership;
use crate::microsoft::TokenEndpoint;
use crate::resources::{
    AccountName, DeletionPolicy, MicrosoftGraphCredential, MicrosoftGraphCredentialStatus, ObservedRecord,
    ObservedSecret,
};
use crate::store::keyring::LiveKeyring;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::probes::Readiness;

/// What every pass may use.
pub struct Context {
    /// Client of the Kubernetes API, without retries of its own and with a bound on every answer.
    pub client: Client,
    /// What the administrator has decided.
    pub rules: Rules,
    /// Passes at the same time, per kind.
    pub max_concurrent_passes: u16,
    /// Keys of the store and of fingerprints.
    pub keyring: Arc<LiveKeyring>,
    /// Whether this replica leads, and for how long.
    pub leadership: Leadership,
    /// Microsoft.
    pub token_endpoint: TokenEndpoint,
    /// The Woodpecker accounts.
    pub accounts: Accounts,
    /// Who registers which app where.
    pub claims: Claims,
    /// What every object holds at remote accounts.
    pub holdings: Holdings,
    /// Since when this process knows of creates and changes of unknown outcome.
    pub sightings: Sightings,
    /// Which objects wait for a permit of their account's queue.
    pub queued: Queued,
    /// What our own requests have shown of objects before the watch does.
    pub own_writes: OwnWrites,
    /// Since when each credential that is not ready has been in the making.
    pub makings: Makings,
    /// Which object points to which Secret, account and app.
    pub index: Index,
    /// The Secrets that objects point to, as they were last seen.
    pub secrets: KnownSecrets,
    /// The records of the store, as the watches show them.
    pub records: KnownRecords,
    /// Has all watches list again.
    pub relist: Relist,
    /// Wakes objects.
    pub calls: Calls,
    /// The share of reconciles that may wait for Microsoft.
    pub verifications: Verifications,
    /// Tells people.
    pub events: Events,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// What is not there yet.
    pub readiness: Readiness,
    /// The namespaces served, with what is known of their objects.
    pub scopes: Scopes,
    /// Cancelled when no new step may begin.
    pub stop: CancellationToken,
}

// === impl Context ===

impl Context {
    /// What all watches share.
    pub fn watching(&self) -> Watching {
        Watching {
            client: self.client.clone(),
            timing: self.rules.timing,
            relist: self.relist.clone(),
            metrics: self.metrics.clone(),
        }
    }

    /// A credential as it is known now: the newer of what the watch has brought and of what our own requests have shown.
    pub fn latest(&self, own: &Named) -> Option<Arc<GuardedCredential>> {
        let watched = self.scopes.credential(&own.namespace, &own.name)?;
        Some(self.own_writes.newest(own, watched))
    }

    /// Whether a Secret is still at that version, as far as is known: what watches or asks for Secrets wakes the object
    /// where it is not.
    pub fn is_secret_unchanged(&self, secret: &Named, recorded: &ObservedSecret) -> bool {
        self.secrets.known_version(secret).is_some_and(|known| known.is(recorded))
    }

    /// Whether a record of the store is still at that version, as far as is known.
    pub fn is_record_unchanged(&self, record: &Named, recorded: &ObservedRecord) -> bool {
        self.records.known_record(record).is_some_and(|known| known.is(recorded))
    }

    /// Takes in the answer to our own write of an object.
    pub fn note_written(&self, object: &MicrosoftGraphCredential) {
        self.own_writes.note(Named::of(object), object, false);
    }

    /// Takes in what a GET has shown, which counts more than any watch.
    pub fn note_read(&self, own: &Named, found: Option<&MicrosoftGraphCredential>) {
        match found {
            Some(object) => self.own_writes.note(own.clone(), object, true),
            None => self.own_writes.forget(own),
        }
    }

    /// Wakes whoever points to a Secret.
    pub fn call(&self, referrer: &Referrer) {
        match referrer {
            Referrer::Credential(named) => self.calls.credential(&named.namespace, &named.name),
            Referrer::Account(named) => self.calls.account(&named.namespace, &named.name),
        }
    }

    /// Wakes the credentials that use an account.
    pub fn call_credentials_at(&self, account: &AccountName) {
        for credential in self.index.credentials_at(account) {
            self.calls.credential(&credential.namespace, &credential.name);
        }
    }

    /// Takes in what a credential holds, and wakes the accounts for which that changed anything.
    pub fn note_holdings(&self, object: &MicrosoftGraphCredential, status: &MicrosoftGraphCredentialStatus) {
        let word = Word {
            name: Named::of(object),
            version: object.metadata.resource_version.clone(),
            holdings: holdings::held(status),
            removes: object.spec.deletion_policy() == DeletionPolicy::Delete,
            pending: status.pending.clone(),
        };
        self.call_accounts(self.holdings.put(object.metadata.uid.as_deref().unwrap_or_default(), word));
    }

    /// Forgets what a credential held.
    pub fn forget_holdings(&self, uid: &str) {
        self.call_accounts(self.holdings.remove(uid));
    }

    /// Forgets what a credential held that is gone for good.
    pub fn bury_holdings(&self, uid: &str) {
        self.call_accounts(self.holdings.bury(uid));
    }

    /// Wakes accounts of which the counts have changed, each once for all that changes within a moment; at once
    /// where that may decide whether it needs its finalizer.
    pub fn call_accounts(&self, accounts: Vec<AccountName>) {
        for account in accounts {
            if self.holdings.are_few_to_be_removed_at(&account) {
                self.calls.account(&account.namespace, &account.name);
            } else {
                self.calls.account_soon(account, self.rules.timing.count_pace);
            }
        }
    }

    /// Wakes the other credentials for the app of an object that let go of it.
    pub fn call_rivals(&self, object: &MicrosoftGraphCredential) {
        let own = Named::of(object);
        for rival in self.index.credentials_for(&object.spec.tenant_id, &object.spec.client_id) {
            if rival != own {
                self.calls.credential(&rival.namespace, &rival.name);
            }
        }
    }
}
