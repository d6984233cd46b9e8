//! What each `WoodpeckerAccount` is found by.

use kube::core::{DeserializeGuard, ObjectMeta};

use super::entry::Kept;
use super::keys::{Key, Rank};
use super::table::Table;
use super::{Named, Objects};
use crate::controller::accounts::AccountState;
use crate::resources::WoodpeckerAccount;
use crate::woodpecker::RemoteIdentity;

/// What others depend on.
#[derive(Default, PartialEq)]
pub struct AccountFacts {
    pub secret: Option<Named>,
    /// The remote account whose listing it has.
    identity: Option<RemoteIdentity>,
    /// The same by its own address, company and key.
    natural: Option<RemoteIdentity>,
    /// The account that it is known to be one with.
    one_with: Option<Named>,
    /// The account because of which it cannot be used.
    confused_with: Option<Named>,
}

impl Kept for WoodpeckerAccount {
    type State = AccountState;
    type Facts = AccountFacts;

    fn of_parts(metadata: ObjectMeta, spec: Self::Spec, status: Option<Self::Status>) -> Self {
        Self { metadata, spec, status }
    }

    fn table(objects: &mut Objects) -> &mut Table<Self> {
        &mut objects.accounts
    }

    fn facts(object: &DeserializeGuard<Self>, state: &AccountState) -> AccountFacts {
        let secret = |object: &Self| Named {
            namespace: object.metadata.namespace.clone().unwrap_or_default(),
            name: object.spec.api_key_secret_ref.name.clone(),
        };
        AccountFacts {
            secret: object.0.as_ref().ok().map(secret),
            identity: state.remote().map(|remote| remote.identity.clone()),
            natural: state.remote().map(|remote| remote.natural.clone()),
            one_with: state.ledger.one_with.as_ref().map(|one_with| one_with.other.clone()),
            confused_with: state.ledger.confused_with.clone(),
        }
    }

    fn keys(facts: &AccountFacts) -> Vec<(Key<'_>, Rank)> {
        let AccountFacts { secret, identity, natural, one_with, confused_with } = facts;
        let keys = [
            secret.as_ref().map(Key::Secret),
            identity.as_ref().map(Key::Remote),
            natural.as_ref().map(|it| Key::Opened(&it.base_url, it.key)),
            one_with.as_ref().map(Key::OneWith),
            confused_with.as_ref().map(Key::ConfusedWith),
        ];
        keys.into_iter().flatten().map(|key| (key, 0)).collect()
    }
}
