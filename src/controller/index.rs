//! All objects that are known, by their uids and by what they point to: kept from the watches, from our own writes and from
//! GETs, so that no change needs a look at all of them. What is known of an object beside itself ends with it.

mod account;
mod credential;
mod gone;
mod holding;
mod in_flight;
mod keys;
#[cfg(test)]
mod properties;
mod prune;
mod readiness;
mod table;
#[cfg(test)]
mod tests;
mod waiting;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::core::DeserializeGuard;
use kube::runtime::watcher::Event;
use parking_lot::{Mutex, MutexGuard};
use tokio_util::sync::CancellationToken;

use self::credential::{CredentialState, Held, Turn};
use self::keys::Key;
use self::prune::pruned;
use self::table::{Entry, Noted, Table};
use super::accounts::AccountState;
use super::claims::{ClaimKey, Claimant};
use super::observed::{Claim, Proof};
use super::scope::{GuardedCredential, Scope};
use crate::resources::conditions::Condition;
use crate::resources::{
    AccountName, ClientId, MicrosoftGraphCredential, MicrosoftGraphCredentialStatus, Place, TenantId,
    WoodpeckerAccount,
};
use crate::woodpecker::{Entry as Listed, RemoteIdentity};

pub use self::in_flight::Kind;
pub use self::prune::read_pruned;
pub use self::table::{Kept, Moment};
pub use crate::resources::Named;

/// All objects that are objects.
pub struct Index {
    scopes: Vec<Scope>,
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
    /// A `MicrosoftGraphCredential`.
    Credential(Named),
    /// A `WoodpeckerAccount`.
    Account(Named),
}

/// What follows from news about objects of one kind.
#[derive(Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Effects {
    /// Objects of which a reconcile is due.
    pub due: Vec<Due>,
    /// Objects that are gone.
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
    /// The object.
    pub object: Named,
    /// Whether it is new.
    pub is_new: bool,
}

/// Something that changed at an account.
#[derive(Debug, PartialEq, Eq)]
pub struct AccountChange {
    /// The account.
    pub account: AccountName,
    /// Whether it may be the first or the last thing that the account needs its finalizer for.
    pub is_urgent: bool,
}

/// An app that an object has let go of.
#[derive(Debug, PartialEq, Eq)]
pub struct Freed {
    /// The object that has let go.
    pub by: Named,
    /// Tenant of the app.
    pub tenant: TenantId,
    /// Its client id.
    pub client: ClientId,
}

/// A credential at Woodpecker: its app, where it is, its id. An id alone is not known to be unique over accounts.
#[derive(Clone, Copy, Debug)]
pub struct Kin<'a> {
    /// Tenant of the app.
    pub tenant: &'a TenantId,
    /// Client id of the app.
    pub client: &'a ClientId,
    /// Where it is.
    pub place: &'a Place,
    /// Its id.
    pub id: i64,
}

// === impl Index ===

impl Index {
    /// For those scopes; nothing is known yet.
    pub fn new(scopes: Vec<Scope>) -> Self {
        let objects = Objects { credentials: Table::new(&scopes), accounts: Table::new(&scopes) };
        Self { scopes, listed: CancellationToken::new(), objects: Mutex::new(objects) }
    }

    /// The scopes served.
    pub fn scopes(&self) -> &[Scope] {
        &self.scopes
    }

    /// The namespaces served; none means all.
    pub fn namespaces(&self) -> Vec<String> {
        self.scopes.iter().filter_map(|scope| scope.namespace().map(str::to_owned)).collect()
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
        K::table(&self.objects()).now()
    }

    /// Takes in what the watch of a scope brings. `round` counts the restores of the API server: with the list that follows
    /// one, every object counts as changed.
    pub fn note<K: Kept>(&self, scope: &Scope, round: u64, event: Event<DeserializeGuard<K>>) -> Effects {
        let effects = self.take(|table: &mut Table<K>| table.note(scope, round, event));
        if self.objects().credentials.is_listed() {
            self.listed.cancel();
        }
        effects
    }

