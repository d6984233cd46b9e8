//! HTTP client of Woodpecker's API: one request per method, no retries.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, RequestBuilder, Response};
use tokio::time::Instant;
use tracing::Instrument;
use tracing::field::Empty;
use zeroize::Zeroizing;

use crate::config::BaseUrl;
use crate::core::remote::Entry;
use crate::http::client::{self, HttpClients};
use crate::k8s::leadership::Leadership;
use crate::secret_text::SecretText;
use crate::telemetry::metrics::Metrics;
use crate::woodpecker::error::ApiError;
use crate::woodpecker::types::{self, Credential, NewCredential, SecretUpdate};

/// Longest response that is read, in bytes: a listing of some forty thousand credentials.
const MAX_RESPONSE: usize = 8 << 20;

/// The API for one account.
#[derive(Debug)]
pub struct Client {
    pub http: HttpClients,
    /// Base URL, on the operator's allow-list.
    pub base_url: BaseUrl,
    /// Company to act for, sent as `x-company-id` with every request about credentials.
    pub company_id: Option<i64>,
    pub api_key: SecretText,
    /// For a whole call, until the response has been read.
    pub time_out: Duration,
    pub leadership: Leadership,
    pub metrics: Arc<Metrics>,
}

// === impl Client ===

impl Client {
    /// All credentials of the account.
    pub async fn list(&self) -> Result<Vec<Entry>, ApiError> {
        let (status, body) = self.call("list", self.request(Method::GET, None)?).await?;
        types::read_listing(&body).ok_or(ApiError::Malformed(status))
    }

    /// Creates a credential. Not idempotent: two calls create two credentials.
    pub async fn create(&self, new: &NewCredential<'_>) -> Result<Credential, ApiError> {
        let body = types::create_body(new).map_err(ApiError::Body)?;
        let (status, body) = self.call("create", with_json(self.request(Method::POST, None)?, &body)).await?;
        let created = types::read_credential(&body).ok_or(ApiError::Malformed(status))?;
        let is_expected = created.tenant_id.eq_ignore_ascii_case(new.tenant.as_str())
            && created.client_id.eq_ignore_ascii_case(new.client.as_str());
        if is_expected { Ok(created) } else { Err(ApiError::Malformed(status)) }
    }

    /// Replaces secret and expiry.
    pub async fn update(&self, id: i64, secret: SecretUpdate<'_>) -> Result<(), ApiError> {
        self.patch("update", id, Some(secret), None).await
    }

    /// Replaces the name alone.
    pub async fn rename(&self, id: i64, name: &str) -> Result<(), ApiError> {
        self.patch("rename", id, None, Some(name)).await
    }

    /// Deletes a credential that no active mailbox uses.
    pub async fn delete(&self, id: i64) -> Result<(), ApiError> {
        let (status, body) = self.call("delete", self.request(Method::DELETE, Some(id))?).await?;
        ApiError::in_success_body(status, &body).map_or(Ok(()), Err)
    }

    async fn patch(
        &self,
        operation: &'static str,
        id: i64,
        secret: Option<SecretUpdate<'_>>,
        name: Option<&str>,
    ) -> Result<(), ApiError> {
        let body = types::update_body(secret, name).map_err(ApiError::Body)?;
        let request = with_json(self.request(Method::PATCH, Some(id))?, &body);
        let (status, body) = self.call(operation, request).await?;
        if let Some(error) = ApiError::in_success_body(status, &body) {
            return Err(error);
        }
        // An empty body is valid, because some of the vendor's endpoints return none after a change.
        match types::read_credential(&body) {
            Some(credential) if credential.id != id => Err(ApiError::Malformed(status)),
            _ => Ok(()),
        }
    }

    fn request(&self, method: Method, id: Option<i64>) -> Result<RequestBuilder, ApiError> {
        let id = id.map(|id| format!("/{id}")).unwrap_or_default();
        self.request_to(method, &format!("/v2/mailboxes/microsoft/credentials{id}"))
    }

    pub(super) fn request_to(&self, method: Method, path: &str) -> Result<RequestBuilder, ApiError> {
        let request = self.authenticated(method, path)?;
        Ok(match self.company_id {
            Some(company) => request.header("x-company-id", company),
            None => request,
        })
    }

    /// A request for what belongs to the API key, whatever company the client acts for.
    pub(super) fn get(&self, path: &str) -> Result<RequestBuilder, ApiError> {
        self.authenticated(Method::GET, path)
    }

