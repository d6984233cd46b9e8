//! In-memory index of all known objects by uid and by what they reference. It is fed by watches, by responses to the
//! operator's own writes, and by GETs, so that no event needs a scan of all objects. State that the index keeps beside
//! an object is deleted with the object.

mod account;
pub mod claim_key;
mod credential;
mod entry;
mod identity;
mod keys;
mod mailboxes;
mod namespaces;
mod owners;
#[cfg(test)]
mod property_tests;
mod prune;
mod state;
mod table;
#[cfg(test)]
mod tests;
mod tombstones;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kube::core::DeserializeGuard;
use kube::runtime::watcher::Event;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use self::entry::Entry;
use self::keys::Key;
use self::prune::pruned;
use self::state::{CredentialState, InFlight};
use self::table::Table;
use crate::api::{
    AccountName, EntraIdentity, MicrosoftGraphCredential, MicrosoftGraphCredentialStatus, WoodpeckerAccount,
    WoodpeckerMailboxes,
};
use crate::controller::account::AccountState;
use crate::controller::identity::IdentityState;
use crate::controller::parsed::ParsedCredential;
use crate::entra::identity::IdentitySnapshot;
use crate::k8s::scope::Scope;
use crate::woodpecker::RemoteIdentity;

pub use self::entry::Indexed;
pub use self::namespaces::{Allowance, NamespaceLabels};
pub use self::owners::{CredentialRef, ReleasedApp};
pub use self::prune::{Pruned, read_pruned};
pub use self::table::Moment;
pub use crate::api::NamespacedName;

pub struct Index {
    pub scopes: Vec<Scope>,
    /// Cancelled once the credentials of every scope have been listed.
    listed: CancellationToken,
    /// An account selects namespaces by labels.
    pub selector_added: Notify,
    objects: Mutex<Objects>,
}

/// The objects of each kind. While this is locked, do not call the index.
pub struct Objects {
    credentials: Table<MicrosoftGraphCredential>,
    accounts: Table<WoodpeckerAccount>,
    identities: Table<EntraIdentity>,
    mailboxes: Table<WoodpeckerMailboxes>,
    /// The namespace of the identities, if they are used.
    identity_namespace: Option<String>,
    namespaces: NamespaceLabels,
}

/// An object that references a Secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Referrer {
    Credential(NamespacedName),
    Account(NamespacedName),
}

/// What the controllers must do after an event about objects of one kind.
#[derive(Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Effects {
    /// Objects that need a reconcile.
    pub due: Vec<Due>,
    pub deleted: Vec<NamespacedName>,
    /// Accounts whose counts or finalizers may have changed.
    pub accounts: Vec<AccountChange>,
    /// Names of identities that changed in something that their users depend on.
    pub identities: Vec<String>,
    /// Apps that an object no longer claims, so that another object may register them.
    pub released_apps: Vec<ReleasedApp>,
    /// Whether the objects have to be listed again: a resource version went back because the API server was restored to
    /// an earlier state, or a list was inconclusive.
    pub relist: bool,
}

/// An object that is new to this process, or changed in something that a reconcile reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    pub object: NamespacedName,
    pub is_new: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub struct AccountChange {
    pub account: AccountName,
    /// Whether the account may need its finalizer because of this change, or no longer need it.
    pub is_urgent: bool,
}

// === impl Index ===

impl Index {
    pub fn new(scopes: Vec<Scope>) -> Self {
        let objects = Objects {
            credentials: Table::new(&scopes),
            accounts: Table::new(&scopes),
            identities: Table::new(&[]),
            mailboxes: Table::new(&[]),
            identity_namespace: None,
            namespaces: NamespaceLabels::default(),
        };
        Self {
            scopes,
            listed: CancellationToken::new(),
            selector_added: Notify::new(),
            objects: Mutex::new(objects),
        }
    }

    /// Whether the credentials of every scope have been listed.
    pub fn are_credentials_listed(&self) -> bool {
        self.listed.is_cancelled()
    }

    /// Returns once the credentials of every scope have been listed.
    pub async fn credentials_listed(&self) {
        self.listed.cancelled().await;
    }

    /// Whether the accounts of every scope have been listed.
    pub fn are_accounts_listed(&self) -> bool {
        self.objects().accounts.is_listed()
    }

