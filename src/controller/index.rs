//! Who points to what: from a Secret, an account, an app or a record of the store to the objects that name it. Kept from the
//! watches, so that no change needs a scan over all objects.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use kube::ResourceExt;
use kube::core::ObjectMeta;

use crate::resources::{AccountName, ClientId, MicrosoftGraphCredential, TenantId, WoodpeckerAccount};
use crate::store::record::record_name;

/// Namespace and name of anything.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Named {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// An object that points to a Secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Referrer {
    /// A `MicrosoftGraphCredential`.
    Credential(Named),
    /// A `WoodpeckerAccount`.
    Account(Named),
}

/// Who points to what.
#[derive(Debug, Default)]
pub struct Index {
    maps: Mutex<Maps>,
}

#[derive(Debug, Default)]
struct Maps {
    links: BTreeMap<Referrer, Links>,
    by_secret: BTreeMap<Named, BTreeSet<Referrer>>,
    by_account: BTreeMap<AccountName, BTreeSet<Named>>,
    by_app: BTreeMap<App, BTreeSet<Named>>,
    by_record: BTreeMap<Named, BTreeSet<Named>>,
}

type App = (TenantId, ClientId);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Links {
    secret: Named,
    /// The account of the spec and those of what is registered, on its way there or on its way out.
    accounts: BTreeSet<AccountName>,
    app: Option<App>,
    /// The record of the store.
    record: Option<Named>,
    stake: Stake,
}

/// What makes an object come before others for its app, or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Stake {
    is_registered: bool,
    could_register: bool,
}

// === impl Index ===

impl Index {
    /// Notes where a credential points to, and says whether others that name its app may come before it now,
    /// or it before them.
    pub fn put_credential(&self, object: &MicrosoftGraphCredential) -> bool {
        let own = Named::of(object);
        let status = object.status.as_ref();
        let registrations =
            status.into_iter().flat_map(|status| status.registration.iter().chain(&status.retiring));
        let pending = status.and_then(|status| status.pending.as_ref()).map(|it| it.account.clone());
        let written = registrations.filter_map(|it| it.account.clone()).chain(pending);
        let links = Links {
            secret: Named { namespace: own.namespace.clone(), name: object.spec.secret_ref.name.clone() },
            accounts: object.account_name().into_iter().chain(written).collect(),
            app: Some((object.spec.tenant_id.clone(), object.spec.client_id.clone())),
            record: object
                .spec
                .woodpecker()
                .is_none()
                .then(|| Named { namespace: own.namespace.clone(), name: record_name(object) }),
            stake: Stake {
                is_registered: status.is_some_and(|status| {
                    status.registration.is_some() || status.pending.is_some() || !status.retiring.is_empty()
                }),
                could_register: object.is_verified()
                    && object.may_create()
                    && !object.spec.is_suspended()
                    && object.metadata.deletion_timestamp.is_none(),
            },
        };
        let mut maps = self.lock();
        let referrer = Referrer::Credential(own);
        let changes_ranks = maps.links.get(&referrer).is_some_and(|before| {
            (&before.stake, &before.accounts, &before.app) != (&links.stake, &links.accounts, &links.app)
        });
        maps.put(referrer, links);
        changes_ranks
    }

    /// Notes where an account points to.
    pub fn put_account(&self, object: &WoodpeckerAccount) {
        let own = Named::of(object);
        let secret =
            Named { namespace: own.namespace.clone(), name: object.spec.api_key_secret_ref.name.clone() };
        self.lock().put(
            Referrer::Account(own),
            Links { secret, accounts: BTreeSet::new(), app: None, record: None, stake: Stake::default() },
        );
    }

    /// Everything that points to a Secret.
    pub fn all_referrers(&self) -> Vec<Referrer> {
        self.lock().links.keys().cloned().collect()
    }

    /// Forgets an object.
    pub fn remove(&self, referrer: &Referrer) {
        self.lock().remove(referrer);
    }

    /// Every Secret that something points to.
    pub fn secrets(&self) -> Vec<Named> {
        self.lock().by_secret.keys().cloned().collect()
    }

    /// Who points to that Secret.
    pub fn referrers(&self, secret: &Named) -> Vec<Referrer> {
        self.lock().by_secret.get(secret).into_iter().flatten().cloned().collect()
    }

    /// The credentials that use that account.
    pub fn credentials_at(&self, account: &AccountName) -> Vec<Named> {
        self.lock().by_account.get(account).into_iter().flatten().cloned().collect()
    }

    /// The credentials for that app.
    pub fn credentials_for(&self, tenant: &TenantId, client: &ClientId) -> Vec<Named> {
        self.lock().by_app.get(&(tenant.clone(), client.clone())).into_iter().flatten().cloned().collect()
    }