    /// Takes in the object with which the API server has answered our own write.
    pub fn note_written<K: Kept>(&self, object: &K) -> Effects {
        let object = pruned(object);
        self.take(|table| table.write(object))
    }

    /// Takes in what a GET has found that was sent at that moment. It counts whatever its version, but against what became
    /// known since.
    pub fn note_read<K: Kept>(&self, own: &Named, asked: Moment, found: Option<&K>) -> Effects {
        let found = found.map(pruned);
        self.take(|table| table.read(own, asked, found))
    }

    /// Takes in that a credential is gone for good.
    pub fn note_gone(&self, uid: &str) -> Effects {
        self.take(|table: &mut Table<MicrosoftGraphCredential>| table.remove(uid))
    }

    /// Takes in the status of a credential that cannot be read, and whether what it holds is removed together with it.
    pub fn note_unreadable(
        &self,
        uid: &str,
        status: &MicrosoftGraphCredentialStatus,
        removes: bool,
    ) -> Effects {
        self.take(|table: &mut Table<MicrosoftGraphCredential>| {
            let salvage = |entry: &mut Entry<_>, _: &_| {
                let state: &mut CredentialState = &mut entry.state;
                state.salvaged.get_or_insert_default().salvage(status, removes);
            };
            let changed = table.slot_of_uid(uid).and_then(|slot| table.alter(slot, salvage)?.1);
            Noted { changes: changed.into_iter().collect(), ..Noted::default() }
        })
    }

    fn take<K: Kept>(&self, news: impl FnOnce(&mut Table<K>) -> Noted<K>) -> Effects {
        let mut objects = self.objects();
        let Noted { changes, due, relist } = news(K::table_mut(&mut objects));
        let mut effects = Effects { due, relist, ..Effects::default() };
        for change in changes {
            K::conclude(&objects, &change, &mut effects);
            effects.gone.extend(change.is_gone.then_some(change.name));
        }
        effects
    }

    // --- objects ---

    /// An object as it is objects.
    pub fn get<K: Kept>(&self, own: &Named) -> Option<Arc<DeserializeGuard<K>>> {
        K::table(&self.objects()).by_name(own).map(|entry| entry.object.clone())
    }

    /// All objects of a kind.
    pub fn all<K: Kept>(&self) -> Vec<Arc<DeserializeGuard<K>>> {
        K::table(&self.objects()).entries().map(|entry| entry.object.clone()).collect()
    }

    /// The credentials that use that account.
    pub fn credentials_at(&self, account: &AccountName) -> Vec<Arc<GuardedCredential>> {
        self.objects()
            .credentials
            .find(&Key::Account(account))
            .map(|(_, entry)| entry.object.clone())
            .collect()
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
        self.objects().credentials.find(&Key::Record(record)).map(|(_, entry)| entry.name()).collect()
    }

    /// Who points to that Secret.
    pub fn referrers(&self, secret: &Named) -> Vec<Referrer> {
        let objects = self.objects();
        let key = Key::Secret(secret);
        let credentials = objects.credentials.find(&key).map(|(_, entry)| Referrer::Credential(entry.name()));
        let accounts = objects.accounts.find(&key).map(|(_, entry)| Referrer::Account(entry.name()));
        credentials.chain(accounts).collect()
    }

