//! Reads the client secrets of apps with the token of an identity. Objects of one app share a reading.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use thiserror::Error;
use tokio::time::Instant;

use crate::api::{ClientId, SecretHolder, TenantId};
use crate::core::app_secrets::AppSecret;
use crate::core::graph_error::GraphError;
use crate::entra::identity::{GraphTokenError, GraphTokens, IdentitySnapshot};
use crate::graph::client::{GraphClient, RequestError, TenantKey};

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
type Slot = Arc<tokio::sync::Mutex<Option<(Instant, Read)>>>;

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
    /// Objects of one app share readings that are not older than `max_age`.
    pub fn new(client: GraphClient, tokens: GraphTokens, max_age: Duration) -> Self {
        Self(Arc::new(Shared { client, tokens, max_age, recent: Mutex::default() }))
    }

    /// Reads an application or a service principal, unless it was just read. This does not check grants;
    /// [`grants::access`](crate::core::grants::access) does.
    pub async fn read(&self, identity: &IdentitySnapshot, target: &ReadTarget) -> Read {
        let slot = self.slot((identity.uid.clone(), identity.generation, target.clone()));
        let mut last = slot.lock().await;
        if let Some((_, read)) = last.as_ref().filter(|(at, _)| at.elapsed() < self.0.max_age) {
            return read.clone();
        }
        let read = self.send(identity, target).await;
        let is_sent = !matches!(
            &read,
            Err(ReadError::Request(RequestError::NotLeading(_))
                | ReadError::Token(GraphTokenError::NotLeading(_)))
        );
        if is_sent {
            *last = Some((Instant::now(), read.clone()));
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
            Some(app) => Holding { at, secrets: Some(app.secrets), home_tenant: app.home_tenant },
            None => Holding { at, secrets: None, home_tenant: None },
        }))
    }

    /// The slot of a target. Those that nobody uses and that are outdated are removed.
    fn slot(&self, key: Key) -> Slot {
        let mut recent = self.0.recent.lock();
        let is_used = |slot: &Slot| {
            let recent = slot
                .try_lock()
                .map(|last| last.as_ref().is_some_and(|(at, _)| at.elapsed() < self.0.max_age));
            Arc::strong_count(slot) > 1 || recent.unwrap_or(true)
        };
        recent.retain(|_, slot| is_used(slot));
        recent.entry(key).or_default().clone()
    }
}
