//! What the index derives from a `MicrosoftGraphCredential`, and the keys under which it is found.

use std::collections::BTreeSet;
use std::sync::Arc;

use kube::core::{DeserializeGuard, ObjectMeta};

use crate::api::{
    AccountLocation, AccountName, ClientId, DeletionPolicy, FINALIZER, MicrosoftGraphCredential,
    MicrosoftGraphCredentialStatus, NamespacedName, Registration, TenantId,
};
use crate::controller::index::claim_key::ClaimKey;
use crate::controller::index::entry::Indexed;
use crate::controller::index::keys::{Key, Rank};
use crate::controller::index::state::CredentialState;
use crate::controller::index::table::Table;
use crate::controller::index::{AccountChange, Effects, Objects, ReleasedApp};
use crate::store::record::record_name;

/// What other objects depend on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    pub app: Option<(TenantId, ClientId)>,
    pub secret: Option<NamespacedName>,
    pub record: Option<NamespacedName>,
    /// The `EntraIdentity` of its spec.
    identity: Option<String>,
    spec_account: Option<AccountName>,
    pub owned: OwnedCredentials,
    /// Whether deleting the object deletes what it owns (`deletionPolicy: Delete`).
    deletes_owned: bool,
    /// Its precedence among the objects that name the same app.
    pub precedence: Precedence,
    claims: Vec<Arc<ClaimKey>>,
}

/// A credential at a remote account that an object owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedCredential {
    pub location: AccountLocation,
    pub id: i64,
    /// Whether it is the current registration, rather than a previous one that is still to be deleted.
    pub is_current: bool,
}

/// Everything that an object owns, by its status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnedCredentials {
    pub registered: Vec<OwnedCredential>,
    /// Idempotency token and account of the create in flight.
    pub pending_create: Option<(String, AccountName)>,
}

/// An object's precedence among those that name the same app.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precedence {
    /// It is registered, and comes first.
    Registered,
    /// It exists since that second. It precedes younger ones if it can register now.
    Waiting { since: i64, can_register: bool },
    /// It is deleted, suspended or cannot be deserialized.
    #[default]
    Never,
}

impl Indexed for MicrosoftGraphCredential {
    type State = CredentialState;
    type Facts = Facts;

    fn from_parts(mut metadata: ObjectMeta, spec: Self::Spec, mut status: Option<Self::Status>) -> Self {
        // A deserialized vector may have capacity for twice its length, and every object is kept.
        if let Some(finalizers) = &mut metadata.finalizers {
            finalizers.shrink_to_fit();
        }
        if let Some(status) = &mut status {
            status.conditions.shrink_to_fit();
            if let Some(roles) = &mut status.observed_roles {
                roles.shrink_to_fit();
            }
        }
        Self { metadata, spec, status }
    }

    fn table(objects: &mut Objects) -> &mut Table<Self> {
        &mut objects.credentials
    }

    fn facts(object: &DeserializeGuard<Self>, state: &CredentialState) -> Facts {
        let facts = match &object.0 {
            Ok(object) => Facts::of(object),
            Err(_unreadable) => state.last_readable.as_deref().cloned().unwrap_or_default(),
        };
        Facts { claims: state.claims.clone(), ..facts }
    }

    fn before_replace(state: &mut CredentialState, before: &Facts, next: &DeserializeGuard<Self>) {
        // Without an app, nothing of the object was ever read.
        let was_read = before.app.is_some() || state.last_readable.is_some();
        state.last_readable = (next.0.is_err() && was_read).then(|| Box::new(before.clone()));
    }

    fn keys(facts: &Facts) -> Vec<(Key<'_>, Rank)> {
        let app =
            facts.app.iter().map(|(tenant, client)| (Key::App(tenant, client), facts.precedence.rank()));
        let secret = facts.secret.iter().map(Key::Secret);
        let record = facts.record.iter().map(Key::Record);
        let identity = facts.identity.iter().map(|name| Key::Identity(name));
        let accounts = facts.accounts().into_iter().map(Key::Account);
        let deletes_owned = facts.deletion_accounts().into_iter().map(Key::DeletesAt);
        let holds = facts.owned.registered.iter().map(|it| Key::Owned(&it.location.base_url, it.id));
        let creates = facts.owned.pending_create.iter().map(|(token, _)| Key::PendingCreate(token));
        let claims = facts.claims.iter().map(|claim| Key::Claim(claim));
        let unranked = secret
            .chain(record)
            .chain(identity)
            .chain(accounts)
            .chain(deletes_owned)
            .chain(holds)
            .chain(creates);
        app.chain(unranked.chain(claims).map(|key| (key, 0))).collect()
    }

    fn effects_of_change(
        all: &Table<Self>,
        name: &NamespacedName,
        before: &Facts,
        after: &Facts,
        effects: &mut Effects,
    ) {
        for account in before.accounts().union(&after.accounts()) {
            if before.differs_at(after, account) {
                let may_use_finalizer = before.deletion_accounts().contains(account)
                    != after.deletion_accounts().contains(account);
                let is_urgent = may_use_finalizer && all.find(&Key::DeletesAt(account)).take(2).count() < 2;
                effects.accounts.push(AccountChange { account: (*account).clone(), is_urgent });
            }
        }
        if let Some((tenant, client)) = before.app.clone()
            && before.has_released_app(after)
        {
            effects.released_apps.push(ReleasedApp { by: name.clone(), tenant, client });
        }
    }
}

// === impl Facts ===

