//! Who an API key belongs to, by `GET /rest/v1/me`. The vendor names the endpoint only as a test of keys, so each field
//! may be missing, and the endpoint too. The user's email address is not read.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Deserialize;
use tokio::time::Instant;

use crate::api::KeyIdentity;
use crate::config::BaseUrl;
use crate::core::characters::is_shown;
use crate::core::lenient::readable;
use crate::core::timing::Timing;
use crate::woodpecker::account::RemoteAccount;
use crate::woodpecker::client::Client;
use crate::woodpecker::error::ApiError;
use crate::woodpecker::identity::{KeyDigest, RemoteIdentity};
use crate::woodpecker::queue::RequestSlot;

/// Longest time that the request may take, in which the account's queue does nothing else.
const TIME_OUT: Duration = Duration::from_secs(10);

/// Most characters that are kept of a name.
const MAX_NAME: usize = 200;

/// An API key at an address.
type Key = (BaseUrl, KeyDigest);

/// What Woodpecker said about a key.
#[derive(Clone, Debug)]
pub struct Learned {
    at: Instant,
    /// `None` if it said nothing.
    pub identity: Option<KeyIdentity>,
}

/// What is known about keys. Accounts with one key share one request.
#[derive(Debug)]
pub struct KeyIdentities {
    known: Mutex<HashMap<Key, Learned>>,
    max_age: Duration,
    retry: Duration,
}

#[derive(Deserialize)]
struct Body {
    #[serde(default, deserialize_with = "readable")]
    firm_id: Option<i64>,
    #[serde(default, deserialize_with = "readable")]
    firm_name: Option<String>,
    #[serde(default, deserialize_with = "readable")]
    user_id: Option<i64>,
    #[serde(default, deserialize_with = "readable")]
    user_name: Option<String>,
}

/// Reads the body of a response; `None` if it says nothing.
fn read(body: &[u8]) -> Option<KeyIdentity> {
    let Body { firm_id, firm_name, user_id, user_name } = serde_json::from_slice(body).ok()?;
    let id = |id: Option<i64>| id.filter(|id| *id > 0);
    let name = |name: Option<String>| {
        let shown: String = name?.chars().filter(|letter| is_shown(*letter)).take(MAX_NAME).collect();
        // An e-mail address is personal data, and no name.
        Some(shown).filter(|name| !name.is_empty() && !name.contains('@'))
    };
    let identity = KeyIdentity {
        firm_id: id(firm_id),
        firm_name: name(firm_name),
        user_id: id(user_id),
        user_name: name(user_name),
    };
    (identity != KeyIdentity::default()).then_some(identity)
}

// === impl KeyIdentities ===

impl KeyIdentities {
    pub(super) fn new(timing: &Timing) -> Self {
        let (max_age, retry) = (timing.key_identity, timing.key_identity_retry);
        Self { known: Mutex::default(), max_age, retry }
    }

    /// What was learned about the account's key; `None` if it is time to ask.
    pub fn of(&self, account: &RemoteIdentity) -> Option<Learned> {
        let known = self.known.lock();
        let learned = known.get(&(account.base_url.clone(), account.key))?;
        let max_age = if learned.identity.is_some() { self.max_age } else { self.retry };
        (learned.at.elapsed() < max_age).then(|| learned.clone())
    }

    /// Stores the answer, also if there was none.
    pub fn put(&self, account: &RemoteIdentity, identity: Option<KeyIdentity>) {
        let mut known = self.known.lock();
        known.retain(|_, learned| learned.at.elapsed() < self.max_age);
        known.insert((account.base_url.clone(), account.key), Learned { at: Instant::now(), identity });
    }
}

// === impl RemoteAccount ===

impl RemoteAccount {
    /// Who the account's key belongs to, if Woodpecker says so. A failure says nothing about the account.
    pub async fn key_identity(&self, _slot: &RequestSlot) -> Result<Option<KeyIdentity>, ApiError> {
        self.client.me().await.inspect_err(|error| self.record_throttling(error))
    }
}

impl Client {
    async fn me(&self) -> Result<Option<KeyIdentity>, ApiError> {
        let request = self.get("/v1/me")?.timeout(self.time_out.min(TIME_OUT));
        let (status, body) = self.call("me", request).await?;
        match ApiError::in_success_body(status, &body) {
            Some(error) => Err(error),
            None => Ok(read(&body)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::woodpecker::testing::identity;

    #[test]
    fn every_field_is_optional_and_the_email_address_is_not_read() {
        let body = br#"{"firm_id":1,"firm_name":"Agency","user_email":"ava@example.com","user_id":2,"user_name":"Ava Chen"}"#;
        let read_whole = read(body).unwrap();
        assert_eq!((read_whole.firm_id, read_whole.user_id), (Some(1), Some(2)));
        assert_eq!(
            (read_whole.firm_name.as_deref(), read_whole.user_name.as_deref()),
            (Some("Agency"), Some("Ava Chen"))
        );
        assert!(!format!("{read_whole:?}").contains('@'));
        let odd =
            read(br#"{"firm_id":"1","firm_name":null,"user_id":0,"user_name":"a\u001b\u202eb"}"#).unwrap();
        assert_eq!(odd, KeyIdentity { user_name: Some("ab".into()), ..KeyIdentity::default() });
        for nothing in ["", "{}", "[]", "7", "<html>", r#"{"status":{"status":"ERROR","code":"E_SESSION"}}"#]
        {
            assert_eq!(read(nothing.as_bytes()), None, "{nothing}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_is_asked_about_once_a_day_and_after_a_failure_once_an_hour() {
        let identities = KeyIdentities::new(&Timing::STANDARD);
        let (key, of_company, other) = (identity(1, None), identity(1, Some(7)), identity(2, None));
        let firm = |account: &RemoteIdentity| identities.of(account).map(|it| it.identity?.firm_id);
        assert_eq!(firm(&key), None);
        identities.put(&key, Some(KeyIdentity { firm_id: Some(1), ..KeyIdentity::default() }));
        identities.put(&other, None);
        assert_eq!((firm(&key), firm(&other)), (Some(Some(1)), Some(None)));
        assert_eq!(firm(&of_company), Some(Some(1)), "companies share the key");
        tokio::time::advance(Duration::from_hours(2)).await;
        assert_eq!((firm(&key), firm(&other)), (Some(Some(1)), None));
        tokio::time::advance(Duration::from_hours(22)).await;
        assert_eq!(firm(&key), None);
    }
}
