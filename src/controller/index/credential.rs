//! What is kept of each `MicrosoftGraphCredential`, and what it is found by.

use std::collections::BTreeSet;
use std::sync::Arc;

use kube::core::{DeserializeGuard, ObjectMeta};

use super::entry::Kept;
use super::keys::{Key, Rank};
use super::state::CredentialState;
use super::table::Table;
use super::{AccountChange, Effects, Freed, Named, Objects};
use crate::controller::claims::ClaimKey;
use crate::resources::{
    AccountName, ClientId, DeletionPolicy, FINALIZER, MicrosoftGraphCredential,
    MicrosoftGraphCredentialStatus, Place, Registration, TenantId,
};
use crate::store::record::record_name;

/// What others depend on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    pub app: Option<(TenantId, ClientId)>,
    pub secret: Option<Named>,
    pub record: Option<Named>,
    /// The account of its spec.
    wanted: Option<AccountName>,
    pub holdings: Holdings,
    /// Whether what it holds is removed together with it.
    removes: bool,
    /// When its turn for the app is.
    pub turn: Turn,
    claims: Vec<Arc<ClaimKey>>,
}

/// A credential at a remote account that an object holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    pub place: Place,
    pub id: i64,
    /// Whether it is the registration, rather than an earlier one that is still to be removed.
    pub is_current: bool,
}

/// Everything that an object holds, by its status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    pub registered: Vec<Holding>,
    /// Idempotency token and account of the create under way.
    pub pending: Option<(String, AccountName)>,
}

/// An object's place among those that name its app.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Turn {
    /// It comes first: it is registered.
    Registered,
    /// It exists since that second, and comes before younger ones where it is able to register now.
    Waits { since: i64, is_able: bool },
    /// It is deleted, suspended or cannot be read.
    #[default]
    Never,
}

impl Kept for MicrosoftGraphCredential {
    type State = CredentialState;
    type Facts = Facts;

    fn of_parts(mut metadata: ObjectMeta, spec: Self::Spec, mut status: Option<Self::Status>) -> Self {
        // A vector that was read may have room for twice as many, and every object is kept.
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
            Err(_unreadable) => state.salvaged.as_deref().cloned().unwrap_or_default(),
        };
        Facts { claims: state.claims.clone(), ..facts }
    }

    fn succeed(state: &mut CredentialState, before: &Facts, next: &DeserializeGuard<Self>) {
        state.salvaged = next.0.is_err().then(|| Box::new(before.clone()));
    }

    fn keys(facts: &Facts) -> Vec<(Key<'_>, Rank)> {
        let app = facts.app.iter().map(|(tenant, client)| (Key::App(tenant, client), facts.turn.rank()));
        let secret = facts.secret.iter().map(Key::Secret);
        let record = facts.record.iter().map(Key::Record);
        let accounts = facts.accounts().into_iter().map(Key::Account);
        let removes = facts.removes_at().into_iter().map(Key::RemovesAt);
        let holds = facts.holdings.registered.iter().map(|it| Key::Holds(&it.place.base_url, it.id));
        let creates = facts.holdings.pending.iter().map(|(token, _)| Key::Creates(token));
        let claims = facts.claims.iter().map(|claim| Key::Claim(claim));
        let unranked = secret.chain(record).chain(accounts).chain(removes).chain(holds).chain(creates);
        app.chain(unranked.chain(claims).map(|key| (key, 0))).collect()
    }

    fn conclude(all: &Table<Self>, name: &Named, before: &Facts, after: &Facts, effects: &mut Effects) {
        for account in before.accounts().union(&after.accounts()) {
            if before.differ_at(after, account) {
                let matters = before.removes_at().contains(account) != after.removes_at().contains(account);
                let is_urgent = matters && all.find(&Key::RemovesAt(account)).take(2).count() < 2;
                effects.accounts.push(AccountChange { account: (*account).clone(), is_urgent });
            }
        }
        if let Some((tenant, client)) = before.app.clone()
            && before.has_made_way(after)
        {
            effects.freed.push(Freed { by: name.clone(), tenant, client });
        }
    }
}

// === impl Facts ===

