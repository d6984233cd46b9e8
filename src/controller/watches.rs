//! What is watched in each scope: the stores of the objects known, and the ends that the queues take.

use std::sync::Arc;

use kube::Resource;
use kube::runtime::reflector::{self, ObjectRef, Store, store::Writer};

use tokio_util::sync::CancellationToken;

use super::scope::{GuardedAccount, GuardedCredential, Scope};

/// The scopes served and the objects known in them.
#[derive(Clone)]
pub struct Scopes {
    scopes: Vec<KnownScope>,
}

#[derive(Clone)]
struct KnownScope {
    scope: Scope,
    credentials: Store<GuardedCredential>,
    accounts: Store<GuardedAccount>,
    /// Cancelled once they have been listed.
    are_credentials_listed: CancellationToken,
    are_accounts_listed: CancellationToken,
}

/// The watching ends of all scopes, taken once by the controller.
pub struct Watches(Vec<ScopeWatch>);

/// The watching ends of one scope.
pub struct ScopeWatch {
    pub(super) scope: Scope,
    pub(super) credentials: Watch<GuardedCredential>,
    pub(super) accounts: Watch<GuardedAccount>,
}

/// What it takes to watch one kind in one scope.
pub struct Watch<K: Resource<DynamicType = ()> + Clone + 'static> {
    pub(super) scope: Scope,
    pub(super) store: Store<K>,
    pub(super) writer: Writer<K>,
    /// To be cancelled once the objects have been listed.
    pub(super) listed: CancellationToken,
}

// === impl Scopes ===

impl Scopes {
    /// Prepares the stores of all scopes.
    pub fn prepare(scopes: Vec<Scope>) -> (Self, Watches) {
        let mut known = Vec::new();
        let mut watches = Vec::new();
        for scope in scopes {
            let credentials = watch(scope.clone());
            let accounts = watch(scope.clone());
            known.push(KnownScope {
                scope: scope.clone(),
                credentials: credentials.store.clone(),
                accounts: accounts.store.clone(),
                are_credentials_listed: credentials.listed.clone(),
                are_accounts_listed: accounts.listed.clone(),
            });
            watches.push(ScopeWatch { scope, credentials, accounts });
        }
        (Self { scopes: known }, Watches(watches))
    }

    /// The namespaces served; none means all.
    pub fn namespaces(&self) -> Vec<String> {
        let name = |known: &KnownScope| match &known.scope {
            Scope::All => None,
            Scope::Namespace(name) => Some(name.clone()),
        };
        self.scopes.iter().filter_map(name).collect()
    }

    /// Returns once the credentials of every scope have been listed.
    pub async fn credentials_listed(&self) {
        for known in &self.scopes {
            known.are_credentials_listed.cancelled().await;
        }
    }

    /// Whether the credentials of every scope have been listed.
    pub fn are_credentials_listed(&self) -> bool {
        self.scopes.iter().all(|known| known.are_credentials_listed.is_cancelled())
    }

    /// Whether the accounts of every scope have been listed.
    pub fn are_accounts_listed(&self) -> bool {
        self.scopes.iter().all(|known| known.are_accounts_listed.is_cancelled())
    }

    /// All credentials as last heard of.
    pub fn credentials(&self) -> Vec<Arc<GuardedCredential>> {
        self.scopes.iter().flat_map(|known| known.credentials.state()).collect()
    }

    /// All accounts as last heard of.
    pub fn accounts(&self) -> Vec<Arc<GuardedAccount>> {
        self.scopes.iter().flat_map(|known| known.accounts.state()).collect()
    }

    /// A credential as last heard of.
    pub fn credential(&self, namespace: &str, name: &str) -> Option<Arc<GuardedCredential>> {
        let scope = self.scopes.iter().find(|known| known.scope.covers(namespace))?;
        scope.credentials.get(&ObjectRef::new(name).within(namespace))
    }

    /// An account as last heard of.
    pub fn account(&self, namespace: &str, name: &str) -> Option<Arc<GuardedAccount>> {
        let scope = self.scopes.iter().find(|known| known.scope.covers(namespace))?;
        scope.accounts.get(&ObjectRef::new(name).within(namespace))
    }
}

fn watch<K>(scope: Scope) -> Watch<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let (store, writer) = reflector::store();
    Watch { scope, store, writer, listed: CancellationToken::new() }
}

// === impl Watches ===

impl Watches {
    pub(super) fn take(&mut self) -> Vec<ScopeWatch> {
        std::mem::take(&mut self.0)
    }
}
