//! Tokens for Microsoft Graph, cached per identity and tenant.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::api::{Cloud, TenantId};
use crate::core::timing::Timing;
use crate::entra::breaker::Breaker;
use crate::entra::identity::credential::CredentialSources;
use crate::entra::identity::error::GraphTokenError;
use crate::entra::identity::exchange::{Exchange, IssuedToken};
use crate::entra::identity::federated::FederatedTokens;
use crate::entra::identity::snapshot::{IdentitySnapshot, SignInSpec};
use crate::entra::token::EndpointConfig;
use crate::k8s::jitter::jittered;
use crate::secret_text::SecretText;

/// Tokens for Microsoft Graph, cached per identity and tenant and renewed early. Clones share the tokens.
#[derive(Clone)]
pub struct GraphTokens(Arc<Shared>);

/// Bearer token for Microsoft Graph: redacted in `Debug`, wiped when its last clone is dropped. It opens what the
/// identity may do, until it expires after 60 to 90 minutes.
#[derive(Clone, Debug)]
pub struct GraphToken {
    text: Arc<SecretText>,
    roles: Option<Arc<[String]>>,
}

struct Shared {
    exchange: Exchange,
    margin: Duration,
    pause: Duration,
    discard: Duration,
    slots: Mutex<HashMap<SlotKey, Arc<Slot>>>,
}

/// An identity by its uid, and a tenant.
type SlotKey = (String, TenantId);

/// The token of one identity in one tenant.
#[derive(Default)]
struct Slot {
    /// Held during a request: others that need the same token wait for it.
    exchanging: tokio::sync::Mutex<()>,
    state: Mutex<SlotState>,
}

#[derive(Default)]
struct SlotState {
    /// What the rest was obtained with.
    spec: Option<SignInSpec>,
    held: Option<Held>,
    /// The last failure, until a request succeeds, and when the next request may be sent.
    failure: Option<(GraphTokenError, Instant)>,
    discarded: Option<Instant>,
}

/// A token in the cache.
struct Held {
    token: GraphToken,
    renew_at: Instant,
    expires_at: Instant,
}

// === impl GraphToken ===

impl GraphToken {
    /// The token, only to send it.
    pub fn expose(&self) -> &str {
        self.text.expose()
    }

    /// Its application roles; `None` if they cannot be read.
    pub fn roles(&self) -> Option<&[String]> {
        self.roles.as_deref()
    }
}

// === impl GraphTokens ===

impl GraphTokens {
    /// `client` reads the Secrets of identities.
    pub fn new(config: EndpointConfig, client: Client, federated: FederatedTokens, timing: &Timing) -> Self {
        let exchange = Exchange {
            config,
            sources: CredentialSources { client, federated },
            breaker: Breaker::new(timing, timing.token_call),
            time_out: timing.token_call,
        };
        Self(Arc::new(Shared {
            exchange,
            margin: timing.graph_token_margin,
            pause: timing.graph_token_pause,
            discard: timing.graph_token_discard,
            slots: Mutex::default(),
        }))
    }

    /// The token of an identity in a tenant: the cached one, or a new one. After a failure no request is sent for 30 s;
    /// until then the same failure is returned, or the earlier token while it is valid.
    ///
    /// This does not check grants; [`grants::access`](crate::core::grants::access) does.
    pub async fn token(
        &self,
        identity: &IdentitySnapshot,
        tenant: &TenantId,
    ) -> Result<GraphToken, GraphTokenError> {
        let slot = self.slot(identity, tenant);
        if let Some(known) = slot.known(identity) {
            return known;
        }
        let _exchanging = slot.exchanging.lock().await;
        // Another caller may have sent the request meanwhile.
        if let Some(known) = slot.known(identity) {
            return known;
        }
        let result = self.0.exchange.token(identity, tenant).await;
        self.record(&slot, identity, result)
    }