    fn authenticated(&self, method: Method, path: &str) -> Result<RequestBuilder, ApiError> {
        let url = format!("{}{path}", self.base_url);
        let http = self.http.current().map_err(ApiError::NotSent)?;
        let mut request = http.request(method, url).timeout(self.time_out);
        // A key that no header can hold was rejected earlier, with reason InvalidCharacters. Without the header the
        // response is 401.
        if let Ok(mut key) = HeaderValue::from_str(self.api_key.expose()) {
            key.set_sensitive(true);
            request = request.header("x-api-key", key);
        }
        Ok(request.header(ACCEPT, "application/json"))
    }

    pub(super) async fn call(
        &self,
        operation: &'static str,
        request: RequestBuilder,
    ) -> Result<(u16, Vec<u8>), ApiError> {
        self.measured(operation, send(request)).await
    }

    /// Runs a request if this replica leads for long enough, with its span and its metrics.
    pub(super) async fn measured<T>(
        &self,
        operation: &'static str,
        request: impl Future<Output = Result<T, ApiError>>,
    ) -> Result<T, ApiError> {
        self.leadership.check_call(self.time_out)?;
        let started = Instant::now();
        let span = tracing::debug_span!(
            "woodpecker",
            otel.name = format!("woodpecker {operation}"),
            otel.kind = "client",
            otel.status_code = Empty,
            outcome = Empty,
        );
        let result = request.instrument(span.clone()).await;
        let outcome = result.as_ref().map_or_else(ApiError::outcome, |_| "ok");
        span.record("outcome", outcome);
        if result.is_err() {
            span.record("otel.status_code", "ERROR");
        }
        self.metrics.remote.ended("woodpecker", operation, outcome, started.elapsed());
        result
    }
}

fn with_json(request: RequestBuilder, body: &Zeroizing<Vec<u8>>) -> RequestBuilder {
    request.header(CONTENT_TYPE, "application/json").body(body.to_vec())
}

async fn send(request: RequestBuilder) -> Result<(u16, Vec<u8>), ApiError> {
    read(start(request).await?).await
}

/// Sends a request and returns its response as soon as the headers have arrived.
pub(super) async fn start(request: RequestBuilder) -> Result<Response, ApiError> {
    request.send().await.map_err(|error| {
        if error.is_connect() || error.is_builder() {
            ApiError::NotSent(error.without_url())
        } else {
            ApiError::Lost(Box::new(error.without_url()))
        }
    })
}

/// A response with its body.
pub(super) struct Received {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
    pub(super) retry_after: Option<Duration>,
}

/// Reads the whole body; an error if the status does not say success.
pub(super) async fn read(response: Response) -> Result<(u16, Vec<u8>), ApiError> {
    let Received { status, body, retry_after } = receive(response).await?;
    if (200..300).contains(&status) {
        Ok((status, body))
    } else {
        Err(ApiError::from_response(status, &body, retry_after))
    }
}

/// Reads the whole body, whatever the status.
pub(super) async fn receive(response: Response) -> Result<Received, ApiError> {
    let status = response.status().as_u16();
    let retry_after = client::retry_after(response.headers(), Timestamp::now());
    let body = match client::body(response, MAX_RESPONSE).await {
        Ok(body) => body,
        // A rejection stays one if its body is cut off.
        Err(_) if (400..500).contains(&status) => Vec::new(),
        Err(error) => return Err(ApiError::Lost(Box::new(error))),
    };
    Ok(Received { status, body, retry_after })
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::core::timing::Timing;
    use crate::k8s::leadership::testing::clock;

    #[tokio::test]
    async fn only_a_leader_sends_and_only_requests_that_end_in_time() {
        let _other_test_was_first = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let leadership = Leadership::none(clock, Duration::from_secs(5));
        let client = Client {
            http: HttpClients::testing(&Timing::STANDARD),
            base_url: format!("http://{}", listener.local_addr().unwrap()).parse().unwrap(),
            company_id: None,
            api_key: SecretText::new("key".into()),
            time_out: Duration::from_secs(45),
            leadership: leadership.clone(),
            metrics: Arc::default(),
        };
        for left in [0, 49] {
            leadership.extend(clock() + Duration::from_secs(left));
            assert!(matches!(client.list().await, Err(ApiError::NotLeading(_))), "{left} s are left");
            assert!(matches!(client.delete(1).await, Err(ApiError::NotLeading(_))), "{left} s are left");
        }
        leadership.extend(clock() + Duration::from_secs(60));
        tokio::select! {
            connected = listener.accept() => assert!(connected.is_ok()),
            ended = client.list() => panic!("it is sent: {ended:?}"),
        }
    }
}
