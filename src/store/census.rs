//! The records of the store, page by page, and how many of them are sealed under which key. Lists are answered from
//! etcd's quorum, not from a cache: a key ends by this count.

use std::collections::BTreeMap;

use kube::Client;
use kube::core::DeserializeGuard;

use super::envelope::Envelope;
use super::keyring::KeyId;
use crate::k8s::list::{self, ListError, Pages};
use crate::resources::SealedGraphCredential;

/// A record, or the news that an object of its kind cannot be read as one.
pub type GuardedRecord = DeserializeGuard<SealedGraphCredential>;

/// How many records are sealed under which key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    by_key: BTreeMap<KeyId, usize>,
    unreadable: usize,
}

/// Counts the records of these namespaces, or of all where none is named.
pub async fn count(client: &Client, namespaces: &[String]) -> Result<Census, ListError> {
    let mut census = Census::default();
    let mut pages = pages(client, namespaces);
    while let Some(records) = pages.next().await? {
        for record in &records {
            census.add(record);
        }
    }
    Ok(census)
}

/// Goes through the records of these namespaces, or of all where none is named.
pub fn pages(client: &Client, namespaces: &[String]) -> Pages<GuardedRecord> {
    Pages::of::<SealedGraphCredential>(client, namespaces, list::guarded)
}

// === impl Census ===

impl Census {
    /// Counts one more.
    pub fn add(&mut self, record: &GuardedRecord) {
        let envelope = record.0.as_ref().ok().and_then(|it| Envelope::from_base64(&it.spec.envelope).ok());
        match envelope {
            Some(envelope) => *self.by_key.entry(envelope.key_id()).or_default() += 1,
            None => self.unreadable += 1,
        }
    }

    /// Counts those of another census as well.
    pub fn merge(&mut self, other: Self) {
        for (key, records) in other.by_key {
            *self.by_key.entry(key).or_default() += records;
        }
        self.unreadable += other.unreadable;
    }

    /// The keys that records are sealed under, each with their number.
    pub fn by_key(&self) -> impl Iterator<Item = (KeyId, usize)> {
        self.by_key.iter().map(|(key, records)| (*key, *records))
    }

    /// Records whose key cannot be told: an object of another version of the operator, or a damaged envelope.
    pub fn unreadable(&self) -> usize {
        self.unreadable
    }

    /// Records that are sealed under that key.
    pub fn under(&self, key: KeyId) -> usize {
        self.by_key.get(&key).copied().unwrap_or_default()
    }

    /// Records that may need that key: those under it, and those of which it cannot be told.
    pub fn may_need(&self, key: KeyId) -> usize {
        self.under(key) + self.unreadable
    }

    /// Records that are sealed under another key than that one.
    pub fn not_under(&self, key: KeyId) -> usize {
        self.by_key.values().sum::<usize>() - self.under(key)
    }
}
