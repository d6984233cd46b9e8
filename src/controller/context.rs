//! What every pass may use.

use std::sync::Arc;

use kube::{Api, Client};
use tokio_util::sync::CancellationToken;

use super::accounts::Accounts;
use super::calls::Calls;
use super::index::{Due, Effects, Freed, Index, Named, Objects, Referrer};
use super::kind::Kind;
use super::observed::Rules;
use super::queue::Verifications;
use super::records::KnownRecords;
use super::scope::GuardedCredential;
use super::sources::KnownSecrets;
use super::version::Version;
use crate::events::Events;
use crate::k8s::relist::Relist;
use crate::k8s::watch::Watching;
use crate::leadership::Leadership;
use crate::microsoft::TokenEndpoint;
use crate::resources::{AccountName, MicrosoftGraphCredential, ObservedRecord, ObservedSecret};
use crate::store::keyring::LiveKeyring;
use crate::store::repository::Repository;
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
    pub token_endpoint: TokenEndpoint,
    pub accounts: Accounts,
    pub index: Arc<Index>,
    /// The Secrets that objects point to, as they were last seen.
    pub secrets: KnownSecrets,
    /// The records of the store, as the watches show them.
    pub records: KnownRecords,
    /// Has all watches list again.
    pub relist: Relist,
    pub calls: Calls,
    /// The share of reconciles that may wait for Microsoft.
    pub verifications: Verifications,
    pub events: Events,
    pub metrics: Arc<Metrics>,
    /// What is not there yet.
    pub readiness: Readiness,
    /// Cancelled when no new step may begin.
    pub stop: CancellationToken,
}

// === impl Context ===

impl Context {
    pub fn watching(&self) -> Watching {
        Watching {
            client: self.client.clone(),
            timing: self.rules.timing,
            relist: self.relist.clone(),
            metrics: self.metrics.clone(),
        }
    }

    /// The records of the store, sealed and written while this replica leads.
    pub fn repository(&self) -> Repository {
        Repository::new(self.client.clone(), self.keyring.clone(), self.leadership.clone())
    }

    /// A credential as it is known now: the newest of what the watch has brought and of what our own requests have shown.
    pub fn latest(&self, own: &Named) -> Option<Arc<GuardedCredential>> {
        self.index.get(own)
    }

    /// Whether a Secret is still at that version, as far as is known: what watches or asks for Secrets wakes the object
    /// where it is not.
    pub fn is_secret_unchanged(&self, secret: &Named, recorded: &ObservedSecret) -> bool {
        // Before the first look nothing is known, and that look wakes whom it concerns.
        self.secrets.known_version(secret).is_none_or(|known| known.is(recorded))
    }

    /// Whether a record of the store is still at that version, as far as is known.
    pub fn is_record_unchanged(&self, record: &Named, recorded: &ObservedRecord) -> bool {
        self.records.known_record(record) == Some(Version::of_observed_record(recorded))
    }

    /// Reads an object. What a GET shows counts more than any watch.
    pub async fn read<K: Kind>(&self, own: &Named) -> Result<Option<K>, kube::Error> {
        let api: Api<K> = Api::namespaced(self.client.clone(), &own.namespace);
        let asked = self.index.moment::<K>();
        let found = api.get_opt(&own.name).await?;
        self.follow::<K>(self.index.note_read(own, asked, found.as_ref()));
        Ok(found)
    }

    /// Takes in the object with which the API server has answered our own write.
    pub fn note_written<K: Kind>(&self, object: &K) {
        self.follow::<K>(self.index.note_written(object));
    }

    /// Takes in that a credential is gone for good.
    pub fn note_gone(&self, object: &MicrosoftGraphCredential) {
        self.follow::<MicrosoftGraphCredential>(
            self.index.note_gone(object.metadata.uid.as_deref().unwrap_or_default()),
        );
    }

    /// Does what follows from news of a kind, but for waking those that are due, which it returns.
    ///
    /// Accounts are woken once for all that changes within a while; at once where that may decide whether one needs its
    /// finalizer.
    pub fn follow<K: Kind>(&self, effects: Effects) -> Vec<Due> {
        let Effects { due, gone, accounts, freed, relist } = effects;
        for own in gone {
            self.accounts.leave_lanes(&K::owner(&own), None);
            K::note_gone(self, &own);
            self.calls.of(K::OWNER).now(own);
        }
        for change in accounts {
            self.index.change_account(&change.account, None, |account| account.note_counts(true));
            if change.is_urgent {
                self.calls.account(&change.account);
            } else {
                self.calls.account_soon(change.account, self.rules.timing.count_pace);
            }
        }
        for freed in &freed {
            self.call_next(freed);
        }
        if relist {
            self.relist.raise(K::KIND);
        }
        due
    }

    /// Wakes whoever may have an app now that an object has let go of it.
    pub fn call_next(&self, freed: &Freed) {
        let is_let_in = |objects: &Objects, account: &AccountName, object: &MicrosoftGraphCredential| {
            objects.allows(account, object.namespace_name())
        };
        for next in self.index.next_for(freed, is_let_in) {
            self.calls.credential(&next);
        }
    }

    /// Wakes whoever points to a Secret that changed.
    pub fn call(&self, referrer: &Referrer) {
        match referrer {
            Referrer::Credential(own) => self.calls.credential(own),
            Referrer::Account(own) => {
                self.index.change_account(own, None, |account| account.secret_changes += 1);
                self.calls.account(own);
            }
        }
    }

    /// Wakes the credentials that use an account.
    pub fn call_credentials_at(&self, account: &AccountName) {
        for credential in self.index.credentials_at(account) {
            self.calls.credential(&Named::of(&*credential));
        }
    }
}
