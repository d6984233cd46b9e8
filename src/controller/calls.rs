//! Calls wake objects for another reason than a change of their own: a Secret or an account changed, or
//! another object let go of a claim.

use std::time::Duration;

use super::index::Named;
use super::queue::{Verifications, Wakes};
use crate::woodpecker::OwnerKind;

#[derive(Clone, Debug, Default)]
pub struct Calls {
    pub(super) credentials: Wakes,
    accounts: Wakes,
}

// === impl Calls ===

impl Calls {
    pub fn of(&self, kind: OwnerKind) -> &Wakes {
        match kind {
            OwnerKind::Credential => &self.credentials,
            OwnerKind::Account => &self.accounts,
        }
    }

    pub fn credential(&self, own: &Named) {
        self.credentials.now(own.clone());
    }

    pub fn account(&self, own: &Named) {
        self.accounts.now(own.clone());
    }

    /// Wakes an account after that time, once for all calls until then.
    pub fn account_soon(&self, own: Named, after: Duration) {
        self.accounts.after(own, after);
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
