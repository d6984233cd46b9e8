//! Client of the token endpoint. It never retries, because the work queue does.
//!
//! Source: Microsoft, "OAuth 2.0 client credentials flow" (v2.0).

use crate::core::token_result::{RequestIds, TokenResult};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use tracing::Instrument;
use tracing::field::Empty;
use zeroize::Zeroizing;

use crate::api::is_guid;
use crate::core::diagnosis::{Diagnosis, ErrorBody, diagnose};
use crate::core::error_chain::chain;
use crate::core::timing::Timing;
use crate::entra::app::AppCredential;
use crate::entra::breaker::Breaker;
use crate::entra::rate_limit::{QuotaOwner, TokenRateLimiter};
use crate::entra::{Authorities, cloud, roles};
use crate::http::client::{self, HttpClients};
use crate::k8s::leadership::{Leadership, NotLeading};
use crate::secret_text::SecretText;
use crate::telemetry::metrics::Metrics;

/// Longest response that is read, in bytes: a token with many roles has some thousands.
pub(super) const MAX_RESPONSE: usize = 256 << 10;

/// The token endpoints of all clouds.
#[derive(Clone, Debug)]
pub struct TokenEndpoint {
    config: EndpointConfig,
    time_out: Duration,
    rate_limiter: Arc<TokenRateLimiter>,
    breaker: Arc<Breaker>,
    quota_owner: QuotaOwner,
}

/// The dependencies of [`TokenEndpoint`].
#[derive(Clone, Debug)]
pub struct EndpointConfig {
    pub http: HttpClients,
    pub authorities: Authorities,
    pub leadership: Leadership,
    pub metrics: Arc<Metrics>,
}

#[derive(Deserialize)]
struct TokenBody {
    access_token: SecretText,
}

// === impl TokenEndpoint ===

impl TokenEndpoint {
    pub fn new(config: EndpointConfig, timing: &Timing) -> Self {
        let (rate_limiter, breaker) =
            (Arc::new(TokenRateLimiter::new(timing)), Arc::new(Breaker::new(timing, timing.token_call)));
        Self {
            config,
            time_out: timing.token_call,
            rate_limiter,
            breaker,
            quota_owner: QuotaOwner::Controller,
        }
    }

    /// The same endpoints under another leadership, with the same rate limits.
    #[must_use]
    pub fn with_leadership(&self, leadership: Leadership) -> Self {
        let config = EndpointConfig { leadership, ..self.config.clone() };
        Self { config, ..self.clone() }
    }

    /// The same endpoints for an account of the REST API, which has its own quota for each app.
    #[must_use]
    pub fn for_account(&self, account: &str) -> Self {
        Self { quota_owner: QuotaOwner::Account(account.to_owned()), ..self.clone() }
    }

    /// The same endpoints for an object of a namespace, and whether it is known to have had a token for its app.
    #[must_use]
    pub fn for_namespace(&self, name: &str, had_token: bool) -> Self {
        Self { quota_owner: QuotaOwner::Namespace { name: name.to_owned(), had_token }, ..self.clone() }
    }

    /// Divides the quota of accounts for one secret of an app among so many processes, this one included.
    pub fn divide_quota_by(&self, processes: usize) {
        self.rate_limiter.divide_quota_by(processes);
    }

    /// Requests a token for Graph and drops it. A token verifies tenant, client and secret, nothing else.
    /// Only a leader sends the request.
    pub async fn verify(
        &self,
        app: AppCredential<'_>,
        secret: &SecretText,
    ) -> Result<TokenResult, NotLeading> {
        self.config.leadership.check_call(self.time_out)?;
        let mut admission = match self.breaker.admit(self.config.authorities.of(app.cloud)) {
            Ok(admission) => admission,
            Err(wait) => {
                let reason = "not sent: the token endpoint did not answer several requests in a row";
                return Ok(not_sent(Diagnosis::Unavailable, wait, reason));
            }
        };
        if let Err(wait) = self.rate_limiter.admit(app, secret, &self.quota_owner) {
            return Ok(not_sent(
                Diagnosis::Throttled,
                wait,
                "not sent: the operator limits the rate of requests",
            ));
        }
        let started = Instant::now();
        let span = tracing::debug_span!("microsoft token", otel.kind = "client", outcome = Empty);
        let response = self.send(app, secret).instrument(span.clone()).await;
        match &response {
            Ok(_) => admission.responded(),
            Err(_) => admission.got_no_response(),
        }
        let result = response.unwrap_or_else(|unanswered| unanswered);
        self.rate_limiter.record(app, &self.quota_owner, &result);
        span.record("outcome", result.outcome());
        self.config.metrics.remote.ended("microsoft", "token", result.outcome(), started.elapsed());
        Ok(result)
    }

