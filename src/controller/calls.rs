//! Calls wake objects for another reason than a change of their own: a Secret or an account changed, or
//! another object let go of a claim.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube::Resource;
use kube::runtime::reflector::ObjectRef;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use super::scope::{GuardedAccount, GuardedCredential, Scope};
use crate::resources::AccountName;

/// The receiving end of one scope.
pub type Inbox<K> = UnboundedReceiver<ObjectRef<K>>;

/// Wakes credentials and accounts.
#[derive(Clone, Debug, Default)]
pub struct Calls {
    pub(super) credentials: Callers<GuardedCredential>,
    pub(super) accounts: Callers<GuardedAccount>,
    /// Accounts that are about to be woken.
    soon: Arc<Mutex<HashSet<AccountName>>>,
}

/// Wakes objects of one kind in whichever scope they are.
#[derive(Debug)]
pub(super) struct Callers<K: Resource<DynamicType = ()>> {
    scopes: Vec<(Scope, UnboundedSender<ObjectRef<K>>)>,
}

// === impl Calls ===

impl Calls {
    /// Wakes a credential.
    pub fn credential(&self, namespace: &str, name: &str) {
        self.credentials.call(namespace, name);
    }

    /// Wakes an account.
    pub fn account(&self, namespace: &str, name: &str) {
        self.accounts.call(namespace, name);
    }

    /// Wakes an account after that time, once for all calls until then.
    pub fn account_soon(&self, account: AccountName, after: Duration) {
        if !self.soon().insert(account.clone()) {
            return;
        }
        let calls = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            calls.soon().remove(&account);
            calls.account(&account.namespace, &account.name);
        });
    }

    fn soon(&self) -> MutexGuard<'_, HashSet<AccountName>> {
        self.soon.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Callers ===

impl<K: Resource<DynamicType = ()>> Default for Callers<K> {
    fn default() -> Self {
        Self { scopes: Vec::new() }
    }
}

impl<K: Resource<DynamicType = ()>> Clone for Callers<K> {
    fn clone(&self) -> Self {
        Self { scopes: self.scopes.clone() }
    }
}

impl<K: Resource<DynamicType = ()>> Callers<K> {
    /// Opens the inbox of a scope.
    pub(super) fn open(&mut self, scope: Scope) -> Inbox<K> {
        let (sender, inbox) = mpsc::unbounded_channel();
        self.scopes.push((scope, sender));
        inbox
    }

    fn call(&self, namespace: &str, name: &str) {
        let Some((_, sender)) = self.scopes.iter().find(|(scope, _)| scope.covers(namespace)) else { return };
        if sender.send(ObjectRef::new(name).within(namespace)).is_err() {
            // The loop that would listen has ended, as at the end of the program.
            tracing::debug!(namespace, name, "nobody listens to the call any more");
        }
    }
}
