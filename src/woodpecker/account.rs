//! One remote account: its client behind its lane, and its last listing with our own later writes applied.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::client::Client;
use super::error::ApiError;
use super::lane::{KeyDigest, Lane, Lanes};
use super::wire::{Credential, NewCredential, SecretUpdate};
use crate::resources::{ClientId, TenantId};
use crate::settings::BaseUrl;

/// By what two `WoodpeckerAccount`s are known to be one remote account.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RemoteIdentity {
    /// Address of the API.
    pub base_url: BaseUrl,
    /// Company acted for.
    pub company_id: Option<i64>,
    key: KeyDigest,
}

/// A credential in a listing, as far as decisions need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its id.
    pub id: i64,
    /// Tenant of its app, lower case.
    pub tenant: String,
    /// Client id of its app, lower case.
    pub client: String,
    /// Its name.
    pub name: String,
}

/// One remote account.
#[derive(Debug)]
pub struct RemoteAccount {
    client: Client,
    lane: Lane,
    identity: RemoteIdentity,
    listing: Mutex<Option<Listing>>,
}

#[derive(Debug)]
struct Listing {
    taken: Instant,
    entries: Vec<Entry>,
}

// === impl RemoteAccount ===

impl RemoteAccount {
    /// Over that client, in the lane of its address and key.
    pub fn new(client: Client, lanes: &Lanes) -> Self {
        let parts = client.parts();
        let key = lanes.digest(&parts.api_key);
        let lane = lanes.lane(&parts.base_url, key);
        let identity = RemoteIdentity { base_url: parts.base_url.clone(), company_id: parts.company_id, key };
        Self { client, lane, identity, listing: Mutex::default() }
    }

    /// By what it is known.
    pub fn identity(&self) -> &RemoteIdentity {
        &self.identity
    }

    /// The client's parts, to make another one for a new key.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Everything that the account holds, from a listing at most `max_age` old with our own later writes
    /// applied; a request is sent only where there is none.
    pub async fn list(&self, max_age: Duration) -> Result<Vec<Entry>, ApiError> {
        if let Some(entries) = self.last_listing(max_age) {
            return Ok(entries);
        }
        let turn = self.lane.enter().await?;
        // Another pass may have listed while this one waited for its turn.
        if let Some(entries) = self.last_listing(max_age) {
            return Ok(entries);
        }
        // The age counts from before the request: what others write meanwhile may be missing.
        let taken = Instant::now();
        let listed = self.heed(self.client.list().await);
        let entries: Vec<Entry> = listed?.into_iter().map(Entry::from).collect();
        *self.lock() = Some(Listing { taken, entries: entries.clone() });
        // Only now: a create in between would be missing in it.
        drop(turn);
        Ok(entries)
    }

    /// Makes a credential and returns its id. Not idempotent.
    pub async fn create(&self, new: &NewCredential<'_>) -> Result<i64, ApiError> {
        let turn = self.lane.enter().await?;
        let created = self.heed(self.client.create(new).await);
        match created {
            Ok(credential) => {
                let entry = Entry::from(credential);
                let id = entry.id;
                self.change_listing(|entries| entries.push(entry));
                drop(turn);
                Ok(id)
            }
            Err(error) => {
                self.forget_listing();
                drop(turn);
                Err(error)
            }
        }
    }

    /// Replaces secret and expiry, and the name where one is given. Sending it again does no harm.
    pub async fn update(
        &self,
        id: i64,
        secret: SecretUpdate<'_>,
        name: Option<&str>,
    ) -> Result<(), ApiError> {
        let _turn = self.lane.enter().await?;
        self.heed(self.client.update(id, secret, name).await)?;
        if let Some(name) = name {
            self.rename_in_listing(id, name);
        }
        Ok(())
    }

    /// Replaces the name alone. Sending it again does no harm.
    pub async fn rename(&self, id: i64, name: &str) -> Result<(), ApiError> {
        let _turn = self.lane.enter().await?;
        self.heed(self.client.rename(id, name).await)?;
        self.rename_in_listing(id, name);
        Ok(())
    }

    /// Removes a credential that no active mailbox uses.
    pub async fn delete(&self, id: i64) -> Result<(), ApiError> {
        let _turn = self.lane.enter().await?;
        let deleted = self.heed(self.client.delete(id).await);
        match &deleted {
            Ok(()) => self.change_listing(|entries| entries.retain(|entry| entry.id != id)),
            Err(_) => self.forget_listing(),
        }
        deleted
    }

    /// Draws the consequences of an answer for the requests that follow.
    fn heed<T>(&self, result: Result<T, ApiError>) -> Result<T, ApiError> {
        match &result {
            Err(ApiError::Throttled(asked)) => self.lane.pause(*asked),
            // What was listed with a key that is refused now says nothing about the key any more.
            Err(ApiError::Unauthorized(_)) => self.forget_listing(),
            Ok(_) | Err(_) => {}
        }
        result
    }

    fn last_listing(&self, max_age: Duration) -> Option<Vec<Entry>> {
        self.lock()
            .as_ref()
            .filter(|listing| listing.taken.elapsed() <= max_age)
            .map(|listing| listing.entries.clone())
    }

    fn forget_listing(&self) {
        *self.lock() = None;
    }

    fn change_listing(&self, change: impl FnOnce(&mut Vec<Entry>)) {
        if let Some(listing) = self.lock().as_mut() {
            change(&mut listing.entries);
        }
    }

    fn rename_in_listing(&self, id: i64, name: &str) {
        self.change_listing(|entries| {
            for entry in entries.iter_mut().filter(|entry| entry.id == id) {
                name.clone_into(&mut entry.name);
            }
        });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Listing>> {
        self.listing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Entry ===

impl Entry {
    /// Whether it is for that app.
    pub fn is_for(&self, tenant: &TenantId, client: &ClientId) -> bool {
        self.tenant == tenant.as_str() && self.client == client.as_str()
    }
}

impl From<Credential> for Entry {
    fn from(credential: Credential) -> Self {
        Self {
            id: credential.credential_id,
            tenant: credential.tenant_id.trim().to_ascii_lowercase(),
            client: credential.client_id.trim().to_ascii_lowercase(),
            name: credential.name.unwrap_or_default(),
        }
    }
}
