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

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::runtime::watcher::Event;
use parking_lot::{Mutex, MutexGuard};
use tokio_util::sync::CancellationToken;

use self::credential::{Held, Turn};
use self::keys::Key;
use self::prune::pruned;
use self::table::{Change, Entry, Kept, Noted, Table};
use super::claims::{ClaimKey, Claimant};
use super::observed::{Claim, Proof};
use super::scope::{GuardedAccount, GuardedCredential, Scope};
use crate::resources::conditions::Condition;
use crate::resources::{
    AccountName, ClientId, MicrosoftGraphCredential, MicrosoftGraphCredentialStatus, Place, TenantId,
    WoodpeckerAccount,
};
use crate::woodpecker::Entry as Listed;

pub use self::in_flight::Kind;
pub use self::prune::read_pruned;
pub use self::table::Moment;
pub use crate::resources::Named;

/// All objects that are known.
pub struct Index {
    scopes: Vec<Scope>,
    /// Cancelled once the credentials of every scope have been listed.
    listed: CancellationToken,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    credentials: Table<GuardedCredential>,
    accounts: Table<GuardedAccount>,
    /// Which object has which claim.
    claims: HashMap<Arc<ClaimKey>, Arc<str>>,
    /// The scopes of which the credentials were not listed yet.
    unlisted: BTreeSet<Scope>,
    /// The same for the accounts.
    unlisted_accounts: BTreeSet<Scope>,
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
        let unlisted: BTreeSet<Scope> = scopes.iter().cloned().collect();
        let known = Known { unlisted_accounts: unlisted.clone(), unlisted, ..Known::default() };
        Self { scopes, listed: CancellationToken::new(), known: Mutex::new(known) }
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
        self.lock().unlisted_accounts.is_empty()
    }

    /// This moment, to be taken before a GET is sent: see [`Self::note_read`].
    pub fn moment(&self) -> Moment {
        self.lock().credentials.now()
    }

    /// The same for the accounts.
    pub fn moment_of_accounts(&self) -> Moment {
        self.lock().accounts.now()
    }

    // --- what is told ---

    /// Takes in what the watch of a scope brings about credentials. `round` counts the restores of the API server: with the
    /// list that follows one, every object counts as changed.
    pub fn note_credential(&self, scope: &Scope, round: u64, event: Event<GuardedCredential>) -> Effects {
        let is_listed = matches!(event, Event::InitDone);
        let mut known = self.lock();
        let noted = known.credentials.note(scope, round, event);
        if is_listed && known.unlisted.remove(scope) && known.unlisted.is_empty() {
            self.listed.cancel();
        }
        known.conclude(noted)
    }

    /// Takes in what the watch of a scope brings about accounts.
    pub fn note_account(&self, scope: &Scope, round: u64, event: Event<GuardedAccount>) -> Effects {
        let mut known = self.lock();
        if matches!(event, Event::InitDone) {
            known.unlisted_accounts.remove(scope);
        }
        conclude_account(known.accounts.note(scope, round, event))
    }

    /// Takes in the account with which the API server has answered our own write.
    pub fn note_written_account(&self, object: &WoodpeckerAccount) -> Effects {
        conclude_account(self.lock().accounts.write(pruned(object)))
    }

    /// Takes in what a GET of an account has found that was sent at that moment.
    pub fn note_read_account(
        &self,
        own: &Named,
        asked: Moment,
        found: Option<&WoodpeckerAccount>,
    ) -> Effects {
        conclude_account(self.lock().accounts.read(own, asked, found.map(pruned)))
    }

    /// Takes in the object with which the API server has answered our own write.
    pub fn note_written(&self, object: &MicrosoftGraphCredential) -> Effects {
        let object = pruned(object);
        let mut known = self.lock();
        let noted = known.credentials.write(object);
        known.conclude(noted)
    }

    /// Takes in what a GET has found that was sent at that moment. It counts whatever its version, but against what became
    /// known since.
    pub fn note_read(&self, own: &Named, asked: Moment, found: Option<&MicrosoftGraphCredential>) -> Effects {
        let found = found.map(pruned);
        let mut known = self.lock();
        let noted = known.credentials.read(own, asked, found);
        known.conclude(noted)
    }

    /// Takes in that an object is gone for good.
    pub fn note_gone(&self, uid: &str) -> Effects {
        let mut known = self.lock();
        let noted = known.credentials.remove(uid);
        known.conclude(noted)
    }

    /// Takes in the status of an object that cannot be read, and whether what it holds is removed together with it.
    pub fn note_unreadable(
        &self,
        uid: &str,
        status: &MicrosoftGraphCredentialStatus,
        removes: bool,
    ) -> Effects {
        let mut known = self.lock();
        let noted = known.credentials.change(uid, |state| {
            state.salvaged.get_or_insert_default().salvage(status, removes);
        });
        known.conclude(noted)
    }

    // --- objects ---

    /// A credential as it is known.
    pub fn credential(&self, own: &Named) -> Option<Arc<GuardedCredential>> {
        self.lock().credentials.by_name(own).map(|entry| entry.object.clone())
    }

    /// An account as it is known.
    pub fn account(&self, own: &Named) -> Option<Arc<GuardedAccount>> {
        self.lock().accounts.by_name(own).map(|entry| entry.object.clone())
    }

    /// All credentials.
    pub fn credentials(&self) -> Vec<Arc<GuardedCredential>> {
        self.lock().credentials.entries().map(|entry| entry.object.clone()).collect()
    }

    /// All accounts.
    pub fn accounts(&self) -> Vec<Arc<GuardedAccount>> {
        self.lock().accounts.entries().map(|entry| entry.object.clone()).collect()
    }

    /// The credentials that use that account.
    pub fn credentials_at(&self, account: &AccountName) -> Vec<Arc<GuardedCredential>> {
        self.lock().credentials.find(&Key::Account(account)).map(|(_, entry)| entry.object.clone()).collect()
    }

    /// Every credential that has a record of the store, with that.
    pub fn records(&self) -> Vec<(Named, Named)> {
        let known = self.lock();
        known.credentials.entries().filter_map(|entry| Some((entry.name(), entry.facts().record?))).collect()
    }

    /// The credentials whose record of the store that is.
    pub fn credentials_sealed_in(&self, record: &Named) -> Vec<Named> {
        self.lock().credentials.find(&Key::Record(record)).map(|(_, entry)| entry.name()).collect()
    }

    /// Who points to that Secret.
    pub fn referrers(&self, secret: &Named) -> Vec<Referrer> {
        let known = self.lock();
        let key = Key::Secret(secret);
        let credentials = known.credentials.find(&key).map(|(_, entry)| Referrer::Credential(entry.name()));
        let accounts = known.accounts.find(&key).map(|(_, entry)| Referrer::Account(entry.name()));
        credentials.chain(accounts).collect()
    }

    /// Whether anything points to that Secret.
    pub fn is_referenced(&self, secret: &Named) -> bool {
        let known = self.lock();
        let key = Key::Secret(secret);
        known.credentials.find(&key).next().is_some() || known.accounts.find(&key).next().is_some()
    }

    /// Everything that may point to a Secret.
    pub fn all_referrers(&self) -> Vec<Referrer> {
        let known = self.lock();
        let credentials = known.credentials.entries().map(|entry| Referrer::Credential(entry.name()));
        let accounts = known.accounts.entries().map(|entry| Referrer::Account(entry.name()));
        credentials.chain(accounts).collect()
    }

    /// Every Secret that something points to, in order.
    pub fn secrets(&self) -> Vec<Named> {
        let known = self.lock();
        let credentials = known.credentials.entries().filter_map(|entry| entry.facts().secret);
        let accounts = known.accounts.entries().filter_map(Entry::facts);
        let secrets: BTreeSet<Named> = credentials.chain(accounts).collect();
        secrets.into_iter().collect()
    }

    // --- whose a credential at Woodpecker is ---

    /// Another object than that one which holds the credential.
    pub fn other_holder(&self, uid: &str, kin: Kin<'_>) -> Option<Named> {
        let known = self.lock();
        let mut holders = known.holders(kin, Held::AtAll);
        holders.find(|entry| entry.uid() != uid).map(Entry::name)
    }

    /// Whether any object has registered the credential now.
    pub fn is_current(&self, kin: Kin<'_>) -> bool {
        self.lock().holders(kin, Held::AsCurrent).next().is_some()
    }

    /// Another object than that one whose create under way has given the credential its name.
    pub fn other_maker(&self, uid: &str, listed: &Listed) -> Option<Named> {
        let known = self.lock();
        listed.marks().find_map(|token| {
            let mut makers = known.credentials.find(&Key::Creates(token)).map(|(_, entry)| entry);
            makers.find(|entry| entry.uid() != uid).map(Entry::name)
        })
    }

    /// Whether any object names that app.
    pub fn is_named(&self, tenant: &TenantId, client: &ClientId) -> bool {
        self.lock().credentials.find(&Key::App(tenant, client)).next().is_some()
    }

    /// Whether any object has something at the account that is removed together with it.
    pub fn are_to_be_removed_at(&self, account: &AccountName) -> bool {
        self.lock().removers_at(account, 1) == 1
    }

    /// The ids held at an account: those registered, and those that are still to be removed as well.
    pub fn ids_at(&self, account: &AccountName) -> Vec<i64> {
        self.lock().held_at(account, Held::AtAll).collect()
    }

    /// The ids registered at an account.
    pub fn registered_at(&self, account: &AccountName) -> Vec<i64> {
        self.lock().held_at(account, Held::AsCurrent).collect()
    }

    /// Whether anything is registered at an account.
    pub fn is_registered_at(&self, account: &AccountName) -> bool {
        self.lock().held_at(account, Held::AsCurrent).next().is_some()
    }

    // --- claims ---

    /// The others that name the app of an object and may come before it, as far as need be: those that are registered, and
    /// the oldest of those that could be, by what `claimant` finds.
    pub fn rivals(
        &self,
        object: &MicrosoftGraphCredential,
        claimant: impl Fn(&MicrosoftGraphCredential) -> Option<Claimant>,
    ) -> Vec<Claimant> {
        let uid = object.metadata.uid.as_deref().unwrap_or_default();
        let key = Key::App(&object.spec.tenant_id, &object.spec.client_id);
        let known = self.lock();
        let mut rivals: Vec<Claimant> = Vec::new();
        let mut last = Turn::Never.rank();
        for (rank, entry) in known.credentials.find(&key) {
            if rank > last {
                break;
            }
            let object = entry.object.0.as_ref().ok().filter(|_| rank % 2 == 0 && entry.uid() != uid);
            let Some(rival) = object.and_then(&claimant) else { continue };
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
        is_let_in: impl Fn(&AccountName, &MicrosoftGraphCredential) -> bool,
    ) -> Vec<Named> {
        let known = self.lock();
        let mut taken = BTreeSet::new();
        let mut next = Vec::new();
        for (rank, entry) in known.credentials.find(&Key::App(&freed.tenant, &freed.client)) {
            let object = entry.object.0.as_ref().ok().filter(|_| rank < Turn::Never.rank());
            let Some((object, account)) = object.and_then(|it| Some((it, it.account_name()?))) else {
                continue;
            };
            let name = entry.name();
            let has_it = entry.facts().holdings.accounts().any(|held| *held == account);
            if name == freed.by || has_it || taken.contains(&account) || !is_let_in(&account, object) {
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
        let mut known = self.lock();
        let Known { credentials, claims, .. } = &mut *known;
        if let Some(holder) = claims.get(&key) {
            let other = credentials.by_uid(holder).filter(|other| *other.uid() != *ours.uid);
            return other.map_or(Claim::Ours, |other| Claim::HeldBy(other.name().to_string()));
        }
        // Of an object that is gone nothing is kept; its writes fail.
        if let Some(entry) = credentials.by_uid_mut(&ours.uid) {
            let key = Arc::new(key);
            entry.state.claims.push(key.clone());
            claims.insert(key, ours.uid.as_str().into());
        }
        Claim::Ours
    }

    /// Lets go of what an object has claimed, but for the claims that are to be kept, and says whether there was any such.
    pub fn keep_claims(&self, uid: &str, is_kept: impl Fn(&ClaimKey) -> bool) -> bool {
        let mut known = self.lock();
        let Known { credentials, claims, .. } = &mut *known;
        let Some(entry) = credentials.by_uid_mut(uid) else { return false };
        let before = entry.state.claims.len();
        entry.state.claims.retain(|key| {
            let is_kept = is_kept(key);
            if !is_kept {
                claims.remove(key);
            }
            is_kept
        });
        entry.state.claims.len() < before
    }

    // --- what is known beside the object ---

    /// How long until an object's request of unknown outcome counts as settled, `settle` after this process's first sight of it;
    /// zero where none is under way. `mark` tells one request from another.
    pub fn settles_in(&self, uid: &str, kind: Kind, mark: Option<&str>, settle: Duration) -> Duration {
        let mut known = self.lock();
        match known.credentials.by_uid_mut(uid) {
            Some(entry) => entry.state.in_flight.settles_in(kind, mark, settle),
            None => mark.map_or(Duration::ZERO, |_| settle),
        }
    }

    /// A request of that mark is being sent, or has ended just now.
    pub fn begin(&self, uid: &str, kind: Kind, mark: &str) {
        if let Some(entry) = self.lock().credentials.by_uid_mut(uid) {
            entry.state.in_flight.begin(kind, mark);
        }
    }

    /// A request of that mark was not processed.
    pub fn end(&self, uid: &str, kind: Kind, mark: &str) {
        if let Some(entry) = self.lock().credentials.by_uid_mut(uid) {
            entry.state.in_flight.end(kind, mark);
        }
    }

    /// An object waits for a permit. Returns how long it has waited; what Microsoft said of the secret of that fingerprint is
    /// kept meanwhile.
    pub fn wait(&self, uid: &str, verified: Option<(String, Proof)>) -> Duration {
        let mut known = self.lock();
        let entry = known.credentials.by_uid_mut(uid);
        entry.map(|it| it.state.waiting.get_or_insert_default().go_on(verified)).unwrap_or_default()
    }

    /// What Microsoft said of the secret of that fingerprint while the object has waited, at most so long ago.
    pub fn verified_while_waiting(&self, uid: &str, fingerprint: &str, max_age: Duration) -> Option<Proof> {
        self.lock().credentials.by_uid(uid)?.state.waiting.as_ref()?.verified(fingerprint, max_age)
    }

    /// An object does not wait any more.
    pub fn end_wait(&self, uid: &str) {
        if let Some(entry) = self.lock().credentials.by_uid_mut(uid) {
            entry.state.waiting = None;
        }
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
        let mut known = self.lock();
        let since = &mut known.credentials.by_uid_mut(uid)?.state.unready_since;
        readiness::note(since, created, before, is_ready, now)
    }

    /// Notes that the credential's account changed: it got another key, say.
    pub fn note_account_changed(&self, own: &Named) {
        if let Some(entry) = self.lock().credentials.by_name_mut(own) {
            entry.state.account_changed = true;
        }
    }

    /// Whether the credential's account changed since its last reconcile.
    pub fn take_account_changed(&self, own: &Named) -> bool {
        let mut known = self.lock();
        known.credentials.by_name_mut(own).is_some_and(|it| std::mem::take(&mut it.state.account_changed))
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock()
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

// === impl Known ===

impl Known {
    fn holders(&self, kin: Kin<'_>, is_wanted: Held) -> impl Iterator<Item = &Entry<GuardedCredential>> {
        let Kin { tenant, client, place, id } = kin;
        let found = self.credentials.find(&Key::Holds(&place.base_url, id)).map(|(_, entry)| entry);
        found.filter(move |entry| entry.facts().holds((tenant, client), &place.base_url, id, is_wanted))
    }

    fn removers_at(&self, account: &AccountName, at_most: usize) -> usize {
        self.credentials.find(&Key::RemovesAt(account)).take(at_most).count()
    }

    fn held_at(&self, account: &AccountName, is_wanted: Held) -> impl Iterator<Item = i64> {
        self.credentials.find(&Key::Account(account)).flat_map(move |(_, entry)| {
            let mut ids = Vec::new();
            let holdings = entry.facts().holdings;
            ids.extend(
                holdings.at(account).filter(|it| it.is_current || is_wanted == Held::AtAll).map(|it| it.id),
            );
            ids
        })
    }

    /// What follows from changes of credentials.
    fn conclude(&mut self, noted: Noted<GuardedCredential>) -> Effects {
        let Noted { changes, due, relist } = noted;
        let mut effects = Effects { due, relist, ..Effects::default() };
        for Change { name, before, after, state } in changes {
            for claim in state.into_iter().flat_map(|state| state.claims) {
                self.claims.remove(&claim);
            }
            let is_gone = after.is_none();
            let (was, is) = (before.unwrap_or_default(), after.unwrap_or_default());
            for account in was.accounts().union(&is.accounts()) {
                if was.differ_at(&is, account) {
                    let matters = was.removes_at().contains(account) != is.removes_at().contains(account);
                    let is_urgent = matters && self.removers_at(account, 2) < 2;
                    effects.accounts.push(AccountChange { account: (*account).clone(), is_urgent });
                }
            }
            if let Some((tenant, client)) = was.app.clone()
                && was.has_made_way(&is)
            {
                effects.freed.push(Freed { by: name.clone(), tenant, client });
            }
            if is_gone {
                effects.gone.push(name);
            }
        }
        effects
    }
}

/// What follows from changes of accounts.
fn conclude_account(noted: Noted<GuardedAccount>) -> Effects {
    let Noted { changes, due, relist } = noted;
    let gone = changes.into_iter().filter(|change| change.after.is_none()).map(|change| change.name);
    Effects { due, gone: gone.collect(), relist, ..Effects::default() }
}

// === impl Table ===

impl<T: Kept> Table<T> {
    fn note(&mut self, scope: &Scope, round: u64, event: Event<T>) -> Noted<T> {
        match event {
            Event::Init => {
                self.begin_list(scope, round);
                Noted::nothing()
            }
            Event::InitApply(object) => self.list(scope, object),
            Event::InitDone => self.end_list(scope),
            Event::Apply(object) => self.apply(object),
            Event::Delete(object) => self.remove(object.meta().uid.as_deref().unwrap_or_default()),
        }
    }
}
