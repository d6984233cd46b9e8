//! A remote account: its client, its request queue, and its last listing with the operator's later writes applied.

use crate::core::remote::Entry;
use crate::core::timing::Timing;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::woodpecker::client::Client;
use crate::woodpecker::error::{ApiError, Effect};
use crate::woodpecker::identity::{KeyDigests, RemoteIdentity};
use crate::woodpecker::key_identity::KeyIdentities;
use crate::woodpecker::listing::{LastListing, Listing, Listings};
use crate::woodpecker::queue::{AccountQueue, RequestSlot, ResponseSignal};
use crate::woodpecker::queues::AccountQueues;
use crate::woodpecker::types::{NewCredential, SecretUpdate};

/// A remote account. Those of one identity share a queue and a listing.
#[derive(Debug)]
pub struct RemoteAccount {
    pub client: Client,
    /// Every request needs a slot of it.
    pub queue: AccountQueue,
    /// The identity whose queue and listing it uses.
    pub identity: RemoteIdentity,
    /// The identity of its own address, company and key, also if it is an alias of another account.
    pub own_identity: RemoteIdentity,
    listing: LastListing,
}

/// What all accounts share.
#[derive(Debug)]
pub struct SharedAccounts {
    pub queues: AccountQueues,
    pub key_identities: KeyIdentities,
    listings: Listings,
    digests: KeyDigests,
}

// === impl SharedAccounts ===

impl SharedAccounts {
    /// Fails only if the system has no randomness.
    pub fn new(queues: AccountQueues, timing: &Timing) -> Result<Self, getrandom::Error> {
        Ok(Self {
            queues,
            key_identities: KeyIdentities::new(timing),
            listings: Listings::new(timing.settle_period),
            digests: KeyDigests::new()?,
        })
    }

    /// The identity of a client's address, company and key.
    pub fn identity(&self, client: &Client) -> RemoteIdentity {
        let (base_url, company_id) = (client.base_url.clone(), client.company_id);
        RemoteIdentity { base_url, company_id, key: self.digests.of(&client.api_key) }
    }

    /// The other remote accounts at the same address whose listings, at most `max_age` old, show one of these entries.
    pub fn sharing(&self, own: &RemoteIdentity, listing: &Listing, max_age: Duration) -> Vec<RemoteIdentity> {
        self.listings.sharing(own, listing, max_age)
    }
}

// === impl RemoteAccount ===

impl RemoteAccount {
    /// Uses the queue of its address and key, or one of its company alone if Woodpecker is known to separate companies.
    pub fn new(client: Client, shared: &SharedAccounts, is_company_separate: bool) -> Self {
        let identity = shared.identity(&client);
        let company = identity.company_id.filter(|_| is_company_separate);
        let queue = shared.queues.queue(&identity.base_url, identity.key, company);
        let listing = shared.listings.of(&identity);
        Self { client, queue, own_identity: identity.clone(), identity, listing }
    }

    /// Shares queue and listing with another account that is known to be the same remote account.
    pub fn alias_of(client: Client, other: &Self, shared: &SharedAccounts) -> Self {
        let (queue, identity) = (other.queue.clone(), other.identity.clone());
        Self {
            own_identity: shared.identity(&client),
            client,
            queue,
            identity,
            listing: other.listing.clone(),
        }
    }

    /// Whether identities and queue are the same.
    pub fn is_equivalent(&self, other: &Self) -> bool {
        self.own_identity == other.own_identity
            && self.identity == other.identity
            && self.queue.is(&other.queue)
    }

    /// The last listing, if it is at most `max_age` old. Sends no request.
    pub fn last_listing(&self, max_age: Duration) -> Option<Listing> {
        self.listing.listing(max_age)
    }

    /// When the last listing was taken. Sends no request.
    pub fn listed_at(&self) -> Option<Timestamp> {
        self.listing.taken_at()
    }

    /// Everything that the account holds, from a listing at most `max_age` old with the operator's later writes
    /// applied. Sends a request only if there is none.
    pub async fn list(&self, _slot: &RequestSlot, max_age: Duration) -> Result<Listing, ApiError> {
        // Another reconcile may have listed while this one waited for its slot.
        if let Some(listing) = self.listing.listing(max_age) {
            return Ok(listing);
        }
        // The age counts from before the request, because external changes made meanwhile may be missing.
        let taken = Instant::now();
        let listed = self.record_response(self.client.list().await)?;
        let listing: Listing = listed.into_iter().collect();
        self.listing.put(taken, listing.clone());
        Ok(listing)
    }