    /// Whether anything points to that Secret.
    pub fn is_referenced(&self, secret: &Named) -> bool {
        let objects = self.objects();
        let key = Key::Secret(secret);
        objects.credentials.find(&key).next().is_some() || objects.accounts.find(&key).next().is_some()
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

    // --- whose a credential at Woodpecker is ---

    /// Another object than that one which holds the credential.
    pub fn other_holder(&self, uid: &str, kin: Kin<'_>) -> Option<Named> {
        let objects = self.objects();
        let mut holders = objects.holders(kin, Held::AtAll);
        holders.find(|entry| entry.uid() != uid).map(Entry::name)
    }

    /// Whether any object has registered the credential now.
    pub fn is_current(&self, kin: Kin<'_>) -> bool {
        self.objects().holders(kin, Held::AsCurrent).next().is_some()
    }

    /// Another object than that one whose create under way has given the credential its name.
    pub fn other_maker(&self, uid: &str, listed: &Listed) -> Option<Named> {
        let objects = self.objects();
        listed.marks().find_map(|token| {
            let mut makers = objects.credentials.find(&Key::Creates(token)).map(|(_, entry)| entry);
            makers.find(|entry| entry.uid() != uid).map(Entry::name)
        })
    }

    /// Whether any object names that app.
    pub fn is_named(&self, tenant: &TenantId, client: &ClientId) -> bool {
        self.objects().credentials.find(&Key::App(tenant, client)).next().is_some()
    }

    /// Whether any object has something at the account that is removed together with it.
    pub fn are_to_be_removed_at(&self, account: &AccountName) -> bool {
        self.objects().removers_at(account, 1) == 1
    }

    /// The ids held at an account: those registered, and those that are still to be removed as well.
    pub fn ids_at(&self, account: &AccountName) -> Vec<i64> {
        self.objects().held_at(account, Held::AtAll).collect()
    }

    /// The ids registered at an account.
    pub fn registered_at(&self, account: &AccountName) -> Vec<i64> {
        self.objects().held_at(account, Held::AsCurrent).collect()
    }

    /// Whether anything is registered at an account.
    pub fn is_registered_at(&self, account: &AccountName) -> bool {
        self.objects().held_at(account, Held::AsCurrent).next().is_some()
    }

    // --- claims ---

    /// The others that name the app of an object and may come before it, as far as need be: those that are registered, and
    /// the oldest of those that could be, by what `claimant` finds.
    pub fn rivals(
        &self,
        object: &MicrosoftGraphCredential,
        claimant: impl Fn(&Objects, &MicrosoftGraphCredential) -> Option<Claimant>,
    ) -> Vec<Claimant> {
        let uid = object.metadata.uid.as_deref().unwrap_or_default();
        let key = Key::App(&object.spec.tenant_id, &object.spec.client_id);
        let objects = self.objects();
        let mut rivals: Vec<Claimant> = Vec::new();
        let mut last = Turn::Never.rank();
        for (rank, entry) in objects.credentials.find(&key) {
            if rank > last {
                break;
            }
            let object = entry.object.0.as_ref().ok().filter(|_| rank % 2 == 0 && entry.uid() != uid);
            let Some(rival) = object.and_then(|object| claimant(&objects, object)) else { continue };
            if rank > Turn::Registered.rank() && rival.could_register {
                // Younger ones change nothing; those of the same second may.
                last = rank;
            }
            rivals.push(rival);
        }
        rivals
    }

    /// Who may have the app now that an object has let go of it: at each account those that it lets in, down to the oldest
    /// that is able to register.
    pub fn next_for(
        &self,
        freed: &Freed,
        is_let_in: impl Fn(&Objects, &AccountName, &MicrosoftGraphCredential) -> bool,
    ) -> Vec<Named> {
        let objects = self.objects();
        let mut taken = BTreeSet::new();
        let mut next = Vec::new();
        for (rank, entry) in objects.credentials.find(&Key::App(&freed.tenant, &freed.client)) {
            let object = entry.object.0.as_ref().ok().filter(|_| rank < Turn::Never.rank());
            let Some((object, account)) = object.and_then(|it| Some((it, it.account_name()?))) else {
                continue;
            };
            let name = entry.name();
            let has_it = entry.facts().holdings.accounts().any(|held| *held == account);
            if name == freed.by
                || has_it
                || taken.contains(&account)
                || !is_let_in(&objects, &account, object)
            {
                continue;
            }
            next.push(name);
            if rank > Turn::Registered.rank() && rank % 2 == 0 {
                taken.insert(account);
            }
        }
        next
    }

    /// Takes the claim for an object, or says who has it. An object that has it keeps it, until it is gone.
    pub fn take_claim(&self, key: ClaimKey, ours: &Claimant) -> Claim {
        let mut objects = self.objects();
        let is_it = |entry: &&Entry<MicrosoftGraphCredential>| entry.state.claims.contains(&key);
        if let Some(holder) = objects.credentials.find(&Key::Claim(&key)).map(|(_, entry)| entry).find(is_it)
        {
            let is_ours = *holder.uid() == *ours.uid;
            return if is_ours { Claim::Ours } else { Claim::HeldBy(holder.name().to_string()) };
        }
        // Of an object that is gone nothing is kept; its writes fail.
        if let Some(slot) = objects.credentials.slot_of_uid(&ours.uid) {
            objects.credentials.alter(slot, |entry, _| entry.state.claims.push(key));
        }
        Claim::Ours
    }

    /// Lets go of what an object has claimed, but for the claims that are to be kept, and says whether there was any such.
    pub fn keep_claims(&self, uid: &str, is_kept: impl Fn(&ClaimKey) -> bool) -> bool {
        let credentials = &mut self.objects().credentials;
        let let_go = |entry: &mut Entry<MicrosoftGraphCredential>, _: &_| entry.state.claims.retain(is_kept);
        credentials.slot_of_uid(uid).and_then(|slot| credentials.alter(slot, let_go)?.1).is_some()
    }

    // --- what is known beside the object ---

    /// Looks at, or changes, what is known of a credential beside the object, but for its claims; nothing where it is gone.
    pub fn with<R>(&self, uid: &str, change: impl FnOnce(&mut CredentialState) -> R) -> Option<R> {
        self.objects().credentials.by_uid_mut(uid).map(|entry| change(&mut entry.state))
    }

    /// How long until an object's request of unknown outcome counts as settled, `settle` after this process's first sight of it;
    /// zero where none is under way. `mark` tells one request from another.
    pub fn settles_in(&self, uid: &str, kind: Kind, mark: Option<&str>, settle: Duration) -> Duration {
        let settles_in = self.with(uid, |state| state.in_flight.settles_in(kind, mark, settle));
        settles_in.unwrap_or_else(|| mark.map_or(Duration::ZERO, |_| settle))
    }

    /// A request of that mark is being sent, or has ended just now.
    pub fn begin(&self, uid: &str, kind: Kind, mark: &str) {
        self.with(uid, |state| state.in_flight.begin(kind, mark));
    }

    /// A request of that mark was not processed.
    pub fn end(&self, uid: &str, kind: Kind, mark: &str) {
        self.with(uid, |state| state.in_flight.end(kind, mark));
    }

    /// An object waits for a permit. Returns how long it has waited; what Microsoft said of the secret of that fingerprint is
    /// kept meanwhile.
    pub fn wait(&self, uid: &str, verified: Option<(String, Proof)>) -> Duration {
        let waited = self.with(uid, |state| state.waiting.get_or_insert_default().go_on(verified));
        waited.unwrap_or_default()
    }

    /// What Microsoft said of the secret of that fingerprint while the object has waited, at most so long ago.
    pub fn verified_while_waiting(&self, uid: &str, fingerprint: &str, max_age: Duration) -> Option<Proof> {
        self.with(uid, |state| state.waiting.as_ref()?.verified(fingerprint, max_age))?
    }

    /// An object does not wait any more.
    pub fn end_wait(&self, uid: &str) {
        self.with(uid, |state| state.waiting = None);
    }

    /// Notes how a reconcile ended; says how long it took where the credential has become ready.
    pub fn note_readiness(
        &self,
        uid: &str,
        created: Timestamp,
        before: Option<&Condition>,
        is_ready: bool,
        now: Timestamp,
    ) -> Option<Duration> {
        self.with(uid, |state| readiness::note(&mut state.unready_since, created, before, is_ready, now))?
    }

    /// Notes that the credential's account changed: it got another key, say.
    pub fn note_account_changed(&self, own: &Named) {
        if let Some(entry) = self.objects().credentials.by_name_mut(own) {
            entry.state.account_changed = true;
        }
    }

    /// Whether the credential's account changed since its last reconcile.
    pub fn take_account_changed(&self, own: &Named) -> bool {
        let entry = self
            .objects()
            .credentials
            .by_name_mut(own)
            .map(|it| std::mem::take(&mut it.state.account_changed));
        entry.unwrap_or(false)
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
        accounts.alter(slot, |entry, _| is_it.then(|| change(&mut entry.state)))?.0
    }

    /// The accounts that share what this one has.
    pub fn accounts_one_with(&self, name: &AccountName) -> Vec<AccountName> {
        self.objects().accounts.find(&Key::OneWith(name)).map(|(_, entry)| entry.name()).collect()
    }

    /// The accounts that cannot be used because of that one.
    pub fn accounts_confused_by(&self, name: &AccountName) -> Vec<AccountName> {
        self.objects().accounts.find(&Key::ConfusedWith(name)).map(|(_, entry)| entry.name()).collect()
    }
}

// === impl Kin ===

impl<'a> Kin<'a> {
    /// A credential for the app of that object.
    pub fn of(object: &'a MicrosoftGraphCredential, place: &'a Place, id: i64) -> Self {
        Self { tenant: &object.spec.tenant_id, client: &object.spec.client_id, place, id }
    }
}

// === impl Freed ===

impl Freed {
    /// The app of an object.
    pub fn by(object: &MicrosoftGraphCredential) -> Self {
        let (tenant, client) = (object.spec.tenant_id.clone(), object.spec.client_id.clone());
        Self { by: Named::of(object), tenant, client }
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
        let found = self.accounts.find(&Key::Remote(remote)).map(|(_, entry)| entry);
        found.filter(|entry| entry.state.is_at(remote)).map(|entry| (entry.name(), &entry.state))
    }

