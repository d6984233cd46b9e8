//! The records of the store, page by page, and how many of them are sealed under which key. Lists are answered from
//! etcd's quorum, not from a cache: a key ends by this count.

use std::collections::BTreeMap;

use kube::api::ListParams;
use kube::core::DeserializeGuard;
use kube::{Api, Client};
use thiserror::Error;

use super::envelope::Envelope;
use super::keyring::KeyId;
use crate::resources::SealedGraphCredential;

/// Records in one answer of the API server.
const PAGE: u32 = 500;

/// A record, or the news that an object of its kind cannot be read as one.
pub type GuardedRecord = DeserializeGuard<SealedGraphCredential>;

/// The records could not be listed.
#[derive(Debug, Error)]
#[error("failed to list the SealedGraphCredentials")]
pub struct ListError(#[from] kube::Error);

/// How many records are sealed under which key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    by_key: BTreeMap<KeyId, usize>,
    unreadable: usize,
}

/// Goes through records, one page after the other.
pub struct Pages {
    apis: Vec<Api<GuardedRecord>>,
    page: ListParams,
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
        let apis = if namespaces.is_empty() {
            vec![Api::all(client.clone())]
        } else {
            namespaces.iter().rev().map(|namespace| Api::namespaced(client.clone(), namespace)).collect()
        };
        Self { apis, page: ListParams::default().limit(PAGE) }
    }

    /// The next page; nothing after the last.
    pub async fn next(&mut self) -> Result<Option<Vec<GuardedRecord>>, ListError> {
        let Some(api) = self.apis.last() else { return Ok(None) };
        let list = api.list(&self.page).await?;
        self.page.continue_token = list.metadata.continue_.filter(|token| !token.is_empty());
        if self.page.continue_token.is_none() {
            self.apis.pop();
        }
        Ok(Some(list.items))
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