    /// Creates a credential and returns its id. Not idempotent.
    pub async fn create(&self, _slot: &RequestSlot, new: &NewCredential<'_>) -> Result<i64, ApiError> {
        let created = self
            .record_response(self.client.create(new).await)
            .inspect_err(|error| self.invalidate_if_uncertain(error))?;
        let id = created.id;
        self.listing.add(Entry::from(created));
        Ok(id)
    }

    /// Replaces secret and expiry. Idempotent.
    pub async fn update(
        &self,
        _slot: &RequestSlot,
        id: i64,
        secret: SecretUpdate<'_>,
    ) -> Result<(), ApiError> {
        self.record_response(self.client.update(id, secret).await)
            .inspect_err(|error| self.not_found(id, error))
    }

    /// Replaces the name alone. Idempotent.
    pub async fn rename(&self, _slot: &RequestSlot, id: i64, name: &str) -> Result<(), ApiError> {
        self.record_response(self.client.rename(id, name).await)
            .inspect_err(|error| self.not_found(id, error))?;
        self.listing.rename(id, name);
        Ok(())
    }

    /// Deletes a credential that no active mailbox uses.
    pub async fn delete(&self, _slot: &RequestSlot, id: i64) -> Result<(), ApiError> {
        self.record_response(self.client.delete(id).await)
            .inspect_err(|error| self.not_found(id, error))
            .inspect_err(|error| self.invalidate_if_uncertain(error))?;
        self.listing.remove(id);
        Ok(())
    }

    /// A 404 contradicts the operator's own writes, so they are not applied to the listing that checks it.
    fn not_found(&self, id: i64, error: &ApiError) {
        if matches!(error, ApiError::NotFound) {
            self.listing.forget_writes(id);
        }
    }

    /// Drops the listing after a request that may have taken effect, or that contradicts the listing. A rejected request
    /// has changed nothing.
    fn invalidate_if_uncertain(&self, error: &ApiError) {
        if error.effect() == Effect::Unknown || matches!(error, ApiError::NotFound) {
            self.listing.forget();
        }
    }

    /// Pauses the queue if Woodpecker asks to slow down. Other failures of a request on which nothing depends are not
    /// the account's.
    pub(super) fn record_throttling(&self, error: &ApiError) {
        if let ApiError::Throttled(retry_after) = error {
            self.queue.record_response(ResponseSignal::Throttled(*retry_after));
        }
    }

    /// Passes on what a response means for the requests that follow.
    fn record_response<T>(&self, result: Result<T, ApiError>) -> Result<T, ApiError> {
        let signal = match &result {
            Ok(_)
            | Err(
                ApiError::Unauthorized(_)
                | ApiError::NotInPlan { .. }
                | ApiError::NotFound
                | ApiError::Rejected { .. },
            ) => Some(ResponseSignal::Responded),
            Err(ApiError::Throttled(retry_after)) => Some(ResponseSignal::Throttled(*retry_after)),
            Err(ApiError::Failed { retry_after, .. }) => Some(ResponseSignal::Failed(*retry_after)),
            Err(ApiError::NotSent(_) | ApiError::Lost(_) | ApiError::Malformed(_)) => {
                Some(ResponseSignal::Failed(None))
            }
            Err(ApiError::Queue(_) | ApiError::NotLeading(_) | ApiError::GivenUp | ApiError::Body(_)) => None,
        };
        if let Some(signal) = signal {
            self.queue.record_response(signal);
        }
        if let Err(ApiError::Unauthorized(_) | ApiError::NotInPlan { .. }) = &result {
            // A listing read with a key that is rejected now says nothing about the key.
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
    use crate::core::request_priority::RequestPriority;
    use crate::http::client::HttpClients;
    use crate::k8s::leadership::Leadership;
    use crate::secret_text::SecretText;
    use crate::telemetry::metrics::Metrics;
    use crate::woodpecker::{QueueEntry, Requester, RequesterKind};

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
                let response = format!(
                    "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
                );
                connection.write_all(response.as_bytes()).await.unwrap();
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
        let queues = AccountQueues::new(
            &Timing::STANDARD,
            CancellationToken::new(),
            metrics,
            Arc::new(|_: &Requester| {}),
        );
        RemoteAccount::new(client, &SharedAccounts::new(queues, &Timing::STANDARD).unwrap(), false)
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
            let requester =
                Requester { kind: RequesterKind::Credential, namespace: "mail".into(), name: "x".into() };
            let permit = account
                .queue
                .request_permit(&QueueEntry {
                    requester,
                    priority: RequestPriority::Delete,
                    is_failing: false,
                })
                .unwrap();
            let slot = permit.slot().await.unwrap();
            assert!(account.list(&slot, long).await.unwrap().contains(7));
            let _ended = account.delete(&slot, 7).await;
            assert_eq!(account.last_listing(long).map(|listing| listing.contains(7)), left, "{status}");
        }
    }
}
