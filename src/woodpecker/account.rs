//! One remote account: its client behind its lane, and its last listing with our own later writes applied.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::client::Client;
use super::error::ApiError;
use super::identity::{KeyDigests, RemoteIdentity};
use super::lane::{Lane, Signal, Turn};
use super::lanes::Lanes;
use super::listing::{Entry, Listing, Listings};
use super::wire::{NewCredential, SecretUpdate};

/// One remote account. Those of one identity share its lane and its listing.
#[derive(Debug)]
pub struct RemoteAccount {
    client: Client,
    lane: Lane,
    identity: RemoteIdentity,
    listing: Listing,
}

/// What all accounts have in common.
#[derive(Debug)]
pub struct Commons {
    lanes: Lanes,
    listings: Listings,
    digests: KeyDigests,
}

// === impl Commons ===

impl Commons {
    /// Of lanes; no listing yet. Fails only where the system gives no randomness.
    pub fn new(lanes: Lanes) -> Result<Self, getrandom::Error> {
        Ok(Self { lanes, listings: Listings::default(), digests: KeyDigests::new()? })
    }

    /// By its own address, company and key.
    pub fn identity(&self, client: &Client) -> RemoteIdentity {
        let parts = client.parts();
        let (base_url, company_id) = (parts.base_url.clone(), parts.company_id);
        RemoteIdentity { base_url, company_id, key: self.digests.of(&parts.api_key) }
    }

    /// All lanes.
    pub fn lanes(&self) -> &Lanes {
        &self.lanes
    }
}

// === impl RemoteAccount ===

impl RemoteAccount {
    /// Over that client, in the lane of its address and key, or in one of its company's own where the vendor
    /// is known to tell its companies apart.
    pub fn new(client: Client, commons: &Commons, is_company_honoured: bool) -> Self {
        let identity = commons.identity(&client);
        let company = identity.company_id.filter(|_| is_company_honoured);
        let lane = commons.lanes.lane(&identity.base_url, identity.key, company);
        let listing = commons.listings.of(&identity);
        Self { client, lane, identity, listing }
    }

    /// Over that client, and otherwise one with another account that is known to be the same remote one.
    pub fn sharing(client: Client, other: &Self) -> Self {
        let (lane, identity) = (other.lane.clone(), other.identity.clone());
        Self { client, lane, identity, listing: other.listing.clone() }
    }

    /// Whether it is made of the same parts, in the same lane.
    pub fn is_like(&self, other: &Self) -> bool {
        let (ours, theirs) = (self.client.parts(), other.client.parts());
        ours.base_url == theirs.base_url
            && ours.company_id == theirs.company_id
            && ours.api_key == theirs.api_key
            && self.identity == other.identity
            && self.lane.is(&other.lane)
    }

    /// By what it is known.
    pub fn identity(&self) -> &RemoteIdentity {
        &self.identity
    }

    /// The client's parts, to make another one for a new key.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Its lane, in which a turn is to be had for every request.
    pub fn lane(&self) -> &Lane {
        &self.lane
    }

    /// The last listing, if it is at most so old; asks for nothing.
    pub fn last_listing(&self, max_age: Duration) -> Option<Vec<Entry>> {
        self.listing.entries(max_age)
    }

    /// When the last listing was taken; asks for nothing.
    pub fn listed_at(&self) -> Option<Timestamp> {
        self.listing.taken_at()
    }

    /// Everything that the account holds, from a listing at most `max_age` old with our own later writes
    /// applied; a request is sent only where there is none.
    pub async fn list(&self, _turn: &Turn, max_age: Duration) -> Result<Vec<Entry>, ApiError> {
        // Another pass may have listed while this one waited for its turn.
        if let Some(entries) = self.listing.entries(max_age) {
            return Ok(entries);
        }
        // The age counts from before the request: what others write meanwhile may be missing.
        let taken = Instant::now();
        let listed = self.heed(self.client.list().await);
        let entries: Vec<Entry> = listed?.into_iter().map(Entry::from).collect();
        self.listing.put(taken, entries.clone());
        Ok(entries)
    }

    /// Makes a credential and returns its id. Not idempotent.
    pub async fn create(&self, _turn: &Turn, new: &NewCredential<'_>) -> Result<i64, ApiError> {
        match self.heed(self.client.create(new).await) {
            Ok(credential) => {
                let entry = Entry::from(credential);
                let id = entry.id;
                self.listing.change(|entries| entries.push(entry));
                Ok(id)
            }
            Err(error) => {
                self.listing.forget();
                Err(error)
            }
        }
    }

    /// Replaces secret and expiry. Sending it again does no harm.
    pub async fn update(&self, _turn: &Turn, id: i64, secret: SecretUpdate<'_>) -> Result<(), ApiError> {
        self.heed(self.client.update(id, secret).await)
    }

    /// Replaces the name alone. Sending it again does no harm.
    pub async fn rename(&self, _turn: &Turn, id: i64, name: &str) -> Result<(), ApiError> {
        self.heed(self.client.rename(id, name).await)?;
        self.listing.change(|entries| {
            for entry in entries.iter_mut().filter(|entry| entry.id == id) {
                name.clone_into(&mut entry.name);
            }
        });
        Ok(())
    }

    /// Removes a credential that no active mailbox uses.
    pub async fn delete(&self, _turn: &Turn, id: i64) -> Result<(), ApiError> {
        let deleted = self.heed(self.client.delete(id).await);
        match &deleted {
            Ok(()) => self.listing.change(|entries| entries.retain(|entry| entry.id != id)),
            Err(_) => self.listing.forget(),
        }
        deleted
    }

    /// Draws the consequences of an answer for the requests that follow.
    fn heed<T>(&self, result: Result<T, ApiError>) -> Result<T, ApiError> {
        let signal = match &result {
            Ok(_) | Err(ApiError::Unauthorized(_) | ApiError::NotFound | ApiError::Refused { .. }) => {
                Some(Signal::Answered)
            }
            Err(ApiError::Throttled(asked)) => Some(Signal::Throttled(*asked)),
            Err(ApiError::NotSent(_) | ApiError::Lost(_) | ApiError::Failed(_) | ApiError::Malformed(_)) => {
                Some(Signal::Failed)
            }
            Err(ApiError::Lane(_) | ApiError::NotLeading(_) | ApiError::Body(_)) => None,
        };
        if let Some(signal) = signal {
            self.lane.heed(signal);
        }
        if let Err(ApiError::Unauthorized(_)) = &result {
            // What was listed with a key that is refused now says nothing about the key any more.
            self.listing.forget();
        }
        result
    }
}
