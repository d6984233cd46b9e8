//! The records of the store, page by page, and how many of them are sealed under which key. Lists are answered from
//! etcd's quorum, not from a cache: a key ends by this count.

use std::collections::BTreeMap;

use kube::core::DeserializeGuard;
use kube::{Client, Resource};

use super::envelope::Envelope;
use super::keyring::KeyId;
use crate::k8s::list::{self, ListError};
use crate::resources::SealedGraphCredential;

/// Records in one answer of the API server.
const PAGE: u32 = 500;

/// A record, or the news that an object of its kind cannot be read as one.
pub type GuardedRecord = DeserializeGuard<SealedGraphCredential>;

/// How many records are sealed under which key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    by_key: BTreeMap<KeyId, usize>,
    unreadable: usize,
}

/// Goes through records, one page after the other.
pub struct Pages {
    client: Client,
    /// What is left to be listed, the next one last.
    paths: Vec<String>,
    token: Option<String>,
}

/// Counts the records of these namespaces, or of all where none is named.
pub async fn count(client: &Client, namespaces: &[String]) -> Result<Census, ListError> {
    let mut census = Census::default();
    let mut pages = Pages::new(client, namespaces);
    while let Some(records) = pages.next().await? {
        for record in &records {
            census.add(record);
        }
    }
    Ok(census)
}

// === impl Pages ===

impl Pages {
    /// Of the records of these namespaces, or of all where none is named.
    pub fn new(client: &Client, namespaces: &[String]) -> Self {
        let path = |namespace| SealedGraphCredential::url_path(&(), namespace);
        let paths = if namespaces.is_empty() {
            vec![path(None)]
        } else {
            namespaces.iter().rev().map(|namespace| path(Some(namespace))).collect()
        };
        Self { client: client.clone(), paths, token: None }
    }

    /// The next page; nothing after the last.
    pub async fn next(&mut self) -> Result<Option<Vec<GuardedRecord>>, ListError> {
        let Some(path) = self.paths.last() else { return Ok(None) };
        let mut records = Vec::new();
        let page = list::page(&self.client, (path, false), PAGE, self.token.take(), |json| {
            records.push(list::guarded(json)?);
            Ok(())
        });
        self.token = page.await?.next();
        if self.token.is_none() {
            self.paths.pop();
        }
        Ok(Some(records))
    }
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

    /// All records.
    pub fn all(&self) -> usize {
        self.by_key.values().sum::<usize>() + self.unreadable
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
