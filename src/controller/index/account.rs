//! What the index derives from a `WoodpeckerAccount`, and the keys under which it is found.

use kube::core::{DeserializeGuard, ObjectMeta};

use crate::api::{NamespacedName, WoodpeckerAccount};
use crate::controller::account::AccountState;
use crate::controller::index::Objects;
use crate::controller::index::entry::Indexed;
use crate::controller::index::keys::{Key, Rank};
use crate::controller::index::table::Table;
use crate::woodpecker::RemoteIdentity;

/// What the index stores about an account for lookups.
#[derive(Default, PartialEq)]
pub struct AccountFacts {
    pub secret: Option<NamespacedName>,
    /// The identity whose listing it uses.
    identity: Option<RemoteIdentity>,
    /// The identity by its own URL, company and key.
    own_identity: Option<RemoteIdentity>,
    /// Another account that is the same remote account.
    alias_of: Option<NamespacedName>,
    /// The account that blocks this one.
    shares_credentials_with: Option<NamespacedName>,
}

impl Indexed for WoodpeckerAccount {
    type State = AccountState;
    type Facts = AccountFacts;

    fn from_parts(metadata: ObjectMeta, spec: Self::Spec, status: Option<Self::Status>) -> Self {
        Self { metadata, spec, status }
    }

    fn table(objects: &mut Objects) -> &mut Table<Self> {
        &mut objects.accounts
    }

    fn facts(object: &DeserializeGuard<Self>, state: &AccountState) -> AccountFacts {
        let secret = |object: &Self| NamespacedName {
            namespace: object.metadata.namespace.clone().unwrap_or_default(),
            name: object.spec.api_key_secret_ref.name.clone(),
        };
        AccountFacts {
            secret: object.0.as_ref().ok().map(secret),
            identity: state.remote().map(|remote| remote.identity.clone()),
            own_identity: state.remote().map(|remote| remote.own_identity.clone()),
            alias_of: state.consistency.alias_of.as_ref().map(|alias_of| alias_of.other.clone()),
            shares_credentials_with: state.consistency.shares_credentials_with.clone(),
        }
    }

    fn keys(facts: &AccountFacts) -> Vec<(Key<'_>, Rank)> {
        let AccountFacts { secret, identity, own_identity, alias_of, shares_credentials_with } = facts;
        let keys = [
            secret.as_ref().map(Key::Secret),
            identity.as_ref().map(Key::Remote),
            own_identity.as_ref().map(|it| Key::OfAccount(&it.base_url, it.key)),
            alias_of.as_ref().map(Key::Alias),
            shares_credentials_with.as_ref().map(Key::SharesCredentialsWith),
        ];
        keys.into_iter().flatten().map(|key| (key, 0)).collect()
    }
}