    /// Locks the objects of each kind.
    pub fn objects(&self) -> MutexGuard<'_, Objects> {
        self.objects.lock()
    }

    // --- events ---

    /// The current logical time, to be taken before a GET is sent: see [`Self::on_read`].
    pub fn now<K: Indexed>(&self) -> Moment {
        K::table(&mut self.objects()).now()
    }

    /// Applies a watch event of a scope. `round` counts the restores of the API server: with the list that follows one,
    /// every object counts as changed.
    pub fn on_watch_event<K: Indexed>(
        &self,
        scope: &Scope,
        round: u64,
        event: Event<DeserializeGuard<K>>,
    ) -> Effects {
        let mut objects = self.objects();
        let effects = K::table(&mut objects).on_watch_event(scope, round, event);
        if objects.credentials.is_listed() {
            self.listed.cancel();
        }
        effects
    }

    /// Applies the object with which the API server responded to a write of the operator.
    pub fn on_written<K: Indexed>(&self, object: &K) -> Effects {
        let object = pruned(object);
        K::table(&mut self.objects()).on_written(object)
    }

    /// Applies the result of a GET that was sent at `sent_at`. It replaces what was known at that time, whatever its
    /// resource version, but nothing that became known later.
    pub fn on_read<K: Indexed>(&self, own: &NamespacedName, sent_at: Moment, found: Option<&K>) -> Effects {
        let found = found.map(pruned);
        K::table(&mut self.objects()).on_read(own, sent_at, found)
    }

    /// Removes a credential that was deleted.
    pub fn on_deleted(&self, uid: &str) -> Effects {
        self.objects().credentials.remove(uid)
    }

    /// Records the status of a credential that cannot be deserialized, and whether its deletion deletes what it
    /// registered.
    pub fn record_unreadable_status(
        &self,
        uid: &str,
        status: &MicrosoftGraphCredentialStatus,
        deletes_owned: bool,
    ) -> Effects {
        let (credentials, mut effects) = (&mut self.objects().credentials, Effects::default());
        if let Some(slot) = credentials.slot_of_uid(uid) {
            credentials.update(slot, &mut effects, |entry, _| {
                entry.state.last_readable.get_or_insert_default().update_from_status(status, deletes_owned);
            });
        }
        effects
    }

    // --- objects ---

    pub fn get<K: Indexed>(&self, own: &NamespacedName) -> Option<Arc<DeserializeGuard<K>>> {
        K::table(&mut self.objects()).by_name(own).map(|entry| entry.object.clone())
    }

    pub fn all<K: Indexed>(&self) -> Vec<Arc<DeserializeGuard<K>>> {
        K::table(&mut self.objects()).entries().map(|entry| entry.object.clone()).collect()
    }

    pub fn credentials_at(&self, account: &AccountName) -> Vec<Arc<ParsedCredential>> {
        self.objects().credentials.find(&Key::Account(account)).map(|entry| entry.object.clone()).collect()
    }

    /// Every credential in the store, with the name of its record.
    pub fn records(&self) -> Vec<(NamespacedName, NamespacedName)> {
        let objects = self.objects();
        objects
            .credentials
            .entries()
            .filter_map(|entry| Some((entry.name(), entry.facts().record?)))
            .collect()
    }

    /// The credentials that have this record.
    pub fn owners_of_record(&self, record: &NamespacedName) -> Vec<NamespacedName> {
        self.objects().credentials.find(&Key::Record(record)).map(Entry::name).collect()
    }

    pub fn referrers(&self, secret: &NamespacedName) -> Vec<Referrer> {
        let objects = self.objects();
        let key = Key::Secret(secret);
        let credentials = objects.credentials.find(&key).map(|entry| Referrer::Credential(entry.name()));
        let accounts = objects.accounts.find(&key).map(|entry| Referrer::Account(entry.name()));
        credentials.chain(accounts).collect()
    }

    pub fn all_referrers(&self) -> Vec<Referrer> {
        let objects = self.objects();
        let credentials = objects.credentials.entries().map(|entry| Referrer::Credential(entry.name()));
        let accounts = objects.accounts.entries().map(|entry| Referrer::Account(entry.name()));
        credentials.chain(accounts).collect()
    }

    /// Every referenced Secret, sorted.
    pub fn secrets(&self) -> Vec<NamespacedName> {
        let objects = self.objects();
        let credentials = objects.credentials.entries().filter_map(|entry| entry.facts().secret);
        let accounts = objects.accounts.entries().filter_map(|entry| entry.facts().secret);
        let secrets: BTreeSet<NamespacedName> = credentials.chain(accounts).collect();
        secrets.into_iter().collect()
    }

    /// What is needed to sign in with an identity; `None` if it is invalid or does not exist.
    pub fn identity(&self, own: &NamespacedName) -> Option<IdentitySnapshot> {
        let identities = &mut self.objects().identities;
        let uid = identities.by_name(own)?.uid().to_owned();
        let entry = identities.by_uid_mut(&uid)?;
        let object = entry.object.0.as_ref().ok()?;
        Some(entry.state.snapshot(object))
    }

    /// Every valid identity.
    pub fn identities(&self) -> Vec<IdentitySnapshot> {
        self.all::<EntraIdentity>()
            .iter()
            .filter_map(|it| self.identity(&NamespacedName::of(&**it)))
            .collect()
    }

    // --- state beside the object ---

    /// Reads or changes the state of an identity; `None` if it was deleted.
    pub fn with_identity<R>(&self, uid: &str, change: impl FnOnce(&mut IdentityState) -> R) -> Option<R> {
        self.objects().identities.by_uid_mut(uid).map(|entry| change(&mut entry.state))
    }

    /// Reads or changes the state of a credential, except its claims; `None` if the credential was deleted.
    pub fn with<R>(&self, uid: &str, change: impl FnOnce(&mut CredentialState) -> R) -> Option<R> {
        self.objects().credentials.by_uid_mut(uid).map(|entry| change(&mut entry.state))
    }

    /// How long until a request of unknown outcome counts as settled: `settle` after this process first saw it, or zero
    /// if no request is in flight. `request_id` identifies the request.
    pub fn settles_in(
        &self,
        uid: &str,
        request: impl FnOnce(&mut CredentialState) -> &mut InFlight,
        request_id: Option<&str>,
        settle: Duration,
    ) -> Duration {
        let settles_in = self.with(uid, |state| request(state).settles_in(request_id, settle));
        settles_in.unwrap_or_else(|| request_id.map_or(Duration::ZERO, |_| settle))
    }

    /// Changes the state of an account; `None` if the account was deleted, or if it does not have the given uid.
    pub fn change_account<R>(
        &self,
        name: &AccountName,
        uid: Option<&str>,
        change: impl FnOnce(&mut AccountState) -> R,
    ) -> Option<R> {
        let accounts = &mut self.objects().accounts;
        let slot = accounts.slot_of_name(name)?;
        let is_it = uid.is_none_or(|uid| accounts.by_name(name).is_some_and(|entry| entry.uid() == uid));
        accounts.update(slot, &mut Effects::default(), |entry, _| is_it.then(|| change(&mut entry.state)))?
    }

    /// The accounts that are the same remote account as this one.
    pub fn account_aliases(&self, name: &AccountName) -> Vec<AccountName> {
        self.objects().accounts.find(&Key::Alias(name)).map(Entry::name).collect()
    }

    /// The accounts that cannot be used because they share credentials with this one.
    pub fn accounts_sharing_credentials_with(&self, name: &AccountName) -> Vec<AccountName> {
        self.objects().accounts.find(&Key::SharesCredentialsWith(name)).map(Entry::name).collect()
    }
}

