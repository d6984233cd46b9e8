//! One remote account: its client behind its lane, and its last listing with our own later writes applied.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::client::Client;
use super::error::{ApiError, Certainty};
use super::identity::{KeyDigests, RemoteIdentity};
use super::lane::{Lane, Signal, Turn};
use super::lanes::Lanes;
use super::listing::{Entry, LastListing, Listing, Listings};
use super::wire::{NewCredential, SecretUpdate};

/// One remote account. Those of one identity share its lane and its listing.
#[derive(Debug)]
pub struct RemoteAccount {
    pub client: Client,
    /// Its lane, in which a turn is to be had for every request.
    pub lane: Lane,
    /// By what it is known: whose lane and listing it has.
    pub identity: RemoteIdentity,
    /// By its own address, company and key, whatever it is known to be one with.
    pub natural: RemoteIdentity,
    listing: LastListing,
}

/// What all accounts have in common.
#[derive(Debug)]
pub struct Commons {
    pub lanes: Lanes,
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
        let (base_url, company_id) = (client.base_url.clone(), client.company_id);
        RemoteIdentity { base_url, company_id, key: self.digests.of(&client.api_key) }
    }

    /// The other remote accounts behind the same address that show one of these entries as well, by listings at most
    /// so old.
    pub fn sharing(&self, own: &RemoteIdentity, listing: &Listing, max_age: Duration) -> Vec<RemoteIdentity> {
        self.listings.sharing(own, listing, max_age)
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
        Self { client, lane, natural: identity.clone(), identity, listing }
    }

    /// Over that client, and otherwise one with another account that is known to be the same remote one.
    pub fn sharing(client: Client, other: &Self, commons: &Commons) -> Self {
        let (lane, identity) = (other.lane.clone(), other.identity.clone());
        Self { natural: commons.identity(&client), client, lane, identity, listing: other.listing.clone() }
    }

    /// Whether it is made of the same parts, in the same lane.
    pub fn is_like(&self, other: &Self) -> bool {
        self.natural == other.natural && self.identity == other.identity && self.lane.is(&other.lane)
    }

    /// The last listing, if it is at most so old; asks for nothing.
    pub fn last_listing(&self, max_age: Duration) -> Option<Listing> {
        self.listing.listing(max_age)
    }

    /// When the last listing was taken; asks for nothing.
    pub fn listed_at(&self) -> Option<Timestamp> {
        self.listing.taken_at()
    }

    /// Everything that the account holds, from a listing at most `max_age` old with our own later writes
    /// applied; a request is sent only where there is none.
    pub async fn list(&self, _turn: &Turn, max_age: Duration) -> Result<Listing, ApiError> {
        // Another pass may have listed while this one waited for its turn.
        if let Some(listing) = self.listing.listing(max_age) {
            return Ok(listing);
        }
        // The age counts from before the request: what others write meanwhile may be missing.
        let taken = Instant::now();
        let listed = self.heed(self.client.list().await)?;
        let listing: Listing = listed.into_iter().map(Entry::from).collect();
        self.listing.put(taken, listing.clone());
        Ok(listing)
    }

    /// Makes a credential and returns its id. Not idempotent.
    pub async fn create(&self, _turn: &Turn, new: &NewCredential<'_>) -> Result<i64, ApiError> {
        let created = self.heed(self.client.create(new).await).inspect_err(|error| self.doubt(error))?;
        let id = created.id;
        self.listing.add(Entry::from(created));
        Ok(id)
    }

    /// Replaces secret and expiry. Sending it again does no harm.
    pub async fn update(&self, _turn: &Turn, id: i64, secret: SecretUpdate<'_>) -> Result<(), ApiError> {
        self.heed(self.client.update(id, secret).await)
    }

    /// Replaces the name alone. Sending it again does no harm.
    pub async fn rename(&self, _turn: &Turn, id: i64, name: &str) -> Result<(), ApiError> {
        self.heed(self.client.rename(id, name).await)?;
        self.listing.rename(id, name);
        Ok(())
    }

    /// Removes a credential that no active mailbox uses.
    pub async fn delete(&self, _turn: &Turn, id: i64) -> Result<(), ApiError> {
        self.heed(self.client.delete(id).await).inspect_err(|error| self.doubt(error))?;
        self.listing.remove(id);
        Ok(())
    }

    /// What may have been made or removed without our knowing, or is not there as listed, is listed anew. What was
    /// refused has changed nothing.
    fn doubt(&self, error: &ApiError) {
        if error.certainty() == Certainty::Unknown || matches!(error, ApiError::NotFound) {
            self.listing.forget();
        }
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::http::HttpClients;
    use crate::leadership::Leadership;
    use crate::secret::SecretText;
    use crate::settings::Timing;
    use crate::telemetry::metrics::Metrics;
    use crate::woodpecker::{Class, Owner, OwnerKind, Ticket};

    const LISTING: &str = r#"{"credentials": [{"credential_id": 7, "tenant_id": "t", "client_id": "c"}]}"#;

    /// An account that holds credential 7 and answers a DELETE with that status.
    async fn account(delete: &'static str) -> RemoteAccount {
        let _other_test_was_first = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        tokio::spawn(async move {
            while let Ok((mut connection, _)) = listener.accept().await {
                let mut head = [0; 4096];
                let length = connection.read(&mut head).await.unwrap();
                let (status, body) =
                    if head[..length].starts_with(b"GET") { ("200 OK", LISTING) } else { (delete, "{}") };
                let length = body.len();
                let answer = format!(
                    "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
                );
                connection.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        let metrics = Arc::new(Metrics::new());
        let client = Client {
            http: HttpClients::testing(&Timing::STANDARD),
            base_url,
            company_id: None,
            api_key: SecretText::new("key".into()),
            time_out: Duration::from_secs(10),
            leadership: Leadership::always(),
            metrics: metrics.clone(),
        };
        let lanes =
            Lanes::new(&Timing::STANDARD, CancellationToken::new(), metrics, Arc::new(|_: &Owner| {}));
        RemoteAccount::new(client, &Commons::new(lanes).unwrap(), false)
    }

    #[tokio::test]
    async fn a_refused_delete_keeps_the_listing_and_one_that_may_have_worked_does_not() {
        let long = Duration::from_hours(1);
        for (status, left) in [
            ("200 OK", Some(false)),
            ("409 Conflict", Some(true)),
            ("429 Too Many Requests", Some(true)),
            ("404 Not Found", None),
            ("500 Internal Server Error", None),
        ] {
            let account = account(status).await;
            let owner = Owner { kind: OwnerKind::Credential, namespace: "mail".into(), name: "x".into() };
            let grant = account.lane.ask(&Ticket { owner, class: Class::Delete, is_failing: false }).unwrap();
            let turn = grant.turn().await.unwrap();
            assert!(account.list(&turn, long).await.unwrap().contains(7));
            let _ended = account.delete(&turn, 7).await;
            assert_eq!(account.last_listing(long).map(|listing| listing.contains(7)), left, "{status}");
        }
    }
}
