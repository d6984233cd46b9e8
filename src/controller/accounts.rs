//! The Woodpecker accounts: what is known of each, for the credentials that use it.

mod agreement;
mod finalizer;
mod kinship;
mod ledger;
mod open;
mod pass;
mod report;
mod state;

use std::sync::Arc;
use std::time::Duration;

use kube::{Api, Client};

use self::kinship::Kinship;
use self::ledger::Divergence;
use super::calls::Calls;
use super::index::Index;
use super::observed::Target;
use crate::http::HttpClients;
use crate::resources::{AccountName, MicrosoftGraphCredential, WoodpeckerAccount};
use crate::settings::BaseUrl;
use crate::woodpecker::{Commons, Lane, Listing, Owner, RemoteAccount, RemoteIdentity};

pub use self::pass::run;
pub use self::state::AccountState;

/// What is known of all accounts.
pub struct Accounts {
    http: HttpClients,
    commons: Commons,
    allowed_base_urls: Vec<BaseUrl>,
    index: Arc<Index>,
}

/// Another account that has something to do with one.
struct Related {
    name: AccountName,
    natural: RemoteIdentity,
    is_usable: bool,
    kinship: Kinship,
}

// === impl Accounts ===

impl Accounts {
    /// API keys go to `allowed_base_urls` alone.
    pub fn new(
        http: HttpClients,
        commons: Commons,
        allowed_base_urls: Vec<BaseUrl>,
        index: Arc<Index>,
    ) -> Self {
        Self { http, commons, allowed_base_urls, index }
    }

    /// Finds an account for a credential: how it can be reached there, and the way where it can.
    pub async fn look_up(
        &self,
        client: &Client,
        name: AccountName,
        object: &MicrosoftGraphCredential,
    ) -> Result<(Target, Option<Arc<RemoteAccount>>), kube::Error> {
        let may_adopt = self.index.are_credentials_listed();
        if let Some(found) = self.read(&name, |account| account.look_up(&name, object, may_adopt)) {
            return Ok(found);
        }
        if !self.index.scopes.iter().any(|scope| scope.covers(&name.namespace)) {
            return Ok((Target::Missing(name), None));
        }
        let api: Api<WoodpeckerAccount> = Api::namespaced(client.clone(), &name.namespace);
        let exists = api.get_metadata_opt(&name.name).await?.is_some();
        Ok((if exists { Target::NotSeenYet(name) } else { Target::Missing(name) }, None))
    }

    /// Takes an owner's tickets back in all lanes but the one in which it waits.
    pub fn leave_lanes(&self, owner: &Owner, waits_in: Option<&Lane>) {
        self.commons.lanes.withdraw(owner, waits_in);
    }

    /// The way to it, as far as is known.
    pub fn remote(&self, name: &AccountName) -> Option<Arc<RemoteAccount>> {
        self.read(name, |account| account.remote().cloned())?
    }

    /// Which remote account it is, as far as is known.
    pub fn identity(&self, name: &AccountName) -> Option<RemoteIdentity> {
        Some(self.remote(name)?.identity.clone())
    }

    /// Notes that a credential is there although the account's listing lacks it.
    pub fn note_present(&self, account: &AccountName, id: i64, calls: &Calls) {
        self.index.change_account(account, None, |account| account.ledger.note_present(id));
        calls.account(account);
    }

    /// Notes that the operator has removed a credential from an account.
    pub fn note_removed(&self, account: &AccountName, id: i64) {
        self.index.change_account(account, None, |account| account.ledger.note_removed(id));
    }

    /// Whether it was noted that a credential is there.
    pub fn is_present(&self, account: &AccountName, id: i64, lasts: Duration) -> bool {
        self.read(account, |account| account.ledger.is_present(id, lasts)).unwrap_or(false)
    }

    /// Why the account that was listed so cannot be the one that it was, by the ids held there.
    pub fn has_diverged(&self, account: &AccountName, listing: &Listing, held: &[i64]) -> Option<Divergence> {
        self.read(account, |account| account.ledger.divergence(|id| listing.contains(id), held))?
    }

    /// The other accounts that have something to do with one that was listed so: those whose listing, at most so old, shows
    /// one of its entries, and those of other companies behind the same key.
    fn related(
        &self,
        account: &AccountName,
        remote: &RemoteAccount,
        listing: &Listing,
        max_age: Duration,
    ) -> Vec<Related> {
        let (own, identity) = (&remote.natural, &remote.identity);
        let sharing = self.commons.sharing(identity, listing, max_age);
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
            let natural = remote.natural.clone();
            let kinship = kinship::kinship(own, &natural, is_shared && have_some, have_some);
            Some(Related { name, natural, is_usable: other.is_usable(), kinship })
        };
        all.filter_map(related).collect()
    }

    /// Whether it is not known yet if the vendor tells this account apart from another company behind the
    /// same key. Its first write wants a listing of that very moment.
    pub fn may_be_confused(&self, account: &AccountName) -> bool {
        let objects = self.index.objects();
        let Some(known) = objects.account(account) else { return false };
        let Some(own) = known.remote().map(|remote| &remote.natural) else { return false };
        let mut siblings = objects.accounts_with_key_of(own).filter_map(|(_, other)| other.remote());
        known.ledger.company_honoured.as_ref() != Some(own)
            && siblings.any(|other| own.company_id != other.natural.company_id)
    }

    /// The account of another company behind the same key that shows one of these entries as well.
    pub fn confused_with(
        &self,
        account: &AccountName,
        listing: &Listing,
        max_age: Duration,
    ) -> Option<AccountName> {
        let remote = self.remote(account)?;
        let related = self.related(account, &remote, listing, max_age).into_iter();
        related.filter(|other| other.kinship == Kinship::Confused).map(|other| other.name).min()
    }

    /// Whether an account exists that has not been looked at yet.
    pub fn is_awaited(&self, account: &AccountName) -> bool {
        self.read(account, |account| account.known.is_none()).unwrap_or(false)
    }

    fn is_known(&self, account: &AccountName) -> bool {
        self.read(account, |account| account.known.is_some()).unwrap_or(false)
    }

    fn read<T>(&self, account: &AccountName, read: impl FnOnce(&AccountState) -> T) -> Option<T> {
        self.index.objects().account(account).map(read)
    }
}
