//! The namespaces that are served: all of them through one watch, or each named one through its own.

use std::sync::Arc;

use kube::core::{DeserializeGuard, NamespaceResourceScope};
use kube::runtime::reflector::{self, ObjectRef, Store, store::Writer};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

use super::calls::Inbox;
use crate::resources::{MicrosoftGraphCredential, WoodpeckerAccount};

/// A credential, or the news that an object of its kind cannot be read as one. A broken object must not
/// blind the watch to the others.
pub type GuardedCredential = DeserializeGuard<MicrosoftGraphCredential>;

/// An account, or the news that an object of its kind cannot be read as one.
pub type GuardedAccount = DeserializeGuard<WoodpeckerAccount>;

/// A set of namespaces behind one watch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// All namespaces.
    All,
    /// One namespace.
    Namespace(String),
}

/// The scopes served and the objects known in them.
#[derive(Clone)]
pub struct Scopes {
    scopes: Vec<KnownScope>,
}

#[derive(Clone)]
struct KnownScope {
    scope: Scope,
    credentials: Store<GuardedCredential>,
}

/// The watching ends of all scopes, taken once by the controller.
pub struct Watches(Vec<ScopeWatch>);

/// The watching ends of one scope.
pub struct ScopeWatch {
    pub(super) credentials: Watch<GuardedCredential>,
    pub(super) accounts: Watch<GuardedAccount>,
}

/// What it takes to watch one kind in one scope.
pub struct Watch<K: Resource<DynamicType = ()> + Clone + 'static> {
    pub(super) scope: Scope,
    pub(super) store: Store<K>,
    pub(super) writer: Writer<K>,
    pub(super) inbox: Inbox<K>,
}

// === impl Scope ===

impl Scope {
    /// All namespaces where none is named, or each named one.
    pub fn of(namespaces: &[String]) -> Vec<Self> {
        if namespaces.is_empty() {
            return vec![Self::All];
        }
        let mut names = namespaces.to_vec();
        names.sort_unstable();
        names.dedup();
        names.into_iter().map(Self::Namespace).collect()
    }

    /// Whether an object of that namespace belongs to it.
    pub fn covers(&self, namespace: &str) -> bool {
        match self {
            Self::All => true,
            Self::Namespace(name) => name == namespace,
        }
    }

    /// The API of a kind in it.
    pub fn api<K>(&self, client: &Client) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned,
    {
        match self {
            Self::All => Api::all(client.clone()),
            Self::Namespace(name) => Api::namespaced(client.clone(), name),
        }
    }
}

// === impl Scopes ===

impl Scopes {
    /// Prepares the stores and inboxes of all scopes.
    pub fn prepare(scopes: Vec<Scope>, calls: &mut super::calls::Calls) -> (Self, Watches) {
        let mut known = Vec::new();
        let mut watches = Vec::new();
        for scope in scopes {
            let credentials = watch(scope.clone(), calls.credentials.open(scope.clone()));
            let accounts = watch(scope.clone(), calls.accounts.open(scope.clone()));
            known.push(KnownScope { scope, credentials: credentials.store.clone() });
            watches.push(ScopeWatch { credentials, accounts });
        }
        (Self { scopes: known }, Watches(watches))
    }

    /// A credential as last heard of, where it can be read.
    pub fn credential(&self, namespace: &str, name: &str) -> Option<Arc<GuardedCredential>> {
        let scope = self.scopes.iter().find(|known| known.scope.covers(namespace))?;
        scope.credentials.get(&ObjectRef::new(name).within(namespace))
    }
}

fn watch<K>(scope: Scope, inbox: Inbox<K>) -> Watch<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let (store, writer) = reflector::store();
    Watch { scope, store, writer, inbox }
}

// === impl Watches ===

impl Watches {
    pub(super) fn take(&mut self) -> Vec<ScopeWatch> {
        std::mem::take(&mut self.0)
    }
}