    /// Forgets the token of an identity in a tenant after Graph rejected it, because a new one may have another
    /// permission. At most once in five minutes, so that a permission that stays missing costs no more requests.
    pub fn discard(&self, identity: &IdentitySnapshot, tenant: &TenantId) {
        let slot = self.slot(identity, tenant);
        let mut state = slot.state.lock();
        let now = Instant::now();
        if state.discarded.is_none_or(|at| now.duration_since(at) >= self.0.discard) {
            state.discarded = Some(now);
            state.held = None;
        }
    }

    /// Forgets all tokens and failures of an identity, because its Secret changed.
    pub fn reset(&self, identity: &IdentitySnapshot) {
        self.0.slots.lock().retain(|(uid, _), _| *uid != identity.uid);
    }

    /// Base URL of the sign-in service of a cloud.
    pub fn authority(&self, cloud: Cloud) -> &str {
        self.0.exchange.config.authorities.of(cloud)
    }

    /// Forgets what is kept of identities and tenants other than those given.
    pub fn retain(&self, identities: &[IdentitySnapshot]) {
        let kept: HashMap<&str, Vec<TenantId>> =
            identities.iter().map(|identity| (identity.uid.as_str(), identity.tenants())).collect();
        self.0
            .slots
            .lock()
            .retain(|(uid, tenant), _| kept.get(uid.as_str()).is_some_and(|all| all.contains(tenant)));
    }

    fn slot(&self, identity: &IdentitySnapshot, tenant: &TenantId) -> Arc<Slot> {
        let key = (identity.uid.clone(), tenant.clone());
        self.0.slots.lock().entry(key).or_default().clone()
    }

    /// Keeps a result for the next callers.
    fn record(
        &self,
        slot: &Slot,
        identity: &IdentitySnapshot,
        result: Result<IssuedToken, GraphTokenError>,
    ) -> Result<GraphToken, GraphTokenError> {
        let (now, mut state) = (Instant::now(), slot.state.lock());
        // A token of an earlier spec must not be used with the present one.
        state.adopt(identity);
        match result {
            Ok(IssuedToken { text, lifetime, roles }) => {
                let token = GraphToken { text: Arc::new(text), roles };
                // A token that lives no longer than twice the margin is used for half of its time.
                let margin = jittered(self.0.margin).min(lifetime / 2);
                let (renew_at, expires_at) = (now + lifetime.saturating_sub(margin), now + lifetime);
                state.held = Some(Held { token: token.clone(), renew_at, expires_at });
                state.failure = None;
                Ok(token)
            }
            Err(error @ GraphTokenError::NotLeading(_)) => Err(error),
            Err(error) => {
                let pause = error.retry_after().unwrap_or_default().max(self.0.pause);
                state.failure = Some((error.clone(), now + pause));
                state.living(now).ok_or(error)
            }
        }
    }
}

impl fmt::Debug for GraphTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GraphTokens").finish_non_exhaustive()
    }
}

// === impl Slot ===

impl Slot {
    /// The answer without a request; `None` if one may be sent.
    fn known(&self, identity: &IdentitySnapshot) -> Option<Result<GraphToken, GraphTokenError>> {
        let (now, mut state) = (Instant::now(), self.state.lock());
        state.adopt(identity);
        if let Some(held) = state.held.as_ref().filter(|held| now < held.renew_at) {
            return Some(Ok(held.token.clone()));
        }
        let (error, next) = state.failure.as_ref()?;
        if now < *next { Some(state.living(now).ok_or_else(|| error.clone())) } else { None }
    }
}

// === impl SlotState ===

impl SlotState {
    /// Forgets what was obtained with another app or credential.
    fn adopt(&mut self, identity: &IdentitySnapshot) {
        let spec = Some(identity.sign_in_spec());
        if self.spec != spec {
            *self = Self { spec, ..Self::default() };
        }
    }

    /// The token that is held, while it is valid.
    fn living(&self, now: Instant) -> Option<GraphToken> {
        self.held.as_ref().filter(|held| now < held.expires_at).map(|held| held.token.clone())
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