    /// Sends one request. `Err` holds the result of one that was not answered.
    async fn send(&self, app: AppCredential<'_>, secret: &SecretText) -> Result<TokenResult, TokenResult> {
        let url = format!("{}/{}/oauth2/v2.0/token", self.config.authorities.of(app.cloud), app.tenant);
        let request_id = request_id();
        let mut request_ids =
            RequestIds { correlation_id: Some(request_id.clone()), ..RequestIds::default() };
        let http = match self.config.http.current() {
            Ok(http) => http,
            Err(error) => return Err(unreachable(request_ids, &error)),
        };
        let request = http
            .post(url)
            .timeout(self.time_out)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(ACCEPT, "application/json")
            .header("client-request-id", &request_id)
            .body(form(app, secret));
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => return Err(unreachable(request_ids, &error.without_url())),
        };
        let retry_after = client::retry_after(response.headers(), Timestamp::now());
        request_ids.status = Some(response.status().as_u16());
        let body = match client::body(response, MAX_RESPONSE).await {
            Ok(body) => Zeroizing::new(body),
            Err(error) => return Err(unreachable(request_ids, &error)),
        };
        Ok(read_response(request_ids, retry_after, &body, secret))
    }
}

/// The meaning of a response whose status is in `request_ids`. The result shows no secret, even if the response does.
pub fn read_response(
    mut request_ids: RequestIds,
    retry_after: Option<Duration>,
    body: &[u8],
    secret: &SecretText,
) -> TokenResult {
    let status = request_ids.status.unwrap_or_default();
    if status == 200 {
        if let Some(token) = first_json::<TokenBody>(body) {
            return TokenResult::Issued { roles: roles::roles(token.access_token.expose()) };
        }
        request_ids.failure = Some("the response holds no token".into());
        return TokenResult::NotIssued { diagnosis: Diagnosis::Unavailable, retry_after, request_ids };
    }
    let body = first_json::<ErrorBody>(body);
    let diagnosis = diagnose(status, body.as_ref());
    if let Some(body) = body {
        copy_ids(&mut request_ids, body, secret);
    }
    TokenResult::NotIssued { diagnosis, retry_after, request_ids }
}

/// The first JSON value of a response body: a proxy may add a page of its own behind it.
pub(super) fn first_json<T: DeserializeOwned>(body: &[u8]) -> Option<T> {
    serde_json::Deserializer::from_slice(body).into_iter().next()?.ok()
}

/// The result of a request that the operator does not send.
fn not_sent(diagnosis: Diagnosis, wait: Duration, reason: &str) -> TokenResult {
    let request_ids = RequestIds { failure: Some(reason.to_owned()), ..RequestIds::default() };
    TokenResult::NotIssued { diagnosis, retry_after: Some(wait), request_ids }
}

fn unreachable(mut request_ids: RequestIds, error: &dyn std::error::Error) -> TokenResult {
    request_ids.failure = Some(chain(error));
    TokenResult::NotIssued { diagnosis: Diagnosis::Unavailable, retry_after: None, request_ids }
}

/// The request's form, encoded once: a secret may contain `+`, `/`, `=` and `%`.
fn form(app: AppCredential<'_>, secret: &SecretText) -> Vec<u8> {
    form_urlencoded::Serializer::new(String::new())
        .append_pair("client_id", app.client.as_str())
        .append_pair("client_secret", secret.expose())
        .append_pair("grant_type", "client_credentials")
        .append_pair("scope", cloud::scope(app.cloud))
        .finish()
        .into_bytes()
}

/// A fresh random GUID (version 4), by which Microsoft's support finds the request.
pub(crate) fn request_id() -> String {
    let mut bytes = [0_u8; 16];
    // Without randomness the id is all zeros, which only makes the request harder to find.
    if getrandom::fill(&mut bytes).is_err() {
        bytes = [0; 16];
    }
    uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
}

/// Copies only values in Microsoft's format. A proxy may answer and echo the request with the secret, and these ids are
/// shown in logs, in events and by `verify`.
pub(super) fn copy_ids(ids: &mut RequestIds, body: ErrorBody, secret: &SecretText) {
    // Some old secrets are GUIDs themselves.
    let is_id = |id: &String| is_guid(id) && !id.eq_ignore_ascii_case(secret.expose());
    ids.codes = body.error_codes;
    ids.id = body.trace_id.filter(is_id);
    ids.correlation_id = body.correlation_id.filter(is_id).or(ids.correlation_id.take());
    ids.timestamp = body.timestamp.filter(|time| is_time(time));
}

