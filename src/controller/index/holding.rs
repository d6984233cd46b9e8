//! What an object holds at remote accounts: registered, on its way there or on its way out.

use crate::resources::{AccountName, MicrosoftGraphCredentialStatus, Place};

/// A credential at a remote account that an object holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// Where.
    pub place: Place,
    /// Its id.
    pub id: i64,
    /// Whether it is the registration, rather than an earlier one that is still to be removed.
    pub is_current: bool,
}

/// Everything that an object holds, by its status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    pub registered: Vec<Holding>,
    /// Idempotency token and account of the create under way.
    pub pending: Option<(String, AccountName)>,
}

// === impl Holdings ===

impl Holdings {
    pub fn of(status: &MicrosoftGraphCredentialStatus) -> Self {
        let current = status.registration.iter().map(|registration| (registration, true));
        let earlier = status.retiring.iter().map(|registration| (registration, false));
        let holding = |(registration, is_current): (&crate::resources::Registration, bool)| {
            Some(Holding { place: registration.place()?, id: registration.credential_id, is_current })
        };
        Self {
            registered: current.chain(earlier).filter_map(holding).collect(),
            pending: status.pending.as_ref().map(|it| (it.token.clone(), it.account.clone())),
        }
    }

    /// The accounts where anything is or may be; some more than once.
    pub fn accounts(&self) -> impl Iterator<Item = &AccountName> {
        let pending = self.pending.iter().map(|(_, account)| account);
        self.registered.iter().map(|it| &it.place.account).chain(pending)
    }

    /// What is registered at an account.
    pub fn at(&self, account: &AccountName) -> impl Iterator<Item = &Holding> {
        self.registered.iter().filter(move |it| it.place.account == *account)
    }
}
