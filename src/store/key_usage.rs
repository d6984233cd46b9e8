//! Key usage: lists the records of the store page by page and counts them by key. Lists are answered from etcd's
//! quorum, not from a cache, because a key is deleted based on this count.

use std::collections::BTreeMap;

use kube::Client;
use kube::core::DeserializeGuard;

use crate::api::SealedGraphCredential;
use crate::k8s::list::{self, ListError, Pages};
use crate::store::envelope::Envelope;
use crate::store::keyring::KeyId;

/// A record, or an object of its kind that cannot be deserialized.
pub type ParsedRecord = DeserializeGuard<SealedGraphCredential>;

/// How many records are encrypted with each key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyUsage {
    by_key: BTreeMap<KeyId, usize>,
    /// Those of them whose envelope has an earlier format.
    of_earlier_format: BTreeMap<KeyId, usize>,
    unreadable: usize,
}

/// Counts the records of these namespaces, or of all if none is given.
pub async fn count(client: &Client, namespaces: &[String]) -> Result<KeyUsage, ListError> {
    let mut usage = KeyUsage::default();
    let mut pages = pages(client, namespaces);
    while let Some(records) = pages.next().await? {
        for record in &records {
            usage.add(record);
        }
    }
    Ok(usage)
}

/// Lists the records of these namespaces, or of all if none is given.
pub fn pages(client: &Client, namespaces: &[String]) -> Pages<ParsedRecord> {
    Pages::of::<SealedGraphCredential>(client, namespaces, list::guarded)
}

// === impl KeyUsage ===

impl KeyUsage {
    pub fn add(&mut self, record: &ParsedRecord) {
        let envelope = record.0.as_ref().ok().and_then(|it| Envelope::from_base64(&it.spec.envelope).ok());
        match envelope {
            Some(envelope) => {
                *self.by_key.entry(envelope.key_id()).or_default() += 1;
                if envelope.has_earlier_format() {
                    *self.of_earlier_format.entry(envelope.key_id()).or_default() += 1;
                }
            }
            None => self.unreadable += 1,
        }
    }

    pub fn merge(&mut self, other: Self) {
        for (all, others) in
            [(&mut self.by_key, other.by_key), (&mut self.of_earlier_format, other.of_earlier_format)]
        {
            for (key, records) in others {
                *all.entry(key).or_default() += records;
            }
        }
        self.unreadable += other.unreadable;
    }

    /// The keys that records are encrypted with, each with the number of records.
    pub fn by_key(&self) -> impl Iterator<Item = (KeyId, usize)> {
        self.by_key.iter().map(|(key, records)| (*key, *records))
    }

    /// Records whose key is unknown: an object of another version of the operator, or a damaged envelope.
    pub fn unreadable(&self) -> usize {
        self.unreadable
    }

    /// Records that are encrypted with that key.
    pub fn under(&self, key: KeyId) -> usize {
        self.by_key.get(&key).copied().unwrap_or_default()
    }

    /// Records that may need that key: those encrypted with it, and those whose key is unknown.
    pub fn possibly_under(&self, key: KeyId) -> usize {
        self.under(key) + self.unreadable
    }

    /// Records that are encrypted with any other key.
    pub fn stale(&self, key: KeyId) -> usize {
        self.by_key.values().sum::<usize>() - self.under(key)
    }

    /// Records that need re-encryption with that key: those encrypted with any other key, or in an earlier format.
    pub fn to_reencrypt(&self, key: KeyId) -> usize {
        self.stale(key) + self.of_earlier_format.get(&key).copied().unwrap_or_default()
    }
}