impl Facts {
    pub fn of(object: &MicrosoftGraphCredential) -> Self {
        let own = Named::of(object);
        let status = object.status.as_ref();
        let is_registered = status.is_some_and(|status| {
            status.registration.is_some() || status.pending.is_some() || !status.retiring.is_empty()
        });
        let turn = match object.metadata.creation_timestamp.as_ref() {
            _ if is_registered => Turn::Registered,
            _ if object.is_deleted() || object.spec.is_suspended() => Turn::Never,
            created => Turn::Waits {
                since: created.map_or(i64::MAX, |created| created.0.as_second()),
                is_able: object.is_verified() && object.may_create(),
            },
        };
        let in_own = |name: String| Named { namespace: own.namespace.clone(), name };
        Self {
            app: Some((object.spec.tenant_id.clone(), object.spec.client_id.clone())),
            secret: Some(in_own(object.spec.secret_ref.name.clone())),
            record: object.spec.woodpecker().is_none().then(|| in_own(record_name(object))),
            wanted: object.account_name(),
            holdings: status.filter(|_| !is_let_go(object)).map(Holdings::of).unwrap_or_default(),
            removes: object.spec.deletion_policy() == DeletionPolicy::Delete,
            turn,
            claims: Vec::new(),
        }
    }

    /// Of an object that cannot be read: its status mostly can, and what it holds stays its own.
    pub fn salvage(&mut self, status: &MicrosoftGraphCredentialStatus, removes: bool) {
        self.holdings = Holdings::of(status);
        self.removes = removes;
    }

    /// The accounts of the spec and of what is registered, on its way there or on its way out.
    pub fn accounts(&self) -> BTreeSet<&AccountName> {
        self.wanted.iter().chain(self.holdings.accounts()).collect()
    }

    /// The accounts where it has something that is removed together with it.
    pub fn removes_at(&self) -> BTreeSet<&AccountName> {
        self.holdings.accounts().filter(|_| self.removes).collect()
    }

    /// Whether it holds that credential of the app. Ids are not known to be unique over accounts, so tenant and client
    /// tell as well, where they can be read.
    pub fn holds(&self, app: (&TenantId, &ClientId), base_url: &str, id: i64, is_wanted: Held) -> bool {
        let is_it = |it: &Holding| {
            it.id == id && it.place.base_url == base_url && (it.is_current || is_wanted == Held::AtAll)
        };
        self.app.as_ref().is_none_or(|(tenant, client)| (tenant, client) == app)
            && self.holdings.registered.iter().any(is_it)
    }

    /// Whether others that name its app may have their turn now that these are the facts.
    pub fn has_made_way(&self, after: &Self) -> bool {
        let came_before = matches!(self.turn, Turn::Registered | Turn::Waits { is_able: true, .. });
        let has_moved = !after.accounts().is_superset(&self.accounts());
        let has_given_up = after.claims.len() < self.claims.len();
        has_given_up || came_before && (has_moved || self.turn.rank() < after.turn.rank())
    }

    /// Whether the account's counts, or its finalizer, depend on the difference.
    pub fn differ_at(&self, after: &Self, account: &AccountName) -> bool {
        !self.holdings.at(account).eq(after.holdings.at(account))
            || self.removes_at().contains(account) != after.removes_at().contains(account)
    }
}

/// How a credential is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// As the registration.
    AsCurrent,
    /// As the registration, or as an earlier one that is still to be removed.
    AtAll,
}

/// Whether another finalizer alone still keeps a deleted object, of which we have let go.
fn is_let_go(object: &MicrosoftGraphCredential) -> bool {
    let finalizers = object.metadata.finalizers.as_deref().unwrap_or_default();
    object.is_deleted() && !finalizers.iter().any(|finalizer| finalizer == FINALIZER)
}

// === impl Holdings ===

impl Holdings {
    pub fn of(status: &MicrosoftGraphCredentialStatus) -> Self {
        let current = status.registration.iter().map(|registration| (registration, true));
        let earlier = status.retiring.iter().map(|registration| (registration, false));
        let holding = |(registration, is_current): (&Registration, bool)| {
            Some(Holding { place: registration.place()?, id: registration.credential_id, is_current })
        };
        Self {
            registered: current.chain(earlier).filter_map(holding).collect(),
            pending: status.pending.as_ref().map(|it| (it.token.clone(), it.account.clone())),
        }
    }

    /// The accounts where anything is or may be; some more than once.
    pub fn accounts(&self) -> impl Iterator<Item = &AccountName> {
        let pending = self.pending.iter().map(|(_, account)| account);
        self.registered.iter().map(|it| &it.place.account).chain(pending)
    }

    /// What is registered at an account.
    pub fn at(&self, account: &AccountName) -> impl Iterator<Item = &Holding> {
        self.registered.iter().filter(move |it| it.place.account == *account)
    }
}

// === impl Turn ===

impl Turn {
    /// Keeps the order; of those that wait, the able ones are even.
    pub fn rank(self) -> Rank {
        match self {
            Self::Registered => 0,
            Self::Waits { since, is_able } => {
                let second = u64::try_from(since).unwrap_or_default().min(u64::MAX / 4);
                (second + 1) * 2 + u64::from(!is_able)
            }
            Self::Never => u64::MAX,
        }
    }
}
