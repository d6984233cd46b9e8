//! Ownership of credentials at Woodpecker and of apps: by what every object has registered or still has to delete, and
//! by the claims that objects hold.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::api::{
    AccountLocation, AccountName, ClientId, MicrosoftGraphCredential, NamespacedName, RotationStatus,
    TenantId,
};
use jiff::Timestamp;

use crate::controller::index::claim_key::ClaimKey;
use crate::controller::index::credential::{OwnershipScope, Precedence};
use crate::controller::index::entry::Entry;
use crate::controller::index::keys::Key;
use crate::controller::index::{Effects, Index, Objects, ParsedCredential};
use crate::core::app_reading::AppAccess;
use crate::core::claims::Candidate;
use crate::core::model::Claim;
use crate::core::remote::Entry as Listed;

/// An app that an object no longer claims.
#[derive(Debug, PartialEq, Eq)]
pub struct ReleasedApp {
    /// The object that released it.
    pub by: NamespacedName,
    pub tenant: TenantId,
    pub client: ClientId,
}

/// A credential at Woodpecker. An id alone is not known to be unique across accounts.
#[derive(Clone, Copy, Debug)]
pub struct CredentialRef<'a> {
    pub tenant: &'a TenantId,
    pub client: &'a ClientId,
    pub location: &'a AccountLocation,
    pub id: i64,
}

// === impl Index ===

impl Index {
    /// An object other than `uid` that owns the credential.
    pub fn other_owner(&self, uid: &str, credential: CredentialRef<'_>) -> Option<NamespacedName> {
        let objects = self.objects();
        let mut owners = objects.owners(credential, OwnershipScope::All);
        owners.find(|entry| entry.uid() != uid).map(Entry::name)
    }

    /// An object whose current registration is the credential.
    pub fn current_owner(&self, credential: CredentialRef<'_>) -> Option<NamespacedName> {
        self.objects().owners(credential, OwnershipScope::Current).next().map(Entry::name)
    }

    /// Whether the credential is the current registration of any object.
    pub fn is_current(&self, credential: CredentialRef<'_>) -> bool {
        self.objects().owners(credential, OwnershipScope::Current).next().is_some()
    }

    /// An object other than `uid` whose create in flight has given the credential its name.
    pub fn other_creator(&self, uid: &str, listed: &Listed) -> Option<NamespacedName> {
        let objects = self.objects();
        listed.bracketed_texts().find_map(|token| {
            let mut creators = objects.credentials.find(&Key::PendingCreate(token));
            creators.find(|entry| entry.uid() != uid).map(Entry::name)
        })
    }

    pub fn is_named(&self, tenant: &TenantId, client: &ClientId) -> bool {
        self.objects().credentials.find(&Key::App(tenant, client)).next().is_some()
    }

    /// Whether deleting some object of such a namespace deletes something at the account.
    pub fn needs_account_for_deletion(
        &self,
        account: &AccountName,
        is_allowed: impl Fn(&str) -> bool,
    ) -> bool {
        let namespaces: BTreeSet<String> = {
            let objects = self.objects();
            objects.credentials.find(&Key::DeletesAt(account)).map(|entry| entry.name().namespace).collect()
        };
        // The caller asks the index too, so it is not locked meanwhile.
        namespaces.iter().any(|namespace| is_allowed(namespace))
    }

    /// The objects whose deletion deletes something at the account.
    pub fn credentials_to_delete_at(&self, account: &AccountName) -> Vec<Arc<ParsedCredential>> {
        let objects = self.objects();
        objects.credentials.find(&Key::DeletesAt(account)).map(|entry| entry.object.clone()).collect()
    }

    /// Whether there is a credential of which nothing is known yet, because neither it nor its status could be read.
    pub fn has_unread_credential(&self) -> bool {
        let objects = self.objects();
        let is_unread = |entry: &Entry<MicrosoftGraphCredential>| {
            entry.object.0.is_err() && entry.state.last_readable.is_none()
        };
        objects.credentials.entries().any(is_unread)
    }

    /// The ids owned at an account: current registrations and previous ones that are still to be deleted.
    pub fn owned_ids_at(&self, account: &AccountName) -> Vec<i64> {
        self.objects().owned_at(account, OwnershipScope::All).collect()
    }

    /// The ids of the current registrations at an account.
    pub fn registered_ids_at(&self, account: &AccountName) -> Vec<i64> {
        self.objects().owned_at(account, OwnershipScope::Current).collect()
    }

    pub fn has_registrations_at(&self, account: &AccountName) -> bool {
        self.objects().owned_at(account, OwnershipScope::Current).next().is_some()
    }

    /// Another object that rotates the client secrets of the object's app and comes before it: it has created one and this
    /// object has not, or it is older.
    pub fn other_rotation(&self, object: &MicrosoftGraphCredential) -> Option<NamespacedName> {
        let order = |object: &MicrosoftGraphCredential| {
            let rotation = object.status.as_ref().and_then(|status| status.rotation.as_deref());
            let has_created = rotation.is_some_and(RotationStatus::has_secrets);
            let created =
                object.metadata.creation_timestamp.as_ref().map_or(Timestamp::MAX, |created| created.0);
            (!has_created, created, object.metadata.uid.clone())
        };
        object.spec.rotation.as_ref()?;
        let key = Key::App(&object.spec.tenant_id, &object.spec.client_id);
        let objects = self.objects();
        // An object without a grant neither blocks another one nor learns of it.
        let is_granted =
            |object: &MicrosoftGraphCredential| objects.app_access(object) == Some(AppAccess::Granted);
        if !is_granted(object) {
            return None;
        }
        let first = objects
            .credentials
            .find(&key)
            .filter_map(|entry| entry.object.0.as_ref().ok())
            .filter(|other| other.metadata.uid != object.metadata.uid)
            .filter(|other| {
                (&other.spec.tenant_id, &other.spec.client_id)
                    == (&object.spec.tenant_id, &object.spec.client_id)
            })
            .filter(|other| other.spec.rotation.is_some() && !other.is_deleted() && is_granted(other))
            .min_by_key(|other| order(other))?;
        (order(first) < order(object)).then(|| NamespacedName::of(first))
    }

