//! Client of Microsoft Graph. It never retries, because the work queue does.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderValue, InvalidHeaderValue};
use reqwest::{Method, RequestBuilder};
use thiserror::Error;
use tokio::time::Instant;
use tracing::Instrument;
use tracing::field::Empty;
use zeroize::Zeroizing;

use crate::api::{ClientId, Cloud, TenantId};
use crate::core::error_chain::chain;
use crate::core::graph_error::{self, ErrorBody, GraphError};
use crate::core::timing::Timing;
use crate::entra;
use crate::entra::breaker::Breaker;
use crate::entra::identity::GraphToken;
use crate::graph::GraphRoots;
use crate::graph::types::{AppSecrets, read_app, read_list};
use crate::http::client::{self, HttpClients};
use crate::k8s::leadership::{Leadership, NotLeading};
use crate::telemetry::metrics::Metrics;

/// Longest response that is read, in bytes: an app can have some hundred secrets.
const MAX_RESPONSE: usize = 1 << 20;

/// Pause after a 429 without `Retry-After`. Source: Microsoft Graph limits the requests in periods of ten seconds.
const THROTTLE_PAUSE: Duration = Duration::from_secs(10);

/// Reads and changes apps. Clones share the pauses and the circuit breakers.
#[derive(Clone)]
pub struct GraphClient {
    pub(super) config: GraphConfig,
    pub(super) time_out: Duration,
    pub(super) breaker: Arc<Breaker>,
    state: Arc<Mutex<State>>,
}

/// The dependencies of [`GraphClient`].
#[derive(Clone)]
pub struct GraphConfig {
    pub http: HttpClients,
    pub roots: GraphRoots,
    pub leadership: Leadership,
    pub metrics: Arc<Metrics>,
}

/// A tenant of a cloud.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TenantKey {
    pub cloud: Cloud,
    pub tenant: TenantId,
}

#[derive(Default)]
struct State {
    /// Until when Graph asked not to send requests for a tenant.
    paused: HashMap<TenantKey, Instant>,
    /// Tenants in which the identity may list applications but not get a single one.
    lists: HashSet<TenantKey>,
}

