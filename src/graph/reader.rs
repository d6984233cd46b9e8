//! Reads the client secrets of apps with the token of an identity. Objects of one app share a reading.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use thiserror::Error;
use tokio::time::Instant;

use crate::api::conditions::whole_second;
use crate::api::{ClientId, SecretHolder, TenantId};
use crate::core::app_secrets::AppSecret;
use crate::core::graph_error::GraphError;
use crate::entra::identity::{GraphTokenError, GraphTokens, IdentitySnapshot};
use crate::graph::client::{GraphClient, RequestError, TenantKey};
use crate::graph::types::AppSecrets;

/// Reads apps. Clones share the readings.
#[derive(Clone)]
pub struct AppReader(Arc<Shared>);

struct Shared {
    client: GraphClient,
    tokens: GraphTokens,
    max_age: Duration,
    recent: Mutex<HashMap<Key, Slot>>,
}

/// What is read: the application with that client ID, or its service principal in the tenant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ReadTarget {
    pub tenant: TenantId,
    pub client: ClientId,
    pub holder: SecretHolder,
}

/// An identity by its uid and generation, and what is read with it.
type Key = (String, i64, ReadTarget);

/// The last reading of one target, locked while it is being read.
type Slot = Arc<tokio::sync::Mutex<Option<Last>>>;

/// A reading, or an attempt.
struct Last {
    began: Instant,
    ended: Instant,
    read: Read,
}

/// Which reading of another object may be shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// A recent one that is newer than the one before; a failure only by those who waited for it.
    Recent { newer_than: Option<Timestamp> },
    /// One that began after the call, because a user requested it.
    Later,
}

type Read = Result<Arc<Holding>, ReadError>;

/// The client secrets of an application or of a service principal.
#[derive(Debug)]
pub struct Holding {
    /// When Graph responded.
    pub at: Timestamp,
    /// `None` if the tenant does not have the object.
    pub secrets: Option<Vec<AppSecret>>,
    /// The tenant of the application, for a service principal.
    pub home_tenant: Option<TenantId>,
    /// Whether the application has room for two client secrets only.
    pub is_limited_to_two: bool,
}

