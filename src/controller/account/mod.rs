//! The controller of `WoodpeckerAccount`s, and the registry in which credentials look accounts up.

pub mod compare;
pub mod connect;
pub mod consistency;
pub mod finalizer;
mod key_identity;
mod known;
mod mailboxes;
pub mod reconcile;
pub mod relation;
mod result;
pub mod state;

use std::sync::Arc;
use std::time::Duration;

use kube::{Api, Client};

use self::consistency::Mismatch;
use self::relation::AccountRelation;
use crate::api::{AccountName, WoodpeckerAccount, WoodpeckerAccountSpec};
use crate::config::BaseUrl;
use crate::controller::index::Index;
use crate::controller::mailboxes::SharedListing;
use crate::controller::requeue::Requeuer;
use crate::core::model::Target;
use crate::http::client::HttpClients;
use crate::woodpecker::{
    AccountQueue, Listing, RemoteAccount, RemoteIdentity, Requester, RequesterKind, SharedAccounts,
};

pub use self::reconcile::run;
pub use self::state::{AccountState, AccountUser};

/// Registry of accounts.
pub struct Accounts {
    http: HttpClients,
    shared: SharedAccounts,
    allowed_base_urls: Vec<BaseUrl>,
    index: Arc<Index>,
}

/// An account that is related to another one.
struct Related {
    name: AccountName,
    own_identity: RemoteIdentity,
    is_usable: bool,
    relation: AccountRelation,
}

/// The requester of an account's queue entries.
fn requester(own: &AccountName) -> Requester {
    Requester { kind: RequesterKind::Account, namespace: own.namespace.clone(), name: own.name.clone() }
}

// === impl Accounts ===

impl Accounts {
    /// API keys are sent only to `allowed_base_urls`.
    pub fn new(
        http: HttpClients,
        shared: SharedAccounts,
        allowed_base_urls: Vec<BaseUrl>,
        index: Arc<Index>,
    ) -> Self {
        Self { http, shared, allowed_base_urls, index }
    }

    /// Looks up an account for an object, with its client if the account is usable.
    pub async fn look_up(
        &self,
        client: &Client,
        name: AccountName,
        user: AccountUser<'_>,
    ) -> Result<(Target, Option<Arc<RemoteAccount>>), kube::Error> {
        let may_adopt = self.index.are_credentials_listed();
        if let Some(found) = self.look_up_known(&name, user, may_adopt) {
            return Ok(found);
        }
        if !self.index.scopes.iter().any(|scope| scope.covers(&name.namespace)) {
            return Ok((Target::NotServed(name), None));
        }
        let api: Api<WoodpeckerAccount> = Api::namespaced(client.clone(), &name.namespace);
        let exists = api.get_metadata_opt(&name.name).await?.is_some();
        Ok((if exists { Target::NotReconciled(name) } else { Target::Missing(name) }, None))
    }

    fn look_up_known(
        &self,
        name: &AccountName,
        user: AccountUser<'_>,
        may_adopt: bool,
    ) -> Option<(Target, Option<Arc<RemoteAccount>>)> {
        let objects = self.index.objects();
        Some(objects.account(name)?.look_up(name, user, may_adopt, objects.namespaces()))
    }

    /// The spec that the last reconcile of an account found, and the listing of its mailboxes; `None` before.
    pub fn connection_state(&self, name: &AccountName) -> Option<(WoodpeckerAccountSpec, SharedListing)> {
        let state = |account: &AccountState| {
            Some((account.known.as_ref()?.spec.clone()?, account.shared_listing.clone()))
        };
        self.read(name, state).flatten()
    }

    /// Removes a requester from all account queues except the one in which it waits.
    pub fn leave_queues(&self, requester: &Requester, queued_in: Option<&AccountQueue>) {
        self.shared.queues.withdraw(requester, queued_in);
    }

    /// Its remote account, if known.
    pub fn remote(&self, name: &AccountName) -> Option<Arc<RemoteAccount>> {
        self.read(name, |account| account.remote().cloned())?
    }

    /// The identity of its remote account, if known.
    pub fn identity(&self, name: &AccountName) -> Option<RemoteIdentity> {
        Some(self.remote(name)?.identity.clone())
    }