    /// Every credential that has a record of the store, with that.
    pub fn records(&self) -> Vec<(Named, Named)> {
        let maps = self.lock();
        let owners =
            maps.by_record.iter().flat_map(|(record, owners)| owners.iter().map(move |it| (it, record)));
        owners.map(|(owner, record)| (owner.clone(), record.clone())).collect()
    }

    /// The credentials whose record of the store that is.
    pub fn credentials_sealed_in(&self, record: &Named) -> Vec<Named> {
        self.lock().by_record.get(record).into_iter().flatten().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Maps> {
        self.maps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Maps ===

impl Maps {
    fn put(&mut self, referrer: Referrer, links: Links) {
        if self.links.get(&referrer) == Some(&links) {
            return;
        }
        self.remove(&referrer);
        self.by_secret.entry(links.secret.clone()).or_default().insert(referrer.clone());
        if let Referrer::Credential(own) = &referrer {
            for account in &links.accounts {
                self.by_account.entry(account.clone()).or_default().insert(own.clone());
            }
            if let Some(app) = &links.app {
                self.by_app.entry(app.clone()).or_default().insert(own.clone());
            }
            if let Some(record) = &links.record {
                self.by_record.entry(record.clone()).or_default().insert(own.clone());
            }
        }
        self.links.insert(referrer, links);
    }

    fn remove(&mut self, referrer: &Referrer) {
        let Some(links) = self.links.remove(referrer) else { return };
        take_from(&mut self.by_secret, &links.secret, referrer);
        if let Referrer::Credential(own) = referrer {
            for account in &links.accounts {
                take_from(&mut self.by_account, account, own);
            }
            if let Some(app) = &links.app {
                take_from(&mut self.by_app, app, own);
            }
            if let Some(record) = &links.record {
                take_from(&mut self.by_record, record, own);
            }
        }
    }
}

fn take_from<K: Ord, V: Ord>(map: &mut BTreeMap<K, BTreeSet<V>>, key: &K, value: &V) {
    if let Some(values) = map.get_mut(key) {
        values.remove(value);
        if values.is_empty() {
            map.remove(key);
        }
    }
}

// === impl Named ===

impl Named {
    /// Of an object.
    pub fn of(object: &impl ResourceExt) -> Self {
        Self { namespace: object.namespace().unwrap_or_default(), name: object.name_any() }
    }

    /// Of the object with that metadata.
    pub fn of_meta(meta: &ObjectMeta) -> Self {
        Self {
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
        }
    }
}

impl std::fmt::Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::{Destination, StoreDestination};

    fn credential(name: &str, secret: &str, account: &str) -> MicrosoftGraphCredential {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "graph-credentials.io/v1alpha1", "kind": "MicrosoftGraphCredential",
            "metadata": {"name": name, "namespace": "mail"},
            "spec": {
                "tenantId": "bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32", "clientId": "e1c6ac69-480e-4a17-9b85-3467967bd179",
                "secretRef": {"name": secret}, "destination": {"woodpecker": {"accountRef": {"name": account}}}
            }
        }))
        .unwrap()
    }

    fn named(name: &str) -> Named {
        Named { namespace: "mail".into(), name: name.into() }
    }

    #[test]
    fn an_object_is_found_by_what_it_points_to_and_by_nothing_else() {
        let index = Index::default();
        index.put_credential(&credential("one", "s", "a"));
        index.put_credential(&credential("two", "s", "b"));
        assert_eq!(
            index.referrers(&named("s")),
            [Referrer::Credential(named("one")), Referrer::Credential(named("two"))]
        );
        index.put_credential(&credential("one", "t", "b"));
        assert_eq!(index.referrers(&named("s")), [Referrer::Credential(named("two"))]);
        let at =
            |name: &str| index.credentials_at(&AccountName { namespace: "mail".into(), name: name.into() });
        assert_eq!(at("b"), [named("one"), named("two")]);
        assert!(at("a").is_empty());
    }

    #[test]
    fn a_removed_object_leaves_nothing_behind() {
        let index = Index::default();
        let object = credential("one", "s", "a");
        index.put_credential(&object);
        index.remove(&Referrer::Credential(named("one")));
        assert!(index.secrets().is_empty());
        assert!(index.credentials_for(&object.spec.tenant_id, &object.spec.client_id).is_empty());
    }

    #[test]
    fn an_object_of_the_store_is_found_by_its_record() {
        let index = Index::default();
        let mut object = credential("one", "s", "a");
        object.spec.destination = Destination::Store(StoreDestination {});
        index.put_credential(&object);
        let record = named(&record_name(&object));
        assert_eq!(index.credentials_sealed_in(&record), [named("one")]);
        index.remove(&Referrer::Credential(named("one")));
        assert!(index.credentials_sealed_in(&record).is_empty());
    }
}