/// Why an app could not be read.
#[derive(Clone, Debug, Error)]
pub enum ReadError {
    #[error(transparent)]
    Token(#[from] GraphTokenError),
    #[error(transparent)]
    Request(#[from] RequestError),
}

// === impl AppReader ===

impl AppReader {
    /// Objects of one app share readings that are not older than `max_age`; see [`Sharing`].
    pub fn new(client: GraphClient, tokens: GraphTokens, max_age: Duration) -> Self {
        Self(Arc::new(Shared { client, tokens, max_age, recent: Mutex::default() }))
    }

    /// Reads an application or a service principal, unless there is a reading to share. This does not check grants;
    /// [`grants::access`](crate::core::grants::access) does.
    pub async fn read(&self, identity: &IdentitySnapshot, target: &ReadTarget, sharing: Sharing) -> Read {
        let called = Instant::now();
        let slot = self.slot((identity.uid.clone(), identity.generation, target.clone()));
        let mut last = slot.lock().await;
        if let Some(last) = last.as_ref().filter(|last| last.is_shared(called, sharing, self.0.max_age)) {
            return last.read.clone();
        }
        let began = Instant::now();
        let read = self.send(identity, target).await;
        let is_sent = !matches!(
            &read,
            Err(ReadError::Request(RequestError::NotLeading(_))
                | ReadError::Token(GraphTokenError::NotLeading(_)))
        );
        if is_sent {
            *last = Some(Last { began, ended: Instant::now(), read: read.clone() });
        }
        read
    }

    async fn send(&self, identity: &IdentitySnapshot, target: &ReadTarget) -> Read {
        let ReadTarget { tenant, client, holder } = target;
        let token = self.0.tokens.token(identity, tenant).await?;
        let at = TenantKey { cloud: identity.cloud, tenant: tenant.clone() };
        let read = match holder {
            SecretHolder::Application => self.0.client.application(&at, &token, client).await,
            SecretHolder::ServicePrincipal => self.0.client.service_principal(&at, &token, client).await,
        };
        let denied = |error: &RequestError| {
            matches!(
                error,
                RequestError::Graph { error: GraphError::InvalidToken | GraphError::Forbidden, .. }
            )
        };
        if read.as_ref().is_err_and(denied) {
            // A token from before a consent lacks the role.
            self.0.tokens.discard(identity, tenant);
        }
        let at = Timestamp::now();
        Ok(Arc::new(match read? {
            Some(AppSecrets { secrets, home_tenant, is_limited_to_two }) => {
                Holding { at, secrets: Some(secrets), home_tenant, is_limited_to_two }
            }
            None => Holding { at, secrets: None, home_tenant: None, is_limited_to_two: false },
        }))
    }

    /// The slot of a target. Those that nobody uses and that are outdated are removed.
    fn slot(&self, key: Key) -> Slot {
        let mut recent = self.0.recent.lock();
        let is_used = |slot: &Slot| {
            let recent = slot
                .try_lock()
                .map(|last| last.as_ref().is_some_and(|last| last.began.elapsed() < self.0.max_age));
            Arc::strong_count(slot) > 1 || recent.unwrap_or(true)
        };
        recent.retain(|_, slot| is_used(slot));
        recent.entry(key).or_default().clone()
    }
}

// === impl Last ===

impl Last {
    /// Whether it answers a call that came at that time.
    fn is_shared(&self, called: Instant, sharing: Sharing, max_age: Duration) -> bool {
        match (sharing, &self.read) {
            (Sharing::Later, _) => self.began >= called,
            (Sharing::Recent { .. }, Err(_)) => self.ended > called,
            (Sharing::Recent { newer_than }, Ok(holding)) => {
                let is_newer = newer_than.is_none_or(|before| whole_second(holding.at) > before);
                is_newer && self.began.elapsed() < max_age
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_AGE: Duration = Duration::from_mins(1);
    const ANY: Sharing = Sharing::Recent { newer_than: None };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// A request from now on that takes two seconds.
    async fn ended(read: Read) -> Last {
        let began = Instant::now();
        tokio::time::advance(Duration::from_secs(2)).await;
        Last { began, ended: Instant::now(), read }
    }

    fn success() -> Arc<Holding> {
        Arc::new(Holding { at: at(100), secrets: None, home_tenant: None, is_limited_to_two: false })
    }

    fn failure() -> ReadError {
        let error = RequestError::Graph { error: GraphError::Unavailable, retry_after: None };
        ReadError::Request(error)
    }

    #[tokio::test(start_paused = true)]
    async fn a_recent_reading_is_shared_by_those_for_whom_it_is_new() {
        let last = ended(Ok(success())).await;
        let newer_than = |second| Sharing::Recent { newer_than: Some(at(second)) };
        for (sharing, expected) in
            [(ANY, true), (newer_than(99), true), (newer_than(100), false), (newer_than(101), false)]
        {
            assert_eq!(last.is_shared(Instant::now(), sharing, MAX_AGE), expected, "{sharing:?}");
        }
        tokio::time::advance(MAX_AGE).await;
        assert!(!last.is_shared(Instant::now(), ANY, MAX_AGE));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_shared_only_by_those_who_waited_for_it() {
        let before = Instant::now();
        let last = ended(Err(failure())).await;
        assert!(last.is_shared(before, ANY, MAX_AGE) && last.is_shared(before, Sharing::Later, MAX_AGE));
        assert!(!last.is_shared(Instant::now(), ANY, MAX_AGE));
    }

    #[tokio::test(start_paused = true)]
    async fn a_requested_reading_begins_after_the_request() {
        let before = Instant::now();
        tokio::time::advance(Duration::from_secs(1)).await;
        let last = ended(Ok(success())).await;
        assert!(last.is_shared(before, Sharing::Later, MAX_AGE), "it waited for its turn");
        let meanwhile = last.began + Duration::from_secs(1);
        assert!(!last.is_shared(meanwhile, Sharing::Later, MAX_AGE));
    }
}
