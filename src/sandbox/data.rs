//! What a sandbox holds, in memory and in its file.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::agency::{self, Company};
use super::mailboxes::Mailbox;
use crate::api::SealedGraphCredential;
use crate::rest::Account;

/// The account that the default API key belongs to.
pub(super) const MAIN_ACCOUNT: &str = "main";

/// The default API key, in the form of Woodpecker's. It is in the documentation, so it protects nothing.
pub(super) const DEFAULT_KEY: &str = "1000001.sandboxsandboxsandbox";

/// The records of one account by their names.
pub(super) type Records = BTreeMap<String, SealedGraphCredential>;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Data {
    pub records: BTreeMap<String, Records>,
    /// Of the last write; each write has its own.
    pub resource_version: u64,
    /// How far the sandbox's clock is ahead of the machine's, in milliseconds.
    pub clock_offset: i64,
    pub api_keys: Vec<ApiKey>,
    pub companies: Vec<Company>,
    /// The mailboxes of each account.
    pub mailboxes: BTreeMap<String, Vec<Mailbox>>,
    /// The id of the newest mailbox.
    pub last_mailbox: i64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ApiKey {
    pub key: String,
    pub account: String,
    pub label: String,
}

// === impl Data ===

impl Data {
    /// As after the start and after a reset.
    pub fn initial() -> Self {
        let key = ApiKey {
            key: DEFAULT_KEY.to_owned(),
            account: MAIN_ACCOUNT.to_owned(),
            label: "default".to_owned(),
        };
        Self {
            records: BTreeMap::new(),
            resource_version: 0,
            clock_offset: 0,
            api_keys: std::iter::once(key).chain(agency::initial_keys()).collect(),
            companies: agency::initial(),
            mailboxes: BTreeMap::new(),
            last_mailbox: 444_443,
        }
    }

    /// The time of the sandbox.
    pub fn now(&self) -> Timestamp {
        let moved = Timestamp::now().checked_add(SignedDuration::from_millis(self.clock_offset));
        // The clock is only moved to times that exist; later the machine's may have gone on a little.
        moved.unwrap_or(Timestamp::MAX)
    }

    pub fn account(&self, key: &[u8]) -> Option<Arc<Account>> {
        let mut keys = self.api_keys.iter().zip(1..);
        let (found, number) = keys.find(|(it, _)| it.key.as_bytes() == key)?;
        // Labels are texts of clients, and names of keys are logged.
        Some(Arc::new(Account { namespace: found.account.clone(), key: format!("key-{number}") }))
    }

    pub fn record(&self, account: &str, name: &str) -> Option<&SealedGraphCredential> {
        self.records.get(account)?.get(name)
    }

    /// The ids of all credentials with their accounts.
    pub fn ids(&self) -> impl Iterator<Item = (&str, i64)> {
        self.records.iter().flat_map(|(account, records)| {
            records.values().map(move |record| (account.as_str(), record.spec.credential_id))
        })
    }
}
