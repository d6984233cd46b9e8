//! Adds and removes client secrets of apps with the token of an identity, one write to an app at a time.
//!
//! Entra rejects writes to one app close together, and some of them with a response that does not tell whether they were
//! applied.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use thiserror::Error;
use tokio::time::Instant;

use crate::api::{ClientId, TenantId};
use crate::core::graph_write::{WriteFailure, WriteRejection};
use crate::core::timing::Timing;
use crate::entra::identity::{GraphToken, GraphTokenError, GraphTokens, IdentitySnapshot};
use crate::graph::client::{GraphClient, TenantKey};
use crate::graph::writes::{AddedSecret, NewSecret, WriteError};

/// Writes to apps. Clones share the times of the last writes.
#[derive(Clone)]
pub struct AppWriter(Arc<Shared>);

struct Shared {
    client: GraphClient,
    tokens: GraphTokens,
    spacing: Duration,
    /// Apps with a write in progress or not long ago.
    turns: Mutex<HashMap<AppKey, Turn>>,
}

/// An app of a tenant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct AppKey {
    at: TenantKey,
    client: ClientId,
}

/// Whether an app may be written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// A write is in progress.
    Taken,
    NotBefore(Instant),
}

/// A write in progress. When it is dropped, the wait until the next one begins.
struct TurnGuard {
    shared: Arc<Shared>,
    key: AppKey,
    wait: Duration,
}

/// Why a write to an app has no success.
#[derive(Clone, Debug, Error)]
pub enum AppWriteError {
    /// There is no token, so nothing was sent.
    #[error(transparent)]
    Token(#[from] GraphTokenError),
    /// Another write to the app is in progress or was too recent, so nothing was sent.
    #[error("another write to the app was too recent")]
    TooSoon { retry_after: Duration },
    #[error(transparent)]
    Write(#[from] WriteError),
}

// === impl AppWriter ===

impl AppWriter {
    pub fn new(client: GraphClient, tokens: GraphTokens, timing: &Timing) -> Self {
        let spacing = timing.app_write_spacing;
        Self(Arc::new(Shared { client, tokens, spacing, turns: Mutex::default() }))
    }

    /// Adds a client secret to an application, with one request. It does not wait if a write was too recent. This does
    /// not check grants; [`grants::access`](crate::core::grants::access) does.
    pub async fn add(
        &self,
        identity: &IdentitySnapshot,
        tenant: &TenantId,
        client: &ClientId,
        new: &NewSecret,
    ) -> Result<AddedSecret, AppWriteError> {
        let (token, mut turn) = self.begin(identity, tenant, client).await?;
        let added = self.0.client.add_password(&turn.key.at, &token, client, new).await;
        self.end(identity, tenant, &mut turn, added)
    }

    /// Removes a client secret from an application, with one request, like [`AppWriter::add`].
    pub async fn remove(
        &self,
        identity: &IdentitySnapshot,
        tenant: &TenantId,
        client: &ClientId,
        key_id: &str,
    ) -> Result<(), AppWriteError> {
        let (token, mut turn) = self.begin(identity, tenant, client).await?;
        let removed = self.0.client.remove_password(&turn.key.at, &token, client, key_id).await;
        self.end(identity, tenant, &mut turn, removed)
    }

    /// Whether the app may be written to now, or how long to wait.
    pub fn is_free(
        &self,
        identity: &IdentitySnapshot,
        tenant: &TenantId,
        client: &ClientId,
    ) -> Result<(), AppWriteError> {
        let at = TenantKey { cloud: identity.cloud, tenant: tenant.clone() };
        let key = AppKey { at, client: client.clone() };
        let wait = match self.0.turns.lock().get(&key) {
            Some(Turn::Taken) => self.0.spacing,
            Some(Turn::NotBefore(at)) => at.saturating_duration_since(Instant::now()),
            None => Duration::ZERO,
        };
        if wait.is_zero() { Ok(()) } else { Err(AppWriteError::TooSoon { retry_after: wait }) }
    }

    async fn begin(
        &self,
        identity: &IdentitySnapshot,
        tenant: &TenantId,
        client: &ClientId,
    ) -> Result<(GraphToken, TurnGuard), AppWriteError> {
        let token = self.0.tokens.token(identity, tenant).await?;
        let at = TenantKey { cloud: identity.cloud, tenant: tenant.clone() };
        let turn = self.take_turn(AppKey { at, client: client.clone() });
        Ok((token, turn.map_err(|retry_after| AppWriteError::TooSoon { retry_after })?))
    }

    fn end<T>(
        &self,
        identity: &IdentitySnapshot,
        tenant: &TenantId,
        turn: &mut TurnGuard,
        result: Result<T, WriteError>,
    ) -> Result<T, AppWriteError> {
        if let Err(WriteError::Graph { failure, retry_after }) = &result {
            turn.wait = turn.wait.max(retry_after.unwrap_or_default());
            let is_denied = matches!(
                failure,
                WriteFailure::NotApplied(WriteRejection::InvalidToken | WriteRejection::Forbidden)
            );
            if is_denied {
                // A token from before a consent lacks the role.
                self.0.tokens.discard(identity, tenant);
            }
        }
        Ok(result?)
    }

    /// Takes the turn of an app, or returns how long to wait for it. Turns that anybody may take are removed.
    fn take_turn(&self, key: AppKey) -> Result<TurnGuard, Duration> {
        let mut turns = self.0.turns.lock();
        let now = Instant::now();
        turns.retain(|_, turn| match turn {
            Turn::Taken => true,
            Turn::NotBefore(at) => *at > now,
        });
        match turns.get(&key) {
            Some(Turn::Taken) => return Err(self.0.spacing),
            Some(Turn::NotBefore(at)) => return Err(*at - now),
            None => {}
        }
        turns.insert(key.clone(), Turn::Taken);
        Ok(TurnGuard { shared: self.0.clone(), key, wait: self.0.spacing })
    }
}

// === impl TurnGuard ===

impl Drop for TurnGuard {
    fn drop(&mut self) {
        let next = Turn::NotBefore(Instant::now() + self.wait);
        self.shared.turns.lock().insert(self.key.clone(), next);
    }
}

// === impl AppWriteError ===

impl AppWriteError {
    /// Whether nothing was written for sure.
    pub fn is_not_applied(&self) -> bool {
        match self {
            Self::Token(_) | Self::TooSoon { .. } | Self::Write(WriteError::NotLeading(_)) => true,
            Self::Write(WriteError::Graph { failure, .. }) => matches!(failure, WriteFailure::NotApplied(_)),
        }
    }

    /// The minimum wait, if one is known.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Token(error) => error.retry_after(),
            Self::TooSoon { retry_after } => Some(*retry_after),
            Self::Write(WriteError::Graph { retry_after, .. }) => *retry_after,
            Self::Write(WriteError::NotLeading(_)) => None,
        }
    }
}

#[cfg(test)]
mod tests;