/// Why a request got no usable response.
#[derive(Clone, Debug, Error)]
pub enum RequestError {
    #[error("Microsoft Graph: {error:?}")]
    Graph {
        error: GraphError,
        /// The minimum wait, if the response gave one.
        retry_after: Option<Duration>,
    },
    /// This replica does not lead for long enough; nothing was sent.
    #[error(transparent)]
    NotLeading(#[from] NotLeading),
}

/// Why a request could not be made, so that nothing was sent.
#[derive(Debug, Error)]
pub(super) enum SetupError {
    #[error("the token is not a valid header")]
    Token(#[from] InvalidHeaderValue),
    #[error("failed to set up the HTTP client")]
    Client(#[from] reqwest::Error),
}

type Result<T> = std::result::Result<T, RequestError>;

// === impl GraphClient ===

impl GraphClient {
    pub fn new(config: GraphConfig, timing: &Timing) -> Self {
        let time_out = timing.graph_call;
        Self { config, time_out, breaker: Arc::new(Breaker::new(timing, time_out)), state: Arc::default() }
    }

    /// The secrets of an application; `None` if the tenant has no such application.
    ///
    /// Microsoft documents that `Application.ReadWrite.OwnedBy` lists all applications, but not whether it gets a single
    /// one of another owner.
    pub async fn application(
        &self,
        at: &TenantKey,
        token: &GraphToken,
        client: &ClientId,
    ) -> Result<Option<AppSecrets>> {
        if !self.state.lock().lists.contains(at) {
            let path =
                format!("applications(appId='{client}')?$select=id,appId,signInAudience,passwordCredentials");
            match self.get(at, token, "application", &path, read_app).await {
                Ok(app) => return Ok(Some(app)),
                Err(RequestError::Graph { error: GraphError::NotFound, .. }) => return Ok(None),
                Err(RequestError::Graph { error: GraphError::Forbidden, .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let path = format!(
            "applications?$filter=appId%20eq%20'{client}'&$select=id,appId,signInAudience,passwordCredentials"
        );
        let listed = self.get(at, token, "list_applications", &path, read_list).await?;
        self.state.lock().lists.insert(at.clone());
        Ok(listed.into_iter().next())
    }

    /// The secrets of the app's service principal in the tenant; `None` if it has none there.
    pub async fn service_principal(
        &self,
        at: &TenantKey,
        token: &GraphToken,
        client: &ClientId,
    ) -> Result<Option<AppSecrets>> {
        let path = format!(
            "servicePrincipals(appId='{client}')?$select=id,appId,appOwnerOrganizationId,passwordCredentials"
        );
        match self.get(at, token, "service_principal", &path, read_app).await {
            Ok(app) => Ok(Some(app)),
            Err(RequestError::Graph { error: GraphError::NotFound, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sends one request, unless Graph asked to wait, or did not answer several requests in a row. Only a leader sends it.
    async fn get<T>(
        &self,
        at: &TenantKey,
        token: &GraphToken,
        operation: &'static str,
        path: &str,
        read: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<T> {
        self.config.leadership.check_call(self.time_out)?;
        if let Some(wait) = self.pause_left(at) {
            return Err(RequestError::Graph { error: GraphError::Throttled, retry_after: Some(wait) });
        }
        let mut admission = self.breaker.admit(self.config.roots.of(at.cloud)).map_err(|wait| {
            RequestError::Graph { error: GraphError::Unavailable, retry_after: Some(wait) }
        })?;
        let started = Instant::now();
        let span = tracing::debug_span!("microsoft graph", otel.kind = "client", operation, outcome = Empty);
        let result = self.send(at, token, path, read).instrument(span.clone()).await;
        let outcome = match &result {
            Ok(_) => "ok",
            Err(Failure { error, .. }) => error.outcome(),
        };
        if result.as_ref().is_err_and(|failure| !failure.is_answered) {
            admission.got_no_response();
        } else {
            admission.responded();
        }
        span.record("outcome", outcome);
        self.config.metrics.remote.ended("microsoft", operation, outcome, started.elapsed());
        result.map_err(|Failure { error, retry_after, .. }| {
            if error == GraphError::Throttled {
                self.pause(at, retry_after);
            }
            RequestError::Graph { error, retry_after }
        })
    }

    async fn send<T>(
        &self,
        at: &TenantKey,
        token: &GraphToken,
        path: &str,
        read: impl Fn(&[u8]) -> Option<T>,
    ) -> std::result::Result<T, Failure> {
        let unavailable = |problem: &dyn std::error::Error| {
            tracing::warn!(error = chain(problem), "Microsoft Graph did not respond");
            Failure { error: GraphError::Unavailable, retry_after: None, is_answered: false }
        };
        let request = self
            .request(Method::GET, at, token, path)
            .map_err(|error| unavailable(&error))?
            // Reads can wait, and rotations of other programs may not. Source: Microsoft Graph, "Throttling".
            .header("x-ms-throttle-priority", "Low");
        let response = request.send().await.map_err(|error| unavailable(&error.without_url()))?;
        let retry_after = client::retry_after(response.headers(), Timestamp::now());
        let (status, id) = (response.status().as_u16(), request_id(response.headers()).map(str::to_owned));
        let body = client::body(response, MAX_RESPONSE).await.map_err(|error| unavailable(&error))?;
        if status == 200 {
            return read(&body).ok_or_else(|| {
                tracing::warn!(request_id = id, "Microsoft Graph's response has no list of client secrets");
                Failure { error: GraphError::Unavailable, retry_after, is_answered: true }
            });
        }
        let error_body = serde_json::from_slice::<ErrorBody>(&body).ok();
        let error = graph_error::classify(status, error_body.as_ref());
        if error != GraphError::NotFound {
            tracing::warn!(status, request_id = id, ?error, "Microsoft Graph rejects a request");
        }
        Err(Failure { error, retry_after, is_answered: true })
    }

    /// A request with the headers that all requests have.
    pub(super) fn request(
        &self,
        method: Method,
        at: &TenantKey,
        token: &GraphToken,
        path: &str,
    ) -> std::result::Result<RequestBuilder, SetupError> {
        let bearer = Zeroizing::new(format!("Bearer {}", token.expose()));
        let mut bearer = HeaderValue::try_from(bearer.as_str())?;
        bearer.set_sensitive(true);
        let request = self
            .config
            .http
            .current()?
            .request(method, format!("{}/v1.0/{path}", self.config.roots.of(at.cloud)))
            .timeout(self.time_out)
            .header(AUTHORIZATION, bearer)
            .header(ACCEPT, "application/json")
            .header("client-request-id", entra::request_id());
        Ok(request)
    }

    /// How long Graph asked not to send requests for a tenant.
    pub(super) fn pause_left(&self, at: &TenantKey) -> Option<Duration> {
        let mut state = self.state.lock();
        let left = state.paused.get(at)?.saturating_duration_since(Instant::now());
        if left.is_zero() {
            state.paused.remove(at);
            return None;
        }
        Some(left)
    }

    /// Sends no requests for a tenant for the time that a 429 asks for.
    pub(super) fn pause(&self, at: &TenantKey, retry_after: Option<Duration>) {
        let wait = retry_after.unwrap_or(THROTTLE_PAUSE);
        if let Some(until) = Instant::now().checked_add(wait) {
            self.state.lock().paused.insert(at.clone(), until);
        }
    }
}

/// A request without a usable response.
struct Failure {
    error: GraphError,
    retry_after: Option<Duration>,
    is_answered: bool,
}

/// The ID by which Microsoft's support finds the request, if it is a GUID.
pub(super) fn request_id(headers: &http::HeaderMap) -> Option<&str> {
    headers.get("request-id")?.to_str().ok().filter(|id| crate::api::is_guid(id))
}