// === impl Objects ===

impl Objects {
    pub fn account(&self, name: &AccountName) -> Option<&AccountState> {
        Some(&self.accounts.by_name(name)?.state)
    }

    /// The accounts whose listing is of that remote account.
    pub fn accounts_at(&self, remote: &RemoteIdentity) -> impl Iterator<Item = (AccountName, &AccountState)> {
        let found = self.accounts.find(&Key::Remote(remote));
        found.filter(|entry| entry.state.is_at(remote)).map(|entry| (entry.name(), &entry.state))
    }

    /// The accounts that use the same API key as that one, itself included.
    pub fn accounts_with_key_of(
        &self,
        own_identity: &RemoteIdentity,
    ) -> impl Iterator<Item = (AccountName, &AccountState)> {
        let found = self.accounts.find(&Key::OfAccount(&own_identity.base_url, own_identity.key));
        found.map(|entry| (entry.name(), &entry.state))
    }

    /// Whether the account is known to be that remote account.
    pub fn is_at(&self, name: &AccountName, remote: &RemoteIdentity) -> bool {
        self.account(name).is_some_and(|account| account.is_at(remote))
    }

    /// What is known about the labels of namespaces.
    pub fn namespaces(&self) -> &NamespaceLabels {
        &self.namespaces
    }

    /// Whether the account allows the namespace, as far as is known.
    pub fn allows(&self, name: &AccountName, namespace: &str) -> bool {
        let spec = self.account(name).and_then(|account| account.known.as_ref()?.spec.as_ref());
        spec.is_some_and(|spec| {
            self.namespaces.allowance(spec, &name.namespace, namespace) == Allowance::Allowed
        })
    }
}