    // --- claims ---

    /// The other objects that name the object's app and may precede it, as far as they matter: those that are
    /// registered, and the oldest of those that `candidate` says could be.
    pub fn conflicting(
        &self,
        object: &MicrosoftGraphCredential,
        candidate: impl Fn(&Objects, &MicrosoftGraphCredential) -> Option<Candidate>,
    ) -> Vec<Candidate> {
        let uid = object.metadata.uid.as_deref().unwrap_or_default();
        let key = Key::App(&object.spec.tenant_id, &object.spec.client_id);
        let objects = self.objects();
        let mut conflicting: Vec<Candidate> = Vec::new();
        let mut last = Precedence::Never.rank();
        for (rank, entry) in objects.credentials.find_ranked(&key) {
            if rank > last {
                break;
            }
            let object = entry.object.0.as_ref().ok().filter(|_| rank % 2 == 0 && entry.uid() != uid);
            let Some(conflict) = object.and_then(|object| candidate(&objects, object)) else { continue };
            if rank > Precedence::Registered.rank() && conflict.could_register {
                // Younger ones change nothing; those of the same second may.
                last = rank;
            }
            conflicting.push(conflict);
        }
        conflicting
    }

    /// The objects that may register the app after it was released: at each account those that it allows, down to the
    /// oldest that can register.
    pub fn next_candidates(
        &self,
        released: &ReleasedApp,
        is_allowed: impl Fn(&Objects, &AccountName, &MicrosoftGraphCredential) -> bool,
    ) -> Vec<NamespacedName> {
        let objects = self.objects();
        let mut served_accounts = BTreeSet::new();
        let mut next = Vec::new();
        for (rank, entry) in objects.credentials.find_ranked(&Key::App(&released.tenant, &released.client)) {
            let object = entry.object.0.as_ref().ok().filter(|_| rank < Precedence::Never.rank());
            let Some((object, account)) = object.and_then(|it| Some((it, it.account_name()?))) else {
                continue;
            };
            let name = entry.name();
            let is_owner = entry.facts().owned.accounts().any(|held| *held == account);
            if name == released.by
                || is_owner
                || served_accounts.contains(&account)
                || !is_allowed(&objects, &account, object)
            {
                continue;
            }
            next.push(name);
            if rank > Precedence::Registered.rank() && rank % 2 == 0 {
                served_accounts.insert(account);
            }
        }
        next
    }

    /// Acquires the claim for an object, or returns its holder. A holder keeps the claim until its object is deleted.
    pub fn hold_claim(&self, key: ClaimKey, ours: &Candidate) -> Claim {
        let mut objects = self.objects();
        let is_it =
            |entry: &&Entry<MicrosoftGraphCredential>| entry.state.claims.iter().any(|it| **it == key);
        if let Some(holder) = objects.credentials.find(&Key::Claim(&key)).find(is_it) {
            let is_ours = *holder.uid() == *ours.uid;
            return if is_ours { Claim::Granted } else { Claim::Conflict(holder.name().to_string()) };
        }
        // Nothing is kept of a deleted object; its writes fail.
        if let Some(slot) = objects.credentials.slot_of_uid(&ours.uid) {
            objects
                .credentials
                .update(slot, &mut Effects::default(), |entry, _| entry.state.claims.push(Arc::new(key)));
        }
        Claim::Granted
    }

    /// Releases the object's claims, except those for which `is_kept` returns true.
    pub fn retain_claims(&self, uid: &str, is_kept: impl Fn(&ClaimKey) -> bool) -> Effects {
        let (credentials, mut effects) = (&mut self.objects().credentials, Effects::default());
        if let Some(slot) = credentials.slot_of_uid(uid) {
            credentials.update(slot, &mut effects, |entry, _| entry.state.claims.retain(|it| is_kept(it)));
        }
        effects
    }
}

// === impl CredentialRef ===

impl<'a> CredentialRef<'a> {
    pub fn of(object: &'a MicrosoftGraphCredential, location: &'a AccountLocation, id: i64) -> Self {
        Self { tenant: &object.spec.tenant_id, client: &object.spec.client_id, location, id }
    }
}

// === impl Objects ===

impl Objects {
    fn owners(
        &self,
        credential: CredentialRef<'_>,
        ownership: OwnershipScope,
    ) -> impl Iterator<Item = &Entry<MicrosoftGraphCredential>> {
        let CredentialRef { tenant, client, location, id } = credential;
        let found = self.credentials.find(&Key::Owned(&location.base_url, id));
        found.filter(move |entry| entry.facts().owns((tenant, client), &location.base_url, id, ownership))
    }

    fn owned_at(&self, account: &AccountName, ownership: OwnershipScope) -> impl Iterator<Item = i64> {
        self.credentials.find(&Key::Account(account)).flat_map(move |entry| {
            let owned = entry.facts().owned;
            let wanted = owned.at(account).filter(|it| it.is_current || ownership == OwnershipScope::All);
            wanted.map(|it| it.id).collect::<Vec<_>>()
        })
    }
}
