//! Keys by which objects are found: one ordered set of hashes for all of them, because keys as texts would cost more
//! memory than the objects.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hash, RandomState};

use super::Named;
use crate::controller::claims::ClaimKey;
use crate::resources::{AccountName, ClientId, TenantId};
use crate::settings::BaseUrl;
use crate::woodpecker::{KeyDigest, RemoteIdentity};

/// An object's place in a table; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(pub u64);

/// Objects under one key are found in the order of their ranks.
pub type Rank = u64;

/// What an object is found by. Where two keys have one hash, an object too many is found.
#[derive(Hash)]
pub enum Key<'a> {
    Uid(&'a str),
    /// Its namespace and name.
    Name(&'a Named),
    Secret(&'a Named),
    /// An account of its spec, its registrations or its create.
    Account(&'a AccountName),
    /// An account where it has something that is removed together with it.
    RemovesAt(&'a AccountName),
    App(&'a TenantId, &'a ClientId),
    /// Its record of the store.
    Record(&'a Named),
    /// A credential that it holds: base URL and id.
    Holds(&'a str, i64),
    /// The idempotency token of its create under way.
    Creates(&'a str),
    /// A claim that it has.
    Claim(&'a ClaimKey),
    /// The remote account whose listing an account has.
    Remote(&'a RemoteIdentity),
    /// The address that an account is at, and the API key that opens it.
    Opened(&'a BaseUrl, KeyDigest),
    /// The account that an account is known to be one with.
    OneWith(&'a AccountName),
    /// The account because of which an account cannot be used.
    ConfusedWith(&'a AccountName),
}

/// From keys to objects.
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