/// Whether the text is a time in Microsoft's format, `2016-01-09 02:02:12Z`, or in RFC 3339.
fn is_time(text: &str) -> bool {
    text.ends_with('Z') && text.parse::<Timestamp>().is_ok()
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::api::{Cloud, TenantId};
    use crate::k8s::leadership::testing::clock;

    #[tokio::test]
    async fn only_a_leader_sends_and_only_requests_that_end_in_time() {
        let _other_test_was_first = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let authority = format!("http://{}", listener.local_addr().unwrap());
        let leadership = Leadership::none(clock, Duration::from_secs(5));
        let config = EndpointConfig {
            http: HttpClients::testing(&Timing::STANDARD),
            authorities: Authorities::new(authority.parse().unwrap()),
            leadership: leadership.clone(),
            metrics: Arc::default(),
        };
        let endpoint = TokenEndpoint::new(config, &Timing::STANDARD);
        let tenant = "bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32".parse().unwrap();
        let client = "e1c6ac69-480e-4a17-9b85-3467967bd179".parse().unwrap();
        let app = AppCredential { cloud: Cloud::Global, tenant: &tenant, client: &client };
        let secret = SecretText::new("s3cret".into());
        for left in [0, 19] {
            leadership.extend(clock() + Duration::from_secs(left));
            assert_eq!(endpoint.verify(app, &secret).await, Err(NotLeading), "{left} s are left");
        }
        leadership.extend(clock() + Duration::from_secs(30));
        tokio::select! {
            connected = listener.accept() => assert!(connected.is_ok()),
            ended = endpoint.verify(app, &secret) => panic!("it is sent: {ended:?}"),
        }
    }

    #[tokio::test]
    async fn an_endpoint_that_does_not_answer_gets_no_further_requests() {
        let _other_test_was_first = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let authority = format!("http://{}", listener.local_addr().unwrap());
        let config = EndpointConfig {
            http: HttpClients::testing(&Timing::STANDARD),
            authorities: Authorities::new(authority.parse().unwrap()),
            leadership: Leadership::always(),
            metrics: Arc::default(),
        };
        let endpoint = TokenEndpoint::new(config, &Timing::STANDARD.divided_by(100));
        let (tenant, secret) =
            ("bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32".parse().unwrap(), SecretText::new("x".into()));
        let mut waits = Vec::new();
        for app in 0..8 {
            let client = format!("e1c6ac69-480e-4a17-9b85-3467967bd1{app:02}").parse().unwrap();
            let app = AppCredential { cloud: Cloud::Global, tenant: &tenant, client: &client };
            let TokenResult::NotIssued { diagnosis, retry_after, .. } =
                endpoint.verify(app, &secret).await.unwrap()
            else {
                panic!("nobody answers")
            };
            assert_eq!(diagnosis, Diagnosis::Unavailable);
            waits.push(retry_after);
        }
        assert_eq!(waits[..5], [None; 5]);
        assert!(waits[5..].iter().all(Option::is_some), "{waits:?}");
    }

    #[test]
    fn a_secret_is_encoded_exactly_once() {
        let tenant = "bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32".parse().unwrap();
        let client = "e1c6ac69-480e-4a17-9b85-3467967bd179".parse().unwrap();
        let app = AppCredential { cloud: Cloud::Global, tenant: &tenant, client: &client };
        let body = String::from_utf8(form(app, &SecretText::new("a+b%2B/=~ \"".into()))).unwrap();
        assert_eq!(
            body,
            "client_id=e1c6ac69-480e-4a17-9b85-3467967bd179&client_secret=a%2Bb%252B%2F%3D%7E+%22\
             &grant_type=client_credentials&scope=https%3A%2F%2Fgraph.microsoft.com%2F.default"
        );
    }

    #[test]
    fn the_first_json_value_of_a_body_counts() {
        for (body, error) in [
            ("{\"error\": \"a\"}<html>{\"error\": \"b\"}</html>", Some("a")),
            (" {\"error\": \"a\"}\r\n\r\n{\"error\": \"b\"}", Some("a")),
            ("<html></html>{\"error\": \"a\"}", None),
            ("{\"error\": \"a\"", None),
            ("", None),
        ] {
            let read = first_json::<ErrorBody>(body.as_bytes()).map(|body| body.error);
            assert_eq!(read.as_deref(), error, "{body}");
        }
    }

    #[test]
    fn request_ids_hold_nothing_but_ids_and_a_time() {
        let body = |id: &str, time: &str| ErrorBody {
            error_codes: vec![7_000_215],
            trace_id: Some(id.into()),
            correlation_id: Some(id.into()),
            timestamp: Some(time.into()),
            ..ErrorBody::default()
        };
        let own = RequestIds { correlation_id: Some("ours".into()), ..RequestIds::default() };
        let id = "0f1a2b3c-4d5e-4f60-8a7b-9c0d1e2f3a4b";
        let guid = "77777777-4d5e-4f60-8a7b-9c0d1e2f3a4b";
        let secret = SecretText::new(guid.into());
        for time in ["2016-01-09 02:02:12Z", "2016-01-09T02:02:12Z"] {
            let mut request_ids = own.clone();
            copy_ids(&mut request_ids, body(id, time), &secret);
            assert_eq!((request_ids.id.as_deref(), request_ids.timestamp.as_deref()), (Some(id), Some(time)));
            assert_eq!(request_ids.correlation_id.as_deref(), Some(id));
        }
        for echo in [guid, "my~secret", "\u{1b}[31m", "", "2016-01-09 02:02:12Z my~secret", "12345"] {
            let mut request_ids = own.clone();
            copy_ids(&mut request_ids, body(echo, echo), &secret);
            assert_eq!(request_ids, RequestIds { codes: vec![7_000_215], ..own.clone() }, "{echo:?}");
        }
    }

    #[test]
    fn request_ids_are_fresh_guids() {
        let (one, other) = (request_id(), request_id());
        assert_ne!(one, other);
        assert!(one.parse::<TenantId>().is_ok(), "{one}");
        assert_eq!(one.as_bytes()[14], b'4');
    }
}