    /// The accounts that are reached with the key of that one, itself included.
    pub fn accounts_with_key_of(
        &self,
        natural: &RemoteIdentity,
    ) -> impl Iterator<Item = (AccountName, &AccountState)> {
        let found = self.accounts.find(&Key::Opened(&natural.base_url, natural.key));
        found.map(|(_, entry)| (entry.name(), &entry.state))
    }

    /// Whether that account is that remote account.
    pub fn is_at(&self, name: &AccountName, remote: &RemoteIdentity) -> bool {
        self.account(name).is_some_and(|account| account.is_at(remote))
    }

    /// Whether that account lets the namespace in, as far as is objects.
    pub fn allows(&self, name: &AccountName, namespace: &str) -> bool {
        let spec = self.account(name).and_then(|account| account.known.as_ref()?.spec.as_ref());
        spec.is_some_and(|spec| spec.allows(&name.namespace, namespace))
    }

    fn holders(
        &self,
        kin: Kin<'_>,
        is_wanted: Held,
    ) -> impl Iterator<Item = &Entry<MicrosoftGraphCredential>> {
        let Kin { tenant, client, place, id } = kin;
        let found = self.credentials.find(&Key::Holds(&place.base_url, id)).map(|(_, entry)| entry);
        found.filter(move |entry| entry.facts().holds((tenant, client), &place.base_url, id, is_wanted))
    }

    fn removers_at(&self, account: &AccountName, at_most: usize) -> usize {
        self.credentials.find(&Key::RemovesAt(account)).take(at_most).count()
    }

    fn held_at(&self, account: &AccountName, is_wanted: Held) -> impl Iterator<Item = i64> {
        self.credentials.find(&Key::Account(account)).flat_map(move |(_, entry)| {
            let holdings = entry.facts().holdings;
            let wanted = holdings.at(account).filter(|it| it.is_current || is_wanted == Held::AtAll);
            wanted.map(|it| it.id).collect::<Vec<_>>()
        })
    }
}
