//! Calls wake objects for another reason than a change of their own: a Secret or an account changed, or
//! another object let go of a claim.

use std::time::Duration;

use super::index::Named;
use super::queue::{Verifications, Wakes};
use crate::resources::AccountName;

/// Wakes credentials and accounts.
#[derive(Clone, Debug, Default)]
pub struct Calls {
    pub(super) credentials: Wakes,
    pub(super) accounts: Wakes,
}

// === impl Calls ===

impl Calls {
    /// Wakes a credential.
    pub fn credential(&self, namespace: &str, name: &str) {
        self.credentials.now(Named { namespace: namespace.to_owned(), name: name.to_owned() });
    }

    /// Wakes an account.
    pub fn account(&self, namespace: &str, name: &str) {
        self.accounts.now(Named { namespace: namespace.to_owned(), name: name.to_owned() });
    }

    /// Wakes an account after that time, once for all calls until then.
    pub fn account_soon(&self, account: AccountName, after: Duration) {
        self.accounts.after(Named { namespace: account.namespace, name: account.name }, after);
    }

    /// The share of credentials that may wait for Microsoft, where so many may be reconciled at the same time.
    pub fn verifications(&self, most: u16) -> Verifications {
        Verifications::of(most.into(), self.credentials.clone())
    }

    /// Notes whether a namespace is terminating: then its objects come before others'.
    pub fn note_namespace(&self, namespace: &str, is_terminating: bool) {
        self.credentials.note_namespace(namespace, is_terminating);
        self.accounts.note_namespace(namespace, is_terminating);
    }
}
