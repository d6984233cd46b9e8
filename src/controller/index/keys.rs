//! Lookup keys of the index: one ordered set of hashes for all of them, because keys as strings would need more memory
//! than the objects.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hash, RandomState};

use crate::api::{AccountName, ClientId, NamespacedName, TenantId};
use crate::config::BaseUrl;
use crate::controller::index::claim_key::ClaimKey;
use crate::woodpecker::{KeyDigest, RemoteIdentity};

/// An object's place in a table; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(pub u64);

/// Objects with the same key are found in the order of their ranks.
pub type Rank = u64;

/// What an object is found by. If two keys have the same hash, a lookup also returns the other object.
#[derive(Hash)]
pub enum Key<'a> {
    Uid(&'a str),
    Name(&'a NamespacedName),
    Secret(&'a NamespacedName),
    /// The `EntraIdentity` that its spec names.
    Identity(&'a str),
    /// An account of its spec, its registrations or its create in flight.
    Account(&'a AccountName),
    /// An account where deleting the object deletes something.
    DeletesAt(&'a AccountName),
    App(&'a TenantId, &'a ClientId),
    /// Its record in the store.
    Record(&'a NamespacedName),
    /// A credential that it owns: base URL and id.
    Owned(&'a str, i64),
    /// The idempotency token of its create in flight.
    PendingCreate(&'a str),
    /// A claim that it holds.
    Claim(&'a ClaimKey),
    /// The remote account whose listing an account has.
    Remote(&'a RemoteIdentity),
    /// The address of an account, and its API key.
    OfAccount(&'a BaseUrl, KeyDigest),
    /// The account that is the same remote account.
    Alias(&'a AccountName),
    /// The account because of which an account cannot be used.
    SharesCredentialsWith(&'a AccountName),
}

#[derive(Debug, Default)]
pub struct Keys {
    hasher: RandomState,
    postings: BTreeSet<(u64, Rank, Slot)>,
}

// === impl Keys ===

impl Keys {
    pub fn insert(&mut self, key: &Key<'_>, rank: Rank, slot: Slot) {
        let hash = self.hash(key);
        self.postings.insert((hash, rank, slot));
    }

    pub fn remove(&mut self, key: &Key<'_>, rank: Rank, slot: Slot) {
        let hash = self.hash(key);
        self.postings.remove(&(hash, rank, slot));
    }

    /// The objects with that key, in the order of their ranks.
    pub fn find<'a>(&'a self, key: &Key<'_>) -> impl Iterator<Item = (Rank, Slot)> + use<'a> {
        let hash = self.hash(key);
        let all = (hash, Rank::MIN, Slot(u64::MIN))..=(hash, Rank::MAX, Slot(u64::MAX));
        self.postings.range(all).map(|(_, rank, slot)| (*rank, *slot))
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.postings.len()
    }

    fn hash(&self, key: &impl Hash) -> u64 {
        self.hasher.hash_one(key)
    }
}
