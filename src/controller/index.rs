//! All objects that are known, by their uids and by what they point to: kept from the watches, from our own writes and from
//! GETs, so that no change needs a look at all of them. What is known of an object beside itself ends with it.

mod account;
mod credential;
mod entry;
mod gone;
mod holders;
mod keys;
#[cfg(test)]
mod properties;
mod prune;
mod state;
mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kube::core::DeserializeGuard;
use kube::runtime::watcher::Event;
use parking_lot::{Mutex, MutexGuard};
use tokio_util::sync::CancellationToken;

use self::entry::Entry;
use self::keys::Key;
use self::prune::pruned;
use self::state::{CredentialState, InFlight};
use self::table::Table;
use super::accounts::AccountState;
use super::scope::{GuardedCredential, Scope};
use crate::resources::{
    AccountName, MicrosoftGraphCredential, MicrosoftGraphCredentialStatus, WoodpeckerAccount,
};
use crate::woodpecker::RemoteIdentity;

pub use self::entry::Kept;
pub use self::holders::{Freed, Kin};
pub use self::prune::{Pruned, read_pruned};
pub use self::table::Moment;
pub use crate::resources::Named;

pub struct Index {
    pub scopes: Vec<Scope>,
    /// Cancelled once the credentials of every scope have been listed.
    listed: CancellationToken,
    objects: Mutex<Objects>,
}

/// The objects of each kind. Whoever holds them must not ask the index for anything.
pub struct Objects {
    credentials: Table<MicrosoftGraphCredential>,
    accounts: Table<WoodpeckerAccount>,
}

/// An object that points to a Secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Referrer {
    Credential(Named),
    Account(Named),
}

/// What follows from news about objects of one kind.
#[derive(Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Effects {
    /// Objects of which a reconcile is due.
    pub due: Vec<Due>,
    pub gone: Vec<Named>,
    /// Accounts where something changed that their counts, or their finalizers, depend on.
    pub accounts: Vec<AccountChange>,
    /// Apps that an object has let go of: another one may have its turn.
    pub freed: Vec<Freed>,
    /// Whether the objects have to be listed again: a version went back, so the API server was restored to an earlier state,
    /// or a list has left a doubt.
    pub relist: bool,
}

/// An object that is new to this process, or changed in what a reconcile looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    pub object: Named,
    pub is_new: bool,
}

/// Something that changed at an account.
#[derive(Debug, PartialEq, Eq)]
pub struct AccountChange {
    pub account: AccountName,
    /// Whether it may be the first or the last thing that the account needs its finalizer for.
    pub is_urgent: bool,
}

// === impl Index ===

impl Index {
    /// For those scopes; nothing is known yet.
    pub fn new(scopes: Vec<Scope>) -> Self {
        let objects = Objects { credentials: Table::new(&scopes), accounts: Table::new(&scopes) };
        Self { scopes, listed: CancellationToken::new(), objects: Mutex::new(objects) }
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

    /// The objects of each kind. Others wait meanwhile.
    pub fn objects(&self) -> MutexGuard<'_, Objects> {
        self.objects.lock()
    }

    // --- what is told ---

    /// This moment, to be taken before a GET is sent: see [`Self::note_read`].
    pub fn moment<K: Kept>(&self) -> Moment {
        K::table(&mut self.objects()).now()
    }

    /// Takes in what the watch of a scope brings. `round` counts the restores of the API server: with the list that follows
    /// one, every object counts as changed.
    pub fn note<K: Kept>(&self, scope: &Scope, round: u64, event: Event<DeserializeGuard<K>>) -> Effects {
        let mut objects = self.objects();
        let effects = K::table(&mut objects).note(scope, round, event);
        if objects.credentials.is_listed() {
            self.listed.cancel();
        }
        effects
    }

    /// Takes in the object with which the API server has answered our own write.
    pub fn note_written<K: Kept>(&self, object: &K) -> Effects {
        let object = pruned(object);
        K::table(&mut self.objects()).write(object)
    }

    /// Takes in what a GET has found that was sent at that moment. It counts whatever its version, but against what became
    /// known since.
    pub fn note_read<K: Kept>(&self, own: &Named, asked: Moment, found: Option<&K>) -> Effects {
        let found = found.map(pruned);
        K::table(&mut self.objects()).read(own, asked, found)
    }

    /// Takes in that a credential is gone for good.
    pub fn note_gone(&self, uid: &str) -> Effects {
        self.objects().credentials.remove(uid)
    }

    /// Takes in the status of a credential that cannot be read, and whether what it holds is removed together with it.
    pub fn note_unreadable(
        &self,
        uid: &str,
        status: &MicrosoftGraphCredentialStatus,
        removes: bool,
    ) -> Effects {
        let (credentials, mut effects) = (&mut self.objects().credentials, Effects::default());
        if let Some(slot) = credentials.slot_of_uid(uid) {
            credentials.alter(slot, &mut effects, |entry, _| {
                entry.state.salvaged.get_or_insert_default().salvage(status, removes);
            });
        }
        effects
    }

    // --- objects ---

    /// An object as it is known.
    pub fn get<K: Kept>(&self, own: &Named) -> Option<Arc<DeserializeGuard<K>>> {
        K::table(&mut self.objects()).by_name(own).map(|entry| entry.object.clone())
    }

    pub fn all<K: Kept>(&self) -> Vec<Arc<DeserializeGuard<K>>> {
        K::table(&mut self.objects()).entries().map(|entry| entry.object.clone()).collect()
    }