impl Facts {
    pub fn of(object: &MicrosoftGraphCredential) -> Self {
        let own = NamespacedName::of(object);
        let status = object.status.as_ref();
        let is_registered = status.is_some_and(|status| {
            status.registration.is_some()
                || status.pending_create.is_some()
                || !status.previous_registrations.is_empty()
        });
        let precedence = match object.metadata.creation_timestamp.as_ref() {
            _ if is_registered => Precedence::Registered,
            _ if object.is_deleted() || object.spec.is_suspended() => Precedence::Never,
            created => Precedence::Waiting {
                since: created.map_or(i64::MAX, |created| created.0.as_second()),
                can_register: object.is_verified() && object.may_create(),
            },
        };
        let in_own = |name: String| NamespacedName { namespace: own.namespace.clone(), name };
        Self {
            app: Some((object.spec.tenant_id.clone(), object.spec.client_id.clone())),
            secret: object.spec.secret_ref.as_ref().map(|reference| in_own(reference.name.clone())),
            record: has_record(object).then(|| in_own(record_name(object))),
            identity: object.spec.entra.as_ref().map(|entra| entra.identity_ref.name.clone()),
            spec_account: object.account_name(),
            owned: status.filter(|_| !is_finalized(object)).map(OwnedCredentials::of).unwrap_or_default(),
            deletes_owned: object.spec.deletion_policy() == DeletionPolicy::Delete,
            precedence,
            claims: Vec::new(),
        }
    }

    /// For an object that cannot be deserialized: its status mostly can, so it keeps what it owns.
    pub fn update_from_status(&mut self, status: &MicrosoftGraphCredentialStatus, deletes_owned: bool) {
        self.owned = OwnedCredentials::of(status);
        self.deletes_owned = deletes_owned;
    }

    /// The accounts of the spec, the registrations and the create in flight.
    pub fn accounts(&self) -> BTreeSet<&AccountName> {
        self.spec_account.iter().chain(self.owned.accounts()).collect()
    }

    /// The accounts where deleting the object deletes something.
    pub fn deletion_accounts(&self) -> BTreeSet<&AccountName> {
        self.owned.accounts().filter(|_| self.deletes_owned).collect()
    }

    /// Whether it owns that credential of the app. Ids are not known to be unique across accounts, so tenant and client
    /// are compared too, if they can be read.
    pub fn owns(
        &self,
        app: (&TenantId, &ClientId),
        base_url: &str,
        id: i64,
        ownership: OwnershipScope,
    ) -> bool {
        let is_it = |it: &OwnedCredential| {
            it.id == id
                && it.location.base_url == base_url
                && (it.is_current || ownership == OwnershipScope::All)
        };
        self.app.as_ref().is_none_or(|(tenant, client)| (tenant, client) == app)
            && self.owned.registered.iter().any(is_it)
    }

    /// Whether other objects that name its app may be able to register after this change.
    pub fn has_released_app(&self, after: &Self) -> bool {
        let came_before = matches!(
            self.precedence,
            Precedence::Registered | Precedence::Waiting { can_register: true, .. }
        );
        let has_left_account = !after.accounts().is_superset(&self.accounts());
        let has_released_claim = after.claims.len() < self.claims.len();
        has_released_claim
            || came_before && (has_left_account || self.precedence.rank() < after.precedence.rank())
    }

    /// Whether the account's counts, or its finalizer, depend on the difference.
    pub fn differs_at(&self, after: &Self, account: &AccountName) -> bool {
        !self.owned.at(account).eq(after.owned.at(account))
            || self.deletion_accounts().contains(account) != after.deletion_accounts().contains(account)
    }
}

/// Whether the object keeps its client secret in a record.
fn has_record(object: &MicrosoftGraphCredential) -> bool {
    object.spec.woodpecker().is_none() || object.spec.rotation.is_some()
}

/// Which of an object's credentials count as owned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnershipScope {
    /// The current registration only.
    Current,
    /// The current registration and previous ones that are still to be deleted.
    All,
}

/// Whether a deleted object no longer has the operator's finalizer, and only another finalizer keeps it.
fn is_finalized(object: &MicrosoftGraphCredential) -> bool {
    let finalizers = object.metadata.finalizers.as_deref().unwrap_or_default();
    object.is_deleted() && !finalizers.iter().any(|finalizer| finalizer == FINALIZER)
}

// === impl OwnedCredentials ===

impl OwnedCredentials {
    pub fn of(status: &MicrosoftGraphCredentialStatus) -> Self {
        let current = status.registration.iter().map(|registration| (registration, true));
        let earlier = status.previous_registrations.iter().map(|registration| (registration, false));
        let owned = |(registration, is_current): (&Registration, bool)| {
            Some(OwnedCredential {
                location: registration.location()?,
                id: registration.credential_id,
                is_current,
            })
        };
        Self {
            registered: current.chain(earlier).filter_map(owned).collect(),
            pending_create: status
                .pending_create
                .as_ref()
                .map(|it| (it.idempotency_token.clone(), it.account.clone())),
        }
    }

    /// The accounts where something is or may be registered; may contain duplicates.
    pub fn accounts(&self) -> impl Iterator<Item = &AccountName> {
        let pending = self.pending_create.iter().map(|(_, account)| account);
        self.registered.iter().map(|it| &it.location.account).chain(pending)
    }

    pub fn at(&self, account: &AccountName) -> impl Iterator<Item = &OwnedCredential> {
        self.registered.iter().filter(move |it| it.location.account == *account)
    }
}

// === impl Precedence ===

impl Precedence {
    /// Lower ranks come first. While waiting, an object that can register has an even rank.
    pub fn rank(self) -> Rank {
        match self {
            Self::Registered => 0,
            Self::Waiting { since, can_register } => {
                let second = u64::try_from(since).unwrap_or_default().min(u64::MAX / 4);
                (second + 1) * 2 + u64::from(!can_register)
            }
            Self::Never => u64::MAX,
        }
    }
}