    /// Records that a credential exists although the account's listing lacks it.
    pub fn record_present(&self, account: &AccountName, id: i64, requeuer: &Requeuer) {
        self.index.change_account(account, None, |account| account.consistency.record_present(id));
        requeuer.account(account);
    }

    /// Records that the operator has deleted a credential from an account.
    pub fn record_deleted(&self, account: &AccountName, id: i64) {
        self.index.change_account(account, None, |account| account.consistency.record_deleted(id));
    }

    /// Whether a credential was recorded as present.
    pub fn is_present(&self, account: &AccountName, id: i64, lasts: Duration) -> bool {
        self.read(account, |account| account.consistency.is_present(id, lasts)).unwrap_or(false)
    }

    /// Why the listing cannot be of the account that objects have registered these ids at.
    pub fn mismatch(&self, account: &AccountName, listing: &Listing, registered: &[i64]) -> Option<Mismatch> {
        self.read(account, |account| account.consistency.mismatch(|id| listing.contains(id), registered))?
    }

    /// The related accounts: those whose listing, not older than `max_age`, shows one of its entries, and those of
    /// other companies of the same key.
    fn related(
        &self,
        account: &AccountName,
        remote: &RemoteAccount,
        listing: &Listing,
        max_age: Duration,
    ) -> Vec<Related> {
        let (own, identity) = (&remote.own_identity, &remote.identity);
        let sharing = self.shared.sharing(identity, listing, max_age);
        let is_empty = listing.is_empty();
        let objects = self.index.objects();
        let listed_alike = sharing.iter().flat_map(|identity| objects.accounts_at(identity));
        let behind_one_key = objects.accounts_with_key_of(own).filter_map(|(name, other)| {
            let theirs = &other.remote()?.identity;
            (!sharing.contains(theirs)).then_some((name, other, theirs == identity))
        });
        let all = listed_alike.map(|(name, other)| (name, other, true)).chain(behind_one_key);
        let related = |(name, other, is_shared): (AccountName, &AccountState, bool)| {
            let remote = other.remote().filter(|_| name != *account)?;
            let theirs = remote.last_listing(max_age)?;
            let have_some = !is_empty && !theirs.is_empty();
            let own_identity = remote.own_identity.clone();
            let relation = relation::account_relation(own, &own_identity, is_shared && have_some, have_some);
            Some(Related { name, own_identity, is_usable: other.is_usable(), relation })
        };
        all.filter_map(related).collect()
    }

    /// Whether it is still unknown if Woodpecker separates this account from another company of the same key. Then the
    /// first write needs a live listing.
    pub fn needs_isolation_check(&self, account: &AccountName) -> bool {
        let objects = self.index.objects();
        let Some(known) = objects.account(account) else { return false };
        let Some(own) = known.remote().map(|remote| &remote.own_identity) else { return false };
        let mut siblings = objects.accounts_with_key_of(own).filter_map(|(_, other)| other.remote());
        known.consistency.separate_company.as_ref() != Some(own)
            && siblings.any(|other| own.company_id != other.own_identity.company_id)
    }

    /// The account of another company of the same key that shows one of these entries as well.
    pub fn shares_credentials_with(
        &self,
        account: &AccountName,
        listing: &Listing,
        max_age: Duration,
    ) -> Option<AccountName> {
        let remote = self.remote(account)?;
        let related = self.related(account, &remote, listing, max_age).into_iter();
        related
            .filter(|other| other.relation == AccountRelation::CompanyIdIgnored)
            .map(|other| other.name)
            .min()
    }

    /// Whether the account exists and has not been reconciled yet.
    pub fn is_not_reconciled(&self, account: &AccountName) -> bool {
        self.read(account, |account| account.known.is_none()).unwrap_or(false)
    }

    fn is_known(&self, account: &AccountName) -> bool {
        self.read(account, |account| account.known.is_some()).unwrap_or(false)
    }

    fn read<T>(&self, account: &AccountName, read: impl FnOnce(&AccountState) -> T) -> Option<T> {
        self.index.objects().account(account).map(read)
    }
}