    pub fn credentials_at(&self, account: &AccountName) -> Vec<Arc<GuardedCredential>> {
        self.objects().credentials.find(&Key::Account(account)).map(|entry| entry.object.clone()).collect()
    }

    /// Every credential that has a record of the store, with that.
    pub fn records(&self) -> Vec<(Named, Named)> {
        let objects = self.objects();
        objects
            .credentials
            .entries()
            .filter_map(|entry| Some((entry.name(), entry.facts().record?)))
            .collect()
    }

    /// The credentials whose record of the store that is.
    pub fn credentials_sealed_in(&self, record: &Named) -> Vec<Named> {
        self.objects().credentials.find(&Key::Record(record)).map(Entry::name).collect()
    }

    pub fn referrers(&self, secret: &Named) -> Vec<Referrer> {
        let objects = self.objects();
        let key = Key::Secret(secret);
        let credentials = objects.credentials.find(&key).map(|entry| Referrer::Credential(entry.name()));
        let accounts = objects.accounts.find(&key).map(|entry| Referrer::Account(entry.name()));
        credentials.chain(accounts).collect()
    }

    /// Everything that may point to a Secret.
    pub fn all_referrers(&self) -> Vec<Referrer> {
        let objects = self.objects();
        let credentials = objects.credentials.entries().map(|entry| Referrer::Credential(entry.name()));
        let accounts = objects.accounts.entries().map(|entry| Referrer::Account(entry.name()));
        credentials.chain(accounts).collect()
    }

    /// Every Secret that something points to, in order.
    pub fn secrets(&self) -> Vec<Named> {
        let objects = self.objects();
        let credentials = objects.credentials.entries().filter_map(|entry| entry.facts().secret);
        let accounts = objects.accounts.entries().filter_map(|entry| entry.facts().secret);
        let secrets: BTreeSet<Named> = credentials.chain(accounts).collect();
        secrets.into_iter().collect()
    }

    // --- what is known beside the object ---

    /// Looks at, or changes, what is known of a credential beside the object, but for its claims; nothing where it is gone.
    pub fn with<R>(&self, uid: &str, change: impl FnOnce(&mut CredentialState) -> R) -> Option<R> {
        self.objects().credentials.by_uid_mut(uid).map(|entry| change(&mut entry.state))
    }

    /// How long until an object's request of unknown outcome counts as settled, `settle` after this process's first sight of it;
    /// zero where none is under way. `mark` tells one request from another.
    pub fn settles_in(
        &self,
        uid: &str,
        request: impl FnOnce(&mut CredentialState) -> &mut InFlight,
        mark: Option<&str>,
        settle: Duration,
    ) -> Duration {
        let settles_in = self.with(uid, |state| request(state).settles_in(mark, settle));
        settles_in.unwrap_or_else(|| mark.map_or(Duration::ZERO, |_| settle))
    }

    /// Changes what is known of an account beside the object, or of nothing but the object of that uid; nothing where it is
    /// gone.
    pub fn change_account<R>(
        &self,
        name: &AccountName,
        uid: Option<&str>,
        change: impl FnOnce(&mut AccountState) -> R,
    ) -> Option<R> {
        let accounts = &mut self.objects().accounts;
        let slot = accounts.slot_of_name(name)?;
        let is_it = uid.is_none_or(|uid| accounts.by_name(name).is_some_and(|entry| entry.uid() == uid));
        accounts.alter(slot, &mut Effects::default(), |entry, _| is_it.then(|| change(&mut entry.state)))?
    }

    /// The accounts that share what this one has.
    pub fn accounts_one_with(&self, name: &AccountName) -> Vec<AccountName> {
        self.objects().accounts.find(&Key::OneWith(name)).map(Entry::name).collect()
    }

    /// The accounts that cannot be used because of that one.
    pub fn accounts_confused_by(&self, name: &AccountName) -> Vec<AccountName> {
        self.objects().accounts.find(&Key::ConfusedWith(name)).map(Entry::name).collect()
    }
}

// === impl Objects ===

impl Objects {
    /// What is known of an account beside the object.
    pub fn account(&self, name: &AccountName) -> Option<&AccountState> {
        Some(&self.accounts.by_name(name)?.state)
    }

    /// The accounts that have the listing of that remote account.
    pub fn accounts_at(&self, remote: &RemoteIdentity) -> impl Iterator<Item = (AccountName, &AccountState)> {
        let found = self.accounts.find(&Key::Remote(remote));
        found.filter(|entry| entry.state.is_at(remote)).map(|entry| (entry.name(), &entry.state))
    }

    /// The accounts that are reached with the key of that one, itself included.
    pub fn accounts_with_key_of(
        &self,
        natural: &RemoteIdentity,
    ) -> impl Iterator<Item = (AccountName, &AccountState)> {
        let found = self.accounts.find(&Key::Opened(&natural.base_url, natural.key));
        found.map(|entry| (entry.name(), &entry.state))
    }

    /// Whether that account is that remote account.
    pub fn is_at(&self, name: &AccountName, remote: &RemoteIdentity) -> bool {
        self.account(name).is_some_and(|account| account.is_at(remote))
    }

    /// Whether that account lets the namespace in, as far as is known.
    pub fn allows(&self, name: &AccountName, namespace: &str) -> bool {
        let spec = self.account(name).and_then(|account| account.known.as_ref()?.spec.as_ref());
        spec.is_some_and(|spec| spec.allows(&name.namespace, namespace))
    }
}
