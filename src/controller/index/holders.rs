//! Whose a credential at Woodpecker is, and whose an app: by what every object has registered, or still has to remove, and by
//! the claims that they have taken.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::credential::{Held, Turn};
use super::entry::Entry;
use super::keys::Key;
use super::{Effects, Index, Named, Objects};
use crate::controller::claims::{ClaimKey, Claimant};
use crate::controller::observed::Claim;
use crate::resources::{AccountName, ClientId, MicrosoftGraphCredential, Place, TenantId};
use crate::woodpecker::Entry as Listed;

/// An app that an object has let go of.
#[derive(Debug, PartialEq, Eq)]
pub struct Freed {
    /// The object that has let go.
    pub by: Named,
    pub tenant: TenantId,
    pub client: ClientId,
}

/// A credential at Woodpecker: its app, where it is, its id. An id alone is not known to be unique over accounts.
#[derive(Clone, Copy, Debug)]
pub struct Kin<'a> {
    pub tenant: &'a TenantId,
    pub client: &'a ClientId,
    pub place: &'a Place,
    pub id: i64,
}

// === impl Index ===

impl Index {
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
            let mut makers = objects.credentials.find(&Key::Creates(token));
            makers.find(|entry| entry.uid() != uid).map(Entry::name)
        })
    }

    /// Whether any object names that app.
    pub fn is_named(&self, tenant: &TenantId, client: &ClientId) -> bool {
        self.objects().credentials.find(&Key::App(tenant, client)).next().is_some()
    }

    /// Whether any object has something at the account that is removed together with it.
    pub fn are_to_be_removed_at(&self, account: &AccountName) -> bool {
        self.objects().credentials.find(&Key::RemovesAt(account)).next().is_some()
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
        for (rank, entry) in objects.credentials.find_ranked(&key) {
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
        for (rank, entry) in objects.credentials.find_ranked(&Key::App(&freed.tenant, &freed.client)) {
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
        let is_it =
            |entry: &&Entry<MicrosoftGraphCredential>| entry.state.claims.iter().any(|it| **it == key);
        if let Some(holder) = objects.credentials.find(&Key::Claim(&key)).find(is_it) {
            let is_ours = *holder.uid() == *ours.uid;
            return if is_ours { Claim::Ours } else { Claim::HeldBy(holder.name().to_string()) };
        }
        // Of an object that is gone nothing is kept; its writes fail.
        if let Some(slot) = objects.credentials.slot_of_uid(&ours.uid) {
            objects
                .credentials
                .alter(slot, &mut Effects::default(), |entry, _| entry.state.claims.push(Arc::new(key)));
        }
        Claim::Ours
    }

    /// Lets go of what an object has claimed, but for the claims that are to be kept.
    pub fn keep_claims(&self, uid: &str, is_kept: impl Fn(&ClaimKey) -> bool) -> Effects {
        let (credentials, mut effects) = (&mut self.objects().credentials, Effects::default());
        if let Some(slot) = credentials.slot_of_uid(uid) {
            credentials.alter(slot, &mut effects, |entry, _| entry.state.claims.retain(|it| is_kept(it)));
        }
        effects
    }
}

// === impl Kin ===

impl<'a> Kin<'a> {
    /// A credential for the app of that object.
    pub fn of(object: &'a MicrosoftGraphCredential, place: &'a Place, id: i64) -> Self {
        Self { tenant: &object.spec.tenant_id, client: &object.spec.client_id, place, id }
    }
}

// === impl Objects ===

impl Objects {
    fn holders(
        &self,
        kin: Kin<'_>,
        is_wanted: Held,
    ) -> impl Iterator<Item = &Entry<MicrosoftGraphCredential>> {
        let Kin { tenant, client, place, id } = kin;
        let found = self.credentials.find(&Key::Holds(&place.base_url, id));
        found.filter(move |entry| entry.facts().holds((tenant, client), &place.base_url, id, is_wanted))
    }

    fn held_at(&self, account: &AccountName, is_wanted: Held) -> impl Iterator<Item = i64> {
        self.credentials.find(&Key::Account(account)).flat_map(move |entry| {
            let holdings = entry.facts().holdings;
            let wanted = holdings.at(account).filter(|it| it.is_current || is_wanted == Held::AtAll);
            wanted.map(|it| it.id).collect::<Vec<_>>()
        })
    }
}
